//! Follows a chunked body to its end (RFC 9112, section 7.1), without its leniencies.

use super::head::is_text;

/// What may not pass, behind so many bytes that may.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BadChunk(pub(super) usize);

/// Where a chunked body stands.
#[derive(Default)]
pub(super) struct Chunks {
    next: Next,
    /// The bytes of this chunk's extension, or of the trailers.
    extra: usize,
}

/// What must come.
#[derive(Clone, Copy, Default)]
enum Next {
    /// The first digit of a size.
    #[default]
    Size,
    /// More of its digits, or its end.
    Digit(u64),
    Extension(u64),
    /// The LF behind a size.
    SizeLf(u64),
    Data(u64),
    DataCr,
    DataLf,
    /// The first byte of a trailer, or the end.
    Trailer,
    TrailerRest,
    TrailerLf,
    LastLf,
}

/// The longest extension of one chunk, and the longest trailers.
const MAX_EXTRA: usize = 4 * 1024;

impl Chunks {
    /// How many of these bytes belong to the body, and whether that is the end of it.
    pub(super) fn pass(&mut self, bytes: &[u8]) -> Result<(usize, bool), BadChunk> {
        let mut passed = 0;
        while let Some(byte) = bytes.get(passed) {
            if let Next::Data(left) = self.next {
                let rest = bytes.len() - passed;
                let step = usize::try_from(left).unwrap_or(usize::MAX).min(rest);
                let left = left - step as u64;
                self.next = if left == 0 { Next::DataCr } else { Next::Data(left) };
                passed += step;
                continue;
            }
            let ends = matches!((self.next, byte), (Next::LastLf, b'\n'));
            self.next = self.after(*byte).filter(|_| self.extra <= MAX_EXTRA).ok_or(BadChunk(passed))?;
            passed += 1;
            if ends {
                return Ok((passed, true));
            }
        }
        Ok((passed, false))
    }

    fn after(&mut self, byte: u8) -> Option<Next> {
        let next = match (self.next, byte) {
            (Next::Size, _) => Next::Digit(digit(byte)?),
            (Next::Digit(size) | Next::Extension(size), b'\r') => Next::SizeLf(size),
            (Next::Digit(size), b';') => {
                self.extra = 0;
                Next::Extension(size)
            }
            (Next::Digit(size), _) => Next::Digit(grown(size, digit(byte)?)?),
            (Next::Extension(size), _) if is_text(byte) => {
                self.extra += 1;
                Next::Extension(size)
            }
            (Next::SizeLf(0), b'\n') => {
                self.extra = 0;
                Next::Trailer
            }
            (Next::SizeLf(size), b'\n') => Next::Data(size),
            (Next::DataCr, b'\r') => Next::DataLf,
            (Next::DataLf, b'\n') => Next::Size,
            // Behind the last LF nothing comes: the next byte begins a head.
            (Next::Trailer, b'\r') | (Next::LastLf, b'\n') => Next::LastLf,
            // A line that begins with a blank would go on with the one before (obs-fold).
            (Next::Trailer, b' ' | b'\t') => return None,
            (Next::TrailerRest, b'\r') => Next::TrailerLf,
            (Next::Trailer | Next::TrailerRest, _) if is_text(byte) => {
                self.extra += 1;
                Next::TrailerRest
            }
            (Next::TrailerLf, b'\n') => Next::Trailer,
            _ => return None,
        };
        Some(next)
    }
}

fn digit(byte: u8) -> Option<u64> {
    char::from(byte).to_digit(16).map(u64::from)
}

/// Far beyond every limit of a body, and within what hyper counts to.
fn grown(size: u64, digit: u64) -> Option<u64> {
    size.checked_mul(16).map(|size| size | digit).filter(|size| *size <= u64::MAX / 2)
}

#[cfg(test)]
mod tests;

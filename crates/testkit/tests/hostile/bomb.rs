//! A small gzip stream (RFC 1951, 1952) that unpacks to many zeros.

/// A gzip stream of `zeros` zeros, about 1/160 of their size.
pub(crate) fn gzip(zeros: usize) -> Vec<u8> {
    let mut stream = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    let mut bits = Bits::default();
    // One last block with the fixed codes.
    bits.put(0b1, 1);
    bits.put(0b01, 2);
    let mut left = zeros;
    while left > 0 {
        if left == zeros || left < LONGEST {
            bits.code(0b0011_0000, 8);
            left -= 1;
        } else {
            // Length 258 at distance 1.
            bits.code(0b1100_0101, 8);
            bits.code(0, 5);
            left -= LONGEST;
        }
    }
    bits.code(0, 7);
    stream.extend(bits.end());
    stream.extend_from_slice(&crc_of_zeros(zeros).to_le_bytes());
    stream.extend_from_slice(&u32::try_from(zeros).expect("below 4 GiB").to_le_bytes());
    stream
}

/// The longest match of DEFLATE.
const LONGEST: usize = 258;

/// Bits, the lowest of each byte first.
#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    open: u8,
    used: u32,
}

impl Bits {
    fn put(&mut self, value: u32, count: u32) {
        for place in 0..count {
            self.open |= u8::from(value >> place & 1 == 1) << self.used;
            self.used += 1;
            if self.used == 8 {
                self.bytes.push(std::mem::take(&mut self.open));
                self.used = 0;
            }
        }
    }

    /// Huffman codes come highest bit first.
    fn code(&mut self, value: u32, count: u32) {
        for place in (0..count).rev() {
            self.put(value >> place & 1, 1);
        }
    }

    fn end(mut self) -> Vec<u8> {
        if self.used > 0 {
            self.bytes.push(self.open);
        }
        self.bytes
    }
}

fn crc_of_zeros(count: usize) -> u32 {
    let step = |value: u32| if value & 1 == 1 { value >> 1 ^ 0xedb8_8320 } else { value >> 1 };
    let table: Vec<u32> = (0..256).map(|byte| (0..8).fold(byte, |value, _| step(value))).collect();
    let crc = (0..count).fold(u32::MAX, |crc, _| crc >> 8 ^ table[usize::from(crc.to_le_bytes()[0])]);
    !crc
}

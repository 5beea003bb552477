//! HTTP/2 by hand (RFC 9113), as far as the tests need it.

use crate::client::Client;

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

const INITIAL_WINDOW_SIZE: u16 = 4;

/// Preface, settings with this window of a stream, and one GET.
pub fn request(path: &str, window: u32) -> Vec<u8> {
    let settings = [&INITIAL_WINDOW_SIZE.to_be_bytes()[..], &window.to_be_bytes()].concat();
    [PREFACE, &frame(SETTINGS, 0, 0, &settings), &get(path, 1)].concat()
}

/// A whole GET.
pub fn get(path: &str, stream: u32) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, stream, &fields(path))
}

/// From HPACK's static table: GET, http; then the names :path and :authority with literal values.
pub fn fields(path: &str) -> Vec<u8> {
    [&[0x82, 0x86][..], &literal(0x04, path), &literal(0x01, "a")].concat()
}

fn literal(name: u8, value: &str) -> Vec<u8> {
    [&[name, u8::try_from(value.len()).unwrap()][..], value.as_bytes()].concat()
}

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

impl Client {
    /// The next frame: its type, flags and payload. None when the server closes.
    pub async fn frame(&mut self) -> Option<(u8, u8, Vec<u8>)> {
        let head = self.exactly(9).await?;
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        Some((head[3], head[4], self.exactly(length).await?))
    }

    /// The types of all frames until the server closes.
    pub async fn kinds(&mut self) -> Vec<u8> {
        let mut kinds = Vec::new();
        while let Some((kind, ..)) = self.frame().await {
            kinds.push(kind);
        }
        kinds
    }
}

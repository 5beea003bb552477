//! The first steps of AMQP 0-9-1: logging in shows that the broker is up and has our user.

use std::net::TcpStream;

use anyhow::{Context, Result, bail, ensure};

use super::USER;
use crate::services::state::State;
use crate::services::wire;

/// Methods by class and number.
const START: [u8; 4] = [0, 10, 0, 10];
const START_OK: [u8; 4] = [0, 10, 0, 11];
const TUNE: [u8; 4] = [0, 10, 0, 30];

/// Fails unless the broker takes our password.
pub fn probe(state: &State) -> Result<()> {
    let mut stream = wire::connect(state.port)?;
    expect(&mut stream, b"AMQP\0\0\x09\x01", START).context("RabbitMQ does not greet us")?;
    let login = frame(&[&START_OK[..], &login(&state.password)?].concat())?;
    expect(&mut stream, &login, TUNE).context("RabbitMQ does not take our password")
}

/// No properties, the mechanism, its answer and the locale.
fn login(password: &str) -> Result<Vec<u8>> {
    let answer = format!("\0{USER}\0{password}");
    Ok([&[0, 0, 0, 0], &b"\x05PLAIN"[..], &wire::length(answer.as_bytes())?, answer.as_bytes(), b"\x05en_US"]
        .concat())
}

/// A method on channel 0.
fn frame(payload: &[u8]) -> Result<Vec<u8>> {
    Ok([&[1, 0, 0], &wire::length(payload)?[..], payload, &[0xce]].concat())
}

fn expect(stream: &mut TcpStream, request: &[u8], method: [u8; 4]) -> Result<()> {
    let head = wire::ask(stream, request, 7)?;
    let [1, 0, 0, length @ ..] = head.as_slice() else { bail!("it speaks something else") };
    let payload = wire::ask(stream, &[], wire::number(length)? + 1)?;
    ensure!(payload.starts_with(&method), "it says something else");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_says_its_length_and_ends_with_its_mark() {
        assert_eq!(frame(&START).unwrap(), [1, 0, 0, 0, 0, 0, 4, 0, 10, 0, 10, 0xce]);
        assert!(login("secret").unwrap().ends_with(b"\0\0\0\x10\0taskpost\0secret\x05en_US"));
    }
}

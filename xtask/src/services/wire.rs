//! The few bytes of a server's protocol that show whether it is ready.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

/// How long a server may take for one of our questions.
const LIMIT: Duration = Duration::from_secs(3);
/// Longer answers are not to our questions.
const LONGEST: usize = 1 << 20;

/// A connection whose reads and writes give up in time.
pub fn connect(port: u16) -> Result<TcpStream> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let stream = TcpStream::connect_timeout(&address, LIMIT).context("nobody listens")?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    Ok(stream)
}

/// Sends the question and reads so many bytes of the answer.
pub fn ask(stream: &mut TcpStream, question: &[u8], length: usize) -> Result<Vec<u8>> {
    ensure!(length <= LONGEST, "an answer of {length} bytes is not one to our question");
    stream.write_all(question).context("does not listen to us")?;
    let mut answer = vec![0; length];
    stream.read_exact(&mut answer).context("does not answer")?;
    Ok(answer)
}

/// A number of a length, as the bytes that say it.
pub fn length(bytes: &[u8]) -> Result<[u8; 4]> {
    Ok(u32::try_from(bytes.len())?.to_be_bytes())
}

/// The number that four bytes say.
pub fn number(bytes: &[u8]) -> Result<usize> {
    Ok(usize::try_from(u32::from_be_bytes(bytes.try_into()?))?)
}

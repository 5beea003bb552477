//! What a client hears when every place is taken.

use std::{sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Semaphore,
};

/// Says goodbye to a few clients at a time; the others are closed without a word.
///
/// A 503 tells a client and a balancer at once what waiting in the kernel's queue would tell them by a time-out.
pub(super) struct Refuser {
    turns: Arc<Semaphore>,
}

impl Default for Refuser {
    fn default() -> Self {
        Self { turns: Arc::new(Semaphore::new(AT_ONCE)) }
    }
}

impl Refuser {
    /// The goodbye to run, unless too many are being said.
    pub(super) fn goodbye(&self, stream: TcpStream) -> Option<impl Future<Output = ()> + Send + 'static> {
        let turn = Arc::clone(&self.turns).try_acquire_owned().ok()?;
        Some(async move {
            // Whether it is heard is the client's affair.
            let _ = tokio::time::timeout(PATIENCE, say(stream)).await;
            drop(turn);
        })
    }
}

const AT_ONCE: usize = 64;
const PATIENCE: Duration = Duration::from_secs(1);

/// A client that speaks HTTP/2 from the start sees a broken connection, as it would anyhow.
const BUSY: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";

/// Reads until the client closes: closing over unread bytes would reset the connection, and the answer with it
/// (RFC 9112, section 9.6).
async fn say(mut stream: TcpStream) -> std::io::Result<()> {
    stream.write_all(BUSY).await?;
    stream.shutdown().await?;
    let mut unread = [0; 1024];
    while stream.read(&mut unread).await? > 0 {}
    Ok(())
}

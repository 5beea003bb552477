//! Listeners on loopback that nobody may dial.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use crate::row::Row;

/// Listeners on loopback that count who comes.
pub(crate) struct Watch {
    addresses: Vec<SocketAddr>,
    connections: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

impl Watch {
    pub(crate) async fn start() -> Self {
        let connections = Arc::<AtomicUsize>::default();
        let (mut addresses, mut tasks) = (Vec::new(), JoinSet::new());
        for place in ["127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0", "0.0.0.0:0"] {
            let listener = TcpListener::bind(place).await.expect("a free port");
            let port = listener.local_addr().expect("an address").port();
            addresses.push(SocketAddr::from(([127, 0, 0, 1], port)));
            let connections = Arc::clone(&connections);
            tasks.spawn(async move {
                while listener.accept().await.is_ok() {
                    connections.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        Self { addresses, connections, _tasks: tasks }
    }

    pub(crate) fn ports(&self) -> Vec<String> {
        self.addresses.iter().map(|address| address.port().to_string()).collect()
    }

    /// Claims that nobody came, and that it would have been seen.
    pub(crate) async fn end(&self, row: &mut Row) {
        let came = self.connections.load(Ordering::SeqCst);
        row.claim("nobody was dialled", came == 0, || format!("{came} connections"));
        for address in &self.addresses {
            TcpStream::connect(address).await.expect("somebody listens");
        }
        let expected = came + self.addresses.len();
        let seen = taskpost_testkit::until(|| async {
            let seen = self.connections.load(Ordering::SeqCst);
            if seen == expected {
                Ok(seen)
            } else {
                Err(format!("{seen} of {expected} connections were seen"))
            }
        });
        let seen = seen.await;
        row.claim("somebody listened", seen == expected, || "the listeners count nothing".to_owned());
    }
}

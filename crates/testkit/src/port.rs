//! A port of this machine that nobody else is given.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::{TcpListener, TcpSocket};

/// A port at which nobody listens, though somebody may begin to. A port that is merely free may be another's a moment
/// later; this one is kept, also from one listener to the next, until it is dropped.
#[derive(Debug)]
pub struct Port {
    socket: TcpSocket,
    address: SocketAddr,
}

impl Port {
    /// Takes a port on 127.0.0.1. Whoever tries to connect is refused.
    pub fn take() -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        // Or nobody could listen there while this is held.
        socket.set_reuseaddr(true).expect("an option");
        socket.bind((Ipv4Addr::LOCALHOST, 0).into()).expect("a free port");
        let address = socket.local_addr().expect("an address");
        Self { socket, address }
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Begins to listen at it.
    pub(crate) fn listen(self) -> TcpListener {
        self.socket.listen(1_024).expect("it listens")
    }
}

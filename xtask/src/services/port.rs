//! Ports of 127.0.0.1.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result};

/// The first free port of the hundred from `first` on.
pub fn choose(first: u16) -> Result<u16> {
    (first..first.saturating_add(100))
        .find(|port| is_free(*port))
        .with_context(|| format!("no port between {first} and {} is free", first.saturating_add(99)))
}

/// Whether nobody listens there and we could. Both are asked: some systems let one bind 127.0.0.1 next to a listener
/// on every address.
pub fn is_free(port: u16) -> bool {
    !answers(port) && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// Whether somebody accepts connections there.
pub fn answers(port: u16) -> bool {
    TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)), Duration::from_secs(1)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_in_use_is_passed_over() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        assert!(!is_free(port));
        assert!(answers(port));
        assert!(choose(port).map_or(true, |chosen| chosen > port));
    }
}

//! A network that fails when told to: a proxy before one service. Faults change while connections are open.

mod lane;
mod pump;
mod toxics;

use std::{
    net::{Ipv4Addr, SocketAddr},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::sleep,
};

use crate::until;

pub use self::toxics::{Direction, Toxic, Toxics};

/// What passes when the machine has no socket left, before the next try.
const BREATH: Duration = Duration::from_millis(10);

/// A proxy before one service. Dropping it closes its port and every connection.
#[derive(Debug)]
pub struct FaultProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    _accepts: JoinSet<()>,
}

#[derive(Debug, Default)]
struct Shared {
    orders: watch::Sender<Orders>,
    open: AtomicUsize,
    accepted: AtomicU64,
    up: AtomicU64,
    down: AtomicU64,
    hits: AtomicU64,
}

/// What every connection obeys.
#[derive(Clone, Copy, Debug, Default)]
struct Orders {
    toxics: Toxics,
    /// How often toxics were set: each time, what they count begins anew.
    set: u64,
    /// How often all connections were reset.
    resets: u64,
}

impl FaultProxy {
    /// Stands before `target`, on a free port of this machine, without a fault. `target` may be away.
    pub async fn start(target: SocketAddr) -> Self {
        Self::listen((Ipv4Addr::LOCALHOST, 0).into(), target).await
    }

    /// As [`FaultProxy::start`], on a given port. Waits while an earlier proxy is still giving it up.
    pub async fn listen(address: SocketAddr, target: SocketAddr) -> Self {
        let listener = until(|| async move {
            TcpListener::bind(address).await.map_err(|error| format!("{address} is not free: {error}"))
        })
        .await;
        let address = listener.local_addr().expect("an address");
        let shared = Arc::<Shared>::default();
        let mut accepts = JoinSet::new();
        accepts.spawn(accept(listener, target, Arc::clone(&shared)));
        Self { address, shared, _accepts: accepts }
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on these are the faults, and no others, for open and for new connections. When this returns,
    /// no byte passes by the old ones any more; bytes that wait go by the new ones.
    pub fn set(&self, toxics: Toxics) {
        self.shared.orders.send_modify(|orders| {
            orders.toxics = toxics;
            orders.set += 1;
        });
    }

    /// Takes every fault away. What was held back goes on; what was cut stays closed.
    pub fn heal(&self) {
        self.set(Toxics::default());
    }

    /// Resets every open connection on both sides. When this returns, no byte passes on them any more; new
    /// connections are let in.
    pub fn reset(&self) {
        self.shared.orders.send_modify(|orders| orders.resets += 1);
    }

    /// How many connections are open.
    pub fn connections(&self) -> usize {
        self.shared.open.load(SeqCst)
    }

    /// How many connections there ever were, refused ones included.
    pub fn accepted(&self) -> u64 {
        self.shared.accepted.load(SeqCst)
    }

    /// How many bytes were passed on.
    pub fn bytes(&self, direction: Direction) -> u64 {
        self.shared.passed(direction).load(SeqCst)
    }

    /// How often a fault did something: connections refused, cut and reset, and pieces of what was sent that
    /// were held back, delayed or sliced when their turn came. A fault that nobody felt has none.
    pub fn hits(&self) -> u64 {
        self.shared.hits.load(SeqCst)
    }
}

impl Shared {
    fn passed(&self, direction: Direction) -> &AtomicU64 {
        match direction {
            Direction::Up => &self.up,
            Direction::Down => &self.down,
        }
    }

    fn hit(&self) {
        self.hits.fetch_add(1, SeqCst);
    }
}

async fn accept(listener: TcpListener, target: SocketAddr, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = connections.join_next() => {}
            taken = listener.accept() => {
                let Ok((client, _)) = taken else {
                    sleep(BREATH).await;
                    continue;
                };
                // Before it is counted, so that a reset reaches whatever is counted.
                let orders = *shared.orders.borrow();
                shared.accepted.fetch_add(1, SeqCst);
                if orders.toxics.refuse {
                    shared.hit();
                    reset(&client);
                } else {
                    connections.spawn(carry(Open::new(&shared), orders.resets, client, target));
                }
            }
        }
    }
}

/// Counts as open until it is dropped.
struct Open(Arc<Shared>);

impl Open {
    fn new(shared: &Arc<Shared>) -> Self {
        shared.open.fetch_add(1, SeqCst);
        Self(Arc::clone(shared))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, SeqCst);
    }
}

/// One connection, from its acceptance at the reset of that number.
async fn carry(open: Open, resets: u64, mut client: TcpStream, target: SocketAddr) {
    let shared = &*open.0;
    let mut orders = shared.orders.subscribe();
    let mut connecting = pin!(connect(target));
    let connected = tokio::select! {
        connected = &mut connecting => Some(connected),
        _ = orders.wait_for(|orders| orders.resets != resets) => None,
    };
    let Some(connected) = connected else {
        shared.hit();
        reset(&client);
        drop(client);
        // The server may have it already, and shall not see a mere close.
        if let Ok(server) = connecting.await {
            reset(&server);
        }
        return;
    };
    let Ok(mut server) = connected else {
        // That nobody is there is an answer too.
        if orders.borrow().toxics.hides() {
            shared.hit();
            let _ = orders.wait_for(|orders| !orders.toxics.hides() || orders.resets != resets).await;
        }
        return reset(&client);
    };
    // Or slices would be put together again. If a socket refuses, it is closed, and its pump will see it.
    let _ = client.set_nodelay(true).and(server.set_nodelay(true));
    if !pump::both_ways(&mut client, &mut server, resets, shared).await {
        reset(&client);
        reset(&server);
    }
}

async fn connect(target: SocketAddr) -> std::io::Result<TcpStream> {
    let server = TcpStream::connect(target).await?;
    // Where nobody listens, the kernel may connect a socket to itself.
    if server.local_addr()? == server.peer_addr()? {
        return Err(std::io::ErrorKind::ConnectionRefused.into());
    }
    Ok(server)
}

/// Makes the close that follows a reset.
fn reset(stream: &TcpStream) {
    // A socket that refuses is closed already.
    let _ = stream.set_zero_linger();
}

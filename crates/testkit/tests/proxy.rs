//! The network that fails when told to: each fault does what it says, to the byte, and nothing else.
#![expect(clippy::expect_used, clippy::panic, reason = "a test may stop at the first surprise")]

use std::{
    io::ErrorKind,
    time::{Duration, Instant},
};

use taskpost_testkit::{Direction, FaultProxy, PATIENCE, Toxic, Toxics, until};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::timeout,
};

/// A service whose side of each connection the test holds, and the proxy before it.
struct Scene {
    service: TcpListener,
    proxy: FaultProxy,
}

impl Scene {
    async fn new() -> Self {
        let service = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let proxy = FaultProxy::start(service.local_addr().expect("an address")).await;
        Self { service, proxy }
    }

    /// The client's and the server's end of a new connection.
    async fn connect(&self) -> (TcpStream, TcpStream) {
        let client = soon(TcpStream::connect(self.proxy.address())).await.expect("the proxy listens");
        let (server, _) = soon(self.service.accept()).await.expect("a connection");
        (client, server)
    }

    async fn closed(&self) {
        until(async || match self.proxy.connections() {
            0 => Ok(()),
            open => Err(format!("{open} connections are open")),
        })
        .await;
    }

    async fn hits(&self, least: u64) {
        until(async || match self.proxy.hits() {
            hits if hits >= least => Ok(()),
            hits => Err(format!("{hits} hits instead of {least}")),
        })
        .await;
    }
}

async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(PATIENCE, what).await.expect("it takes too long")
}

async fn send(stream: &mut TcpStream, bytes: &[u8]) {
    soon(stream.write_all(bytes)).await.expect("the connection is open");
}

async fn expect(stream: &mut TcpStream, bytes: &[u8]) {
    let mut read = vec![0; bytes.len()];
    soon(stream.read_exact(&mut read)).await.expect("the connection is open");
    assert!(read == bytes, "{} bytes are not what was sent", bytes.len());
}

/// What comes until the connection is closed, or reset.
async fn rest(stream: &mut TcpStream) -> (Vec<u8>, Option<ErrorKind>) {
    let mut read = Vec::new();
    let ended = soon(stream.read_to_end(&mut read)).await;
    (read, ended.err().map(|error| error.kind()))
}

async fn expect_reset(stream: &mut TcpStream) {
    assert_eq!(rest(stream).await, (Vec::new(), Some(ErrorKind::ConnectionReset)));
}

/// The reset may come before the client knows that it was connected.
async fn expect_turned_away(proxy: &FaultProxy) {
    match soon(TcpStream::connect(proxy.address())).await {
        Ok(mut client) => expect_reset(&mut client).await,
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
}

/// Bytes in which a lost, doubled or moved one shows.
fn stuff(length: usize) -> Vec<u8> {
    (0..length).map(|place| (place * 31 + place / 251).to_le_bytes()[0]).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_fault_it_is_not_there() {
    let scene = Scene::new().await;
    let (mut client, mut server) = scene.connect().await;
    send(&mut client, b"ping").await;
    expect(&mut server, b"ping").await;
    send(&mut server, b"hello").await;
    expect(&mut client, b"hello").await;
    assert_eq!(scene.proxy.connections(), 1);
    client.shutdown().await.expect("the connection is open");
    assert_eq!(rest(&mut server).await, (Vec::new(), None));
    send(&mut server, b"bye").await;
    drop(server);
    assert_eq!(rest(&mut client).await, (b"bye".to_vec(), None));
    scene.closed().await;
    let (_client, _server) = scene.connect().await;
    let proxy = &scene.proxy;
    assert_eq!((proxy.bytes(Direction::Up), proxy.bytes(Direction::Down)), (4, 8));
    assert_eq!((proxy.accepted(), proxy.connections(), proxy.hits()), (2, 1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reset_of_one_side_comes_to_the_other() {
    let scene = Scene::new().await;
    let (client, mut server) = scene.connect().await;
    client.set_zero_linger().expect("the connection is open");
    drop(client);
    expect_reset(&mut server).await;
    let (mut client, server) = scene.connect().await;
    server.set_zero_linger().expect("the connection is open");
    drop(server);
    expect_reset(&mut client).await;
    scene.closed().await;
    assert_eq!(scene.proxy.hits(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_changes_meanwhile_all_arrives_in_order() {
    let toxics = [
        Toxics::both(Toxic::latency(Duration::from_millis(20))),
        Toxics::default().up(Toxic::hole()),
        Toxics::both(Toxic::slice(1000)),
        Toxics::default(),
        Toxics::both(Toxic::bandwidth(20_000_000))
            .up(Toxic::slice(7).and(Toxic::latency(Duration::from_millis(5)))),
        Toxics::both(Toxic::hole()),
        Toxics::both(Toxic::cut_after(1 << 40)),
        Toxics::refuse().down(Toxic::hole()),
    ];
    let scene = Scene::new().await;
    let (client, server) = scene.connect().await;
    let (up, down) = (stuff(8_000_000), stuff(6_000_000));
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
        (client.into_split(), server.into_split());
    let (mut read_up, mut read_down) = (Vec::new(), Vec::new());
    let proxy = &scene.proxy;
    let change = async {
        for toxics in toxics.iter().cycle().take(64) {
            let hits = proxy.hits();
            proxy.set(*toxics);
            // Until it is felt, but there may be nothing left to feel it.
            let _ = timeout(Duration::from_millis(30), scene.hits(hits + 10)).await;
        }
        proxy.heal();
    };
    let (wrote_up, wrote_down, got_up, got_down, ()) = soon(async {
        tokio::join!(
            async { to_client.write_all(&up).await.and(to_client.shutdown().await) },
            async { to_server.write_all(&down).await.and(to_server.shutdown().await) },
            from_server.read_to_end(&mut read_up),
            from_client.read_to_end(&mut read_down),
            change,
        )
    })
    .await;
    for done in [wrote_up, wrote_down, got_up.map(drop), got_down.map(drop)] {
        done.expect("nothing is cut");
    }
    assert!(read_up == up && read_down == down);
    let (up, down) = (proxy.bytes(Direction::Up), proxy.bytes(Direction::Down));
    assert_eq!((proxy.accepted(), up, down), (1, 8_000_000, 6_000_000));
    assert!(proxy.hits() > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn latency_delays_each_way_and_keeps_order() {
    let delay = Duration::from_millis(80);
    let scene = Scene::new().await;
    let (mut client, mut server) = scene.connect().await;
    scene.proxy.set(Toxics::both(Toxic::latency(delay)));
    let begun = Instant::now();
    for part in stuff(1000).chunks(100) {
        send(&mut client, part).await;
    }
    expect(&mut server, &stuff(1000)).await;
    assert!(begun.elapsed() >= delay, "{:?}", begun.elapsed());
    send(&mut server, b"answer").await;
    expect(&mut client, b"answer").await;
    assert!(begun.elapsed() >= 2 * delay, "{:?}", begun.elapsed());
    assert!(scene.proxy.hits() >= 2);
    client.shutdown().await.expect("the connection is open");
    let closed = Instant::now();
    assert_eq!(rest(&mut server).await, (Vec::new(), None));
    assert!(closed.elapsed() >= delay, "an end is not faster than bytes: {:?}", closed.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_under_way_go_by_the_new_latency() {
    let scene = Scene::new().await;
    let (mut client, mut server) = scene.connect().await;
    scene.proxy.set(Toxics::both(Toxic::latency(Duration::from_secs(3600))));
    send(&mut client, b"late").await;
    scene.hits(1).await;
    assert_eq!(scene.proxy.bytes(Direction::Up), 0);
    scene.proxy.heal();
    expect(&mut server, b"late").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hole_holds_one_way_until_it_heals() {
    let scene = Scene::new().await;
    let (mut client, mut server) = scene.connect().await;
    scene.proxy.set(Toxics::default().down(Toxic::hole()));
    send(&mut client, b"request").await;
    expect(&mut server, b"request").await;
    assert_eq!(scene.proxy.hits(), 0, "nobody has felt it");
    send(&mut server, b"answer").await;
    scene.hits(1).await;
    send(&mut client, b"again").await;
    expect(&mut server, b"again").await;
    let nothing = client.try_read(&mut [0]).map_err(|error| error.kind());
    assert_eq!((nothing, scene.proxy.bytes(Direction::Down)), (Err(ErrorKind::WouldBlock), 0));
    assert_eq!(scene.proxy.connections(), 1);
    scene.proxy.heal();
    expect(&mut client, b"answer").await;
    assert_eq!(scene.proxy.hits(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_hole_a_dead_peer_seems_alive() {
    for reset in [false, true] {
        let scene = Scene::new().await;
        let (mut client, server) = scene.connect().await;
        scene.proxy.set(Toxics::default().down(Toxic::hole()));
        if reset {
            server.set_zero_linger().expect("the connection is open");
        }
        drop(server);
        scene.hits(1).await;
        send(&mut client, b"is anybody there?").await;
        let nothing = client.try_read(&mut [0]).map_err(|error| error.kind());
        assert_eq!((nothing, scene.proxy.connections()), (Err(ErrorKind::WouldBlock), 1));
        scene.proxy.heal();
        let (read, ended) = rest(&mut client).await;
        assert_eq!(read, b"");
        assert!(!reset || ended == Some(ErrorKind::ConnectionReset), "{ended:?}");
        drop(client);
        scene.closed().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_byte_passes_once_a_hole_is_set() {
    let scene = Scene::new().await;
    let (client, server) = scene.connect().await;
    let ((_client, mut to_client), (mut from_server, _server)) = (client.into_split(), server.into_split());
    let load = async {
        let (mut source, mut drain) = (tokio::io::repeat(1), tokio::io::sink());
        tokio::join!(
            tokio::io::copy(&mut source, &mut to_client),
            tokio::io::copy(&mut from_server, &mut drain)
        )
    };
    let watch = async {
        let passed = || scene.proxy.bytes(Direction::Up);
        for _ in 0..200 {
            let (before, hits) = (passed(), scene.proxy.hits());
            until(async || if passed() > before { Ok(()) } else { Err("nothing passes".to_owned()) }).await;
            scene.proxy.set(Toxics::both(Toxic::hole()));
            let then = passed();
            scene.hits(hits + 1).await;
            assert_eq!(passed(), then);
            scene.proxy.heal();
        }
    };
    tokio::select! {
        _ = load => panic!("the connection has ended"),
        () = watch => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_is_exact() {
    let scene = Scene::new().await;
    let sent = stuff(25);
    for count in 0..=20 {
        for direction in [Direction::Up, Direction::Down] {
            for piece in [1, 7, 25] {
                let (mut client, mut server) = scene.connect().await;
                // What was before does not count.
                send(&mut client, b"before").await;
                expect(&mut server, b"before").await;
                let cut = Toxic::cut_after(count as u64);
                let (toxics, from, to) = match direction {
                    Direction::Up => (Toxics::default().up(cut), &mut client, &mut server),
                    Direction::Down => (Toxics::default().down(cut), &mut server, &mut client),
                };
                let hits = scene.proxy.hits();
                scene.proxy.set(toxics);
                for part in sent.chunks(piece) {
                    // It may be cut by now.
                    let _ = from.write_all(part).await;
                }
                let (came, ended) = rest(to).await;
                assert_eq!((came.as_slice(), ended), (&sent[..count], Some(ErrorKind::ConnectionReset)));
                // Heals in vain: what was cut stays so.
                scene.proxy.heal();
                let ended = from.read(&mut [0]).await.unwrap_or(0);
                assert_eq!(ended, 0);
                scene.closed().await;
                assert_eq!(scene.proxy.hits(), hits + 1);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_counts_for_each_connection_anew() {
    let scene = Scene::new().await;
    scene.proxy.set(Toxics::both(Toxic::cut_after(3)));
    for _ in 0..3 {
        let (mut client, mut server) = scene.connect().await;
        send(&mut client, b"ab").await;
        expect(&mut server, b"ab").await;
        send(&mut server, b"1234").await;
        assert_eq!(rest(&mut client).await, (b"123".to_vec(), Some(ErrorKind::ConnectionReset)));
        expect_reset(&mut server).await;
    }
    assert_eq!(scene.proxy.hits(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_are_only_new_connections() {
    let scene = Scene::new().await;
    let (mut client, mut server) = scene.connect().await;
    scene.proxy.set(Toxics::refuse());
    expect_turned_away(&scene.proxy).await;
    assert_eq!((scene.proxy.accepted(), scene.proxy.connections(), scene.proxy.hits()), (2, 1, 1));
    send(&mut client, b"still here").await;
    expect(&mut server, b"still here").await;
    scene.proxy.heal();
    scene.connect().await;
    assert_eq!(scene.proxy.hits(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_is_felt_on_both_sides_of_every_connection() {
    let scene = Scene::new().await;
    let mut open = [scene.connect().await, scene.connect().await, scene.connect().await];
    assert_eq!(scene.proxy.connections(), 3);
    scene.proxy.reset();
    for (client, server) in &mut open {
        expect_reset(client).await;
        expect_reset(server).await;
    }
    scene.closed().await;
    assert_eq!(scene.proxy.hits(), 3);
    let (mut client, mut server) = scene.connect().await;
    send(&mut client, b"a new one").await;
    expect(&mut server, b"a new one").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bandwidth_is_limited() {
    let scene = Scene::new().await;
    let (mut client, mut server) = scene.connect().await;
    scene.proxy.set(Toxics::default().down(Toxic::bandwidth(100_000)));
    let begun = Instant::now();
    send(&mut client, &stuff(500_000)).await;
    expect(&mut server, &stuff(500_000)).await;
    assert_eq!(scene.proxy.hits(), 0, "the other way is free");
    send(&mut server, &stuff(30_000)).await;
    expect(&mut client, &stuff(30_000)).await;
    assert!(begun.elapsed() >= Duration::from_millis(270), "{:?}", begun.elapsed());
    assert!(scene.proxy.hits() > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn slices_are_no_longer_than_asked_for() {
    let scene = Scene::new().await;
    let (mut client, mut server) = scene.connect().await;
    // Slowly, so that they are not put together on the way.
    scene.proxy.set(Toxics::both(Toxic::slice(3).and(Toxic::bandwidth(300))));
    let (sent, mut read, mut part) = (stuff(30), Vec::new(), [0; 30]);
    send(&mut client, &sent).await;
    let mut parts = 0;
    while read.len() < sent.len() {
        let count = soon(server.read(&mut part)).await.expect("the connection is open");
        read.extend_from_slice(&part[..count]);
        parts += 1;
    }
    assert_eq!(read, sent);
    assert!(parts > 1 && scene.proxy.hits() > 0, "{parts} parts");
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_it_closes_everything() {
    let Scene { service, proxy } = Scene::new().await;
    let (address, target) = (proxy.address(), service.local_addr().expect("an address"));
    let scene = Scene { service, proxy };
    let (mut client, mut server) = scene.connect().await;
    let Scene { service, proxy } = scene;
    drop(proxy);
    assert_eq!(rest(&mut client).await, (Vec::new(), None));
    assert_eq!(rest(&mut server).await, (Vec::new(), None));
    let proxy = FaultProxy::listen(address, target).await;
    assert_eq!(proxy.address(), address);
    let scene = Scene { service, proxy };
    let (mut client, mut server) = scene.connect().await;
    send(&mut client, b"another one").await;
    expect(&mut server, b"another one").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nobody_listens_the_client_is_reset() {
    let Scene { service, proxy } = Scene::new().await;
    drop(service);
    expect_turned_away(&proxy).await;
    assert_eq!(proxy.hits(), 0, "that is no fault of the proxy");
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_hole_nobody_learns_that_nobody_listens() {
    let scene = Scene::new().await;
    let deserted = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let proxy = FaultProxy::start(deserted.local_addr().expect("an address")).await;
    drop(deserted);
    let scene = Scene { proxy, ..scene };
    scene.proxy.set(Toxics::both(Toxic::hole()));
    let mut client = TcpStream::connect(scene.proxy.address()).await.expect("the proxy listens");
    scene.hits(1).await;
    let nothing = client.try_read(&mut [0]).map_err(|error| error.kind());
    assert_eq!((nothing, scene.proxy.connections()), (Err(ErrorKind::WouldBlock), 1));
    scene.proxy.heal();
    expect_reset(&mut client).await;
}

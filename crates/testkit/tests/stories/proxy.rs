//! The network that fails when told to: each fault does what it says, to the byte, and nothing else.

use std::{
    io::ErrorKind,
    time::{Duration, Instant},
};

use taskpost_testkit::{Direction, FaultProxy, PATIENCE, Port, Toxic, Toxics, until};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
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
        comes_true("no connection is open", || self.proxy.connections() == 0).await;
    }
}

async fn hits(proxy: &FaultProxy, least: u64) {
    comes_true("a fault is felt", || proxy.hits() >= least).await;
}

async fn comes_true(what: &str, is: impl Fn() -> bool) {
    until(async || is().then_some(()).ok_or_else(|| format!("not yet: {what}"))).await;
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

fn hears_nothing(stream: &TcpStream) -> bool {
    stream.try_read(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
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
    let slowly = Toxic::slice(7).and(Toxic::latency(Duration::from_millis(5)));
    let toxics = [
        Toxics::both(Toxic::latency(Duration::from_millis(20))),
        Toxics::default().up(Toxic::hole()),
        Toxics::both(Toxic::slice(1000)),
        Toxics::default(),
        Toxics::both(Toxic::bandwidth(20_000_000)).up(slowly),
        Toxics::both(Toxic::hole()),
        Toxics::both(Toxic::cut_after(1 << 40)),
        Toxics::refuse().down(Toxic::hole()),
    ];
    let scene = Scene::new().await;
    let (client, server) = scene.connect().await;
    let ((from_server, to_server), (from_client, to_client)) = (client.into_split(), server.into_split());
    let change = async {
        for toxics in toxics.iter().cycle().take(64) {
            let before = scene.proxy.hits();
            scene.proxy.set(*toxics);
            // Until it is felt, but there may be nothing left to feel it.
            let _ = timeout(Duration::from_millis(30), hits(&scene.proxy, before + 10)).await;
        }
        scene.proxy.heal();
    };
    let (up, down) = (stuff(8_000_000), stuff(6_000_000));
    // The sockets could take all of it before the first change.
    scene.proxy.set(toxics[0]);
    tokio::join!(transfer(&up, to_server, from_client), transfer(&down, to_client, from_server), change);
    assert!(scene.proxy.hits() > 0);
}

async fn transfer(bytes: &[u8], mut to: OwnedWriteHalf, mut from: OwnedReadHalf) {
    let mut read = Vec::new();
    let write = async { to.write_all(bytes).await.and(to.shutdown().await) };
    let (written, came) = soon(async { tokio::join!(write, from.read_to_end(&mut read)) }).await;
    written.and(came).expect("nothing is cut");
    assert!(read == bytes, "{} of {} bytes came, or others", read.len(), bytes.len());
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
    assert_eq!(rest(&mut server).await, (Vec::new(), None));
    assert!(begun.elapsed() >= 3 * delay, "an end is not faster than bytes: {:?}", begun.elapsed());
    // What is under way goes by the new latency.
    let felt = scene.proxy.hits();
    scene.proxy.set(Toxics::both(Toxic::latency(Duration::from_hours(1))));
    send(&mut server, b"late").await;
    hits(&scene.proxy, felt + 1).await;
    assert!(hears_nothing(&client));
    scene.proxy.heal();
    expect(&mut client, b"late").await;
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
    hits(&scene.proxy, 1).await;
    send(&mut client, b"again").await;
    expect(&mut server, b"again").await;
    assert!(hears_nothing(&client));
    assert_eq!((scene.proxy.bytes(Direction::Down), scene.proxy.connections()), (0, 1));
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
        hits(&scene.proxy, 1).await;
        send(&mut client, b"is anybody there?").await;
        assert!(hears_nothing(&client) && scene.proxy.connections() == 1);
        scene.proxy.heal();
        let (read, ended) = rest(&mut client).await;
        assert!(read.is_empty() && (!reset || ended == Some(ErrorKind::ConnectionReset)), "{ended:?}");
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
            let (before, felt) = (passed(), scene.proxy.hits());
            comes_true("bytes pass", || passed() > before).await;
            scene.proxy.set(Toxics::both(Toxic::hole()));
            let then = passed();
            hits(&scene.proxy, felt + 1).await;
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
                assert_eq!(from.read(&mut [0]).await.unwrap_or(0), 0);
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
    scene.connect().await;
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
async fn slices_are_the_same_bytes() {
    let scene = Scene::new().await;
    let (mut client, mut server) = scene.connect().await;
    scene.proxy.set(Toxics::both(Toxic::slice(3)));
    send(&mut client, &stuff(1000)).await;
    expect(&mut server, &stuff(1000)).await;
    send(&mut server, &stuff(2000)).await;
    expect(&mut client, &stuff(2000)).await;
    assert!(scene.proxy.hits() >= 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_it_closes_everything() {
    let mut scene = Scene::new().await;
    let (mut client, mut server) = scene.connect().await;
    let (address, target) = (scene.proxy.address(), scene.service.local_addr().expect("an address"));
    drop(scene.proxy);
    assert_eq!(rest(&mut client).await, (Vec::new(), None));
    assert_eq!(rest(&mut server).await, (Vec::new(), None));
    scene.proxy = FaultProxy::listen(address, target).await;
    assert_eq!(scene.proxy.address(), address);
    scene.connect().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nobody_listens_the_client_is_reset_unless_in_a_hole() {
    let nobody = Port::take();
    let proxy = FaultProxy::start(nobody.address()).await;
    expect_turned_away(&proxy).await;
    assert_eq!(proxy.hits(), 0, "that is no fault of the proxy");
    proxy.set(Toxics::both(Toxic::hole()));
    let mut client = soon(TcpStream::connect(proxy.address())).await.expect("the proxy listens");
    hits(&proxy, 1).await;
    assert!(hears_nothing(&client) && proxy.connections() == 1);
    proxy.heal();
    expect_reset(&mut client).await;
}

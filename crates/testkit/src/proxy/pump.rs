//! One connection under way: a pump for each direction.

use std::{io, sync::atomic::Ordering::SeqCst};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::watch,
    task::yield_now,
    time::{Instant, sleep_until},
};

use super::{
    Direction, Orders, Shared,
    lane::{Lane, Piece, Step},
};

/// How much is read at one time.
const BUFFER: usize = 64 * 1024;

/// Passes on what comes from either side, until both have closed. If false, both have to be reset.
pub(super) async fn both_ways(
    client: &mut TcpStream,
    server: &mut TcpStream,
    resets: u64,
    shared: &Shared,
) -> bool {
    let ((from_client, to_client), (from_server, to_server)) = (client.split(), server.split());
    let pump = |direction, from, to| {
        let (lane, orders) = (Lane::new(Instant::now()), shared.orders.subscribe());
        Pump { direction, from, to, lane, orders, set: None, resets, shared }
    };
    let up = pump(Direction::Up, from_client, to_server);
    let down = pump(Direction::Down, from_server, to_client);
    matches!(tokio::try_join!(up.run(), down.run()), Ok((Done::Closed, Done::Closed)))
}

/// Why a pump left the rest to the other one.
enum Done {
    /// The sender has closed, and the receiver knows.
    Closed,
    /// The receiver is gone. The other pump reads that too, and its toxic decides when the sender learns it.
    Deserted,
}

/// The connection ends at once.
struct Broken;

/// What a pump has to do.
enum Next {
    /// Wait until something comes or the orders change.
    Rest,
    /// Or until this time.
    Until(Instant),
    /// Or until the receiver takes more.
    Full,
    /// Go on, after others have had their turn.
    Passed,
    Close,
    Desert,
    Break,
}

struct Pump<'a> {
    direction: Direction,
    from: ReadHalf<'a>,
    to: WriteHalf<'a>,
    lane: Lane,
    orders: watch::Receiver<Orders>,
    /// The orders by which the lane counts.
    set: Option<u64>,
    /// How many resets there were before this connection.
    resets: u64,
    shared: &'a Shared,
}

impl Pump<'_> {
    async fn run(mut self) -> Result<Done, Broken> {
        let mut buffer = vec![0; BUFFER];
        loop {
            let next = self.pass_on();
            let due = match next {
                Next::Break => return Err(Broken),
                Next::Desert => return Ok(Done::Deserted),
                Next::Close => {
                    let told = self.to.shutdown().await;
                    return Ok(told.map_or(Done::Deserted, |()| Done::Closed));
                }
                Next::Until(due) => Some(due),
                Next::Rest | Next::Full | Next::Passed => None,
            };
            let room = self.lane.room().min(BUFFER);
            tokio::select! {
                read = self.from.read(&mut buffer[..room]), if room > 0 => {
                    self.lane.come(piece(&read, &buffer), Instant::now());
                }
                _ = self.orders.changed() => {}
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
                _ = self.to.writable(), if matches!(next, Next::Full) => {}
                () = yield_now(), if matches!(next, Next::Passed) => {}
            }
        }
    }

    /// Writes once, if that is allowed now.
    fn pass_on(&mut self) -> Next {
        let now = Instant::now();
        // While this is borrowed, there are no other orders: whoever gave them can rely on them at once.
        let orders = self.orders.borrow_and_update();
        if orders.resets != self.resets {
            self.shared.hit();
            return Next::Break;
        }
        if self.set.replace(orders.set) != Some(orders.set) {
            self.lane.begin(*orders.toxics.on(self.direction), now);
        }
        let (step, hit) = self.lane.step(now);
        if hit {
            self.shared.hit();
        }
        let next = match step {
            Step::Rest => Next::Rest,
            Step::Wait(due) => Next::Until(due),
            Step::End => Next::Close,
            Step::Reset => Next::Break,
            Step::Pass(bytes) => match self.to.try_write(bytes) {
                Ok(count) => {
                    self.lane.passed(count, now);
                    let count = u64::try_from(count).unwrap_or(u64::MAX);
                    self.shared.passed(self.direction).fetch_add(count, SeqCst);
                    Next::Passed
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Next::Full,
                Err(_) => Next::Desert,
            },
        };
        if self.lane.is_spent() {
            self.shared.hit();
            return Next::Break;
        }
        next
    }
}

fn piece(read: &io::Result<usize>, buffer: &[u8]) -> Piece {
    match read {
        Ok(0) => Piece::End,
        Ok(count) => Piece::Bytes(buffer[..*count].to_vec()),
        Err(_) => Piece::Reset,
    }
}

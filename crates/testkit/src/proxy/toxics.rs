//! What can be wrong with a network.

use std::{
    num::{NonZeroU64, NonZeroUsize},
    time::Duration,
};

/// The way that bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the server.
    Up,
    /// From the server to the client.
    Down,
}

/// What happens to the bytes of each connection in one direction; by default nothing. The end of a stream,
/// closed or reset, has its place behind its bytes and shares their fate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Toxic {
    pub(super) latency: Duration,
    pub(super) bytes_per_second: Option<NonZeroU64>,
    pub(super) hole: bool,
    pub(super) cut_after: Option<u64>,
    pub(super) slice: Option<NonZeroUsize>,
}

impl Toxic {
    /// Everything arrives so much later, in order and as fast as before, up to 1 MiB under way.
    pub fn latency(latency: Duration) -> Self {
        Self { latency, ..Self::default() }
    }

    /// No more than so many bytes a second pass. None at all is [`Toxic::hole`].
    pub fn bandwidth(bytes_per_second: u64) -> Self {
        let limit = NonZeroU64::new(bytes_per_second).expect("a bandwidth of at least a byte a second");
        Self { bytes_per_second: Some(limit), ..Self::default() }
    }

    /// Nothing passes, and the connection stays open: up to 1 MiB is taken and held back, and the end too.
    /// So a peer that has died seems to be alive.
    pub fn hole() -> Self {
        Self { hole: true, ..Self::default() }
    }

    /// The connection is reset on both sides as soon as so many more bytes have passed, counted from when it is
    /// set, or from the connection's start; with 0, at once. A receiver gets all of them, unless it reads so
    /// little that they were still in our socket.
    pub fn cut_after(bytes: u64) -> Self {
        Self { cut_after: Some(bytes), ..Self::default() }
    }

    /// At most so many bytes pass in one write.
    pub fn slice(bytes: usize) -> Self {
        let slice = NonZeroUsize::new(bytes).expect("slices of at least a byte");
        Self { slice: Some(slice), ..Self::default() }
    }

    /// This and another. Where both say something, the other decides.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            latency: if other.latency.is_zero() { self.latency } else { other.latency },
            bytes_per_second: other.bytes_per_second.or(self.bytes_per_second),
            hole: other.hole || self.hole,
            cut_after: other.cut_after.or(self.cut_after),
            slice: other.slice.or(self.slice),
        }
    }
}

/// What is wrong between clients and the server; by default nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Toxics {
    up: Toxic,
    down: Toxic,
    pub(super) refuse: bool,
}

impl Toxics {
    /// The same in both directions.
    pub fn both(toxic: Toxic) -> Self {
        Self::default().up(toxic).down(toxic)
    }

    /// New connections are reset; open ones go on.
    pub fn refuse() -> Self {
        Self { refuse: true, ..Self::default() }
    }

    /// With this on the way to the server.
    #[must_use]
    pub fn up(self, toxic: Toxic) -> Self {
        Self { up: toxic, ..self }
    }

    /// With this on the way to the client.
    #[must_use]
    pub fn down(self, toxic: Toxic) -> Self {
        Self { down: toxic, ..self }
    }

    /// Whether a client cannot learn that the server is away.
    pub(super) fn hides(&self) -> bool {
        self.up.hole || self.down.hole
    }

    pub(super) fn on(&self, direction: Direction) -> &Toxic {
        match direction {
            Direction::Up => &self.up,
            Direction::Down => &self.down,
        }
    }
}

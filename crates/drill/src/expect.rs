//! What the checkers expect of a case.

/// What is expected where a case differs from others.
#[derive(Clone, Copy, Debug, Default)]
pub struct Expect {
    /// Deliveries that are given up, as the receiver never takes them.
    pub dead_letters: bool,
    /// The most memory of a process in MiB, if another than usual.
    pub memory: Option<u64>,
}

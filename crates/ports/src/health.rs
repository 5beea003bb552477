//! How a port is, for /health and `taskpost doctor`.

/// How a port is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortHealth {
    /// What it runs on: `local`, `kafka`, `rabbitmq` or `redis`.
    pub name: &'static str,
    /// What is wrong and what to do, naming the variable; none when all is well.
    pub problem: Option<String>,
}

impl PortHealth {
    /// All is well.
    pub const fn well(name: &'static str) -> Self {
        Self { name, problem: None }
    }
}

//! Failures that end xtask with an exit code of their own; every other one is 1.

use std::fmt;

/// What was asked for cannot be had on this machine, or by this user.
const NOT_HERE: u8 = 3;

/// A failure with its exit code.
#[derive(Debug)]
pub struct Exit {
    /// The code.
    pub code: u8,
    why: String,
}

impl Exit {
    /// A failure with this code.
    pub fn with(code: u8, why: impl Into<String>) -> Self {
        Self { code, why: why.into() }
    }

    /// Nothing is broken, but it cannot be done here: whoever asked may leave it out.
    pub fn not_here(why: impl Into<String>) -> Self {
        Self::with(NOT_HERE, why)
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.why)
    }
}

impl std::error::Error for Exit {}

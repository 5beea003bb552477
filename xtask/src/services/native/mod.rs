//! Servers as processes of this machine, Linux only: each is found again by a variable in its environment, outlives
//! the command that started it, and is signalled only after a look at what it is.

mod processes;
mod server;
mod signal;

pub use processes::Processes;
pub use server::{Prepared, Server, end_of_log};
pub use signal::{kill, pause, resume};

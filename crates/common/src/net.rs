//! Addresses: which may be dialled for a stranger, and whose request this is. Pure judgement; nothing here looks a name up.

mod outbound;
mod proxies;
mod public;

pub use outbound::{Outbound, TargetRefused};
pub use proxies::{InvalidProxies, TrustedProxies, rate_key};
pub use public::is_public;

//! Steps 1 and 2: the HTTP interface of Taskpost.
//!
//! [`serve`] holds the connections, [`http`] answers the requests, and the tracker behind it has the rules.

pub mod http;
pub mod rate_limit;
pub mod serve;

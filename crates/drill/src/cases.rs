//! Every case there is.

mod brokers;
mod crash;
mod disk;
mod overload;
mod processes;
mod receivers;
mod services;

use crate::case::Case;

/// All cases, in the order in which they run: those that leave the services alone come first.
pub fn all() -> Vec<Case> {
    let mut cases = crash::cases();
    cases.extend(processes::cases());
    cases.extend(brokers::cases());
    cases.extend(receivers::cases());
    cases.extend(overload::cases());
    cases.extend(services::cases());
    cases.extend(disk::cases());
    cases.sort_by_key(|case| !case.apart);
    cases
}

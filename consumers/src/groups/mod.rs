//! Step 5 of 7: what an event means, one file for each consumer group.
//! Before: `consumers/src/runner.rs`. Next: `workers/src/dispatcher.rs`.

mod notifier;
pub(crate) mod projections;
mod webhooks;

pub use notifier::Notifier;
pub use projections::Projections;
pub use webhooks::Webhooks;

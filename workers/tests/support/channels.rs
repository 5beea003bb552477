//! Channels of the tests' own.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use taskpost_common::notification::{Channel as Name, Class};
use taskpost_store::{StoreError, deliveries::Delivery};
use taskpost_workers::channels::{AttemptResult, Channel, Report};
use tokio::sync::Semaphore;

/// A channel that panics when it is told to.
pub struct Panics;

impl Channel for Panics {
    type Target = ();

    fn name(&self) -> Name {
        Name::Email
    }

    fn timeout(&self) -> Duration {
        Duration::from_mins(1)
    }

    async fn targets(&self, deliveries: &[Delivery]) -> Result<Vec<()>, StoreError> {
        Ok(vec![(); deliveries.len()])
    }

    async fn send(&self, delivery: &Delivery, (): ()) -> Report {
        assert!(!delivery.payload.contains("panic"), "as it was told");
        AttemptResult::Sent { status_code: None, excerpt: None }.into()
    }
}

/// A channel that sends one delivery for each permit of the test's.
#[derive(Clone)]
pub struct Steps {
    /// One permit for each.
    pub go: Arc<Semaphore>,
    begun: Arc<Mutex<Vec<Class>>>,
}

impl Steps {
    pub fn new() -> Self {
        Self { go: Arc::new(Semaphore::new(0)), begun: Arc::default() }
    }

    /// The classes of those that were begun, in their order.
    pub fn begun(&self) -> Vec<Class> {
        self.begun.lock().unwrap().clone()
    }
}

impl Channel for Steps {
    type Target = ();

    fn name(&self) -> Name {
        Name::Email
    }

    fn timeout(&self) -> Duration {
        Duration::from_mins(10)
    }

    async fn targets(&self, deliveries: &[Delivery]) -> Result<Vec<()>, StoreError> {
        Ok(vec![(); deliveries.len()])
    }

    async fn send(&self, delivery: &Delivery, (): ()) -> Report {
        self.begun.lock().unwrap().push(delivery.class);
        self.go.acquire().await.unwrap().forget();
        AttemptResult::Sent { status_code: None, excerpt: None }.into()
    }
}

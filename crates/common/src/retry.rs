//! Waiting and trying again. The one file that knows the `backoff` crate, so that it can be swapped.

use std::{fmt::Display, future::Future, time::Duration};

use backoff::{ExponentialBackoff, ExponentialBackoffBuilder, backoff::Backoff as _};

/// Growing waits with jitter: each about twice the one before, up to a cap, without an end.
#[derive(Debug)]
pub struct Backoff {
    policy: ExponentialBackoff,
    max: Duration,
}

impl Backoff {
    /// Waits that start near `initial` and stop growing at `max`.
    pub fn new(initial: Duration, max: Duration) -> Self {
        let policy = ExponentialBackoffBuilder::new()
            .with_initial_interval(initial)
            .with_multiplier(2.0)
            .with_randomization_factor(0.25)
            .with_max_interval(max)
            .with_max_elapsed_time(None)
            .build();
        Self { policy, max }
    }

    /// The next wait.
    pub fn wait(&mut self) -> Duration {
        self.policy.next_backoff().unwrap_or(self.max)
    }

    /// Starts over after a success.
    pub fn reset(&mut self) {
        self.policy.reset();
    }
}

impl Default for Backoff {
    /// What a loop over a dependency uses: 100 ms to 5 s.
    fn default() -> Self {
        Self::new(Duration::from_millis(100), Duration::from_secs(5))
    }
}

/// Calls `attempt` until it succeeds, fails for good, or `tries` are used up; the last error is returned.
pub async fn retry<T, E, F, A>(
    what: &str,
    tries: u32,
    mut backoff: Backoff,
    passes: impl Fn(&E) -> bool,
    mut attempt: A,
) -> Result<T, E>
where
    E: Display,
    F: Future<Output = Result<T, E>>,
    A: FnMut() -> F,
{
    let mut left = tries;
    loop {
        match attempt().await {
            Ok(value) => return Ok(value),
            Err(error) if left <= 1 || !passes(&error) => return Err(error),
            Err(error) => {
                left -= 1;
                let wait = backoff.wait();
                tracing::warn!(what, %error, ?wait, "will try again");
                tokio::time::sleep(wait).await;
            }
        }
    }
}

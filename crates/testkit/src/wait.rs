//! Waiting for a condition. Nothing in the tests sleeps for a while and hopes.

use std::{
    future::Future,
    time::{Duration, Instant},
};

/// How long anything may take before its test fails.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// The longest pause between two looks.
const PAUSE: Duration = Duration::from_millis(20);

/// Looks again and again until there is an answer. After [`PATIENCE`] it panics with what the last look said is missing.
pub async fn until<T, F>(look: impl FnMut() -> F) -> T
where
    F: Future<Output = Result<T, String>>,
{
    until_within(PATIENCE, look).await
}

/// As [`until`], with a patience of its own.
pub async fn until_within<T, F>(patience: Duration, mut look: impl FnMut() -> F) -> T
where
    F: Future<Output = Result<T, String>>,
{
    let (began, mut pause) = (Instant::now(), Duration::from_millis(1));
    loop {
        match look().await {
            Ok(answer) => return answer,
            Err(missing) if began.elapsed() > patience => panic!("after {} s: {missing}", patience.as_secs()),
            Err(_) => tokio::time::sleep(pause).await,
        }
        pause = (pause * 2).min(PAUSE);
    }
}

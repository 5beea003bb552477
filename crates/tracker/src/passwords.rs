//! Passwords: argon2id with OWASP's parameters, never more at once than there are cores.

use std::{num::NonZeroUsize, sync::Arc, thread::available_parallelism, time::Duration};

use argon2::{
    Algorithm, Argon2, Params, PasswordHasher, PasswordVerifier, Version, password_hash::phc::PasswordHash,
};
use metrics::{counter, gauge};
use tokio::{
    runtime::{Builder, Runtime},
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
};

use crate::Error;

/// 19 MiB, two passes, one lane (OWASP Password Storage Cheat Sheet).
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
/// How many may wait for a core before the answer is "busy".
const WAITING: usize = 50;
/// How long a thread waits for the next one.
const IDLE: Duration = Duration::from_secs(2);
/// The longest password that is hashed; a longer one is refused before it costs anything.
pub(crate) const LONGEST: usize = 1_024;

/// What unknown users are checked against, so that they take the same time: a hash with these parameters.
const DUMMY: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$J2pwuaU7tNqY9wMGGVDdRg$GSfa7FgtFvo5fOOAROooWUXDB6FPbLF7ecykwUwEuNw";

pub(crate) struct Passwords {
    argon2: Argon2<'static>,
    cores: Cores,
    queue: Arc<Semaphore>,
}

/// Threads for as many hashes as there are cores. The allocator keeps the memory of a hash until the thread that gave it back
/// ends: so there are few, and they end soon.
struct Cores(Option<Runtime>);

impl Cores {
    fn start(count: usize) -> Result<Self, Error> {
        let mut threads = Builder::new_current_thread();
        threads.max_blocking_threads(count).thread_keep_alive(IDLE).thread_name("passwords");
        Ok(Self(Some(threads.build().map_err(internal)?)))
    }

    /// Runs it when its turn comes, if anybody still waits for it then. The place is held until it is done.
    async fn run<T: Send + 'static>(
        &self,
        place: OwnedSemaphorePermit,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        let job = move || {
            let _place = place;
            if reply.is_closed() {
                return;
            }
            let running = gauge!("taskpost_password_hashes_running");
            running.increment(1.0);
            let value = work();
            running.decrement(1.0);
            // Nobody waits any more when the client is gone.
            let _ = reply.send(value);
        };
        if let Some(threads) = &self.0 {
            drop(threads.spawn_blocking(job));
        }
        answer.await.map_err(internal)
    }
}

impl Drop for Cores {
    /// Waits for nobody, as it may be dropped where waiting is not allowed.
    fn drop(&mut self) {
        if let Some(threads) = self.0.take() {
            threads.shutdown_background();
        }
    }
}

impl Passwords {
    pub(crate) fn new() -> Result<Self, Error> {
        let params = Params::new(MEMORY_KIB, PASSES, 1, None).map_err(internal)?;
        let cores = available_parallelism().map_or(1, NonZeroUsize::get);
        Ok(Self {
            argon2: Argon2::new(Algorithm::Argon2id, Version::V0x13, params),
            cores: Cores::start(cores)?,
            queue: Arc::new(Semaphore::new(cores + WAITING)),
        })
    }

    /// The hash to store, in PHC string format.
    pub(crate) async fn hash(&self, password: String) -> Result<String, Error> {
        let argon2 = self.argon2.clone();
        self.on_a_core(move || {
            argon2.hash_password(password.as_bytes()).map(|hash| hash.to_string()).map_err(internal)
        })
        .await?
    }

    /// Whether a password fits a hash. Without a hash it takes as long and says no.
    pub(crate) async fn verify(&self, password: String, hash: Option<String>) -> Result<bool, Error> {
        let known = hash.is_some();
        let hash = hash.unwrap_or_else(|| DUMMY.to_owned());
        let argon2 = self.argon2.clone();
        let fits = self
            .on_a_core(move || {
                let hash = PasswordHash::new(&hash).map_err(internal)?;
                Ok::<_, Error>(argon2.verify_password(password.as_bytes(), &hash).is_ok())
            })
            .await??;
        Ok(fits && known)
    }

    async fn on_a_core<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Error> {
        let busy = |_| Error::Busy("the queue for logins");
        let place = self.queue.clone().try_acquire_owned().map_err(busy)?;
        counter!("taskpost_password_hashes_total").increment(1);
        self.cores.run(place, work).await
    }
}

fn internal(error: impl std::fmt::Display) -> Error {
    Error::Internal(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_dummy_costs_what_a_real_hash_costs() {
        let real = Passwords::new().unwrap().hash("correct horse battery".to_owned()).await.unwrap();
        let parameters = |hash: &str| hash.split('$').take(4).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(parameters(DUMMY), parameters(&real));
        PasswordHash::new(DUMMY).unwrap();
    }
}

//! How many connections there are, in all and of each address.

use std::{
    collections::{HashMap, hash_map::Entry},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use metrics::{Gauge, counter, gauge};
use taskpost_common::net::{TrustedProxies, rate_key};

use super::Limits;

/// The places that connections take.
pub(super) struct Places {
    most: usize,
    most_of_one: usize,
    proxies: TrustedProxies,
    taken: Mutex<Taken>,
    gauge: Gauge,
}

/// One connection's place; given back when dropped.
pub(super) struct Place {
    places: Arc<Places>,
    /// Under which the address counts; none for a proxy.
    key: Option<IpAddr>,
}

/// Why there is no place.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// All are taken.
    Full,
    /// This address has all that one may have.
    Address,
}

#[derive(Default)]
struct Taken {
    total: usize,
    by_key: HashMap<IpAddr, usize>,
}

impl Places {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            most: limits.connections,
            most_of_one: limits.per_address,
            proxies: limits.proxies.clone(),
            taken: Mutex::default(),
            gauge: gauge!("taskpost_http_connections"),
        }
    }

    /// A place for a connection from `ip`; a refusal is counted.
    pub(super) fn take(self: &Arc<Self>, ip: IpAddr) -> Result<Place, Refusal> {
        let key = (!self.proxies.contains(ip)).then(|| rate_key(ip));
        self.lock().take(key, self.most, self.most_of_one).inspect_err(Refusal::count)?;
        self.gauge.increment(1.0);
        Ok(Place { places: Arc::clone(self), key })
    }

    /// A panic cannot leave the counts half changed, so a poisoned lock is as good as another.
    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.lock().give_back(self.key);
        self.places.gauge.decrement(1.0);
    }
}

impl Refusal {
    fn count(&self) {
        let reason = match self {
            Self::Full => "full",
            Self::Address => "address",
        };
        counter!("taskpost_http_connections_refused_total", "reason" => reason).increment(1);
    }
}

impl Taken {
    fn take(&mut self, key: Option<IpAddr>, most: usize, most_of_one: usize) -> Result<(), Refusal> {
        let of_one = key.and_then(|key| self.by_key.get(&key)).copied().unwrap_or(0);
        if of_one >= most_of_one {
            return Err(Refusal::Address);
        }
        if self.total >= most {
            return Err(Refusal::Full);
        }
        self.total += 1;
        if let Some(key) = key {
            self.by_key.insert(key, of_one + 1);
        }
        Ok(())
    }

    fn give_back(&mut self, key: Option<IpAddr>) {
        self.total -= 1;
        let Some(Entry::Occupied(mut of_one)) = key.map(|key| self.by_key.entry(key)) else { return };
        *of_one.get_mut() -= 1;
        if *of_one.get() == 0 {
            of_one.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(connections: usize, per_address: usize) -> Arc<Places> {
        let proxies = "10.0.0.0/8".parse().unwrap();
        Arc::new(Places::new(&Limits { connections, per_address, proxies, ..Limits::default() }))
    }

    fn take(places: &Arc<Places>, ip: &str) -> Result<Place, Refusal> {
        places.take(ip.parse().unwrap())
    }

    #[test]
    fn places_are_counted_and_given_back() {
        let places = places(3, 2);
        let (a, _b) = (take(&places, "1.1.1.1").ok().unwrap(), take(&places, "::ffff:1.1.1.1").ok().unwrap());
        assert_eq!(take(&places, "1.1.1.1").err(), Some(Refusal::Address));
        let c = take(&places, "2606:4700::1").ok().unwrap();
        assert_eq!(take(&places, "2606:4700::2").err(), Some(Refusal::Full));
        drop(a);
        let d = take(&places, "2606:4700::2").ok().unwrap();
        assert_eq!(take(&places, "2606:4700::3").err(), Some(Refusal::Address));
        drop((c, d));
        assert_eq!(places.lock().by_key.len(), 1);
    }

    #[test]
    fn a_proxy_may_take_them_all() {
        let places = places(3, 1);
        let _taken: Vec<_> = (0..3).map(|_| take(&places, "10.0.0.1").ok().unwrap()).collect();
        assert_eq!(take(&places, "10.0.0.1").err(), Some(Refusal::Full));
    }
}

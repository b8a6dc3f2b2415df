//! How many connections the process holds, over all shards and listeners.
//!
//! The counters are shared between shards: they are touched once when a connection begins and once
//! when it ends, never for a request.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Kafka's limits on connections.
#[derive(Clone, Debug)]
pub struct ConnectionLimits {
    /// `max.connections`: at this many, nobody is accepted until one ends.
    pub connections_max: usize,
    /// `max.connections.per.ip`: beyond this many from one address, a new one is closed.
    pub per_ip_max: usize,
    /// `max.connections.per.ip.overrides`.
    pub per_ip_overrides: HashMap<IpAddr, usize>,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            connections_max: usize::MAX,
            per_ip_max: usize::MAX,
            per_ip_overrides: HashMap::new(),
        }
    }
}

#[derive(Debug, Default)]
struct Counts {
    total: usize,
    per_ip: HashMap<IpAddr, usize>,
}

#[derive(Debug)]
struct Shared {
    limits: ConnectionLimits,
    counts: Mutex<Counts>,
}

impl Shared {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a connection is not counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// There are as many as there may be: it may wait.
    Full,
    /// Its address has as many as it may.
    Address,
}

/// Counts connections against the limits. Clones share the counts; any thread.
#[derive(Clone, Debug)]
pub struct ConnectionQuota {
    shared: Arc<Shared>,
}

/// One connection in the counts, until it is dropped.
#[derive(Debug)]
pub struct ConnectionTicket {
    shared: Arc<Shared>,
    ip: IpAddr,
}

impl ConnectionQuota {
    /// No connections yet.
    pub fn new(limits: ConnectionLimits) -> Self {
        Self {
            shared: Arc::new(Shared {
                limits,
                counts: Mutex::default(),
            }),
        }
    }

    /// Whether another connection may be accepted at all.
    pub fn has_room(&self) -> bool {
        self.connections() < self.shared.limits.connections_max
    }

    /// The connections now.
    pub fn connections(&self) -> usize {
        self.shared.counts().total
    }

    /// Counts a connection from `ip`.
    ///
    /// # Errors
    /// If there may be no other one.
    pub fn admit(&self, ip: IpAddr) -> Result<ConnectionTicket, Refused> {
        // An IPv4 peer of an IPv6 socket is the same peer.
        let ip = ip.to_canonical();
        let limits = &self.shared.limits;
        let per_ip_max = limits.per_ip_overrides.get(&ip).copied();
        let mut counts = self.shared.counts();
        if counts.total >= limits.connections_max {
            return Err(Refused::Full);
        }
        let own = counts.per_ip.entry(ip).or_default();
        if *own >= per_ip_max.unwrap_or(limits.per_ip_max) {
            if *own == 0 {
                counts.per_ip.remove(&ip);
            }
            return Err(Refused::Address);
        }
        *own += 1;
        counts.total += 1;
        drop(counts);
        let shared = self.shared.clone();
        Ok(ConnectionTicket { shared, ip })
    }
}

impl Drop for ConnectionTicket {
    fn drop(&mut self) {
        let mut counts = self.shared.counts();
        counts.total -= 1;
        if let Some(own) = counts.per_ip.get_mut(&self.ip) {
            *own -= 1;
            if *own == 0 {
                counts.per_ip.remove(&self.ip);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_counted_each_for_itself() {
        let [one, two, three] = ["10.0.0.1", "10.0.0.2", "10.0.0.3"].map(|text| {
            let ip: IpAddr = text.parse().expect("an address");
            ip
        });
        let quota = ConnectionQuota::new(ConnectionLimits {
            connections_max: 4,
            per_ip_max: 2,
            per_ip_overrides: HashMap::from([(two, 3), (three, 0)]),
        });
        let first = quota.admit(one).expect("the first");
        let mapped = "::ffff:10.0.0.1".parse().expect("an address");
        let second = quota.admit(mapped).expect("the second");
        assert_eq!(quota.admit(one).err(), Some(Refused::Address));
        assert_eq!(quota.admit(three).err(), Some(Refused::Address));
        let others = [quota.admit(two), quota.admit(two)];
        assert!(others.iter().all(Result::is_ok));
        assert!(!quota.has_room());
        assert_eq!(quota.admit(one).err(), Some(Refused::Full));
        drop(second);
        assert!(quota.has_room());
        assert!(quota.admit(one).is_ok());
        drop((first, others));
        assert_eq!(quota.connections(), 0);
        assert!(quota.shared.counts().per_ip.is_empty());
    }
}

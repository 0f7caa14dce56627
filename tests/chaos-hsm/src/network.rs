//! A network HSM's time: so many operations at once, first come, first served.
//!
//! Each server is the time at which it will be free. A call takes the one that is free first and journals its own service
//! time on it. Nothing is locked, so a process that dies leaves nothing behind but the time that it had booked.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::rules::Distribution;

/// Journals an operation that comes at `now` and takes `service`; when it will be done. All in nanoseconds.
pub(crate) fn journal(servers: &[AtomicU64], now: u64, service: u64) -> u64 {
    loop {
        let free = servers.iter().map(|server| (server.load(Ordering::Acquire), server));
        let Some((at, server)) = free.min_by_key(|(at, _)| *at) else { return now + service };
        let done = at.max(now) + service;
        if server.compare_exchange(at, done, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            return done;
        }
    }
}

/// A service time with this mean, as chance, from 0 to 1, has it.
pub(crate) fn service(mean: f64, distribution: Distribution, chance: f64) -> f64 {
    match distribution {
        Distribution::Constant => mean,
        Distribution::Uniform => mean * (0.5 + chance),
        Distribution::Exponential => -mean * (1.0 - chance).ln(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::chance;

    #[test]
    fn no_more_than_the_servers_can_is_done() {
        let servers: Vec<AtomicU64> = (0..4).map(|_| AtomicU64::new(0)).collect();
        let done: Vec<u64> = (0..40).map(|_| journal(&servers, 1_000, 10)).collect();
        assert_eq!(done[..5], [1_010, 1_010, 1_010, 1_010, 1_020]);
        assert_eq!(done[39], 1_100, "forty of ten each on four");
        assert_eq!(journal(&servers, 5_000, 10), 5_010, "idle time is lost");
    }

    #[test]
    fn service_times_have_their_mean() {
        for distribution in [Distribution::Constant, Distribution::Uniform, Distribution::Exponential] {
            let sum: f64 = (0..10_000).map(|at| service(5.0, distribution, chance(&[at], "mean"))).sum();
            assert!((4.8..5.2).contains(&(sum / 10_000.0)), "{distribution:?}: {}", sum / 10_000.0);
        }
    }
}

//! How many requests a second there may be: of one principal, and with the keys of one key store.
//!
//! An item of a batch or of a stream is a request, because it is as much work as a call of its own. A principal's are
//! counted before anything else is done for the call; a key store's once it is known that the caller may use the key, so
//! that nobody uses up what others may do with it. Which key store that is, the operations on items and GenerateRandom
//! alone have: as in AWS, what manages keys counts for principals only.

use std::collections::HashMap;
use std::fmt;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use governor::clock::{Clock as _, Reference as _};
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};

use super::Core;
use crate::{Error, RequestContext};
use model::clock::Clock;
use model::exception::Exception;
use model::id::KeyStoreId;
use model::lock::RwLockExt as _;

/// Limiters that are kept although nobody has asked them for a while.
const IDLE: usize = 1_024;

/// How many requests a second there may be. No bound where none is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimits {
    /// Of one principal.
    pub per_principal: Option<NonZeroU32>,
    /// With the keys of one key store.
    pub per_key_store: Option<NonZeroU32>,
    /// So many seconds' worth of them may come at once.
    pub burst_s: NonZeroU32,
}

impl Default for RateLimits {
    fn default() -> Self {
        Self { per_principal: None, per_key_store: None, burst_s: NonZeroU32::MIN }
    }
}

/// Which limit a request was past.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RateLimit {
    /// That of its principal.
    Principal,
    /// That of the key store.
    KeyStore,
}

impl RateLimit {
    /// Every limit.
    pub const ALL: &[Self] = &[Self::Principal, Self::KeyStore];

    /// Its label in metrics.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Principal => "principal",
            Self::KeyStore => "key_store",
        }
    }

    const fn setting(self) -> &'static str {
        match self {
            Self::Principal => "rate_limits.requests_per_second_per_principal",
            Self::KeyStore => "rate_limits.requests_per_second_per_key_store",
        }
    }
}

/// The limiters in use.
pub(crate) struct Rates {
    limits: RateLimits,
    principals: Option<Limiters>,
    key_stores: Option<Limiters>,
}

impl Rates {
    pub(crate) fn limits(&self) -> RateLimits {
        self.limits
    }

    pub(crate) fn new(limits: RateLimits, clock: &Clock) -> Self {
        let of = |rate: Option<NonZeroU32>, limit| rate.map(|rate| Limiters::new(limit, rate, limits.burst_s, clock));
        Self {
            limits,
            principals: of(limits.per_principal, RateLimit::Principal),
            key_stores: of(limits.per_key_store, RateLimit::KeyStore),
        }
    }
}

/// A limiter for each of those that have been asked about, of which the least recent are forgotten: one that nobody has
/// asked for as long as it takes to be full is as good as a new one.
struct Limiters {
    limit: RateLimit,
    rate: NonZeroU32,
    quota: Quota,
    full_after: Duration,
    pace: Pace,
    /// Read on each call, written when somebody comes for the first time.
    each: RwLock<HashMap<Arc<str>, Arc<Own>>>,
}

struct Own {
    limiter: RateLimiter<NotKeyed, InMemoryState, Pace, NoOpMiddleware<Duration>>,
    /// When it was asked last, in nanoseconds of its clock.
    asked: AtomicU64,
}

/// The daemon's clock for the limiters.
#[derive(Clone)]
struct Pace {
    clock: Clock,
    start: Instant,
}

impl governor::clock::Clock for Pace {
    type Instant = Duration;

    fn now(&self) -> Duration {
        self.clock.now().saturating_duration_since(self.start)
    }
}

/// Why requests are refused.
enum Refused {
    /// They may come after this.
    Wait(Duration),
    /// Never: more at once than there may be.
    TooMany(u32),
}

impl Limiters {
    fn new(limit: RateLimit, rate: NonZeroU32, burst_s: NonZeroU32, clock: &Clock) -> Self {
        let quota = Quota::per_second(rate).allow_burst(rate.saturating_mul(burst_s));
        let pace = Pace { clock: clock.clone(), start: clock.now() };
        let full_after = Duration::from_secs(burst_s.get().into());
        Self { limit, rate, quota, full_after, pace, each: RwLock::default() }
    }

    /// Takes so many requests of somebody's, all or none.
    fn take(&self, of: &str, requests: usize) -> Result<(), Refused> {
        let Some(requests) = u32::try_from(requests).ok().and_then(NonZeroU32::new) else { return Ok(()) };
        let own = self.own(of);
        own.asked.store(nanos(self.pace.now()), Ordering::Relaxed);
        match own.limiter.check_n(requests) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(not_until)) => Err(Refused::Wait(not_until.wait_time_from(self.pace.now()))),
            Err(too_many) => Err(Refused::TooMany(too_many.0)),
        }
    }

    fn own(&self, of: &str) -> Arc<Own> {
        if let Some(own) = self.each.read_anyway().get(of) {
            return Arc::clone(own);
        }
        let mut each = self.each.write_anyway();
        if each.len() >= IDLE {
            let now = self.pace.now();
            let recent = |own: &Own| {
                now.duration_since(Duration::from_nanos(own.asked.load(Ordering::Relaxed))) < self.full_after.into()
            };
            // One that somebody holds is about to be asked.
            each.retain(|_, own| Arc::strong_count(own) > 1 || recent(own));
        }
        let new = || {
            let limiter = RateLimiter::direct_with_clock(self.quota, self.pace.clone());
            Arc::new(Own { limiter, asked: AtomicU64::new(nanos(self.pace.now())) })
        };
        Arc::clone(each.entry(of.into()).or_insert_with(new))
    }

    fn refusal(&self, of: &impl fmt::Display, refused: &Refused) -> Error {
        let (rate, setting) = (self.rate, self.limit.setting());
        let (what, retryable) = match refused {
            // Rounded up: who comes a moment too early is refused again.
            Refused::Wait(wait) => (format!("try again in {} ms", wait.as_millis().saturating_add(1)), true),
            Refused::TooMany(most) => (format!("at most {most} fit into one call: send fewer at once"), false),
        };
        // AWS's text begins so.
        let message = format!(
            "You have exceeded the rate at which you may call KMS: {of} has {rate} requests a second ({setting}); {what}"
        );
        Error::new(Exception::Throttling, message, retryable)
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl Core {
    /// Has other limits count from now on. Those that stay go on from where they are.
    pub(crate) fn set_rate_limits(&self, limits: RateLimits) {
        if self.inner.rates.load().limits != limits {
            self.inner.rates.store(Arc::new(Rates::new(limits, self.clock())));
        }
    }

    /// What holds at this moment.
    pub(crate) fn rates(&self) -> Arc<Rates> {
        self.inner.rates.load_full()
    }

    /// Lets so many requests of the caller in, or refuses all of them. A principal's certificates and access keys count
    /// together.
    pub(crate) fn in_rate(&self, call: &RequestContext, requests: usize) -> Result<(), Error> {
        let rates = self.inner.rates.load();
        let Some(principals) = &rates.principals else { return Ok(()) };
        let keyring = self.keyring();
        let (of, shown) = keyring.party(&call.principal);
        principals.take(of, requests).map_err(|refused| {
            self.observer().throttled(RateLimit::Principal, requests);
            principals.refusal(&shown, &refused)
        })
    }

    /// Lets one request in that uses keys of these key stores, one for each.
    pub(crate) fn in_rate_of<'s>(
        &self,
        rates: &Rates,
        stores: impl IntoIterator<Item = &'s KeyStoreId>,
    ) -> Result<(), Error> {
        let Some(limiters) = &rates.key_stores else { return Ok(()) };
        for store in stores {
            limiters.take(store.as_str(), 1).map_err(|refused| {
                self.observer().throttled(RateLimit::KeyStore, 1);
                limiters.refusal(&format_args!("the key store {store}"), &refused)
            })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limiters(rate: u32, burst_s: u32, clock: &Clock) -> Limiters {
        let of = |number| NonZeroU32::new(number).unwrap();
        Limiters::new(RateLimit::Principal, of(rate), of(burst_s), clock)
    }

    #[test]
    fn a_burst_is_let_in_and_then_so_many_a_second() {
        let clock = Clock::manual();
        let limiters = limiters(10, 2, &clock);
        assert!(limiters.take("anna", 20).is_ok());
        let Err(Refused::Wait(wait)) = limiters.take("anna", 1) else { panic!("there is none left") };
        assert_eq!(wait, Duration::from_millis(100));
        assert!(limiters.take("bert", 1).is_ok(), "others have their own");
        clock.advance(Duration::from_millis(99));
        assert!(limiters.take("anna", 1).is_err());
        clock.advance(Duration::from_millis(1));
        assert!(limiters.take("anna", 1).is_ok());
        assert!(limiters.take("anna", 1).is_err());
        clock.advance(Duration::from_secs(3_600));
        assert!(limiters.take("anna", 21).is_err_and(|refused| matches!(refused, Refused::TooMany(20))));
        assert!(limiters.take("anna", 20).is_ok(), "no more than a burst is saved up, and all or none are taken");
        assert!(limiters.take("anna", 0).is_ok());
    }

    #[test]
    fn those_who_have_not_come_for_a_while_are_forgotten() {
        let clock = Clock::manual();
        let limiters = limiters(1, 1, &clock);
        for number in 0..5 * IDLE {
            assert!(limiters.take(&format!("cn:{number}"), 1).is_ok());
            clock.advance(Duration::from_millis(2));
        }
        let kept = limiters.each.read().unwrap().len();
        assert!(kept <= IDLE, "{kept} are kept");
        assert!(limiters.take(&format!("cn:{}", 5 * IDLE - 1), 1).is_err(), "whoever has used up what it has is not");
    }
}

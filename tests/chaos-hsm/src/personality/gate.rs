//! What functions have in common: those that there are not, how many there can be in a second, back ends that are down,
//! and return values that are shown as others.

use std::sync::atomic::Ordering;

use cryptoki_sys::*;

use super::layer::{Answer, Below};
use super::names::{Code, Function};
use super::settings::{Personality, Rate};
use super::topology;

/// Functions whose first argument is no session.
const WITHOUT: &[&str] = &[
    "C_GetSlotInfo",
    "C_GetTokenInfo",
    "C_GetMechanismList",
    "C_GetMechanismInfo",
    "C_InitToken",
    "C_OpenSession",
    "C_CloseAllSessions",
    "C_WaitForSlotEvent",
];

/// Before a call.
pub(super) fn before(below: &Below, function: &'static str, session: Option<CK_SESSION_HANDLE>) -> Answer {
    let calls = &below.personality.calls;
    match calls.refused.get(&Function(function)) {
        Some(code) if code.0 != CKR_OK => return Err(code.0),
        _ => {}
    }
    if let Some(rate) = calls.rate.as_ref().filter(|rate| is_counted(rate, function)) {
        throttle(below, rate, function)?;
    }
    let session = session.filter(|_| !WITHOUT.contains(&function));
    topology::meet(below, function, session)
}

fn is_counted(rate: &Rate, function: &'static str) -> bool {
    let spared = ["C_Initialize", "C_Finalize", "C_OpenSession", "C_CloseSession", "C_CloseAllSessions"];
    match &rate.function {
        Some(functions) => functions.contains(&Function(function)),
        None => !spared.contains(&function),
    }
}

/// Refuses what comes too fast.
fn throttle(below: &Below, rate: &Rate, function: &'static str) -> Answer {
    let now = (below.now)();
    let update = |next| due(next, now, rate);
    match below.state.next_call.fetch_update(Ordering::AcqRel, Ordering::Acquire, update) {
        Ok(_) => Ok(()),
        Err(_) => {
            let code = rate.codes.get(&Function(function)).copied().or(rate.code);
            Err(code.unwrap_or(Code(CKR_FUNCTION_FAILED)).0)
        }
    }
}

/// When the next call would be due if they came evenly, of one that comes `now`; `None` where it comes too early.
fn due(next: u64, now: u64, rate: &Rate) -> Option<u64> {
    let apart = (1e9 / rate.per_second) as u64;
    let early = apart.saturating_mul(u64::from(rate.burst) - 1);
    // The clock begins anew with the machine, and the file may be older.
    let next = if next > now.saturating_add(early).saturating_add(apart) { now } else { next.max(now) };
    (next <= now.saturating_add(early)).then_some(next.saturating_add(apart))
}

/// What is shown of a return value.
pub(super) fn shown(personality: &Personality, function: &'static str, value: CK_RV) -> CK_RV {
    let codes = personality.codes.get(&Function(function));
    codes.and_then(|codes| codes.get(&Code(value))).map_or(value, |code| code.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(per_second: f64, burst: u32) -> Rate {
        Rate { per_second, burst, function: None, code: None, codes: Default::default() }
    }

    #[test]
    fn calls_come_as_fast_as_the_rate_and_no_faster() {
        let rate = rate(10.0, 1);
        let (mut next, mut done) = (0, 0);
        for now in (0..1_000).map(|ms| 5_000_000_000 + ms * 1_000_000) {
            if let Some(then) = due(next, now, &rate) {
                (next, done) = (then, done + 1);
            }
        }
        assert_eq!(done, 10, "in a second, however many are tried");
    }

    #[test]
    fn a_burst_is_let_through_after_a_pause() {
        let rate = rate(10.0, 4);
        let mut next = 0;
        let now = 7_000_000_000;
        let mut tries = 0;
        while let Some(then) = due(next, now, &rate) {
            (next, tries) = (then, tries + 1);
        }
        assert_eq!(tries, 4);
        assert!(due(next, now + 100_000_000, &rate).is_some(), "and one more when it is due");
    }

    #[test]
    fn a_clock_that_began_anew_holds_nobody_up() {
        assert!(due(u64::MAX / 2, 1_000, &rate(10.0, 4)).is_some());
    }
}

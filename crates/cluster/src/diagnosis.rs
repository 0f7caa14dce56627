//! An HSM looked at for its vendor's support desk: what module and token say of themselves, what they were found to do, and
//! how fast. By its control worker alone, each step for a fraction of a second, so that callers keep their sessions.

use std::sync::Arc;
use std::time::{Duration, Instant};

use model::clock::Clock;
use model::profile::judgement::Finding;
use model::profile::{Basis, Profile};
use protocol::{Op, Reply};
use supervisor::Hsm;

pub use protocol::{Described, Measure, MechanismSeen, Speed};
pub use supervisor::CodeSeen;

/// Everything together; what is not done by then is said to be.
const ALL: Duration = Duration::from_secs(8);
/// Sessions beside each other, at least and at most: with one alone there is nothing to compare.
const SESSIONS: (u16, u16) = (2, 8);

/// What was found.
#[derive(Clone, Debug)]
pub struct Diagnosis {
    /// Whose habits it is said to have, and where that is from.
    pub profile: (Profile, Basis),
    /// What its configuration says otherwise.
    pub overrides: Vec<String>,
    /// What module and token say of themselves; or why nobody could ask them.
    pub described: Result<Described, String>,
    /// What the newest examination has found; empty where there was none.
    pub findings: Vec<Finding>,
    /// Return values that it has given since it was started.
    pub codes: Vec<CodeSeen>,
    /// What was measured, in how many sessions beside each other, and what came of it.
    pub speeds: Vec<(Measure, u16, Result<Speed, String>)>,
    /// Why the HSM is not used, where it is not.
    pub reason: Option<String>,
}

/// Looks at it. Until `deadline`, and no longer than some seconds.
pub async fn diagnose(hsm: &Hsm, clock: &Clock, deadline: Instant) -> Diagnosis {
    let until = deadline.min(clock.now() + ALL);
    let asked = ask(hsm, Op::Describe, until).await;
    let described = asked.and_then(|reply| match reply {
        Reply::Described(described) => Ok(*described),
        _ => Err(ELSE.to_owned()),
    });
    let mut speeds = Vec::new();
    if described.is_ok() {
        let beside = hsm.settings().sessions.clamp(SESSIONS.0, SESSIONS.1);
        for (what, sessions) in Measure::ALL.into_iter().flat_map(|what| [(what, 1), (what, beside)]) {
            let speed = if clock.now() < until {
                ask(hsm, Op::Measure { what, sessions }, until).await.and_then(|reply| match reply {
                    Reply::Measured(speed) => Ok(speed),
                    _ => Err(ELSE.to_owned()),
                })
            } else {
                Err("there was no time left".to_owned())
            };
            speeds.push((what, sessions, speed));
        }
    }
    let status = hsm.status();
    Diagnosis {
        profile: (hsm.settings().profile, hsm.settings().capabilities.basis),
        overrides: hsm.settings().overrides(),
        described,
        findings: status.examined.as_ref().map(|judgement| judgement.findings.clone()).unwrap_or_default(),
        codes: hsm.codes(),
        speeds,
        reason: status.reason.clone(),
    }
}

const ELSE: &str = "the worker answered something else than it was asked";

async fn ask(hsm: &Hsm, op: Op, until: Instant) -> Result<Reply, String> {
    match hsm.call(Arc::new(op), until).await {
        Ok(Reply::Failed(fault)) => Err(fault.to_string()),
        Ok(reply) => Ok(reply),
        Err(error) => Err(error.to_string()),
    }
}

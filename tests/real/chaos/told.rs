//! A schedule in words.

use std::fmt;

use super::schedule::{Phase, Schedule, Strike, Verify, Whom, name};

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wraps = if self.verify.all_wraps { "all" } else { "data-keys" };
        let Self { seed, kinds, verify: Verify { unwraps, .. }, phases, .. } = self;
        let kinds = kinds.iter().map(|kind| kind.name).collect::<Vec<_>>().join(", ");
        write!(f, "seed {seed}: zones of {kinds}, verify_wraps {wraps}, verify_unwraps {unwraps}")?;
        phases.iter().enumerate().try_for_each(|(at, phase)| write!(f, "\n{:3}. {phase}", at + 1))
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:4} ms", self.lasts.as_millis())?;
        if self.again {
            f.write_str(", before they recovered")?;
        }
        if let Some(act) = self.act {
            write!(f, ", {}", format!("{act:?}").to_lowercase())?;
        }
        self.strikes.iter().enumerate().try_for_each(|(at, (zone, strike))| {
            let sign = if at == 0 { ":" } else { ";" };
            write!(f, "{sign} {}: {strike}", name(*zone))
        })
    }
}

impl fmt::Display for Strike {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whom = |whom: &Whom| match whom {
            Whom::One(which) => format!("worker {which}, counted around"),
            Whom::All => "all workers".to_owned(),
        };
        match self {
            Self::Rule(rule) => write!(f, "{rule}"),
            Self::Kill(of) => write!(f, "SIGKILL to {}", whom(of)),
            Self::Stop(of) => write!(f, "SIGSTOP to {}", whom(of)),
            Self::TakeAway => f.write_str("the token directory is away"),
        }
    }
}

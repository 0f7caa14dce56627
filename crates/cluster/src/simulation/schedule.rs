//! What goes wrong in a simulation, drawn from its seed.

use std::time::Duration;

use super::{KEYS, Rng};
use protocol::Class;

/// Between the beginning and this time faults begin.
const SPAN: Duration = Duration::from_secs(8);

/// A trouble of one HSM for some time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fault {
    pub(super) hsm: usize,
    pub(super) trouble: Trouble,
    pub(super) from: Duration,
    pub(super) to: Duration,
}

/// What can go wrong; numbers are of a hundred operations.
#[derive(Clone, Copy, Debug)]
pub(super) enum Trouble {
    /// Operations fail with this class.
    Code(Class, u64),
    /// The process aborts.
    Crash(u64),
    /// The module does not return.
    Hang(u64),
    /// Everything takes so many milliseconds longer.
    Slow(u64),
    /// Worker processes are killed from outside; not inside a login.
    Kill { all: bool },
    /// They are stopped by a signal.
    Freeze { all: bool },
    /// The token is not there.
    Gone,
    /// Somebody removes a key's object.
    Remove(u32),
    /// A blank token takes the place of the one that was there, after the ceremony.
    Blank,
    /// An object of former times is there again.
    Restored,
    /// An operator disconnects, tells what he thinks of the PIN, and connects: the PIN is rotated.
    Reconnect(Tells),
}

/// What an operator tells of kmsuser's PIN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tells {
    /// Nobody tells anything.
    Nothing,
    /// One that is not the token's.
    Typo,
    /// One that the officer has set, and that he has.
    Reset,
    /// That the officer has set one; in another token.
    ResetElsewhere,
}

impl Trouble {
    /// Some worker goes on all the time, where there are several.
    pub(super) fn spares_a_worker(self) -> bool {
        matches!(self, Self::Kill { all: false } | Self::Freeze { all: false })
    }
}

/// Draws up to eight faults. Mostly one HSM is in trouble at a time; where two are, they may be all.
pub(super) fn draw(rng: &mut Rng, hsms: usize) -> Vec<Fault> {
    let mut faults: Vec<Fault> = Vec::new();
    for _ in 0..=rng.below(7) {
        let hsm = usize::try_from(rng.below(hsms as u64)).unwrap_or_default();
        let from = Duration::from_secs(1) + rng.micros(0, SPAN.as_micros() as u64);
        let trouble = match rng.below(14) {
            0 | 1 => Trouble::Code(class(rng), [10, 50, 100][usize::try_from(rng.below(3)).unwrap_or_default()]),
            2 => Trouble::Crash(1 + rng.below(60)),
            3 => Trouble::Hang(1 + rng.below(60)),
            4 => Trouble::Slow(1 + rng.below(400)),
            5 => Trouble::Kill { all: rng.hits(50) },
            6 => Trouble::Freeze { all: rng.hits(50) },
            7 => Trouble::Gone,
            8 => Trouble::Remove(u32::try_from(rng.below(KEYS.into())).unwrap_or_default()),
            9 => Trouble::Blank,
            10 => Trouble::Restored,
            11 => Trouble::Reconnect(Tells::Typo),
            12 => Trouble::Reconnect([Tells::Reset, Tells::ResetElsewhere][usize::from(rng.hits(50))]),
            _ => Trouble::Reconnect(Tells::Nothing),
        };
        let to = from + rng.micros(1_000, 2_000_000);
        let fault = Fault { hsm, trouble, from, to };
        let beside = |other: &Fault| other.hsm != hsm && other.from < to && from < other.to;
        // Two zones that put their own fault on the caller cannot be told from a caller's fault.
        let blames =
            |trouble| matches!(trouble, Trouble::Code(Class::Request | Class::Ambiguous | Class::AmbiguousOrBusy, _));
        if blames(trouble) && faults.iter().any(|other| beside(other) && blames(other.trouble)) {
            continue;
        }
        // A key that is removed in every zone is gone, and that is as it should be.
        if matches!(trouble, Trouble::Remove(_))
            && faults.iter().any(|other| matches!(other.trouble, Trouble::Remove(_)))
        {
            continue;
        }
        if faults.iter().any(beside) && rng.hits(50) {
            continue;
        }
        faults.push(fault);
    }
    faults
}

fn class(rng: &mut Rng) -> Class {
    let classes = [
        Class::Request,
        Class::Session,
        Class::Token,
        Class::Login,
        Class::Ambiguous,
        Class::Refused,
        Class::KeyUnusable,
        Class::Busy,
        Class::AmbiguousOrBusy,
    ];
    classes[usize::try_from(rng.below(classes.len() as u64)).unwrap_or_default()]
}

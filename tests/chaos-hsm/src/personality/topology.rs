//! Several back ends behind one slot, played over one token: which of them a session talks to, what that one does not have
//! yet, and what is lost with it. The clock, the births of token objects and the number of calls are shared by all
//! processes; sessions and their objects are each process's own, as handles are.

use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use cryptoki_sys::*;

use super::births::{self, Seen};
use super::layer::{Answer, Below, real};
use super::names::Code;
use super::settings::{SessionObjects, Spread, Topology};

/// What a process knows of the back ends.
#[derive(Default)]
pub(crate) struct Local {
    back_ends: Vec<BackEnd>,
    /// Where each session is.
    sessions: HashMap<CK_SESSION_HANDLE, usize>,
    /// Where session objects are, and how often that back end had gone down when they were made.
    objects: HashMap<CK_OBJECT_HANDLE, (usize, u64)>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct BackEnd {
    is_down: bool,
    /// How often it went down.
    falls: u64,
    /// When the module has switched away from it.
    switched: u64,
}

/// Where a call ends that was meant for a back end.
#[derive(Debug, PartialEq, Eq)]
enum Met {
    /// There.
    Up,
    /// On another one, at that time.
    Switches { to: usize, at: u64 },
    /// Nowhere.
    AllDown,
}

/// Which back ends are down at the so-manieth call.
fn down(topology: &Topology, call: u64) -> Vec<bool> {
    let mut down = vec![false; topology.back_ends];
    topology.down.iter().for_each(|at| down[*at] = true);
    if let Some(outages) = topology.outages {
        let past = call / outages.every;
        if past > 0 && call % outages.every < outages.lasts {
            down[(past - 1) as usize % topology.back_ends] = true;
        }
    }
    down
}

impl Local {
    /// Takes notice of which back ends are down now.
    fn notice(&mut self, down: &[bool], now: u64, failover: u64) {
        self.back_ends.resize(down.len(), BackEnd::default());
        for (back_end, down) in self.back_ends.iter_mut().zip(down) {
            if *down && !back_end.is_down {
                back_end.falls += 1;
                back_end.switched = now + failover;
            }
            back_end.is_down = *down;
        }
    }

    fn first_up(&self, from: usize) -> Option<usize> {
        let count = self.back_ends.len();
        (0..count).map(|more| (from + more) % count).find(|at| !self.back_ends[*at].is_down)
    }

    fn home(&self, session: CK_SESSION_HANDLE) -> usize {
        let home = self.sessions.get(&session).copied().filter(|home| *home < self.back_ends.len());
        home.or_else(|| self.first_up(0)).unwrap_or(0)
    }

    /// What becomes of a call in a session.
    fn meet(&mut self, session: CK_SESSION_HANDLE) -> Met {
        let home = self.home(session);
        if self.back_ends.get(home).is_none_or(|back_end| !back_end.is_down) {
            return Met::Up;
        }
        match self.first_up(home) {
            None => Met::AllDown,
            Some(to) => {
                self.sessions.insert(session, to);
                Met::Switches { to, at: self.back_ends[home].switched }
            }
        }
    }

    fn is_lost(&self, object: CK_OBJECT_HANDLE) -> bool {
        let home = self.objects.get(&object);
        home.is_some_and(|(home, falls)| self.back_ends.get(*home).is_some_and(|back_end| back_end.falls != *falls))
    }
}

/// Before every call: back ends that have gone down, and the session's among them.
pub(super) fn meet(below: &Below, function: &'static str, session: Option<CK_SESSION_HANDLE>) -> Answer {
    let Some(topology) = &below.personality.topology else { return Ok(()) };
    let call = below.state.all_calls.fetch_add(1, Ordering::AcqRel) + 1;
    let now = (below.now)();
    let met = {
        let mut local = below.process.local();
        local.notice(&down(topology, call), now, topology.failover_ms * 1_000_000);
        let ends = matches!(function, "C_CloseSession" | "C_Logout" | "C_FindObjectsFinal");
        session.filter(|_| !ends).map_or(Met::Up, |session| local.meet(session))
    };
    match met {
        Met::Up => Ok(()),
        Met::AllDown => Err(topology.all_down.unwrap_or(Code(CKR_DEVICE_ERROR)).0),
        Met::Switches { at, .. } => {
            below.state.failovers.fetch_add(1, Ordering::AcqRel);
            thread::sleep(Duration::from_nanos(at.saturating_sub(now)));
            topology.failover_code.map_or(Ok(()), |code| Err(code.0))
        }
    }
}

/// How many back ends are up.
fn up(below: &Below) -> usize {
    below.process.local().back_ends.iter().filter(|back_end| !back_end.is_down).count()
}

/// An object was made: from now on it is on the back end of the session.
pub(super) fn made(below: &Below, session: CK_SESSION_HANDLE, object: CK_OBJECT_HANDLE) {
    if below.personality.topology.is_none() {
        return;
    }
    let mut local = below.process.local();
    let home = local.home(session);
    let falls = local.back_ends.get(home).map_or(0, |back_end| back_end.falls);
    // A handle may be one that another object had.
    local.objects.remove(&object);
    match births::identity(below, session, object) {
        Some(identity) => births::write(below.state, identity, (below.now)(), home),
        None => drop(local.objects.insert(object, (home, falls))),
    }
}

/// An object was destroyed.
pub(super) fn gone(below: &Below, object: CK_OBJECT_HANDLE) {
    below.process.local().objects.remove(&object);
}

/// Whether the session's back end has an object.
pub(super) fn has(below: &Below, session: CK_SESSION_HANDLE, object: CK_OBJECT_HANDLE) -> bool {
    !matches!(seen(below, session, object), Seen::NotYet)
}

fn seen(below: &Below, session: CK_SESSION_HANDLE, object: CK_OBJECT_HANDLE) -> Seen {
    let Some(topology) = &below.personality.topology else { return Seen::Everywhere };
    let (home, lost) = {
        let local = below.process.local();
        (local.home(session), local.is_lost(object))
    };
    if lost && topology.session_objects == SessionObjects::Lost {
        return Seen::NotYet;
    }
    if topology.visible_ms == 0 && !topology.availability_check {
        return Seen::Everywhere;
    }
    let Some(identity) = births::identity(below, session, object) else { return Seen::Everywhere };
    births::seen(below.state, identity, (below.now)(), topology.visible_ms * 1_000_000, home, up(below))
}

/// A handle of an object.
pub(super) fn usable(below: &Below, session: CK_SESSION_HANDLE, object: CK_OBJECT_HANDLE) -> Answer {
    if has(below, session, object) { Ok(()) } else { Err(CKR_OBJECT_HANDLE_INVALID) }
}

/// A handle of a key that is to be used.
pub(super) fn usable_key(below: &Below, session: CK_SESSION_HANDLE, key: CK_OBJECT_HANDLE) -> Answer {
    let Some(topology) = &below.personality.topology else { return Ok(()) };
    match seen(below, session, key) {
        Seen::NotYet => Err(CKR_KEY_HANDLE_INVALID),
        Seen::Once if topology.availability_check => {
            Err(topology.availability_code.unwrap_or(Code(CKR_FUNCTION_FAILED)).0)
        }
        Seen::Once | Seen::Everywhere => Ok(()),
    }
}

/// C_OpenSession.
pub(super) fn open_session(
    below: &Below,
    slot: CK_SLOT_ID,
    flags: CK_FLAGS,
    data: *mut c_void,
    notify: CK_NOTIFY,
    session: *mut CK_SESSION_HANDLE,
) -> Answer {
    let calls = &below.personality.calls;
    if let Some(code) = calls.read_only_sessions.filter(|code| code.0 != CKR_OK && flags & CKF_RW_SESSION == 0) {
        return Err(code.0);
    }
    if calls.sessions.is_some_and(|most| below.sessions >= most) {
        return Err(calls.sessions_code.unwrap_or(Code(CKR_SESSION_COUNT)).0);
    }
    let mut local = below.process.local();
    let home = match &below.personality.topology {
        Some(topology) => {
            let from = match topology.spread {
                Spread::None => 0,
                Spread::Sessions => below.state.spread.fetch_add(1, Ordering::AcqRel) as usize % topology.back_ends,
            };
            local.first_up(from).ok_or(topology.all_down.unwrap_or(Code(CKR_DEVICE_ERROR)).0)?
        }
        None => 0,
    };
    real!(below, C_OpenSession(slot, flags, data, notify, session))?;
    // SAFETY: the caller's, which the module below has just written to with success.
    local.sessions.insert(unsafe { *session }, home);
    Ok(())
}

/// C_CloseSession.
pub(super) fn close_session(below: &Below, session: CK_SESSION_HANDLE) -> Answer {
    real!(below, C_CloseSession(session))?;
    below.process.ops().forget(session);
    below.process.local().sessions.remove(&session);
    Ok(())
}

/// C_CloseAllSessions. Those of other slots are not counted any more either.
pub(super) fn close_all_sessions(below: &Below, slot: CK_SLOT_ID) -> Answer {
    real!(below, C_CloseAllSessions(slot))?;
    below.process.ops().clear();
    below.process.local().sessions.clear();
    Ok(())
}

/// C_Finalize: handles begin anew.
pub(super) fn finalize(below: &Below, reserved: *mut c_void) -> Answer {
    real!(below, C_Finalize(reserved))?;
    below.process.ops().clear();
    *below.process.local() = Local::default();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::settings::Outages;
    use super::*;

    fn topology(back_ends: usize) -> Topology {
        Topology { back_ends, ..Topology::default() }
    }

    #[test]
    fn back_ends_fall_one_after_the_other() {
        let topology = Topology { outages: Some(Outages { every: 10, lasts: 2 }), ..topology(2) };
        let fallen = |at: usize| (0..40).filter(|call| down(&topology, *call)[at]).collect::<Vec<_>>();
        assert_eq!(fallen(0), [10, 11, 30, 31]);
        assert_eq!(fallen(1), [20, 21]);
    }

    #[test]
    fn a_session_switches_once_and_waits_until_the_module_has_switched() {
        let mut local = Local::default();
        local.notice(&[false, false], 100, 50);
        local.sessions.extend([(7, 0), (8, 0), (9, 1)]);
        assert_eq!(local.meet(7), Met::Up);
        local.notice(&[true, false], 200, 50);
        assert_eq!(local.meet(7), Met::Switches { to: 1, at: 250 });
        local.notice(&[true, false], 220, 50);
        assert_eq!(local.meet(8), Met::Switches { to: 1, at: 250 }, "counted from when it was noticed");
        assert_eq!((local.meet(7), local.meet(9)), (Met::Up, Met::Up));
        local.notice(&[true, true], 300, 50);
        assert_eq!(local.meet(7), Met::AllDown);
        local.notice(&[false, true], 400, 50);
        assert_eq!(local.meet(7), Met::Switches { to: 0, at: 350 });
    }

    #[test]
    fn session_objects_are_lost_with_their_back_end_for_good() {
        let mut local = Local::default();
        local.notice(&[false, false], 0, 0);
        local.objects.extend([(1, (0, 0)), (2, (1, 0))]);
        local.notice(&[true, false], 1, 0);
        local.notice(&[false, false], 2, 0);
        assert!(local.is_lost(1));
        assert!(!local.is_lost(2));
        assert!(!local.is_lost(3), "a token object");
    }
}

//! Several back ends behind one slot: what each has, what is lost with one, and what a call meets while the module switches.

use cryptoki_sys::*;
use rustix::time::{ClockId, clock_gettime};

use crate::rig::{Attribute, Hsm, bytes, call, gcm, played, seal, truth};

type Session = CK_SESSION_HANDLE;
type Object = CK_OBJECT_HANDLE;

fn use_key(hsm: &Hsm, session: Session, key: Object) -> Result<(), CK_RV> {
    seal(hsm.chaos, session, key, &mut gcm(&[7; 12]), b"plain").map(|_| ())
}

fn token(label: &str) -> [Attribute; 2] {
    [truth(CKA_TOKEN, true), bytes(CKA_LABEL, label.as_bytes())]
}

fn millis() -> i64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec * 1_000 + now.tv_nsec / 1_000_000
}

/// An hour: no test is so slow that it would be over.
const LATE: &str = "[topology]\nback_ends = 2\nspread = \"sessions\"\nvisible_ms = 3600000";

played!(an_object_is_on_its_own_back_end_at_once_and_on_others_later, LATE, |hsm| {
    let (one, other) = (hsm.user(), hsm.session());
    let key = hsm.key(one, &token("new")).unwrap();
    let like = [bytes(CKA_LABEL, b"new")];
    assert_eq!(hsm.find(one, &like), [key]);
    assert_eq!(hsm.find(other, &like), []);
    assert_eq!(use_key(hsm, one, key), Ok(()));
    assert_eq!(use_key(hsm, other, key), Err(CKR_KEY_HANDLE_INVALID));
    let destroyed = call!(hsm.chaos, C_DestroyObject(other, key));
    assert_eq!(destroyed, Err(CKR_OBJECT_HANDLE_INVALID));
    // Sessions are spread over all processes: the next two are on the one and on the other.
    assert_eq!((hsm.elsewhere("find new"), hsm.elsewhere("find new")), ("1".to_owned(), "0".to_owned()));
    // An object that the module did not see being made is everywhere, and so are session objects that are not lost.
    let session_key = hsm.key(one, &[]).unwrap();
    assert_eq!(use_key(hsm, other, session_key), Ok(()));

    hsm.set("[topology]\nback_ends = 2\nspread = \"sessions\"\nvisible_ms = 1");
    while hsm.find(other, &like).is_empty() {
        std::thread::yield_now();
    }
    assert_eq!(use_key(hsm, other, key), Ok(()));
    assert_eq!(hsm.elsewhere("find new"), "1");
});

const PAUSE: &str = "back_ends = 2\nfailover_ms = 120";

played!(
    a_call_waits_while_the_module_switches_and_then_succeeds,
    "[topology]\nback_ends = 2\nfailover_ms = 120",
    |hsm| {
        let session = hsm.user();
        let (kept, lost) = (hsm.key(session, &token("kept")).unwrap(), hsm.key(session, &[]).unwrap());
        assert_eq!((use_key(hsm, session, kept), use_key(hsm, session, lost)), (Ok(()), Ok(())));
        let other = hsm.session();
        let began = millis();
        hsm.set(&format!("[topology]\n{PAUSE}\ndown = [0]"));
        assert_eq!(use_key(hsm, session, kept), Ok(()));
        assert!(millis() - began >= 120, "{} ms", millis() - began);
        assert_eq!(hsm.control.failovers(), 1);
        // What was only there is gone, and stays gone when the back end comes back.
        assert_eq!(use_key(hsm, session, lost), Err(CKR_KEY_HANDLE_INVALID));
        let new = hsm.key(session, &[]).unwrap();
        hsm.set(&format!("[topology]\n{PAUSE}"));
        assert_eq!(use_key(hsm, session, lost), Err(CKR_KEY_HANDLE_INVALID));
        assert_eq!((use_key(hsm, session, kept), use_key(hsm, session, new)), (Ok(()), Ok(())));
        assert_eq!(hsm.control.failovers(), 1, "it stays where it is");
        // The other session never met a back end that was down.
        assert_eq!(use_key(hsm, other, kept), Ok(()));
        assert_eq!(hsm.control.failovers(), 1);
    }
);

const KEPT: &str = "back_ends = 3\nsession_objects = \"kept\"\nfailover_code = \"CKR_DEVICE_REMOVED\"";

played!(
    session_objects_can_be_kept_and_a_switch_can_cost_the_call,
    "[topology]\nback_ends = 3\nsession_objects = \"kept\"",
    |hsm| {
        let session = hsm.user();
        let key = hsm.key(session, &[]).unwrap();
        hsm.set(&format!("[topology]\n{KEPT}\ndown = [0, 1]"));
        assert_eq!(use_key(hsm, session, key), Err(CKR_DEVICE_REMOVED));
        assert_eq!(use_key(hsm, session, key), Ok(()));
        hsm.set(&format!("[topology]\n{KEPT}\ndown = [0, 1, 2]"));
        assert_eq!(use_key(hsm, session, key), Err(CKR_DEVICE_ERROR));
        assert_eq!(hsm.try_session(CKF_RW_SESSION), Err(CKR_DEVICE_ERROR));
        hsm.set(&format!("[topology]\n{KEPT}\ndown = [0, 1, 2]\nall_down = \"CKR_TOKEN_NOT_PRESENT\""));
        assert_eq!(use_key(hsm, session, key), Err(CKR_TOKEN_NOT_PRESENT));
        call!(hsm.chaos, C_CloseSession(session)).unwrap();
    }
);

const CHECK: &str = "back_ends = 2\navailability_check = true";

played!(
    a_key_on_one_back_end_alone_cannot_be_used_while_that_is_checked,
    "[topology]\nback_ends = 2\navailability_check = true",
    |hsm| {
        let session = hsm.user();
        let old = hsm.key(session, &token("old")).unwrap();
        assert_eq!(use_key(hsm, session, old), Ok(()));
        hsm.set(&format!("[topology]\n{CHECK}\ndown = [1]"));
        let new = hsm.key(session, &token("new")).unwrap();
        assert_eq!(use_key(hsm, session, new), Err(CKR_FUNCTION_FAILED));
        assert_eq!(use_key(hsm, session, old), Ok(()), "it was on both");
        let session_key = hsm.key(session, &[]).unwrap();
        assert_eq!(use_key(hsm, session, session_key), Ok(()), "a session's is on one always");
        hsm.set("[topology]\nback_ends = 2\ndown = [1]");
        assert_eq!(use_key(hsm, session, new), Ok(()), "nobody looks");
        hsm.set(&format!("[topology]\n{CHECK}"));
        assert_eq!(use_key(hsm, session, new), Ok(()));
        hsm.set(&format!("[topology]\n{CHECK}\ndown = [1]"));
        assert_eq!(use_key(hsm, session, new), Ok(()), "and now it is on both");
    }
);

played!(
    outages_come_by_the_number_of_calls,
    "[topology]\nback_ends = 2\noutages = { every = 50, lasts = 10 }",
    |hsm| {
        let session = hsm.user();
        for _ in 0..500 {
            hsm.random(session, 8).unwrap();
        }
        // From the fiftieth call on the first is down, from the hundredth on the second, and so on: each takes the session
        // along. How many calls the beginning took is not what is asked here.
        let failovers = hsm.control.failovers();
        assert!((9..=10).contains(&failovers), "{failovers}");
    }
);

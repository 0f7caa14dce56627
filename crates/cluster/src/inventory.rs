//! Which keys a token holds, asked by a process that serves nobody.
//!
//! Key objects show themselves only to who has logged in, so the HSM's control worker is started and goes through the
//! admission as in a daemon; data workers are not.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::admission::KeyStoreAdmission;
use model::clock::Clock;
use model::id::KeyVersionId;
use model::pin::Pin;
use protocol::{Op, Reply};
use supervisor::{Hsm, Settings};
use telemetry::watchdog::Watchdog;

/// An HSM that has not let its worker in by then counts as one that does not answer. Workers of a daemon that was
/// killed are waited for meanwhile.
const PATIENCE: Duration = Duration::from_secs(15);
/// For a listing of many keys.
const LIST: Duration = Duration::from_secs(20);
const LEAVE: Duration = Duration::from_secs(5);

/// Why a PIN is not tried for a mere look, which may not cost a try; `None` where it was the token's when it was last
/// tried, and nothing has been begun since.
#[must_use]
pub fn doubt(pin: &Pin) -> Option<&'static str> {
    if pin.current_refused || pin.pending_refused || pin.offered_refused || pin.failures > 0 {
        Some("logins with kmsuser's PIN have failed")
    } else if pin.attempt.is_some() {
        Some("a login with kmsuser's PIN was broken off")
    } else if pin.pending.is_some() {
        Some("a rotation of kmsuser's PIN was broken off")
    } else if pin.offered.is_some() {
        Some("another PIN of kmsuser's was told and is not tried yet")
    } else if !pin.current_proven {
        Some("kmsuser's PIN was never tried")
    } else if pin.rotation_due {
        Some("kmsuser's PIN is to be rotated at its next login")
    } else {
        None
    }
}

/// Logs in by this admission and lists the key versions; or why that was not possible.
pub async fn keys_in(
    hsm: &Settings,
    admission: KeyStoreAdmission,
    clock: &Clock,
) -> Result<BTreeSet<KeyVersionId>, String> {
    let settings = Settings { data_workers: 0, ..hsm.clone() };
    let hsm = Hsm::start(settings, Arc::new(admission), Arc::new(()), clock.clone(), Watchdog::new(clock.clone()));
    let listed = list(&hsm, clock).await;
    hsm.stop(LEAVE).await;
    listed
}

async fn list(hsm: &Hsm, clock: &Clock) -> Result<BTreeSet<KeyVersionId>, String> {
    let mut status = hsm.watch();
    let settled = status.wait_for(|status| status.control_ready || status.refused);
    let in_time = tokio::time::timeout(PATIENCE, settled).await;
    let now = hsm.status();
    if !matches!(in_time, Ok(Ok(_)) if now.control_ready) {
        let why = now.reason.clone();
        return Err(why.unwrap_or_else(|| format!("it let nobody in within {PATIENCE:?}")));
    }
    match hsm.call(Arc::new(Op::List), clock.now() + LIST).await {
        Ok(Reply::Keys(keys)) => Ok(keys.into_iter().collect()),
        Ok(Reply::Failed(fault)) => Err(fault.to_string()),
        Ok(_) => Err("the worker answered something else than a list".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use model::pin::Candidate;

    #[test]
    fn only_a_pin_that_was_good_is_tried_for_a_look() {
        let good = || Pin { rotated_at: Some(7), current_proven: true, ..Pin::given(Bytes::from_static(b"sealed")) };
        assert_eq!(doubt(&good()), None);
        for doubtful in [
            Pin { current_refused: true, ..good() },
            Pin { pending_refused: true, ..good() },
            Pin { offered_refused: true, ..good() },
            Pin { offered: Some(Bytes::new()), ..good() },
            Pin { current_proven: false, ..good() },
            Pin { failures: 1, ..good() },
            Pin { attempt: Some(Candidate::Current), ..good() },
            Pin { pending: Some(Bytes::new()), ..good() },
            Pin { rotation_due: true, ..good() },
        ] {
            assert!(doubt(&doubtful).is_some(), "{doubtful:?}");
        }
    }
}

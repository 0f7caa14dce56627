//! The daemon aborts before and after every step of connecting and disconnecting, and the next one finds: no HSM locked
//! out, the PIN known, the state right.
//!
//! The steps are those that the code enumerates; a point that is never passed fails the test.

use chaos_hsm::Control;
use cluster::kmsuser::pin::Step;
use proto::v1::{ConnectionState, UpdateKeyStoreRequest};
use service::lifecycle::{ConnectStep, DisconnectStep};

use crate::harness::daemon::Site;
use crate::harness::{Caller, chaos, context};

/// What leads to a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// A connect.
    Connect,
    /// A connect after an operator has mistyped a PIN, which stands beside the right one.
    Mistyped,
    /// A connect after the officer has set the PINs, and the operator has said so.
    Reset,
    /// A connect that fails, because the officer has set one HSM's PIN and nobody has told.
    FailingConnect,
    /// A connect that fails, because one token refuses to change its PIN.
    Unchangeable,
    /// A disconnect.
    Disconnect,
}

/// Every point, with what leads to it.
fn points() -> Vec<(String, Way)> {
    let mut points = Vec::new();
    let mut both = |name: &str, times: &[u32], way: Way| {
        for side in ["before", "after"] {
            points.extend(times.iter().map(|time| (format!("{name}.{side}@{time}"), way)));
        }
    };
    for step in Step::ALL {
        match step {
            // The first HSM's control worker, the second's, and a data worker.
            Step::RecordAttempt | Step::Login | Step::RecordOutcome => {
                both(step.name(), &[1, 2, 3], Way::Connect);
                both(step.name(), &[1, 2], Way::Mistyped);
                both(step.name(), &[1, 2], Way::Reset);
            }
            Step::Prove | Step::TryCanary => both(step.name(), &[1, 2, 3], Way::Connect),
            Step::RecordPending | Step::ChangePin | Step::RecordRotated => both(step.name(), &[1, 2], Way::Connect),
            Step::RecordUnchanged => both(step.name(), &[1], Way::Unchangeable),
        }
    }
    for step in ConnectStep::ALL {
        let way = match step {
            ConnectStep::RecordConnecting | ConnectStep::Start | ConnectStep::RecordConnected => Way::Connect,
            ConnectStep::RecordFailed | ConnectStep::Stop => Way::FailingConnect,
        };
        both(step.name(), &[1], way);
    }
    for step in DisconnectStep::ALL {
        both(step.name(), &[1], Way::Disconnect);
    }
    points
}

#[test]
fn no_crash_locks_an_hsm_or_loses_a_pin() {
    const LANES: usize = 4;
    let points = points();
    assert!(points.len() > 40, "{}", points.len());
    let points = &points;
    std::thread::scope(|scope| {
        for number in 0..LANES {
            scope.spawn(move || {
                tokio::runtime::Runtime::new().unwrap().block_on(async {
                    let mut lane = Lane::prepare().await;
                    for (point, way) in points.iter().skip(number).step_by(LANES) {
                        lane = lane.crash_at(point, *way).await;
                    }
                });
            });
        }
    });
}

/// A site whose key store is disconnected between two crashes.
struct Lane {
    site: Site,
    store: String,
    ciphertext: Vec<u8>,
    /// Over hsm-a.
    control: Control,
}

impl Lane {
    async fn prepare() -> Self {
        let site = Site::prepare().await;
        site.rotate(true);
        let control = chaos::control_first(&site);
        let daemon = site.start().await;
        let caller = daemon.caller().await;
        let store = caller.key_stores().await.remove(0).key_store_id;
        let key = caller.create_key("kept over every crash").await;
        let ciphertext = caller.encrypt(&key, b"kept", &context(&[])).await.unwrap();
        caller.disconnect(&store).await.unwrap();
        Self { site: daemon.terminate().1, store, ciphertext, control }
    }

    async fn crash_at(self, point: &str, way: Way) -> Self {
        let Self { site, store, ciphertext, control } = self;
        let daemon = site.launch_to_abort_at(point);
        daemon.wait_until_ready();
        let caller = daemon.caller().await;
        // The answer may or may not come before the crash.
        match way {
            Way::FailingConnect => daemon.zone("b").officer_sets("set-in-silence"),
            Way::Mistyped => caller.update_key_store(told(&store, "not-the-PIN", false)).await.unwrap(),
            Way::Reset => {
                daemon.zones.iter().for_each(|zone| zone.officer_sets("set-by-the-officer"));
                caller.update_key_store(told(&store, "set-by-the-officer", true)).await.unwrap();
            }
            Way::Connect | Way::Unchangeable | Way::Disconnect => {}
        }
        if way == Way::Unchangeable {
            let refused = "[[rule]]\nfunction = \"C_SetPIN\"\nfault = { code = \"CKR_FUNCTION_NOT_SUPPORTED\" }";
            control.set(refused).unwrap();
        }
        let begun = begin(&caller, &store).await;
        if way == Way::Disconnect && begun {
            caller.settled(&store).await;
            let _ = caller.begin_disconnect(&store).await;
        }
        drop(caller);
        let log = daemon.log_tail();
        let (status, site) = daemon.aborted();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(6), "{point} was not passed:\n{log}");

        let daemon = site.launch();
        daemon.wait_until_ready();
        let caller = daemon.caller().await;
        let seen = caller.settled(&store).await;
        let expected = match (way, point) {
            (Way::Connect, "connect.record-connecting.before@1") => ConnectionState::Disconnected,
            (Way::Connect | Way::Mistyped | Way::Reset, _) => ConnectionState::Connected,
            (Way::FailingConnect | Way::Unchangeable, _) => ConnectionState::Failed,
            (Way::Disconnect, "disconnect.record-disconnecting.before@1") => ConnectionState::Connected,
            (Way::Disconnect, _) => ConnectionState::Disconnected,
        };
        assert_eq!(seen.connection_state(), expected, "after {point}: {seen:?}\n{}", daemon.log_tail());
        match seen.connection_state() {
            ConnectionState::Connected => {}
            ConnectionState::Failed if way == Way::Unchangeable => {
                assert_eq!(seen.connection_error_code, "INTERNAL_ERROR", "{point}: {seen:?}");
                assert!(seen.connection_error_message.contains("CKR_FUNCTION_NOT_SUPPORTED"), "{point}: {seen:?}");
                control.clear().unwrap();
                caller.disconnect(&store).await.unwrap();
                assert!(begin(&caller, &store).await);
            }
            ConnectionState::Failed => {
                assert_eq!(seen.connection_error_code, "INVALID_CREDENTIALS", "{point}: {seen:?}");
                caller.disconnect(&store).await.unwrap();
                // The officer sets another one; which PIN the token had, the service knew to the end for hsm-a.
                daemon.zone("b").officer_sets("set-by-the-officer");
                let right = told(&store, "set-by-the-officer", true);
                let right = UpdateKeyStoreRequest { hsm_ids: vec!["hsm-b".into()], ..right };
                caller.update_key_store(right).await.unwrap();
                assert!(begin(&caller, &store).await);
            }
            _ => assert!(begin(&caller, &store).await),
        }
        let seen = caller.settled(&store).await;
        assert_eq!(
            seen.connection_state(),
            ConnectionState::Connected,
            "after {point}: {seen:?}\n{}",
            daemon.log_tail()
        );
        daemon.wait_until_healthy_for(&caller).await;
        let seen = caller.key_store(&store).await;
        assert!(seen.hsms.iter().all(|hsm| hsm.proven && hsm.pin_tries_left == 3), "after {point}: {seen:?}");
        assert_eq!(caller.decrypt(&ciphertext, &context(&[])).await.unwrap(), b"kept", "after {point}");
        caller.disconnect(&store).await.unwrap();
        Self { site: daemon.terminate().1, store, ciphertext, control }
    }
}

/// What an operator tells of the PIN in all HSMs.
fn told(store: &str, pin: &str, pin_was_reset: bool) -> UpdateKeyStoreRequest {
    UpdateKeyStoreRequest {
        key_store_id: store.to_owned(),
        key_store_password: pin.to_owned(),
        pin_was_reset,
        ..Default::default()
    }
}

async fn begin(caller: &Caller, store: &str) -> bool {
    let request = proto::v1::ConnectKeyStoreRequest { key_store_id: store.to_owned() };
    caller.stores.clone().connect_key_store(caller.request(request)).await.is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_loop_in_a_login_spends_the_service_s_tries_and_not_the_token_s() {
    const TRIES: usize = 3;
    let Lane { mut site, store, .. } = Lane::prepare().await;
    // One HSM alone, so that it is the one whose login each run begins.
    let away = site.zones(0).remove(1).take_away();
    for run in 0..TRIES {
        // Each run records an attempt and dies before C_Login.
        let daemon = site.launch_to_abort_at("kmsuser.login.before");
        // Later runs go on with the connect by themselves, and may be gone before they say that they are ready.
        if run == 0 {
            daemon.wait_until_ready();
            let caller = daemon.caller().await;
            begin(&caller, &store).await;
        }
        site = daemon.aborted().1;
    }
    let daemon = site.launch();
    daemon.wait_until_ready();
    let caller = daemon.caller().await;
    let seen = caller.settled(&store).await;
    // With so many attempts without an outcome nothing more is tried.
    assert_eq!(seen.connection_state(), ConnectionState::Failed, "{seen:?}\n{}", daemon.log_tail());
    assert_eq!(seen.connection_error_code, "INVALID_CREDENTIALS", "{seen:?}");
    assert!(seen.connection_error_message.contains("broken off"), "{seen:?}");
    assert_eq!(daemon.log().matches("refused kmsuser's PIN").count(), 0, "no wrong PIN ever reached a token");
    away.put_back();
    // No PIN has to be set, and none would help: the one on record is right, and the tries are spent.
    caller.disconnect(&store).await.unwrap();
    caller.update_key_store(told(&store, "set-in-vain", false)).await.unwrap();
    assert_eq!(caller.connect(&store).await.unwrap().connection_error_code, "INVALID_CREDENTIALS");
    caller.disconnect(&store).await.unwrap();
    caller.update_key_store(told(&store, "", true)).await.unwrap();
    let seen = caller.connect(&store).await.unwrap();
    assert_eq!(seen.connection_state(), ConnectionState::Connected, "{seen:?}\n{}", daemon.log_tail());
}

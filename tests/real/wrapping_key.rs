//! The cluster's wrapping key leaves the daemon wrapped to one token, which has shown that the transport key is its own,
//! or not at all.

mod intruder;

use keystored::pki::identity::Kind;

use self::intruder::{Intruder, add, fingerprint, key_fingerprint};
use crate::harness::Daemon;

/// The attack as it was seen: a copy of the ceremony folder, any client certificate, no PIN.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_wrapped_for_a_full_member() {
    let daemon = Daemon::start().await;
    let caller = daemon.caller().await;
    let intruder = Intruder::beside(&daemon);
    let serial = |hsms: Vec<keystored::proto::v1::HsmStatus>| hsms[1].token_serial.clone();
    let serial = serial(caller.hsms().await.unwrap());
    let identity = intruder.forged_identity("hsm-b", &serial);
    let transport = intruder.forged_transport("hsm-b", &serial);
    match add(&caller, intruder.request("hsm-b", &identity, &transport)).await {
        Ok(answer) => panic!("the wrapping key came out: {:?}", intruder.opens(&answer.wrapped_key)),
        Err(refused) => assert_eq!(refused.reason, "CustomKeyStoreInvalidStateException", "{refused:?}"),
    }
    let dir = daemon.site().path();
    let log = daemon.log();
    let told =
        log.lines().find(|line| line.contains("WARN") && line.contains("AddHsm")).unwrap_or_else(|| panic!("{log}"));
    for words in ["cn:", "hsm-b", &fingerprint(&identity, dir), &key_fingerprint(&transport, dir)] {
        assert!(told.contains(words), "{words} is not in {told}");
    }
    let _ = Kind::Transport;
}

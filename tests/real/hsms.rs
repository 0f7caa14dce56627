//! HSMs that cannot do keystored's job, and what does not hold with those that can: people are told before anything is
//! done, in `check` and at a connect. The ceremony's part is with the ceremony.

use proto::v1::ConnectionState;

use crate::harness::daemon::Site;
use crate::harness::{chaos, context, tool};
use crate::iv::{opens_everywhere, wait_until_told};
use crate::profiles::say;

/// What plays it, and what people read of it.
pub(crate) const UNSUITABLE: [(&str, &[&str]); 6] = [
    ("personality = \"yubihsm2\"", &["the library of a YubiHSM 2", "it has no AES-GCM", "use another HSM"]),
    ("personality = \"nethsm\"", &["the library of a Nitrokey NetHSM", "it has no AES-GCM"]),
    ("personality = \"tpm2\"", &["the library of a TPM 2.0", "makes no AES keys"]),
    ("personality = \"smartcard-hsm\"", &["the library of a SmartCard-HSM", "it has no AES-GCM"]),
    ("personality = \"google\"", &["the library of a Google Cloud KMS", "neither wraps nor unwraps keys"]),
    // Nobody's in particular.
    (
        "[mechanisms]\nhidden = [\"CKM_AES_GCM\", \"CKM_AES_KEY_WRAP\"]",
        &[
            "It lists no AES-GCM (mechanism 0x1087): nothing can be encrypted in it; no AES key wrap (mechanism 0x2109)",
            "capabilities.gcm.mechanism, capabilities.wrap.key_wrap",
        ],
    ),
];

fn check(site: &Site) -> tool::Ran {
    tool::keystored(&["check".as_ref(), "--config".as_ref(), site.config_file().as_os_str()])
}

#[tokio::test(flavor = "multi_thread")]
async fn check_refuses_what_cannot_do_the_job() {
    let site = Site::prepare().await;
    let control = chaos::control_first(&site);
    check(&site).ok();
    for (personality, words) in UNSUITABLE {
        control.set(personality).unwrap();
        let ran = check(&site);
        assert_ne!(ran.code, Some(0), "{personality}: {ran:?}");
        let wrong: Vec<&str> = ran.out.lines().filter(|line| line.contains("wrong: ")).collect();
        let [wrong] = wrong[..] else { panic!("{personality}: {ran:?}") };
        for words in words {
            assert!(wrong.contains(words), "{personality}: {words}: {wrong}");
        }
        assert!(ran.out.contains("use another HSM") || ran.out.contains("Use another HSM"), "{ran:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_hsm_that_cannot_do_the_job_is_left_out_and_named() {
    let site = Site::prepare().await;
    let controls = chaos::control_each(&site);
    let daemon = site.start().await;
    let caller = daemon.caller().await;
    let id = caller.key_stores().await.remove(0).key_store_id;
    let key = caller.create_key("in tokens that can").await;
    let sealed = caller.encrypt(&key, b"before", &context(&[])).await.unwrap();
    caller.disconnect(&id).await.unwrap();
    // The other zone serves, and no PIN is spent in this one.
    for (personality, words) in [UNSUITABLE[0], UNSUITABLE[5]] {
        controls[0].set(personality).unwrap();
        let logins = controls[0].calls("C_Login");
        let store = caller.connect(&id).await.unwrap();
        assert_eq!(store.connection_state(), ConnectionState::Connected, "{personality}: {store:?}");
        for words in words {
            wait_until_told(&caller, "hsm-a", words).await;
        }
        assert_eq!(controls[0].calls("C_Login"), logins, "{personality}: nobody logs in to it");
        assert_eq!(caller.decrypt(&sealed, &context(&[])).await.unwrap(), b"before", "{personality}");
        caller.disconnect(&id).await.unwrap();
    }
    // Where there is no other, the connect says why.
    for pair in UNSUITABLE.chunks(2) {
        for (control, (personality, _)) in controls.iter().zip(pair) {
            control.set(personality).unwrap();
        }
        let store = caller.connect(&id).await.unwrap();
        assert_eq!(store.connection_state(), ConnectionState::Failed, "{pair:?}: {store:?}");
        assert_eq!(store.connection_error_code, "INSUFFICIENT_CLOUDHSM_HSMS", "{pair:?}: {store:?}");
        let words = pair.iter().flat_map(|(_, words)| words.iter());
        for words in words.chain(&["HSM hsm-a is refused", "HSM hsm-b is refused"]) {
            assert!(store.connection_error_message.contains(words), "{words}: {store:?}");
        }
        caller.disconnect(&id).await.unwrap();
    }
    controls.iter().for_each(|control| control.clear().unwrap());
    let store = caller.connect(&id).await.unwrap();
    assert_eq!(store.connection_state(), ConnectionState::Connected, "{store:?}");
    daemon.wait_until_healthy_for(&caller).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_key_store_is_made_over_what_cannot_do_the_job() {
    let site = Site::prepare().await;
    let control = chaos::control_first(&site);
    let daemon = site.launch();
    daemon.wait_until_ready();
    let caller = daemon.caller().await;
    for (personality, words) in [UNSUITABLE[0], UNSUITABLE[5]] {
        control.set(personality).unwrap();
        let refused = caller.create_key_store("main", daemon.site()).await.unwrap_err();
        assert_eq!(refused.reason, "CloudHsmClusterInvalidConfigurationException", "{refused:?}");
        for words in words.iter().chain(&["HSM hsm-a in zone a"]) {
            assert!(refused.message.contains(words), "{personality}: {words}: {refused:?}");
        }
    }
    control.clear().unwrap();
    caller.create_key_store("main", daemon.site()).await.unwrap();
}

/// AES-GCM whose flags say nothing, key wrap by a number that is not listed: both are there, and are found by use.
#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_does_not_tell_condemns_nobody() {
    let site = Site::prepare().await;
    let control = chaos::control_first(&site);
    control
        .set(
            "[mechanisms]\nunlisted = [\"0x80000170\"]\nhidden = [\"CKM_AES_KEY_WRAP\"]\nwithout_flags = [\"CKM_AES_GCM\"]\n\
             [mechanisms.map]\n0x80000170 = \"CKM_AES_KEY_WRAP\"",
        )
        .unwrap();
    site.configure_hsms(|index, hsm| {
        if index == 0 {
            say(hsm, "wrap.key_wrap = 0x80000170");
        }
    });
    let ran = check(&site);
    assert!(
        ran.out.contains("AES-GCM: its list does not say") && ran.out.contains("AES key wrap: its list"),
        "{ran:?}"
    );
    assert!(ran.out.contains("does not say that it can do AES-GCM, AES key wrap; a try decides"), "{ran:?}");
    ran.ok();
    let daemon = site.start().await;
    let caller = daemon.caller().await;
    daemon.wait_until_healthy_for(&caller).await;
    let key = caller.create_key("by numbers that nobody lists").await;
    let sealed = caller.encrypt(&key, b"kept", &context(&[])).await.unwrap();
    opens_everywhere(&daemon, &caller, &[(b"kept".to_vec(), sealed)]).await;
}

/// For each HSM, in the words of docs/hsms.md, and of no other.
#[tokio::test(flavor = "multi_thread")]
async fn check_says_which_promises_do_not_hold() {
    let site = Site::prepare().await;
    site.configure_hsms(|index, hsm| {
        if index == 1 {
            say(hsm, "wrap.unwrap_template = \"none\"\ncalls.retry_ms = 1");
        }
    });
    let out = check(&site).ok();
    let (first, second) = out.split_once("HSM hsm-b").unwrap();
    assert!(!first.contains("does not hold"), "{out}");
    let said: Vec<&str> = second.lines().filter(|line| line.contains("it does not hold that")).collect();
    assert_eq!(said.len(), 2, "{out}");
    assert!(
        said[0].contains("a wrapped key unwraps only as one that cannot be read: the wrapping key cannot be told"),
        "{out}"
    );
    assert!(said[1].contains("an HSM that hangs is given up within a second: its module tries again"), "{out}");
}

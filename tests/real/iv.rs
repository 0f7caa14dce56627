//! Tokens that do not use the IV that they are given, and say so or not: nothing that one has made is given out, and people
//! are told why it is not used.

use std::sync::atomic::{AtomicBool, Ordering};

use chaos_hsm::Control;
use proto::v1::{ConnectionState, DataKeySpec, GenerateDataKeyRequest, HsmHealth};

use crate::harness::daemon::Site;
use crate::harness::{Caller, Daemon, chaos, context, wait};
use crate::zones::wait_until_down;

/// What such a token does, and what people read of it.
const KINDS: [(&str, &str); 4] = [
    ("iv-random", "uses another IV"),
    ("iv-written-back", "wrote an IV of its own"),
    ("iv-appended", "bytes"),
    ("iv-fixed", "takes no account of the IV"),
];

pub(crate) fn rule(fault: &str) -> String {
    format!("[[rule]]\nfunction = [\"C_EncryptInit\", \"C_DecryptInit\"]\nfault = \"{fault}\"")
}

/// Two zones in disconnected state, with a key, whose modules can be told what to do.
async fn disconnected() -> (Daemon, Caller, String, String, Vec<Control>) {
    let site = Site::prepare().await;
    let controls = chaos::control_each(&site);
    let daemon = site.start().await;
    let caller = daemon.caller().await;
    let id = caller.key_stores().await.remove(0).key_store_id;
    let key = caller.create_key("in tokens of all kinds").await;
    caller.disconnect(&id).await.unwrap();
    (daemon, caller, id, key, controls)
}

/// Two zones that serve, with a key, and what is looked at of what they wrap.
async fn looking_at(verify_wraps: &str) -> (Daemon, Caller, String, Vec<Control>) {
    let site = Site::prepare().await;
    let controls = chaos::control_each(&site);
    site.configure(|config| {
        config["cluster"][0].as_table_mut().unwrap().insert("verify_wraps".to_owned(), verify_wraps.into());
    });
    let daemon = site.start().await;
    let caller = daemon.caller().await;
    let key = caller.create_key("looked at").await;
    (daemon, caller, key, controls)
}

pub(crate) async fn data_key(caller: &Caller, key: &str) -> Result<(Vec<u8>, Vec<u8>), String> {
    let mut request = GenerateDataKeyRequest { key_id: key.to_owned(), ..Default::default() };
    request.set_key_spec(DataKeySpec::Aes256);
    let made = caller.generate_data_key(request).await.map_err(|failure| failure.message)?;
    Ok((made.plaintext, made.ciphertext_blob.to_vec()))
}

/// Waits until the status says of the HSM why it is not used.
pub(crate) async fn wait_until_told(caller: &Caller, hsm: &str, words: &str) {
    wait::until_async("the HSM is not used, and that is said", wait::LONG, async || {
        let hsms = caller.hsms().await.unwrap();
        let hsm = hsms.iter().find(|status| status.hsm_id == hsm).unwrap();
        (hsm.health() != HsmHealth::Healthy && hsm.ready_workers == 0 && hsm.reason.contains(words)).then_some(())
    })
    .await;
}

/// With the other zone away: what was given out opens in each of them.
pub(crate) async fn opens_everywhere(daemon: &Daemon, caller: &Caller, made: &[(Vec<u8>, Vec<u8>)]) {
    for zone in &daemon.zones {
        let away = zone.take_away();
        wait_until_down(caller, zone).await;
        for (plaintext, sealed) in made {
            assert_eq!(&caller.decrypt(sealed, &context(&[])).await.unwrap(), plaintext, "without zone {}", zone.name);
        }
        away.put_back();
        daemon.wait_until_healthy_for(caller).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_makes_its_own_iv_is_left_out_and_named() {
    let (daemon, caller, id, key, controls) = disconnected().await;
    for (kind, words) in KINDS {
        controls[0].set(&rule(kind)).unwrap();
        let store = caller.connect(&id).await.unwrap();
        assert_eq!(store.connection_state(), ConnectionState::Connected, "{kind}: {store:?}");
        wait_until_told(&caller, "hsm-a", words).await;
        assert!(!caller.key_store(&id).await.hsms[0].reason.contains("ceremony"), "{kind}: {store:?}");
        let mut made = Vec::new();
        for round in 0..20_u8 {
            let plaintext = vec![round; 20];
            made.push((plaintext.clone(), caller.encrypt(&key, &plaintext, &context(&[])).await.unwrap()));
            made.push(data_key(&caller, &key).await.unwrap());
        }
        let refused = caller.try_create_key("needs two zones", "").await.unwrap_err();
        assert_eq!(refused.reason, "CloudHsmClusterInvalidConfigurationException", "{kind}: {refused:?}");
        assert!(refused.message.contains("hsm-a") && refused.message.contains(words), "{kind}: {refused:?}");
        controls[0].clear().unwrap();
        daemon.wait_until_healthy_for(&caller).await;
        opens_everywhere(&daemon, &caller, &made).await;
        caller.disconnect(&id).await.unwrap();
    }
}

/// Not even two tokens that do so in the same way, and so open what each other has made.
#[tokio::test(flavor = "multi_thread")]
async fn tokens_that_agree_in_it_are_left_out_as_well() {
    let (daemon, caller, id, key, controls) = disconnected().await;
    for (kind, words) in KINDS {
        controls.iter().for_each(|control| control.set(&rule(kind)).unwrap());
        let store = caller.connect(&id).await.unwrap();
        assert_eq!(store.connection_state(), ConnectionState::Failed, "{kind}: {store:?}");
        assert_eq!(store.connection_error_code, "INSUFFICIENT_CLOUDHSM_HSMS", "{kind}: {store:?}");
        for words in ["hsm-a", "hsm-b", words] {
            assert!(store.connection_error_message.contains(words), "{kind}: {words}: {store:?}");
        }
        assert!(caller.encrypt(&key, b"to nobody", &context(&[])).await.is_err());
        caller.disconnect(&id).await.unwrap();
    }
    controls.iter().for_each(|control| control.clear().unwrap());
    let store = caller.connect(&id).await.unwrap();
    assert_eq!(store.connection_state(), ConnectionState::Connected, "{store:?}\n{}", daemon.log_tail());
}

/// Without its canary key a token is looked at all the same, with a key that lives as long as the worker.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_without_a_canary_is_not_let_in_unseen() {
    let (daemon, caller, id, key, controls) = disconnected().await;
    for zone in &daemon.zones {
        let canary = hex_of("keystored-canary");
        zone.pkcs11_tool(&["--delete-object", "--type", "secrkey", "--id", &canary]);
    }
    for (kind, words) in KINDS {
        controls[0].set(&rule(kind)).unwrap();
        let store = caller.connect(&id).await.unwrap();
        assert_eq!(store.connection_state(), ConnectionState::Connected, "{kind}: {store:?}");
        wait_until_told(&caller, "hsm-a", words).await;
        caller.disconnect(&id).await.unwrap();
    }
    controls[0].clear().unwrap();
    let store = caller.connect(&id).await.unwrap();
    assert_eq!(store.connection_state(), ConnectionState::Connected, "{store:?}\n{}", daemon.log_tail());
    daemon.wait_until_healthy_for(&caller).await;
    daemon.wait_until_logged("the token holds no canary key");
    // A key that somebody deletes is still told from a token that is lost.
    let sealed = caller.encrypt(&key, b"kept", &context(&[])).await.unwrap();
    daemon.zone("a").delete_key(&key, 1);
    wait::until_async("the key was removed in hsm-a", wait::LONG, async || {
        assert_eq!(caller.decrypt(&sealed, &context(&[])).await.unwrap(), b"kept");
        let placements = caller.describe_key(&key).await.unwrap().placements;
        placements.iter().any(|at| at.state() == proto::v1::PlacementState::Removed).then_some(())
    })
    .await;
    daemon.wait_until_healthy_for(&caller).await;
}

/// A token begins to do so while it serves. What says it itself is noticed with the first item. What says nothing is found
/// by the second look at each data key, and by the canary within two of its periods; until then Encrypt can give out what
/// nobody opens, unless it is looked at too.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_begins_to_do_so_is_found_out() {
    let (daemon, caller, key, controls) = looking_at("data-keys").await;
    for (kind, words) in KINDS {
        let says_so = kind == "iv-written-back" || kind == "iv-appended";
        let over = AtomicBool::new(false);
        controls[0].set(&rule(kind)).unwrap();
        let calls = async {
            let mut made = Vec::new();
            while !over.load(Ordering::Relaxed) {
                made.push(data_key(&caller, &key).await.unwrap());
                if says_so {
                    made.push((
                        b"meanwhile".to_vec(),
                        caller.encrypt(&key, b"meanwhile", &context(&[])).await.unwrap(),
                    ));
                }
            }
            made
        };
        let told = async {
            wait_until_told(&caller, "hsm-a", words).await;
            over.store(true, Ordering::Relaxed);
        };
        let (mut made, ()) = tokio::join!(calls, told);
        // What opens of so many is seen in some of them.
        made = made.into_iter().rev().take(500).collect();
        for _ in 0..20 {
            made.push((b"after".to_vec(), caller.encrypt(&key, b"after", &context(&[])).await.unwrap()));
        }
        controls[0].clear().unwrap();
        daemon.wait_until_healthy_for(&caller).await;
        opens_everywhere(&daemon, &caller, &made).await;
    }
}

/// With `verify_wraps = "all"` nothing at all is given out that does not open, from the first call on.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_looked_at_opens_from_the_first_call_on() {
    let (daemon, caller, key, controls) = looking_at("all").await;
    for (kind, _) in KINDS {
        let before = controls[0].injected("C_EncryptInit");
        controls[0].set(&rule(kind)).unwrap();
        let mut made = Vec::new();
        while controls[0].injected("C_EncryptInit") < before + 3 || made.len() < 100 {
            made.push((b"looked at".to_vec(), caller.encrypt(&key, b"looked at", &context(&[])).await.unwrap()));
            made.push(data_key(&caller, &key).await.unwrap());
        }
        controls[0].clear().unwrap();
        daemon.wait_until_healthy_for(&caller).await;
        opens_everywhere(&daemon, &caller, &made).await;
    }
}

/// The ceremony says it already, before anything depends on the token.
#[tokio::test(flavor = "multi_thread")]
async fn the_ceremony_says_it_first() {
    let daemon = Daemon::start().await;
    crate::members::third_zone(daemon.site());
    let dir = daemon.site().path().join("chaos-c");
    daemon.site().configure_hsms(|index, hsm| {
        if index == 2 {
            chaos::control(hsm, &dir).set(&rule("iv-fixed")).unwrap();
        }
    });
    let ran = crate::members::add_hsm(&daemon);
    assert_ne!(ran.code, Some(0), "{ran:?}");
    assert!(ran.err.contains("takes no account of the IV") && ran.err.contains("hsm-c"), "{}", ran.err);
}

fn hex_of(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

//! HSMs with habits of their own, whose capabilities the configuration knows: they serve like any other.

use std::sync::atomic::{AtomicBool, Ordering};

use chaos_hsm::Control;
use futures_util::future::join_all;
use proto::v1::{ConnectionState, HsmHealth, HsmStatus, ReEncryptRequest};

use crate::harness::daemon::Site;
use crate::harness::{Caller, Daemon, chaos, context};
use crate::iv::{data_key, opens_everywhere, rule, wait_until_told};

/// Says something of an HSM's capabilities.
pub(crate) fn say(hsm: &mut toml::Table, text: &str) {
    hsm.insert("capabilities".to_owned(), toml::from_str::<toml::Table>(text).unwrap().into());
}

/// Two zones whose modules do as the rule has it, from the beginning on, with what is said of them.
async fn of_habits(habits: [Option<(&str, &str)>; 2], verify_wraps: &str) -> (Daemon, Caller, Vec<Control>) {
    let site = Site::prepare().await;
    let controls = chaos::control_each(&site);
    site.configure(|config| {
        config["cluster"][0].as_table_mut().unwrap().insert("verify_wraps".to_owned(), verify_wraps.into());
    });
    site.configure_hsms(|index, hsm| {
        if let Some((rules, said)) = habits[index] {
            // Other IVs in each zone.
            controls[index].set(&format!("seed = {index}\n{rules}")).unwrap();
            say(hsm, said);
        }
    });
    let daemon = site.start().await;
    let caller = daemon.caller().await;
    (daemon, caller, controls)
}

/// Every way in which something is encrypted, and where it opens.
async fn serves(daemon: &Daemon, caller: &Caller) {
    let (key, other) = (caller.create_key("of an HSM with habits").await, caller.create_key("another").await);
    let mut made = Vec::new();
    for round in 0..30_u8 {
        let plaintext = vec![round; usize::from(round) * 100 + 1];
        let sealed = caller.encrypt(&key, &plaintext, &context(&[])).await.unwrap();
        let request = ReEncryptRequest {
            ciphertext_blob: sealed.clone().into(),
            destination_key_id: other.clone(),
            ..Default::default()
        };
        let anew = caller.crypto.clone().re_encrypt(caller.request(request)).await.unwrap().into_inner();
        made.push((plaintext.clone(), sealed));
        made.push((plaintext, anew.ciphertext_blob.to_vec()));
        made.push(data_key(caller, &key).await.unwrap());
    }
    // Many at once, so that both zones have some, and hedges go out.
    let (many, context): (Vec<u8>, _) = ((0..64).collect(), context(&[]));
    let sealed = join_all(many.iter().map(|at| caller.encrypt(&key, std::slice::from_ref(at), &context))).await;
    made.extend(sealed.into_iter().enumerate().map(|(at, sealed)| (vec![u8::try_from(at).unwrap()], sealed.unwrap())));
    let mut ivs: Vec<&[u8]> = made.iter().map(|(_, sealed)| &sealed[21..33]).collect();
    ivs.sort_unstable();
    ivs.dedup();
    assert_eq!(ivs.len(), made.len(), "no IV twice");
    opens_everywhere(daemon, caller, &made).await;
    // What is no ciphertext of these keys is told from a broken key all the same.
    let mut wrong = made[0].1.clone();
    *wrong.last_mut().unwrap() ^= 1;
    let refused = caller.decrypt(&wrong, &context).await.unwrap_err();
    assert_eq!(refused.reason, "InvalidCiphertextException", "{refused:?}");
}

const WRITES_BACK: &str = "gcm.iv = \"zeroed-writeback\"";

#[tokio::test(flavor = "multi_thread")]
async fn an_iv_that_the_hsm_writes_back_is_the_ciphertexts() {
    let habit = rule("iv-written-back");
    let (daemon, caller, controls) = of_habits([Some((&habit, WRITES_BACK)), None], "data-keys").await;
    serves(&daemon, &caller).await;
    assert!(controls[0].injected("C_EncryptInit") > 0, "it has made IVs");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_of_such_alone_serves_as_well_and_what_it_makes_is_looked_at() {
    let habit = rule("iv-written-back");
    let both = [Some((habit.as_str(), WRITES_BACK)); 2];
    let (daemon, caller, _) = of_habits(both, "all").await;
    serves(&daemon, &caller).await;
}

/// The capabilities are looked at and not believed: what is written there has to be so, and to stay so.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_otherwise_than_its_profile_is_left_out_and_named() {
    let written_back = rule("iv-written-back");
    for (habit, said, otherwise) in [
        (
            written_back.as_str(),
            WRITES_BACK,
            [("", "told no IV"), ("iv-random", "told no IV"), ("iv-appended", "bytes")],
        ),
        (
            "",
            "gcm.iv_bits = 0",
            [("iv-written-back", "wrote an IV of its own"), ("iv-random", "uses another IV"), ("iv-appended", "bytes")],
        ),
    ] {
        let (daemon, caller, controls) = of_habits([Some((habit, said)), None], "data-keys").await;
        for (other, words) in otherwise {
            let rules = if other.is_empty() { String::new() } else { rule(other) };
            controls[0].set(&rules).unwrap();
            wait_until_told(&caller, "hsm-a", words).await;
            wait_until_told(&caller, "hsm-a", "capabilities.gcm").await;
            let id = caller.key_stores().await.remove(0).key_store_id;
            let store = caller.key_store(&id).await;
            assert_eq!(store.connection_state(), ConnectionState::Connected, "{other} {said}: {store:?}");
            controls[0].set(habit).unwrap();
            daemon.wait_until_healthy_for(&caller).await;
        }
    }
}

/// A code that means that there is too much to do, as CloudHSM's does: others are asked, and nobody is ill.
#[tokio::test(flavor = "multi_thread")]
async fn a_throttled_hsm_is_spared_and_stays_healthy() {
    // A list takes the place of the profile's, with what that says of bad ciphertexts.
    let said = "codes.meaning = [{ functions = [\"C_Decrypt\", \"C_UnwrapKey\"], code = 5, means = \"ambiguous\" }, \
                { functions = [\"C_EncryptInit\", \"C_DecryptInit\"], code = 6, means = \"busy\" }]";
    let (daemon, caller, controls) = of_habits([Some(("", said)), None], "data-keys").await;
    let key = caller.create_key("of an HSM that has much to do").await;
    let throttled =
        "[[rule]]\nfunction = [\"C_EncryptInit\", \"C_DecryptInit\"]\nfault = { code = \"CKR_FUNCTION_FAILED\" }";
    let over = AtomicBool::new(false);
    let looks = async {
        while !over.load(Ordering::Relaxed) {
            let hsms = caller.hsms().await.unwrap();
            // A machine that stands still for a moment may make a suspect, and says so: that is not what is asked here.
            let well = |hsm: &HsmStatus| hsm.health() == HsmHealth::Healthy || hsm.reason.contains("no reply for ");
            assert!(hsms.iter().all(well), "{hsms:?}");
        }
    };
    let calls = async {
        controls[0].set(throttled).unwrap();
        let before = controls[0].injected("C_EncryptInit");
        let mut rounds = 0_u32;
        // Long enough for several pauses, and for probes.
        while rounds < 300 || controls[0].injected("C_EncryptInit") < before + 8 {
            let sealed = caller.encrypt(&key, b"elsewhere", &context(&[])).await.unwrap();
            assert_eq!(caller.decrypt(&sealed, &context(&[])).await.unwrap(), b"elsewhere");
            rounds += 1;
        }
        let asked = controls[0].injected("C_EncryptInit") - before;
        assert!(asked < u64::from(rounds), "it was asked {asked} times in {rounds} rounds");
        controls[0].clear().unwrap();
        over.store(true, Ordering::Relaxed);
    };
    tokio::join!(looks, calls);
    drop(daemon);
}

/// The code of a bad ciphertext that means too much to do as well, as CloudHSM's may: no key is taken for broken.
#[tokio::test(flavor = "multi_thread")]
async fn a_throttled_decryption_condemns_no_key() {
    let said = "codes.meaning = [{ functions = [\"C_Decrypt\", \"C_UnwrapKey\"], code = 5, means = \"ambiguous\" }, \
                { functions = [\"C_Decrypt\"], code = 6, means = \"ambiguous-or-busy\" }]";
    let (daemon, caller, controls) = of_habits([Some(("", said)); 2], "data-keys").await;
    let key = caller.create_key("of an HSM that throttles").await;
    let sealed = caller.encrypt(&key, b"sealed", &context(&[])).await.unwrap();
    let mut bad = sealed.clone();
    *bad.last_mut().unwrap() ^= 1;
    let throttled = "[[rule]]\nfunction = \"C_Decrypt\"\nfault = { code = \"CKR_FUNCTION_FAILED\" }";
    controls[0].set(throttled).unwrap();
    for _ in 0..50 {
        assert_eq!(caller.decrypt(&sealed, &context(&[])).await.unwrap(), b"sealed");
    }
    controls[1].set(throttled).unwrap();
    // Nobody is left who could tell: the caller may try again.
    let refused = crate::harness::wait::until_async("both are throttled", crate::harness::wait::LONG, async || {
        caller.decrypt(&bad, &context(&[])).await.err().filter(|refused| refused.reason != "InvalidCiphertextException")
    })
    .await;
    assert!(refused.retryable, "{refused:?}");
    let hsms = caller.hsms().await.unwrap();
    let well = |hsm: &HsmStatus| hsm.health() == HsmHealth::Healthy || hsm.reason.contains("no reply for ");
    assert!(hsms.iter().all(well), "{hsms:?}");
    controls.iter().for_each(|control| control.clear().unwrap());
    // No key was excluded, so that both are good at once; and what is bad is told from that.
    assert_eq!(caller.decrypt(&sealed, &context(&[])).await.unwrap(), b"sealed");
    let refused = caller.decrypt(&bad, &context(&[])).await.unwrap_err();
    assert_eq!(refused.reason, "InvalidCiphertextException", "{refused:?}");
    drop(daemon);
}

//! Zones that crash, hang, fail, lie and are gone, under callers who must not notice: each kind by itself, and all of them
//! by schedules drawn from seeds (`make chaos`).

mod callers;
mod checks;
mod fault;
mod journal;
mod kinds;
mod operator;
mod owner;
mod rng;
mod run;
mod schedule;
mod seeds;
mod soak;
mod streams;
mod told;

use chaos_hsm::Control;
use proto::v1::{GenerateDataKeyRequest, HsmHealth, HsmStatus};
use rustix::process::Signal;

use crate::harness::daemon::Site;
use crate::harness::load::Load;
use crate::harness::{Caller, Daemon, chaos, context, process, wait};

/// A daemon whose zone a does what the controls say.
async fn with_chaos_in_a() -> (Daemon, Caller, Control) {
    let site = Site::prepare().await;
    let control = chaos::control_first(&site);
    let daemon = site.start().await;
    let caller = daemon.caller().await;
    (daemon, caller, control)
}

fn rule(functions: &str, probability: f64, fault: &str) -> String {
    format!("[[rule]]\nfunction = {functions}\nprobability = {probability}\nafter_call = true\nfault = {fault}")
}

#[tokio::test(flavor = "multi_thread")]
async fn crashes_hangs_and_codes_of_one_zone_reach_no_caller() {
    let (daemon, caller, control) = with_chaos_in_a().await;
    let key = caller.create_key("under chaos").await;
    let both = r#"["C_Encrypt", "C_Decrypt"]"#;
    for rules in [
        rule(both, 0.01, "\"crash\""),
        rule(both, 0.005, "\"hang\""),
        rule(both, 0.3, r#"{ code = "CKR_GENERAL_ERROR" }"#),
        rule(both, 0.3, r#"{ code = "CKR_DATA_INVALID" }"#),
        rule(both, 0.3, r#"{ code = "CKR_SESSION_HANDLE_INVALID" }"#),
        rule(both, 0.3, r#"{ code = "CKR_KEY_HANDLE_INVALID" }"#),
        rule(both, 0.3, "{ delay_ms = [1, 60] }"),
    ] {
        let before = control.injected_in_all();
        let load = Load::start(&caller, &key, 6);
        load.passes(50).await;
        control.set(&rules).unwrap();
        load.passes(300).await;
        wait::until_async("a fault meets a call", wait::LONG, async || {
            (control.injected_in_all() > before).then_some(())
        })
        .await;
        control.clear().unwrap();
        let (calls, failures) = load.stop().await;
        assert!(failures.is_empty(), "{rules}: {} of {calls} failed: {:?}", failures.len(), failures.first());
        daemon.wait_until_healthy_for(&caller).await;
    }
    // Nothing of it was taken for a removal.
    let placements = caller.describe_key(&key).await.unwrap().placements;
    assert!(placements.iter().all(|placement| placement.state == placements[0].state), "{placements:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zone_that_lies_gives_out_no_data_key_and_is_taken_out_of_service() {
    let (daemon, caller, control) = with_chaos_in_a().await;
    let key = caller.create_key("under lies").await;
    let request = GenerateDataKeyRequest { key_id: key, number_of_bytes: Some(32), ..Default::default() };
    control.set(&rule("\"C_Encrypt\"", 1.0, "\"wrong-bytes\"")).unwrap();
    let mut made = Vec::new();
    for _ in 0..200 {
        made.push(caller.generate_data_key(request.clone()).await.unwrap());
    }
    wait::until_async("zone a is out of service", wait::LONG, async || {
        made.push(caller.generate_data_key(request.clone()).await.unwrap());
        let hsms = caller.hsms().await.unwrap();
        hsms.iter().any(|hsm| hsm.zone == "a" && hsm.health() == HsmHealth::Down).then_some(())
    })
    .await;
    assert!(control.injected("C_Encrypt") > 0);
    control.clear().unwrap();
    daemon.wait_until_healthy_for(&caller).await;
    for made in made {
        let opened = caller.decrypt(&made.ciphertext_blob, &context(&[])).await.unwrap();
        assert_eq!(opened, made.plaintext.to_vec());
    }
}

/// By design the service then waits for an operator, who must be able to see it while other workers serve on.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_refused_is_told_of_while_others_serve() {
    let (daemon, caller, control) = with_chaos_in_a().await;
    control.set("[[rule]]\nfunction = \"C_Login\"\nfault = { code = \"CKR_PIN_INCORRECT\" }").unwrap();
    let logins = control.calls("C_Login");
    let zone = daemon.zone("a");
    zone.keep_copies();
    process::signal(zone.workers()[0], Signal::KILL);
    wait::until_async("the refusal is told", wait::LONG, async || {
        let hsms = caller.hsms().await.unwrap();
        let told = |hsm: &HsmStatus| hsm.health() == HsmHealth::Healthy && hsm.reason.contains("CKR_PIN_INCORRECT");
        hsms.iter().any(|hsm| hsm.hsm_id == zone.hsm && told(hsm)).then_some(())
    })
    .await;
    let shown = daemon.keystorectl(&["key-store", "describe"]).ok();
    assert!(shown.contains("CKR_PIN_INCORRECT"), "{shown}");
    // Nor do the others log in when they are gone too; then the HSM is down, and waits.
    zone.keep_copies();
    zone.workers().into_iter().for_each(|pid| process::signal(pid, Signal::KILL));
    wait::until_async("the HSM is down and says why", wait::LONG, async || {
        let hsms = caller.hsms().await.unwrap();
        let down = |hsm: &HsmStatus| hsm.health() == HsmHealth::Down && hsm.reason.contains("CKR_PIN_INCORRECT");
        hsms.iter().any(|hsm| hsm.hsm_id == zone.hsm && down(hsm)).then_some(())
    })
    .await;
    assert_eq!(control.calls("C_Login") - logins, 1, "it is not tried again");
}

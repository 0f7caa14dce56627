//! What stays of a request in the daemon's memory when it has been answered.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::harness::aws::{Ask, Endpoint, Scope, principal};
use crate::harness::daemon::Site;
use crate::harness::process::remembers;
use crate::harness::{bytes, wait};

/// The daemon wipes what it makes of a request. What TLS's and HTTP's libraries have read it from is theirs: they free it as
/// it is, and the allocator overwrites what is freed where it is told to (docs/security.md).
#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_plaintext_stays_that_is_the_daemon_s_own_and_what_is_freed_can_be_overwritten() {
    for overwritten in [false, true] {
        let variables: &[(&str, &str)] = if overwritten { &[("MALLOC_CONF", "junk:free")] } else { &[] };
        let daemon = Site::prepare().await.launch_with(variables);
        daemon.wait_until_ready();
        let caller = daemon.caller().await;
        daemon.connect_key_store(&caller).await;
        let (signer, aws) = (principal(&caller, "app", "KeyUser").await, Endpoint::of(&daemon));
        let key = caller.create_key("of a plaintext").await;
        let plaintext = bytes(300, 77);
        let body = STANDARD.encode(&plaintext);
        let mut wire = aws.connect().await.unwrap();
        for operation in ["Encrypt", "NoSuchOperation"] {
            let ask = Ask::kms(operation, &json!({ "KeyId": key, "Plaintext": body }));
            wire.send(&ask.sign(&signer, &Scope::of("kms")).bytes()).await.unwrap();
            assert_eq!(wire.answer().await.unwrap().status == 200, operation == "Encrypt");
        }
        drop(wire);
        wait::until("the connection has ended", wait::LONG, || {
            (crate::shares::figure(&daemon, "keystored_aws_connections")? < 1.0).then_some(())
        });
        // A search that finds nothing anywhere proves nothing.
        let Some(known) = remembers(daemon.pid(), key.as_bytes()) else {
            eprintln!("the system does not show the memory of other processes: nothing was looked at");
            return;
        };
        assert!(known, "the key's id is in the daemon's memory");
        assert_eq!(remembers(daemon.pid(), &plaintext[100..200]), Some(false), "the plaintext itself");
        let in_body = || remembers(daemon.pid(), &body.as_bytes()[100..200]);
        if overwritten && cfg!(feature = "jemalloc") {
            wait::until("the body is gone too", wait::LONG, || (!in_body()?).then_some(()));
        }
    }
}

//! Workers that die after a login that has worked, before they have answered it: the PIN is not to blame.

use super::assert_connected;
use crate::harness::{chaos, wait};
use crate::host_certificate;

/// As it is set by default.
const TRIES: u64 = 3;

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_dies_while_it_looks_at_the_objects_costs_no_try() {
    // No certificate is looked for in the token, so that the first search comes after the login.
    let site = host_certificate::prepare().await;
    site.rotate(false);
    let control = chaos::control_first(&site);
    let daemon = site.launch();
    daemon.wait_until_ready();
    let caller = daemon.caller().await;
    let id = caller.create_key_store("main", daemon.site()).await.unwrap();
    control.set("[[rule]]\nfunction = \"C_FindObjects\"\nfault = \"crash\"").unwrap();
    // The other HSM is enough.
    assert_connected(&caller.connect(&id).await.unwrap());
    wait::until_async("more workers have died than there are tries", wait::LONG, async || {
        (control.injected("C_FindObjects") > TRIES + 1).then_some(())
    })
    .await;
    daemon.wait_until_logged("the token took the PIN, and the worker died while it looked at the token's objects");
    control.clear().unwrap();
    daemon.wait_until_healthy_for(&caller).await;
    let left: Vec<_> = caller.key_store(&id).await.hsms.iter().map(|hsm| u64::from(hsm.pin_tries_left)).collect();
    assert_eq!(left, [TRIES, TRIES]);
}

//! keystored dev, as a person uses it: it says how to call it, and what it made is there the next time.

use crate::harness::daemon::Site;
use crate::harness::{Daemon, context};

#[tokio::test(flavor = "multi_thread")]
async fn it_says_how_to_call_it_and_keeps_its_keys() {
    let daemon = Site::prepare().await.launch_dev();
    let (key, ciphertext) = {
        let caller = ready(&daemon).await;
        let key = caller.create_key("made in development").await;
        let ciphertext = caller.encrypt(&key, b"kept", &context(&[])).await.unwrap();
        (key, ciphertext)
    };
    daemon.wait_until_logged("dev.env");
    let log = daemon.log();
    assert!(log.contains("dev.env") && log.contains("keystorectl"), "{log}");
    // What it tells people to type.
    for line in log.lines().filter_map(|line| line.trim().strip_prefix("keystorectl ")) {
        let words: Vec<&str> = line
            .split('\'')
            .flat_map(
                |part| if line.contains(&format!("'{part}'")) { vec![part] } else { part.split_whitespace().collect() },
            )
            .collect();
        daemon.keystorectl(&words).ok();
    }

    let (status, site) = daemon.terminate();
    assert_eq!(status.code(), Some(0));
    let daemon = site.launch_dev();
    let caller = ready(&daemon).await;
    assert_eq!(caller.decrypt(&ciphertext, &context(&[])).await.unwrap(), b"kept");
    assert_eq!(caller.describe_key(&key).await.unwrap().description, "made in development");
}

async fn ready(daemon: &Daemon) -> crate::harness::Caller {
    daemon.wait_until_ready();
    let caller = daemon.caller().await;
    daemon.wait_until_healthy_for(&caller).await;
    caller
}

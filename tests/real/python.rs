//! Another language, another gRPC, another TLS: what it sealed opens here.

use std::fs;
use std::process::Command;

use crate::harness::{context, shared, tool};

#[tokio::test(flavor = "multi_thread")]
async fn an_independent_client_gets_on_with_the_daemon() {
    let daemon = shared().await;
    let descriptors = daemon.site().path().join("descriptors.bin");
    fs::write(&descriptors, proto::v1::FILE_DESCRIPTOR_SET).unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/real/client.py");
    let mut command = Command::new("/usr/bin/python3");
    command.arg(script).arg(&descriptors).envs(daemon.environment().unwrap());
    let sealed = tool::run(&mut command).ok();

    let digits = sealed.trim().as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
    let ciphertext: Vec<u8> = digits.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect();
    let pairs = context(&[("purpose", "python"), ("tenant", "42")]);
    assert_eq!(daemon.caller().await.decrypt(&ciphertext, &pairs).await.unwrap(), b"hello");
}

//! Somebody with kmsuser's PIN and the database: what he can make of a wrapped key, and of the token's own object of it.

use std::fs;
use std::process::Command;

use bytes::Bytes;
use model::id::KeyVersionId;

use super::rig::{LABEL, MODULE, PIN, Tokens};
use crate::harness::tool;

/// CKR_TEMPLATE_INCONSISTENT, CKR_MECHANISM_INVALID and CKR_ACTION_PROHIBITED.
const ANOTHER_USE: &str = "0xd1";
const ANOTHER_MECHANISM: &str = "0x70";
const FORBIDDEN: &str = "0x1b";
const DONE: &str = "0x0";
const ECB: &str = "0x1081";

/// What another client's tries come to, one after the other.
fn tries(tokens: &Tokens, (key, blob): (KeyVersionId, &Bytes), tries: &[&str]) -> Vec<String> {
    let file = tokens.dir.path().join("stolen");
    fs::write(&file, blob).unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/real/other_use.py");
    let mut command = Command::new("/usr/bin/python3");
    // Nothing is to be left beside the scripts.
    command.arg("-B").arg(script).args([MODULE, LABEL]).arg(&file).arg(format!("arn:{key}")).args(tries);
    let configuration = tokens.dir.path().join("softhsm2.conf");
    let out = tool::run(command.env("SOFTHSM2_CONF", configuration).env("PIN", PIN)).ok();
    let came_to: Vec<String> = out.lines().map(str::to_owned).collect();
    assert_eq!(came_to.len(), tries.len(), "{out}");
    came_to
}

#[test]
fn a_wrapped_key_becomes_nothing_but_what_the_token_s_own_is() {
    let tokens = Tokens::after_ceremony();
    let (key, blob) = tokens.control().make_key();
    let tried = |all: &[&str]| tries(&tokens, (key, &blob), all);
    assert_eq!(tried(&["unwrap"]), [DONE], "as it is in the token");
    for change in [
        "EXTRACTABLE=true",
        "SENSITIVE=false",
        "ENCRYPT=false",
        "WRAP=true",
        "UNWRAP=true",
        "SIGN=true",
        "VERIFY=true",
        "DERIVE=true",
        "ALLOWED_MECHANISMS=0x1081",
        "WRAP=true,EXTRACTABLE=true,ALLOWED_MECHANISMS=0x2109",
    ] {
        assert_eq!(tried(&[&format!("unwrap,{change}")]), [ANOTHER_USE], "{change}");
    }
    // What is not said is not left to the token's defaults, by which SoftHSM's keys wrap.
    for (name, value) in [("WRAP", "00"), ("SIGN", "00"), ("DERIVE", "00"), ("EXTRACTABLE", "00"), ("SENSITIVE", "01")]
    {
        let made = tried(&[&format!("made,{name}")]).remove(0);
        assert!(made == value || made == ANOTHER_USE, "{name}: {made}");
    }
    // Nor does the mechanism change.
    let by = [format!("use,{ECB}"), format!("own,{ECB}"), "wrapping,0x210a".to_owned()];
    assert_eq!(tried(&by.each_ref().map(String::as_str)), [ANOTHER_MECHANISM; 3]);
    let made = tried(&["made,ALLOWED_MECHANISMS"]).remove(0);
    assert!(made == "8710000000000000" || made == ANOTHER_USE, "{made}");
}

#[test]
fn a_key_in_a_token_is_neither_copied_nor_changed() {
    let tokens = Tokens::after_ceremony();
    let (key, blob) = tokens.control().make_key();
    let tried = |all: &[&str]| tries(&tokens, (key, &blob), all);
    let is = ["is,MODIFIABLE", "is,COPYABLE", "is,EXTRACTABLE", "is,ALLOWED_MECHANISMS"];
    assert_eq!(tried(&is), ["00", "00", "00", "8710000000000000"]);
    assert_eq!(tried(&["copy", "copy,DERIVE=true", "copy,ALLOWED_MECHANISMS=0x1081"]), [FORBIDDEN; 3]);
    assert_eq!(tried(&["change,DERIVE=true", "change,COPYABLE=true", "change,MODIFIABLE=true"]), [FORBIDDEN; 3]);
    // It can be deleted all the same.
    let id: String = key.to_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    let (output, deleted) = tokens.pkcs11_tool(&["--delete-object", "--type", "secrkey", "--id", &id]);
    assert!(deleted, "{output}");
}

//! Tokens that cannot do keystored's job: the ceremony says so, and leaves them as they are.

use std::fs;

use super::lab::{Lab, SO_PIN, label};
use crate::harness::chaos;
use crate::hsms::UNSUITABLE;

#[test]
fn a_token_that_cannot_do_the_job_is_not_touched() {
    let lab = Lab::blank();
    let mut config: toml::Table = fs::read_to_string(lab.config()).unwrap().parse().unwrap();
    let hsm = config["cluster"][0]["hsm"][0].as_table_mut().unwrap();
    let control = chaos::control(hsm, &lab.path("chaos"));
    fs::write(lab.config(), config.to_string()).unwrap();
    let refused = |blank: bool| {
        for (personality, words) in UNSUITABLE {
            control.set(personality).unwrap();
            let before = (lab.serials("a"), lab.token_files("a"));
            let ran = lab.run(None);
            assert_ne!(ran.code, Some(0), "{personality}: {ran:?}");
            for words in words.iter().chain(&["hsm-a"]) {
                assert!(ran.err.contains(words), "{personality}: {words}: {ran:?}");
            }
            assert_eq!((lab.serials("a"), lab.token_files("a")), before, "{personality}");
            assert_eq!(before.0.is_empty(), blank);
            assert_eq!(control.calls("C_InitToken") + control.calls("C_Login"), 0, "{personality}");
        }
        control.clear().unwrap();
    };
    refused(true);
    // And so with one that the security officer has initialised.
    let label = label("a");
    lab.tool("pkcs11-tool", "a", &["--slot-index", "0", "--init-token", "--label", &label, "--so-pin", SO_PIN]).ok();
    refused(false);
    lab.run(None).ok();
    lab.assert_complete("a");
}

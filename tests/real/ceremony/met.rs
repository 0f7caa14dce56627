//! What a ceremony meets that no ceremony has left: half pairs, one token under two names, a folder of another cluster,
//! wrong PINs, whose logins another module counts.

use std::fs;
use std::path::{Path, PathBuf};

use super::lab::{CLUSTER, Lab, PIN, SO_PIN, files, label};
use super::{ZONES, init_by_officer, with};
use crate::harness::tool;

/// Removes an object as another PKCS#11 client would.
fn remove(lab: &Lab, zone: &str, class: &str, object: &str) {
    let login = ["--login", "--pin", "env:LAB_PIN"];
    lab.pkcs11_tool(zone, &[&login[..], &["--delete-object", "--type", class, "--label", object]].concat()).ok();
}

#[cfg(debug_assertions)]
#[test]
fn half_a_pair_is_made_anew_while_nothing_depends_on_it() {
    for (point, class, object) in [
        ("ceremony.certify-identity.before", "pubkey", "keystored-identity"),
        ("ceremony.make-transport-pair.before", "pubkey", "keystored-identity"),
        ("ceremony.make-transport-pair.before", "privkey", "keystored-identity"),
        ("ceremony.make-canary.before", "privkey", "keystored-transport"),
    ] {
        let lab = Lab::blank();
        assert_eq!(lab.run(Some(point)).code, None, "{point} was not reached");
        remove(&lab, "a", class, object);
        let ran = lab.run(None);
        assert_eq!(ran.code, Some(0), "{object} without its {class}: {ran:?}");
        ZONES.iter().for_each(|zone| lab.assert_complete(zone));
        super::assert_key_is_certified(&lab, "a");
    }
}

#[test]
fn a_member_without_both_halves_is_refused_and_nothing_made() {
    for class in ["pubkey", "privkey"] {
        for object in ["keystored-identity", "keystored-transport"] {
            let lab = Lab::blank();
            lab.run(None).ok();
            remove(&lab, "a", class, object);
            let before = (ZONES.map(|zone| lab.token_files(zone)), files(&lab.folder()));
            let refused = lab.run(None);
            assert_eq!(refused.code, Some(1), "{object} without its {class}: {refused:?}");
            assert!(
                refused.err.contains("HSM hsm-a holds a cluster wrapping key but not the key pairs"),
                "{refused:?}"
            );
            assert!((ZONES.map(|zone| lab.token_files(zone)), files(&lab.folder())) == before, "{object} {class}");
        }
    }
}

#[test]
fn one_token_under_two_names_is_no_cluster() {
    let lab = Lab::blank();
    let config = fs::read_to_string(lab.config()).unwrap();
    // Another way of writing the same path, which the configuration's own check cannot know.
    let same = config.replace("/zones/b/", "/zones/b/../a/").replace(&label("b"), &label("a"));
    assert_ne!(same, config);
    fs::write(lab.config(), same).unwrap();
    let refused = lab.run(None);
    assert!(refused.code == Some(1) && refused.err.contains("are the same token"), "{refused:?}");
}

#[test]
fn a_folder_belongs_to_one_cluster_and_its_key_is_not_replaced() {
    let lab = Lab::blank();
    lab.run(None).ok();
    let config = fs::read_to_string(lab.config()).unwrap();
    fs::write(lab.config(), config.replace(CLUSTER, "cluster-anotherone2")).unwrap();
    let refused = lab.run(None);
    assert!(refused.code == Some(5) && refused.err.contains("authority of another cluster"), "{refused:?}");
    fs::write(lab.config(), config).unwrap();

    // The certificate can be made again from the key, and what it certified stays good.
    let tokens = ZONES.map(|zone| lab.token_files(zone));
    fs::remove_file(lab.folder().join("customerCA.crt")).unwrap();
    lab.run(None).ok();
    assert!(ZONES.map(|zone| lab.token_files(zone)) == tokens, "something was certified again");
    fs::remove_file(lab.folder().join("customerCA.key")).unwrap();
    let refused = lab.run(None);
    assert!(refused.code == Some(5) && refused.err.contains("customerCA.key"), "{refused:?}");
    assert!(!lab.folder().join("customerCA.key").exists());
}

/// OpenSC's module that writes down each call and hands it on to another module.
fn spy() -> PathBuf {
    let usual = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib"];
    let mut places = usual.iter().map(|dir| Path::new(dir).join("pkcs11-spy.so"));
    places.find(|path| path.exists()).expect("pkcs11-spy.so of OpenSC (make deps)")
}

/// Puts the spy between the workers and SoftHSM.
fn watch(lab: &Lab) {
    let mut config: toml::Table = fs::read_to_string(lab.config()).unwrap().parse().unwrap();
    for hsm in config["cluster"][0]["hsm"].as_array_mut().unwrap() {
        let hsm = hsm.as_table_mut().unwrap();
        hsm.insert("module".to_owned(), spy().display().to_string().into());
        // The confinement lets SoftHSM write to its tokens alone, and the spy writes its log.
        hsm.insert("sandbox".to_owned(), false.into());
        let env = hsm["env"].as_table_mut().unwrap();
        env.insert("PKCS11SPY".to_owned(), lab.module.display().to_string().into());
        env.insert("PKCS11SPY_OUTPUT".to_owned(), lab.path("spy.log").display().to_string().into());
    }
    fs::write(lab.config(), config.to_string()).unwrap();
}

fn logins(lab: &Lab) -> usize {
    let log = fs::read_to_string(lab.path("spy.log")).unwrap_or_default();
    log.lines().filter(|line| line.trim_end().ends_with(": C_Login")).count()
}

#[test]
fn a_wrong_pin_costs_one_login_in_one_hsm() {
    for (file, right) in [("user.pin", PIN), ("so.pin", SO_PIN)] {
        let lab = Lab::blank();
        for zone in ZONES {
            init_by_officer(&lab, zone, &label(zone));
            if file == "user.pin" {
                let officer = ["--login", "--login-type", "so", "--so-pin", SO_PIN];
                lab.pkcs11_tool(zone, &[&officer[..], &["--init-pin", "--new-pin", PIN]].concat()).ok();
            }
        }
        watch(&lab);
        lab.secret_file(file, "no-such-pin");
        let refused = lab.run(None);
        assert!(refused.code == Some(1) && refused.err.contains("was tried once"), "{refused:?}");
        assert_eq!(logins(&lab), 1, "a wrong {file}: {refused:?}");
        lab.secret_file(file, right);
        lab.run(None).ok();
        assert!(logins(&lab) > 1, "the spy sees logins");
        // The configuration's own module again, for the witnesses.
        ZONES.iter().for_each(|zone| lab.assert_complete(zone));
    }
}

#[test]
fn further_runs_without_the_officers_pin_say_what_they_found() {
    let lab = Lab::blank();
    let told = lab.run(None).ok();
    let again = with(lab.init(), &["--pin-file", "user.pin"]);
    assert!(!again.err.contains("making") && !again.err.contains("certifying"), "{again:?}");
    assert_eq!(again.ok(), told);
    let verified = ["verify", "-x509_strict", "-check_ss_sig", "-CAfile", "customerCA.crt", "customerCA.crt"];
    tool::run(std::process::Command::new("openssl").args(verified).current_dir(lab.folder())).ok();
}

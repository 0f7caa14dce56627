//! Where the certificates of HSMs are whose tokens hold none.

use std::path::{Path, PathBuf};

use super::{GOOD, judge, refused};
use crate::{Config, capabilities};
use model::profile::{CertificateIn, Profile};

const IN_FILE: &str = "capabilities.objects.certificate = \"host-file\"";
/// Of `GOOD`'s second HSM.
const PLACE: &str = "kill.crypto_ms = 500";

fn files(config: &Config) -> Vec<Option<PathBuf>> {
    config.clusters.iter().flat_map(|cluster| &cluster.hsms).map(|hsm| hsm.certificate.clone()).collect()
}

#[test]
fn only_who_has_none_in_its_token_has_a_file() {
    let of = |said: &str| files(&judge(&GOOD.replacen(PLACE, said, 1)).expect(said));
    let at = |path: &str| Some(PathBuf::from(path));
    assert_eq!(of(""), [None, None]);
    assert_eq!(of(IN_FILE), [None, at("/etc/keystored/state/hsm-hsm-b.crt")], "beside its lock file");
    assert_eq!(of(&format!("certificate = \"b.crt\"\n{IN_FILE}")), [None, at("/etc/keystored/b.crt")]);
    let handed_over = of(&format!("certificate = \"credential:b\"\n{IN_FILE}"));
    assert_eq!(handed_over, [None, at("/run/credentials/keystored/b")]);
}

#[test]
fn the_standard_has_it_in_the_token_and_cloudhsm_in_a_file() {
    for profile in Profile::ALL {
        let wanted = match profile {
            Profile::CloudHsm => CertificateIn::HostFile,
            _ => CertificateIn::Token,
        };
        assert_eq!(capabilities(profile).expect("there").objects.certificate, wanted, "{}", profile.name());
    }
}

#[test]
fn a_file_that_nobody_reads_or_two_read_is_refused_with_its_line() {
    let (line, message) = refused(PLACE, "certificate = \"b.crt\"");
    assert_eq!(line, 36);
    assert!(message.contains("is in its token") && message.contains("capabilities.objects.certificate"), "{message}");
    let (_, message) = refused(PLACE, &format!("certificate = \"\"\n{IN_FILE}"));
    assert!(message.contains("an empty path"), "{message}");

    let first = "token_serials = [\"1\"]";
    let text = GOOD.replacen(first, &format!("certificate = \"same.crt\"\n{IN_FILE}\n{first}"), 1);
    let text = text.replacen(PLACE, &format!("certificate = \"/etc/keystored/same.crt\"\n{IN_FILE}"), 1);
    let error = judge(&text).expect_err("one file for two");
    assert!(error.message.contains("HSM hsm-a has its certificate in the same file"), "{error}");
    assert_eq!(
        error.line.and_then(|line| text.lines().nth(line - 1)),
        Some("certificate = \"/etc/keystored/same.crt\"")
    );
}

/// A module must not write what says who its HSM is.
#[test]
fn the_file_is_protected_from_modules() {
    let text = GOOD.replacen(
        PLACE,
        &format!("certificate = \"/opt/own/b.crt\"\n{IN_FILE}\nsandbox = {{ write = [\"/opt/own\"] }}"),
        1,
    );
    let mut config = judge(&text).expect("good before the disk is looked at");
    let canonical = |path: &Path| Some(path.to_owned());
    let disk = crate::sandbox::Disk { canonical: &canonical, text: &|_| None, program: None };
    let why = crate::sandbox::guard(&mut config, None, &disk).expect_err("it could write it");
    assert!(why.contains("HSM hsm-b") && why.contains("the certificate of HSM hsm-b"), "{why}");
}

/// The ceremony would write over it. Links are seen through.
#[test]
fn the_file_is_no_other_one_of_the_configuration() {
    let guarded = |file: &str| {
        let text = GOOD.replacen(PLACE, &format!("certificate = \"{file}\"\n{IN_FILE}"), 1);
        let mut config = judge(&text).expect("good before the disk is looked at");
        let others = [config.seal.key.clone(), config.grpc.key.clone(), config.grpc.client_ca.clone()];
        let canonical = |path: &Path| match path.strip_prefix("/link") {
            Ok(rest) => others.get(rest.to_str()?.parse::<usize>().ok()?).cloned(),
            Err(_) => Some(path.to_owned()),
        };
        let disk = crate::sandbox::Disk { canonical: &canonical, text: &|_| None, program: None };
        crate::sandbox::guard(&mut config, None, &disk)
    };
    for (file, what) in [("/link/0", "the seal key"), ("/link/1", "the key of [grpc]"), ("/link/2", "the client CAs")] {
        let why = guarded(file).expect_err(what);
        assert!(why.starts_with("HSM hsm-b: its certificate") && why.contains(file) && why.contains(what), "{why}");
    }
    guarded("/opt/own/b.crt").expect("nobody else's");
}

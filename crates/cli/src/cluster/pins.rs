//! The PINs of several tokens: from files, one for all or one for each HSM, or typed once for all that are left.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::place;
use crate::failure::Failure;
use crate::password::{self, Source};
use crate::terminal;
use config::Cluster;
use model::id::HsmId;
use model::secret::Secret;

/// `FILE`, for all HSMs that no other names; or `HSM=FILE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PinFile {
    hsm: Option<String>,
    file: PathBuf,
}

/// Reads the argument. A file whose name has a `=` in it is written with a `/` before that: `./a=b`.
pub(super) fn pin_file(text: &str) -> Result<PinFile, String> {
    let (hsm, file) = match text.split_once('=') {
        Some((hsm, file)) if !hsm.contains('/') => (Some(hsm), file),
        _ => (None, text),
    };
    if file.is_empty() || hsm.is_some_and(str::is_empty) {
        return Err("write it as FILE or HSM=FILE".to_owned());
    }
    Ok(PinFile { hsm: hsm.map(str::to_owned), file: file.into() })
}

/// Where the PIN of each HSM comes from; those not in it have no file.
pub(super) type Files = BTreeMap<HsmId, PathBuf>;

/// Distributes the files that were given over the cluster's HSMs.
pub(super) fn files(given: &[PinFile], cluster: &Cluster, flag: &str) -> Result<Files, Failure> {
    let mut files = Files::new();
    let mut for_all = None;
    for PinFile { hsm, file } in given {
        let before = match hsm {
            Some(wanted) => files.insert(place::hsm(cluster, wanted)?.id.clone(), file.clone()),
            None => for_all.replace(file.clone()),
        };
        if before.is_some() {
            let whose = hsm.as_deref().unwrap_or("all HSMs");
            return Err(Failure::usage(format!("{flag} names two files for {whose}")));
        }
    }
    if let Some(file) = for_all {
        for hsm in &cluster.hsms {
            files.entry(hsm.id.clone()).or_insert_with(|| file.clone());
        }
    }
    Ok(files)
}

/// Standard input is read once.
pub(super) fn only_one_from_standard_input(pins: &Files, so_pins: &Files) -> Result<(), Failure> {
    let standard_input = |files: &Files| files.values().any(|file| file == Path::new("-"));
    if standard_input(pins) && standard_input(so_pins) {
        return Err(Failure::usage("standard input holds one PIN: name a file for --pin-file or for --so-pin-file"));
    }
    Ok(())
}

/// Reads the PINs in the files and, where `ask` wants it, asks once for the PIN of all HSMs without one. `whose` is
/// what a prompt calls it and `flag` names the file.
pub(super) async fn read(
    files: &Files,
    hsms: &[&HsmId],
    ask: bool,
    whose: &str,
    flag: &str,
) -> Result<BTreeMap<HsmId, Secret>, Failure> {
    let mut by_file: BTreeMap<&Path, Secret> = BTreeMap::new();
    let mut pins = BTreeMap::new();
    let (mut unnamed, mut names) = (Vec::new(), Vec::new());
    for &hsm in hsms {
        let Some(file) = files.get(hsm) else {
            unnamed.push(hsm.clone());
            names.push(hsm.as_str());
            continue;
        };
        let pin = match by_file.get(file.as_path()) {
            Some(pin) => pin.clone(),
            None => {
                let pin = password::read(Source::File(file.clone()), &format!("{whose} of HSM {hsm}")).await?;
                by_file.entry(file).or_insert(pin).clone()
            }
        };
        pins.insert(hsm.clone(), pin);
    }
    if ask && !unnamed.is_empty() {
        let whose = format!("{whose} of HSM {}", names.join(", "));
        if !terminal::can_ask() {
            return Err(Failure::usage(format!("{whose} is missing, and standard input is no terminal"))
                .with_hint(format!("give {flag} FILE, or {flag} HSM=FILE for each HSM; - is standard input")));
        }
        let pin = password::read(Source::Terminal, &whose).await?;
        pins.extend(unnamed.into_iter().map(|hsm| (hsm, pin.clone())));
    }
    Ok(pins)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(texts: &[&str]) -> Vec<PinFile> {
        texts.iter().map(|text| pin_file(text).unwrap()).collect()
    }

    #[test]
    fn files_for_all_and_for_each() {
        let of = |text: &str| pin_file(text).map(|PinFile { hsm, file }| (hsm.unwrap_or_default(), file));
        assert_eq!(of("pin"), Ok((String::new(), "pin".into())));
        assert_eq!(of("-"), Ok((String::new(), "-".into())));
        assert_eq!(of("hsm-a=/x/pin=1"), Ok(("hsm-a".to_owned(), "/x/pin=1".into())));
        assert_eq!(of("./a=b"), Ok((String::new(), "./a=b".into())));
        for wrong in ["", "=", "hsm-a=", "=pin"] {
            assert!(of(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn each_hsm_has_one_file() {
        let cluster = super::super::fixture::cluster();
        let two = files(&parsed(&["hsm-b=b.pin", "all.pin"]), &cluster, "--pin-file").unwrap();
        assert_eq!(two[&HsmId::from("hsm-a")], Path::new("all.pin"));
        assert_eq!(two[&HsmId::from("hsm-b")], Path::new("b.pin"));
        assert_eq!(files(&parsed(&["hsm-b=b.pin"]), &cluster, "--pin-file").unwrap().len(), 1);
        for (wrong, why) in [
            (&["a", "b"][..], "--pin-file names two files for all HSMs"),
            (&["hsm-a=a", "hsm-a=b"], "--pin-file names two files for hsm-a"),
            (&["hsm-x=a"], "hsm-x is no HSM of cluster-keystoredev"),
        ] {
            let failure = files(&parsed(wrong), &cluster, "--pin-file").unwrap_err();
            assert!(failure.message.starts_with(why), "{}", failure.message);
        }
    }

    #[test]
    fn standard_input_is_read_once() {
        let cluster = super::super::fixture::cluster();
        let stdin = files(&parsed(&["-"]), &cluster, "--pin-file").unwrap();
        let file = files(&parsed(&["pin"]), &cluster, "--pin-file").unwrap();
        assert!(only_one_from_standard_input(&stdin, &file).is_ok());
        assert!(only_one_from_standard_input(&stdin, &stdin).is_err());
    }
}

//! HSMs whose tokens hold no certificates: the ceremony writes their identities' into files, the daemon reads them there, and
//! a file that is not the HSM's own keeps it out with a sentence that says which file, which HSM, and what to do.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use model::clock::Clock;
use pki::identity::{Certified, ClusterAuthority, Kind, TrustAnchor, der_of, pem_of};
use proto::v1::{ConnectionState, HsmHealth};
use rcgen::{CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, SubjectPublicKeyInfo};

use crate::harness::daemon::Site;
use crate::harness::tool::{self, Ran};
use crate::harness::{Caller, Daemon, context, wait};
use crate::members;
use crate::profiles::say;

const IN_FILE: &str = "objects.certificate = \"host-file\"";

/// Two zones whose tokens hold no certificates any more, before the ceremony has been carried out once more.
async fn without_certificates() -> Site {
    let site = Site::prepare().await;
    for zone in site.zones(0) {
        for pair in ["keystored-identity", "keystored-transport"] {
            zone.pkcs11_tool(&["--delete-object", "--type", "cert", "--label", pair]);
        }
    }
    site.configure_hsms(|_, hsm| say(hsm, IN_FILE));
    site
}

/// The ceremony, or what is left of it.
fn init(site: &Site) -> Ran {
    init_with(site, BTreeMap::new())
}

fn init_with(site: &Site, environment: BTreeMap<String, String>) -> Ran {
    let shown = |path: &Path| path.display().to_string();
    let (config, folder, pin) = (shown(site.config_file()), shown(&site.ceremony()), shown(&site.layout.pin));
    let arguments = ["cluster", "init", "--config", &config, "--folder", &folder, "--pin-file", &pin];
    tool::keystorectl(environment, &arguments)
}

/// The same after it.
pub(crate) async fn prepare() -> Site {
    let site = without_certificates().await;
    init(&site).ok();
    site
}

fn check(site: &Site) -> Ran {
    tool::keystored(&["check".as_ref(), "--config".as_ref(), site.config_file().as_os_str()])
}

/// Where the daemon reads an HSM's.
fn file(site: &Site, hsm: &str) -> PathBuf {
    site.path().join("state").join(format!("hsm-{hsm}.crt"))
}

/// What the ceremony has kept of it.
fn kept(site: &Site, hsm: &str) -> String {
    fs::read_to_string(site.ceremony().join(format!("{hsm}.identity.crt"))).unwrap()
}

fn certificates_in(site: &Site, zone: usize) -> String {
    site.zones(0)[zone].pkcs11_tool(&["--list-objects", "--type", "cert"])
}

/// Removes whatever is there.
fn remove(file: &Path) {
    let _ = if file.is_dir() { fs::remove_dir(file) } else { fs::remove_file(file) };
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ceremony_writes_files_and_the_tokens_hold_none() {
    let site = without_certificates().await;
    let before = check(&site);
    assert_ne!(before.code, Some(0));
    let told = before.out.lines().filter(|line| line.contains("wrong: the certificate file")).count();
    assert_eq!(told, 2, "{before:?}");
    assert!(before.out.contains("hsm-b.identity.crt of the ceremony folder"), "{before:?}");

    let ran = init(&site);
    for hsm in ["hsm-a", "hsm-b"] {
        let (file, folder) = (file(&site, hsm), site.ceremony().join(format!("{hsm}.identity.crt")));
        let said = ran.err.lines().find(|line| line.contains(&file.display().to_string()));
        let said = said.unwrap_or_else(|| panic!("{}", ran.err));
        assert!(said.contains(hsm) && said.contains(&folder.display().to_string()), "{said}");
        assert_eq!(fs::read_to_string(&file).unwrap(), kept(&site, hsm));
        let anchor = site.layout.trust_anchor.clone();
        let mut openssl = Command::new("openssl");
        openssl.arg("verify").arg("-CAfile").arg(anchor).arg(&file);
        assert!(tool::run(&mut openssl).ok().trim_end().ends_with(": OK"));
        assert!(site.ceremony().join(format!("{hsm}.transport.crt")).exists());
    }
    ran.ok();
    assert!((0..2).all(|zone| !certificates_in(&site, zone).contains("Certificate Object")), "the tokens hold none");
    let out = check(&site).ok();
    assert_eq!(out.matches("ceremony: its identity certificate is in ").count(), 2, "{out}");

    // A copy that was lost, or is another one's, is put right, and nothing certified again.
    let files = ["hsm-a", "hsm-b"].map(|hsm| kept(&site, hsm));
    fs::remove_file(file(&site, "hsm-a")).unwrap();
    fs::write(file(&site, "hsm-b"), &files[0]).unwrap();
    init(&site).ok();
    assert_eq!(["hsm-a", "hsm-b"].map(|hsm| kept(&site, hsm)), files);
    assert_eq!(["hsm-a", "hsm-b"].map(|hsm| fs::read_to_string(file(&site, hsm)).unwrap()), files);

    // Where it cannot be written, the operator is told what to copy, and may do so.
    let elsewhere = site.path().join("not/there/b.crt");
    site.configure_hsms(|index, hsm| {
        if index == 1 {
            hsm.insert("certificate".to_owned(), "not/there/b.crt".into());
        }
    });
    let refused = init(&site);
    assert_ne!(refused.code, Some(0), "{refused:?}");
    for words in ["HSM hsm-b", &elsewhere.display().to_string(), "hsm-b.identity.crt"] {
        assert!(refused.err.contains(words), "{words}: {refused:?}");
    }
    fs::create_dir_all(elsewhere.parent().unwrap()).unwrap();
    fs::copy(site.ceremony().join("hsm-b.identity.crt"), &elsewhere).unwrap();
    init(&site).ok();
    check(&site).ok();
}

/// What a person writes, or a crash leaves, does not come between a ceremony and its end.
#[cfg(debug_assertions)]
#[tokio::test(flavor = "multi_thread")]
async fn a_ceremony_that_was_broken_off_goes_on() {
    for point in ["certify-identity.after", "certify-transport.before@2"] {
        let site = without_certificates().await;
        let abort = BTreeMap::from([("KEYSTORED_ABORT_AT".to_owned(), format!("ceremony.{point}"))]);
        let aborted = init_with(&site, abort);
        assert_eq!(aborted.code, None, "{point} was not reached: {aborted:?}");
        init(&site).ok();
        for hsm in ["hsm-a", "hsm-b"] {
            assert_eq!(fs::read_to_string(file(&site, hsm)).unwrap(), kept(&site, hsm), "{point}");
        }
        check(&site).ok();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hsms_with_files_serve_over_a_restart_and_a_further_one_joins() {
    let daemon = prepare().await.start().await;
    let caller = daemon.caller().await;
    let key = caller.create_key("of two that hold no certificates").await;
    let sealed = caller.encrypt(&key, b"kept", &context(&[])).await.unwrap();
    assert!(caller.hsms().await.unwrap().iter().all(|hsm| hsm.proven));
    // What a person is told beforehand is told by the daemon as well.
    let described = daemon.keystorectl(&["key-store", "describe"]).ok();
    let (described, checked) = (flat(&described), flat(&check(daemon.site()).ok()));
    let note = "its token holds no certificates (capabilities.objects.certificate)";
    assert!(described.contains(note) && checked.contains(note), "{described}\n{checked}");

    members::third_zone(daemon.site());
    daemon.site().configure_hsms(|index, hsm| {
        if index == 2 {
            say(hsm, IN_FILE);
        }
    });
    daemon.hang_up("the configuration was read again");
    members::add_hsm(&daemon).ok();
    members::filled(&caller).await;
    assert_eq!(fs::read_to_string(file(daemon.site(), "hsm-c")).unwrap(), kept(daemon.site(), "hsm-c"));

    drop(caller);
    let daemon = daemon.terminate().1.launch();
    daemon.wait_until_ready();
    let caller = daemon.caller().await;
    daemon.wait_until_healthy_for(&caller).await;
    assert_eq!(caller.decrypt(&sealed, &context(&[])).await.unwrap(), b"kept");
    assert!((0..2).all(|zone| !certificates_in(daemon.site(), zone).contains("Certificate Object")));
}

/// On one line, whatever a table has made of it.
fn flat(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// An authority as it lies in a folder.
fn authority(site: &Site) -> ClusterAuthority {
    let read = |name: &str| fs::read_to_string(site.ceremony().join(name)).unwrap();
    ClusterAuthority::load(&read("customerCA.crt"), &read("customerCA.key")).unwrap()
}

/// What the file of hsm-b rightly says.
fn certified(site: &Site) -> Certified {
    let anchor = TrustAnchor::from_pem(&site.trust_anchor()).unwrap();
    anchor.certified(Kind::Identity, &der_of(&kept(site, "hsm-b")).unwrap(), Clock::system().calendar()).unwrap()
}

/// Signed by the authority for hsm-b, its token and its key, with an end that is past.
fn expired(site: &Site) -> String {
    let certified = certified(site);
    let key = KeyPair::from_pem(&fs::read_to_string(site.ceremony().join("customerCA.key")).unwrap()).unwrap();
    let issuer = Issuer::from_ca_cert_pem(&site.trust_anchor(), key).unwrap();
    let mut openssl = Command::new("openssl");
    let kept = site.ceremony().join("hsm-b.identity.crt");
    openssl.args(["x509", "-noout", "-pubkey", "-in"]).arg(kept);
    let public = SubjectPublicKeyInfo::from_pem(&tool::run(&mut openssl).ok()).unwrap();
    let mut params = CertificateParams::default();
    let now = Clock::system().calendar();
    let hours = |hours: u64| std::time::Duration::from_secs(3_600 * hours);
    (params.not_before, params.not_after) = ((now - hours(2)).into(), (now - hours(1)).into());
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "hsm-b");
    params.distinguished_name.push(DnType::OrganizationalUnitName, "keystored hsm identity");
    params.distinguished_name.push(DnType::CustomDnType(vec![2, 5, 4, 5]), certified.serial);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.is_ca = IsCa::ExplicitNoCa;
    params.signed_by(&public, &issuer).unwrap().pem()
}

/// Its signature is another one.
fn altered(pem: &str) -> String {
    let mut der = der_of(pem).unwrap();
    *der.last_mut().unwrap() ^= 1;
    pem_of(&der)
}

/// Connects, and waits until hsm-b is out for such a reason.
async fn is_kept_out(daemon: &Daemon, caller: &Caller, id: &str, words: &str) {
    let store = caller.connect(id).await.unwrap();
    assert_eq!(store.connection_state(), ConnectionState::Connected, "one HSM is sound: {store:?}");
    let reason = wait::until_async(&format!("hsm-b is out, {words}"), wait::LONG, async || {
        let hsm = caller.key_store(id).await.hsms.into_iter().find(|hsm| hsm.hsm_id == "hsm-b")?;
        (hsm.health() == HsmHealth::Down && hsm.reason.contains(words)).then_some(hsm.reason)
    })
    .await;
    for named in ["HSM hsm-b", &file(daemon.site(), "hsm-b").display().to_string(), "hsm-b.identity.crt"] {
        assert!(reason.contains(named), "{named}: {reason}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_not_the_hsms_own_keeps_it_out() {
    let daemon = prepare().await.start().await;
    let caller = daemon.caller().await;
    let id = caller.key_stores().await.remove(0).key_store_id;
    let site = daemon.site();
    let (key, file) = (caller.create_key("in both").await, file(site, "hsm-b"));
    let (good, certified, now) = (kept(site, "hsm-b"), certified(site), Clock::system().calendar());
    let ours = authority(site);
    let theirs = ClusterAuthority::generate(&site.cluster().into(), now).unwrap();
    let issue = |by: &ClusterAuthority, serial: &str| {
        by.issue(Kind::Identity, &certified.public_key, &"hsm-b".into(), serial, now).unwrap()
    };
    let other_key = {
        let anchor = TrustAnchor::from_pem(&site.trust_anchor()).unwrap();
        let of_a = anchor.certified(Kind::Identity, &der_of(&kept(site, "hsm-a")).unwrap(), now).unwrap();
        ours.issue(Kind::Identity, &of_a.public_key, &"hsm-b".into(), &certified.serial, now).unwrap()
    };
    let transport = fs::read_to_string(site.ceremony().join("hsm-b.transport.crt")).unwrap();
    for (text, words, checked) in [
        ("".to_owned(), "which is none of a ceremony", "not a certificate in PEM"),
        (altered(&good), "not one of this cluster's authority", ""),
        (issue(&theirs, &certified.serial), "not one of this cluster's authority", ""),
        (kept(site, "hsm-a"), "the certificate in its file is HSM hsm-a's", "it is the certificate of HSM hsm-a"),
        (issue(&ours, "0123456789abcdef"), "serial number", "serial number 0123456789abcdef"),
        (transport, "for another use", "for another use"),
        (expired(site), "has expired", "has expired"),
        (other_key, "does not hold the certified identity key", ""),
    ] {
        caller.disconnect(&id).await.unwrap();
        fs::write(&file, text).unwrap();
        is_kept_out(&daemon, &caller, &id, words).await;
        let ran = check(site);
        assert_eq!(ran.code == Some(0), checked.is_empty(), "{words}: check knows no trust anchor: {ran:?}");
        assert!(ran.out.contains(checked), "{checked}: {ran:?}");
        caller.encrypt(&key, b"the other zone serves", &context(&[])).await.unwrap();
    }

    // What cannot be read at all. Whoever runs the tests may read every file.
    let makes: [fn(&Path); 3] = [|_| (), |file| symlink(file, file).unwrap(), |file| fs::create_dir(file).unwrap()];
    for (make, words) in makes.into_iter().zip(["which is not there", "which cannot be read", "no regular file"]) {
        caller.disconnect(&id).await.unwrap();
        remove(&file);
        make(&file);
        is_kept_out(&daemon, &caller, &id, words).await;
        let ran = check(site);
        assert!(ran.code != Some(0) && ran.out.contains(words), "{words}: {ran:?}");
    }
    // It comes in by itself once its file is there.
    remove(&file);
    fs::write(&file, good).unwrap();
    daemon.wait_until_healthy_for(&caller).await;
    assert!(caller.key_store(&id).await.hsms.iter().all(|hsm| hsm.proven));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_key_store_is_made_over_files_that_are_wrong() {
    let site = prepare().await;
    let files = ["hsm-a", "hsm-b"].map(|hsm| file(&site, hsm));
    let good = ["hsm-a", "hsm-b"].map(|hsm| kept(&site, hsm));
    let daemon = site.launch();
    daemon.wait_until_ready();
    let caller = daemon.caller().await.with_deadline(wait::LONG);
    for (texts, reason, words) in [
        ([None, None], "CloudHsmClusterNotActiveException", "which is not there"),
        (
            [Some(good[1].clone()), Some(good[0].clone())],
            "CloudHsmClusterInvalidConfigurationException",
            "certified as HSM hsm-a",
        ),
        (
            [Some(good[0].clone()), Some(altered(&good[1]))],
            "IncorrectTrustAnchorException",
            "not one of this cluster's authority",
        ),
    ] {
        for (file, text) in files.iter().zip(texts) {
            remove(file);
            if let Some(text) = text {
                fs::write(file, text).unwrap();
            }
        }
        let refused = caller.create_key_store("wrong-files", daemon.site()).await.unwrap_err();
        assert_eq!(refused.reason, reason, "{refused:?}");
        for named in [words, "hsm-b", &files[1].display().to_string(), "hsm-b.identity.crt"] {
            assert!(refused.message.contains(named), "{named}: {refused:?}");
        }
    }
    for (file, text) in files.iter().zip(good) {
        fs::write(file, text).unwrap();
    }
    daemon.connect_key_store(&caller).await;
}

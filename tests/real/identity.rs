//! An HSM proves who it is at each connect and each worker start; who cannot is refused by name.

use std::fs;
use std::path::Path;
use std::process::Command;

use model::clock::Clock;
use pki::identity::{ClusterAuthority, Kind, TrustAnchor, der_of};
use proto::v1::{ConnectionState, HsmHealth, HsmStatus, KeyStore};

use crate::harness::daemon::Site;
use crate::harness::zone::Zone;
use crate::harness::{Caller, Daemon, context, tool, wait};

async fn connected() -> (Daemon, Caller, String) {
    let daemon = Daemon::start().await;
    let caller = daemon.caller().await;
    let id = caller.key_stores().await.remove(0).key_store_id;
    (daemon, caller, id)
}

/// The store connects without hsm-b, which is not let in, for a reason with these words.
async fn assert_refused(daemon: &Daemon, caller: &Caller, id: &str, words: &[&str]) {
    let store: KeyStore = caller.connect(id).await.unwrap();
    assert_eq!(store.connection_state(), ConnectionState::Connected, "one HSM is sound: {store:?}");
    let refused = wait::until_async("hsm-b is refused", wait::LONG, async || {
        let hsms = caller.key_store(id).await.hsms;
        let hsm: HsmStatus = hsms.into_iter().find(|hsm| hsm.hsm_id == "hsm-b")?;
        (hsm.health() == HsmHealth::Down && hsm.reason.contains("refused")).then_some(hsm)
    })
    .await;
    assert!(!refused.proven, "{refused:?}");
    for word in words.iter().chain(&["hsm-b"]) {
        assert!(refused.reason.contains(word), "{word}: {refused:?}");
    }
    let counted = wait::until("the refusal is counted", wait::LONG, || {
        let (_, metrics) = daemon.ops("/metrics")?;
        let line = metrics.lines().find(|line| {
            line.starts_with("keystored_hsm_identity_refusals_total{") && line.contains("hsm=\"hsm-b\"")
        })?;
        let count: u64 = line.rsplit(' ').next()?.parse().ok()?;
        (count > 0).then_some(count)
    });
    assert!(counted > 0);
    let refused = caller.try_create_key("needs two zones", "").await.unwrap_err();
    assert_eq!(refused.reason, "CloudHsmClusterInvalidConfigurationException", "{refused:?}");
}

fn token_dir(zone: &Zone) -> std::path::PathBuf {
    fs::read_dir(zone.tokens()).unwrap().next().unwrap().unwrap().path()
}

/// Removes objects as another PKCS#11 client would.
fn remove(zone: &Zone, kind: &str, label: &str) {
    zone.pkcs11_tool(&["--delete-object", "--type", kind, "--label", label]);
}

fn copy(from: &Path, to: &Path) {
    tool::run(Command::new("cp").arg("-a").arg(from).arg(to)).ok();
}

/// Label, serial number, PIN, certificate and all keys are right; only the identity key is missing, or is another one.
#[tokio::test(flavor = "multi_thread")]
async fn copied_objects_without_the_identity_key_do_not_pass() {
    let (daemon, caller, id) = connected().await;
    let key = caller.create_key("in both").await;
    caller.disconnect(&id).await.unwrap();
    let zone = daemon.zone("b");
    remove(zone, "privkey", "keystored-identity");
    assert_refused(&daemon, &caller, &id, &["no identity key"]).await;
    caller.encrypt(&key, b"the other zone serves", &context(&[])).await.unwrap();

    // Another key in its place: what it signs does not fit the certificate.
    caller.disconnect(&id).await.unwrap();
    let label = ["--label", "keystored-identity", "--id", "6b657973746f7265642d6964656e74697479"];
    zone.pkcs11_tool(&[&["--keypairgen", "--key-type", "EC:prime256v1", "--usage-sign"], &label[..]].concat());
    assert_refused(&daemon, &caller, &id, &["does not hold the certified identity key"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_certificate_or_with_another_authority_s_it_does_not_pass() {
    let (daemon, caller, id) = connected().await;
    caller.disconnect(&id).await.unwrap();
    let zone = daemon.zone("b");
    let certificate = daemon.site().path().join("hsm-b.der");
    let shown = certificate.display().to_string();
    zone.pkcs11_tool(&["--read-object", "--type", "cert", "--label", "keystored-identity", "--output-file", &shown]);
    remove(zone, "cert", "keystored-identity");
    assert_refused(&daemon, &caller, &id, &["no identity certificate"]).await;

    // The same key, certified by an authority of the same name that is not the trust anchor.
    caller.disconnect(&id).await.unwrap();
    let now = Clock::system().calendar();
    let anchor = TrustAnchor::from_pem(&daemon.site().trust_anchor()).unwrap();
    let certified = anchor.certified(Kind::Identity, &fs::read(&certificate).unwrap(), now).unwrap();
    let impostor = ClusterAuthority::generate(&daemon.site().cluster().into(), now).unwrap();
    let issue = |authority: &ClusterAuthority, hsm: &str, serial: &str| {
        der_of(&authority.issue(Kind::Identity, &certified.public_key, &hsm.into(), serial, now).unwrap()).unwrap()
    };
    write_certificate(zone, &certificate, &issue(&impostor, "hsm-b", &certified.serial));
    assert_refused(&daemon, &caller, &id, &["not one of this cluster's authority"]).await;

    // Certified under the right authority, but for another HSM, or another token.
    let folder = daemon.site().ceremony();
    let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
    let authority = ClusterAuthority::load(&read("customerCA.crt"), &read("customerCA.key")).unwrap();
    for (hsm, serial, words) in
        [("hsm-a", certified.serial.as_str(), "certified as HSM hsm-a"), ("hsm-b", "0123456789abcdef", "serial number")]
    {
        caller.disconnect(&id).await.unwrap();
        remove(zone, "cert", "keystored-identity");
        write_certificate(zone, &certificate, &issue(&authority, hsm, serial));
        assert_refused(&daemon, &caller, &id, &[words]).await;
    }
    // The right one again.
    caller.disconnect(&id).await.unwrap();
    remove(zone, "cert", "keystored-identity");
    write_certificate(zone, &certificate, &issue(&authority, "hsm-b", &certified.serial));
    caller.connect(&id).await.unwrap();
    daemon.wait_until_healthy_for(&caller).await;
}

fn write_certificate(zone: &Zone, file: &Path, der: &[u8]) {
    fs::write(file, der).unwrap();
    let shown = file.display().to_string();
    zone.pkcs11_tool(&["--write-object", &shown, "--type", "cert", "--label", "keystored-identity"]);
}

/// hsm-b's token is a copy of hsm-a's, certified for hsm-b as well: one identity in two entries.
#[tokio::test(flavor = "multi_thread")]
async fn one_identity_in_two_entries_is_refused() {
    let (daemon, caller, id) = connected().await;
    caller.disconnect(&id).await.unwrap();
    let (a, b) = (daemon.zone("a").clone(), daemon.zone("b").clone());
    fs::remove_dir_all(token_dir(&b)).unwrap();
    copy(&token_dir(&a), &b.tokens());
    let same = |site: &Site| {
        let mut labels = Vec::new();
        site.configure_hsms(|index, hsm| {
            if index == 0 {
                labels.push((hsm["token_label"].clone(), hsm["token_serials"].clone()));
            } else {
                hsm.insert("token_label".to_owned(), labels[0].0.clone());
                hsm.insert("token_serials".to_owned(), labels[0].1.clone());
            }
        });
    };
    let site = daemon.terminate().1;
    same(&site);
    drop(caller);
    // As it is, the certificate says that it is hsm-a.
    let daemon = site.launch();
    daemon.wait_until_ready();
    let caller = daemon.caller().await;
    assert_refused(&daemon, &caller, &id, &["certified as HSM hsm-a"]).await;
    caller.disconnect(&id).await.unwrap();

    let zone = daemon.zone("b");
    let certificate = daemon.site().path().join("copied.der");
    let shown = certificate.display().to_string();
    zone.pkcs11_tool(&["--read-object", "--type", "cert", "--label", "keystored-identity", "--output-file", &shown]);
    let now = Clock::system().calendar();
    let anchor = TrustAnchor::from_pem(&daemon.site().trust_anchor()).unwrap();
    let certified = anchor.certified(Kind::Identity, &fs::read(&certificate).unwrap(), now).unwrap();
    let folder = daemon.site().ceremony();
    let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
    let authority = ClusterAuthority::load(&read("customerCA.crt"), &read("customerCA.key")).unwrap();
    let pem = authority.issue(Kind::Identity, &certified.public_key, &"hsm-b".into(), &certified.serial, now).unwrap();
    remove(zone, "cert", "keystored-identity");
    write_certificate(zone, &certificate, &der_of(&pem).unwrap());
    caller.connect(&id).await.unwrap();
    // Whoever comes second is refused, and both are named.
    wait::until_async("one of the two is refused", wait::LONG, async || {
        let hsms = caller.key_store(&id).await.hsms;
        let refused = hsms.iter().find(|hsm| hsm.reason.contains("identity key is also HSM"))?;
        (refused.reason.contains("hsm-a") && refused.reason.contains("hsm-b")).then_some(())
    })
    .await;
}

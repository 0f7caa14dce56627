//! Somebody with a copy of the ceremony folder and a client certificate, and without any PIN: certifies what he likes, and
//! asks the daemon.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use model::clock::Clock;
use pki::identity::{ClusterAuthority, Kind, PublicKey};
use proto::v1::{AddHsmRequest, AddHsmResponse};
use serde_json::Value;

use crate::harness::{Caller, Daemon, Failure, tool};

pub(super) struct Intruder {
    /// His copy of the folder.
    folder: PathBuf,
    cluster: String,
    /// An RSA key that lives in a file.
    key: PathBuf,
}

impl Intruder {
    pub(super) fn beside(daemon: &Daemon) -> Self {
        let folder = daemon.site().path().join("stolen");
        tool::run(Command::new("cp").arg("-a").arg(daemon.site().ceremony()).arg(&folder)).ok();
        let key = folder.join("software.pem");
        openssl(&["genrsa", "-out", &shown(&key), "2048"], &folder);
        Self { folder, cluster: daemon.site().cluster().to_owned(), key }
    }

    /// A file of the folder.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// What the folder holds for an HSM: a wrapped copy, or what was certified.
    pub(super) fn json(&self, name: &str) -> Value {
        serde_json::from_slice(&fs::read(self.file(name)).unwrap()).unwrap()
    }

    /// An HSM's wrapped copy of the wrapping key.
    pub(super) fn parcel(&self, hsm: &str) -> Vec<u8> {
        unhex(self.json(&format!("{hsm}.wrapping.json"))["blob"].as_str().unwrap())
    }

    /// The public half of the key in the file.
    pub(super) fn software_key(&self) -> PublicKey {
        let text = openssl(&["rsa", "-in", &shown(&self.key), "-noout", "-modulus"], &self.folder);
        let modulus = unhex(text.trim().trim_start_matches("Modulus="));
        PublicKey::Rsa { modulus, exponent: vec![1, 0, 1] }
    }

    /// Certifies a key by the key of the cluster's authority, PEM.
    pub(super) fn certify(&self, kind: Kind, key: &PublicKey, hsm: &str, serial: &str) -> String {
        let read = |name: &str| fs::read_to_string(self.file(name)).unwrap();
        let authority = ClusterAuthority::load(&read("customerCA.crt"), &read("customerCA.key")).unwrap();
        authority.issue(kind, key, &hsm.into(), serial, Clock::system().calendar()).unwrap()
    }

    /// A key of P-256 that lives in a file, certified as an HSM's identity.
    pub(super) fn forged_identity(&self, hsm: &str, serial: &str) -> String {
        let (key, point) = (shown(&self.file("identity.pem")), self.file("identity.der"));
        openssl(&["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", &key], &self.folder);
        openssl(&["ec", "-in", &key, "-pubout", "-outform", "DER", "-out", &shown(&point)], &self.folder);
        let der = fs::read(point).unwrap();
        self.certify(Kind::Identity, &PublicKey::P256(der[der.len() - 65..].to_vec()), hsm, serial)
    }

    /// The key in the file, certified as an HSM's transport key.
    pub(super) fn forged_transport(&self, hsm: &str, serial: &str) -> String {
        self.certify(Kind::Transport, &self.software_key(), hsm, serial)
    }

    /// A request that names an HSM and has hsm-a hand the wrapping key on. The PIN in it is none.
    pub(super) fn request(&self, hsm: &str, identity: &str, transport: &str) -> AddHsmRequest {
        AddHsmRequest {
            cluster_id: self.cluster.clone(),
            hsm_id: hsm.to_owned(),
            identity_certificate: identity.to_owned(),
            transport_certificate: transport.to_owned(),
            member_hsm_id: "hsm-a".to_owned(),
            member_wrapped_key: self.parcel("hsm-a"),
            key_store_password: "no-PIN-at-all".to_owned(),
            ..Default::default()
        }
    }

    /// What the key in the file opens of a wrapped key; none where it opens nothing.
    pub(super) fn opens(&self, blob: &[u8]) -> Option<Vec<u8>> {
        unwrap_oaep(&self.key, blob, &self.folder)
    }

    /// Wraps bytes of his own choice to a public key in a certificate, PEM.
    pub(super) fn wrap(&self, bytes: &[u8], certificate: &str) -> Vec<u8> {
        let (pem, plain, wrapped) = (self.file("to.pem"), self.file("plain"), self.file("wrapped"));
        fs::write(&pem, certificate).unwrap();
        fs::write(&plain, bytes).unwrap();
        let paths = [&plain, &wrapped, &pem].map(|path| shown(path));
        let to = ["-encrypt", "-certin", "-inkey", &paths[2], "-pkeyopt", "rsa_padding_mode:oaep"];
        openssl(&[&["pkeyutl", "-in", &paths[0], "-out", &paths[1]][..], &to].concat(), &self.folder);
        fs::read(wrapped).unwrap()
    }
}

/// OAEP with SHA-1, as the ceremony wraps; done by OpenSSL.
pub(super) fn unwrap_oaep(key: &Path, blob: &[u8], dir: &Path) -> Option<Vec<u8>> {
    let (from, to) = (dir.join("blob"), dir.join("opened"));
    fs::write(&from, blob).unwrap();
    let mut command = Command::new("openssl");
    command.args(["pkeyutl", "-decrypt", "-inkey"]).arg(key).args(["-pkeyopt", "rsa_padding_mode:oaep", "-in"]);
    let ran = tool::run(command.arg(&from).arg("-out").arg(&to));
    (ran.code == Some(0)).then(|| fs::read(to).unwrap())
}

pub(super) async fn add(caller: &Caller, request: AddHsmRequest) -> Result<AddHsmResponse, Failure> {
    Ok(caller.clusters.clone().add_hsm(caller.request(request)).await?.into_inner())
}

/// SHA-256 of a certificate, as OpenSSL tells it, in lower case and without colons.
pub(super) fn fingerprint(certificate: &str, dir: &Path) -> String {
    let pem = dir.join("fingerprint.pem");
    fs::write(&pem, certificate).unwrap();
    let text = openssl(&["x509", "-in", &shown(&pem), "-noout", "-fingerprint", "-sha256"], dir);
    text.trim().rsplit('=').next().unwrap().replace(':', "").to_lowercase()
}

/// SHA-256 of the key in a certificate.
pub(super) fn key_fingerprint(certificate: &str, dir: &Path) -> String {
    let (pem, key, der) = (dir.join("key.pem"), dir.join("key.pub"), dir.join("key.der"));
    fs::write(&pem, certificate).unwrap();
    fs::write(&key, openssl(&["x509", "-in", &shown(&pem), "-noout", "-pubkey"], dir)).unwrap();
    openssl(&["pkey", "-pubin", "-in", &shown(&key), "-outform", "DER", "-out", &shown(&der)], dir);
    let text = openssl(&["dgst", "-sha256", "-r", &shown(&der)], dir);
    text.split_whitespace().next().unwrap().to_owned()
}

#[track_caller]
pub(super) fn openssl(arguments: &[&str], dir: &Path) -> String {
    tool::run(Command::new("openssl").args(arguments).current_dir(dir)).ok()
}

pub(super) fn shown(path: &Path) -> String {
    path.display().to_string()
}

pub(super) fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text.chars().map(|digit| digit.to_digit(16).unwrap()).collect();
    digits.chunks(2).map(|pair| u8::try_from(pair[0] << 4 | pair[1]).unwrap()).collect()
}

//! Have the token's identity key sign that the log key is this token's.
//!
//! The statement is put together here: cluster and the log's name come from outside, HSM, serial number and key from here.
//! So a daemon that was taken over can have nothing signed but that this token has this log key, which is true.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{own, refused};
use crate::fault::Failure;
use crate::operations::prove;
use crate::owner::Owner;
use model::id::{ClusterId, HsmId, is_name};
use model::identity::log_key_statement;
use protocol::{LogKeyAlgorithm, LogPublicKey, Reply};

/// Longest name of a key.
const NAME_BYTES: usize = 1_024;
/// What the SubjectPublicKeyInfo of every uncompressed point of P-256 begins with, DER.
const P256_INFO: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

pub(in super::super) fn run(owner: &mut Owner, cluster: &ClusterId, vkey: &str) -> Result<Reply, Failure> {
    // Neither handle nor key is taken from before: what is vouched for is what the token holds now.
    owner.token_info()?;
    let public = own(owner)?.public;
    let token = &owner.token;
    let (hsm, serial) = (&token.hsm, &token.serial);
    if ClusterId::parse(cluster.as_str()).is_none() || !is_name(hsm.as_str()) || serial.chars().any(char::is_control) {
        return Err(refused("cluster, HSM or serial number is none that a statement can name"));
    }
    if !is_of(vkey, hsm, &public) {
        return Err(refused("what is to be vouched for is not the log key in this token, or not named as this HSM's"));
    }
    let statement = log_key_statement(cluster, hsm, serial, vkey);
    prove::sign_bytes(owner, statement.as_bytes()).map(Reply::Signature)
}

/// Whether a name is that of this key: `ORIGIN/HSM+ID+KEY`, as C2SP's signed-note has it.
fn is_of(vkey: &str, hsm: &HsmId, public: &LogPublicKey) -> bool {
    let Some((name, _)) = vkey.split_once('+') else { return false };
    let origin = name.strip_suffix(hsm.as_str()).and_then(|name| name.strip_suffix('/'));
    let sound = |c: char| !c.is_whitespace() && !c.is_control();
    name.len() <= NAME_BYTES
        && origin.is_some_and(|origin| !origin.is_empty() && origin.chars().all(sound))
        && vkey == vkey_of(name, public)
}

fn vkey_of(name: &str, LogPublicKey { algorithm, public }: &LogPublicKey) -> String {
    let (typed, hashed) = match algorithm {
        LogKeyAlgorithm::Ed25519 => {
            let typed = [&[1], &public[..]].concat();
            let hashed = [name.as_bytes(), b"\n", &typed].concat();
            (typed, hashed)
        }
        // Known by its SubjectPublicKeyInfo alone.
        LogKeyAlgorithm::EcdsaP256 => {
            let info = [&P256_INFO, &public[..]].concat();
            ([&[2], &info[..]].concat(), info)
        }
    };
    let id: String = digest(&SHA256, &hashed).as_ref().iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    format!("{name}+{id}+{}", STANDARD.encode(typed))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From C2SP's signed-note, or rather Go's sumdb: the key of sum.golang.org.
    const SUMDB: &str = "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8";

    fn ed25519(bytes: &[u8]) -> LogPublicKey {
        LogPublicKey { algorithm: LogKeyAlgorithm::Ed25519, public: bytes.to_vec().into() }
    }

    #[test]
    fn a_key_is_named_as_others_name_it() {
        let bytes = STANDARD.decode("Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8").unwrap();
        assert_eq!(vkey_of("sum.golang.org", &ed25519(&bytes[1..])), SUMDB);
    }

    #[test]
    fn only_its_own_name_is_vouched_for() {
        let hsm: HsmId = "hsm-a".into();
        let p256 = LogPublicKey { algorithm: LogKeyAlgorithm::EcdsaP256, public: vec![4; 65].into() };
        for key in [ed25519(&[0xfb; 32]), p256] {
            let named = |name: &str| vkey_of(name, &key);
            assert!(is_of(&named("kms.example/audit/hsm-a"), &hsm, &key));
            for name in
                ["hsm-a", "/hsm-a", "kms.example/hsm-b", "kms.examplehsm-a", "a b/hsm-a", "a\nb/hsm-a", "", "a/"]
            {
                assert!(!is_of(&named(name), &hsm, &key), "{name}");
            }
            let good = named("kms.example/hsm-a");
            let other = vkey_of("kms.example/hsm-a", &ed25519(&[0xfc; 32]));
            for wrong in [
                other,
                good.replacen('+', "", 1),
                format!("{good}\n"),
                format!("{good}="),
                good.replace("/hsm-a+", "/hsm-a+0"),
                good.to_uppercase(),
                named(&format!("{}/hsm-a", "x".repeat(NAME_BYTES))),
            ] {
                assert!(!is_of(&wrong, &hsm, &key), "{wrong}");
            }
        }
    }
}

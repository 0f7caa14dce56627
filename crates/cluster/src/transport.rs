//! Whose transport key the cluster's wrapping key may be wrapped to.
//!
//! Whoever has a copy of the ceremony folder certifies what he likes. So the certificates that a caller gives are only
//! compared: the token itself shows its transport key and signs, with its identity key and over a fresh nonce, that it
//! holds the private half. As with [`super::identity`], a malicious module could have anything signed.

use std::time::SystemTime;

use model::id::{ClusterId, HsmId, Zone};
use model::identity::{Purpose, Statement};
use model::limits;
use pki::identity::{Certified, Kind, PublicKey, TrustAnchor, der_of, fingerprint};
use protocol::{Op, ShownTransport, TransportKey};

/// What a caller says of a newcomer: two certificates under the cluster's trust anchor.
#[derive(Debug)]
pub struct Claim {
    identity: Certified,
    /// DER of the identity certificate.
    certificate: Vec<u8>,
    transport: TransportKey,
}

impl Claim {
    /// Checks both certificates: of this HSM and one token, under the anchor. Why not, in words.
    pub fn read(
        anchor: &TrustAnchor,
        hsm: &HsmId,
        identity: &str,
        transport: &str,
        now: SystemTime,
    ) -> Result<Self, String> {
        let certified = |kind, pem: &str| {
            let der = der_of(pem).map_err(|error| error.to_string())?;
            let certified = anchor.certified(kind, &der, now).map_err(|error| error.to_string())?;
            match certified.hsm == *hsm {
                true => Ok((certified, der)),
                false => Err(format!("the certificate is HSM {}'s, not {hsm}'s", certified.hsm)),
            }
        };
        let (identity, certificate) = certified(Kind::Identity, identity)?;
        let (transport, _) = certified(Kind::Transport, transport)?;
        if identity.serial != transport.serial {
            return Err("the two certificates are of two tokens".to_owned());
        }
        match &transport.public_key {
            PublicKey::Rsa { modulus, exponent } => {
                Ok(Self { identity, certificate, transport: TransportKey::new(modulus, exponent) })
            }
            PublicKey::P256(_) => Err("the transport certificate has no RSA key".to_owned()),
        }
    }

    /// Judges what the token has shown; the key to which may be wrapped is the token's own, not the claimed one.
    pub fn confirm(&self, question: &Question, shown: &ShownTransport) -> Result<TransportKey, String> {
        if shown.identity_certificate != self.certificate {
            return Err(
                "the identity certificate that was given is not the one in the HSM's token, or in the file in the \
                        place of that"
                    .to_owned(),
            );
        }
        let statement = question.statement(&self.identity, shown);
        self.identity.verify(&statement, &shown.signature).map_err(|_| {
            "what the HSM's token signed does not fit its certificate: it does not hold the certified identity key"
                .to_owned()
        })?;
        match shown.key == self.transport {
            true => Ok(shown.key.clone()),
            false => {
                Err("the transport certificate that was given is not of the transport key that the HSM's token has \
                          shown and signed"
                    .to_owned())
            }
        }
    }
}

/// What a token is asked.
#[derive(Debug)]
pub struct Question {
    cluster: ClusterId,
    zone: Zone,
    nonce: [u8; 32],
}

impl Question {
    /// A fresh one; none where the operating system gives no random bytes.
    #[must_use]
    pub fn new(cluster: &ClusterId, zone: &Zone) -> Option<Self> {
        let mut nonce = [0; 32];
        aws_lc_rs::rand::fill(&mut nonce).ok()?;
        Some(Self { cluster: cluster.clone(), zone: zone.clone(), nonce })
    }

    /// For a worker.
    #[must_use]
    pub fn op(&self) -> Op {
        Op::ShowTransport { cluster: self.cluster.clone(), zone: self.zone.clone(), nonce: self.nonce }
    }

    fn statement(&self, identity: &Certified, shown: &ShownTransport) -> Statement {
        let TransportKey { modulus, exponent } = &shown.key;
        Statement {
            purpose: Purpose::Transport { modulus: modulus.to_vec(), exponent: exponent.to_vec() },
            cluster: self.cluster.clone(),
            hsm: identity.hsm.clone(),
            zone: self.zone.clone(),
            serial: identity.serial.clone(),
            incarnation: shown.incarnation,
            nonce: self.nonce,
        }
    }
}

/// What people compare: fingerprints of an identity certificate and of a transport key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fingerprints {
    /// SHA-256 of the identity certificate.
    pub identity: String,
    /// SHA-256 of the transport key's SubjectPublicKeyInfo.
    pub transport: String,
}

impl Fingerprints {
    /// Of what a caller has given, whoever certified it; `none` where nothing can be read.
    #[must_use]
    pub fn given(identity: &str, transport: &str) -> Self {
        let none = || "none".to_owned();
        // Longer ones are refused, and nobody has to read them first.
        let [identity, transport] =
            [identity, transport].map(|pem| if pem.len() > limits::TRUST_ANCHOR_CHARS { "" } else { pem });
        let key = der_of(transport).ok().and_then(|der| pki::identity::public_key_of(&der).ok());
        Self {
            identity: der_of(identity).map_or_else(|_| none(), |der| fingerprint(&der)),
            transport: key.map_or_else(none, |key| key.fingerprint()),
        }
    }

    /// Of what a token has shown.
    #[must_use]
    pub fn shown(shown: &ShownTransport) -> Self {
        let TransportKey { modulus, exponent } = &shown.key;
        let key = PublicKey::Rsa { modulus: modulus.to_vec(), exponent: exponent.to_vec() };
        Self { identity: fingerprint(&shown.identity_certificate), transport: key.fingerprint() }
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};

    use super::*;
    use pki::identity::ClusterAuthority;

    const SERIAL: &str = "0123456789abcdef";

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_800_000_000)
    }

    fn rsa(byte: u8) -> PublicKey {
        PublicKey::Rsa { modulus: vec![byte; 256], exponent: vec![1, 0, 1] }
    }

    /// An authority, and a token with what was certified of it.
    struct Lab {
        authority: ClusterAuthority,
        key: EcdsaKeyPair,
        identity: String,
        transport: String,
    }

    impl Lab {
        fn new() -> Self {
            let authority = ClusterAuthority::generate(&"cluster-abcdefghijk".into(), now()).unwrap();
            let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
            let mut lab = Self { authority, key, identity: String::new(), transport: String::new() };
            lab.identity = lab.issue(Kind::Identity, &lab.point(), "hsm-c", SERIAL);
            lab.transport = lab.issue(Kind::Transport, &rsa(0xd1), "hsm-c", SERIAL);
            lab
        }

        fn point(&self) -> PublicKey {
            PublicKey::P256(self.key.public_key().as_ref().to_vec())
        }

        fn issue(&self, kind: Kind, key: &PublicKey, hsm: &str, serial: &str) -> String {
            self.authority.issue(kind, key, &hsm.into(), serial, now()).unwrap()
        }

        fn claim(&self, identity: &str, transport: &str) -> Result<Claim, String> {
            let anchor = TrustAnchor::from_pem(self.authority.certificate()).unwrap();
            Claim::read(&anchor, &"hsm-c".into(), identity, transport, now())
        }

        /// What the token shows when it is asked.
        fn shows(&self, question: &Question, key: &PublicKey) -> ShownTransport {
            let PublicKey::Rsa { modulus, exponent } = key else { panic!("an RSA key") };
            let certificate = der_of(&self.identity).unwrap();
            let claim = self.claim(&self.identity, &self.transport).unwrap();
            let mut shown = ShownTransport {
                key: TransportKey::new(modulus, exponent),
                identity_certificate: certificate.into(),
                incarnation: 7,
                signature: Default::default(),
                holds_wrapping_key: false,
            };
            let statement = question.statement(&claim.identity, &shown).to_bytes();
            shown.signature = self.key.sign(&SystemRandom::new(), &statement).unwrap().as_ref().to_vec().into();
            shown
        }
    }

    fn question() -> Question {
        Question::new(&"cluster-abcdefghijk".into(), &"c".into()).unwrap()
    }

    #[test]
    fn the_token_s_own_key_is_confirmed_and_no_other() {
        let (lab, question) = (Lab::new(), question());
        let claim = lab.claim(&lab.identity, &lab.transport).unwrap();
        let shown = lab.shows(&question, &rsa(0xd1));
        assert_eq!(claim.confirm(&question, &shown).unwrap(), shown.key);

        // Somebody has certified a key of his own for this token.
        let software = lab.issue(Kind::Transport, &rsa(0xe3), "hsm-c", SERIAL);
        let refused = lab.claim(&lab.identity, &software).unwrap().confirm(&question, &shown).unwrap_err();
        assert!(refused.contains("not of the transport key"), "{refused}");
        // Another certificate of the very same identity key.
        let again = lab.issue(Kind::Identity, &lab.point(), "hsm-c", SERIAL);
        let refused = lab.claim(&again, &lab.transport).unwrap().confirm(&question, &shown).unwrap_err();
        assert!(refused.contains("not the one in the HSM's token"), "{refused}");
    }

    #[test]
    fn what_was_not_signed_for_this_question_is_refused() {
        let (lab, asked) = (Lab::new(), question());
        let claim = lab.claim(&lab.identity, &lab.transport).unwrap();
        let shown = lab.shows(&asked, &rsa(0xd1));
        let swapped = ShownTransport { key: TransportKey::new(&[0xe3; 256], &[1, 0, 1]), ..shown.clone() };
        let earlier = lab.shows(&question(), &rsa(0xd1));
        let other_worker = ShownTransport { incarnation: 8, ..shown.clone() };
        let unsigned = ShownTransport { signature: vec![0; 64].into(), ..shown.clone() };
        let elsewhere = Question { zone: "d".into(), nonce: asked.nonce, cluster: asked.cluster.clone() };
        for refused in [swapped, earlier, other_worker, unsigned, lab.shows(&elsewhere, &rsa(0xd1))] {
            let why = claim.confirm(&asked, &refused).unwrap_err();
            assert!(why.contains("does not hold the certified identity key"), "{why}");
        }
        claim.confirm(&asked, &shown).unwrap();
    }

    #[test]
    fn certificates_of_others_claim_nothing() {
        let lab = Lab::new();
        let of = |kind, key: &PublicKey, hsm: &str, serial: &str| lab.issue(kind, key, hsm, serial);
        let (identity, transport) = (&lab.identity, &lab.transport);
        for (identity, transport, words) in [
            (&of(Kind::Identity, &lab.point(), "hsm-b", SERIAL), transport, "is HSM hsm-b's, not hsm-c's"),
            (identity, &of(Kind::Transport, &rsa(0xd1), "hsm-b", SERIAL), "is HSM hsm-b's, not hsm-c's"),
            (identity, &of(Kind::Transport, &rsa(0xd1), "hsm-c", "77"), "of two tokens"),
            (transport, transport, "for another use"),
            (identity, identity, "for another use"),
            (identity, &Lab::new().transport, "not one of this cluster's authority"),
            (identity, &String::new(), "not a certificate in PEM"),
        ] {
            let why = lab.claim(identity, transport).unwrap_err();
            assert!(why.contains(words), "{words}: {why}");
        }
    }

    #[test]
    fn fingerprints_say_what_was_given() {
        let (lab, question) = (Lab::new(), question());
        let given = Fingerprints::given(&lab.identity, &lab.transport);
        assert_eq!(given, Fingerprints::shown(&lab.shows(&question, &rsa(0xd1))));
        assert_eq!((given.identity.len(), given.transport.len()), (64, 64));
        assert_ne!(given, Fingerprints::given(&lab.identity, &lab.issue(Kind::Transport, &rsa(0xe3), "hsm-c", SERIAL)));
        let none = Fingerprints::given("nonsense", "");
        assert_eq!((none.identity.as_str(), none.transport.as_str()), ("none", "none"));
    }
}

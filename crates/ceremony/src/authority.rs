//! The cluster's authority in the ceremony folder: `customerCA.key`, which the operator keeps, and `customerCA.crt`,
//! the trust anchor.
//!
//! The key is on disk before anything is signed with it, and the certificate can be made from it again.

use super::folder::{AUTHORITY_CERTIFICATE, AUTHORITY_KEY, Folder};
use super::steps::Step;
use super::{Error, Progress};
use model::clock::Clock;
use model::id::{ClusterId, HsmId};
use pki::identity::{ClusterAuthority, Kind, PublicKey, TrustAnchor};
use telemetry::abort;

/// The authority, with its certificate as the daemon will hold it.
pub(super) struct Authority {
    authority: ClusterAuthority,
    anchor: TrustAnchor,
    clock: Clock,
}

impl Authority {
    /// Reads it, or makes what is missing of it.
    pub(super) async fn open(
        cluster: &ClusterId,
        folder: &Folder,
        clock: &Clock,
        progress: &mut Progress<'_>,
    ) -> Result<Self, Error> {
        let wrong = |error: pki::Error| folder.malformed_file(AUTHORITY_KEY, &error.to_string());
        let now = clock.calendar();
        let authority = match (folder.text(AUTHORITY_KEY)?, folder.text(AUTHORITY_CERTIFICATE)?) {
            (Some(key), Some(certificate)) => {
                let key = String::from_utf8_lossy(key.expose()).into_owned();
                let certificate = String::from_utf8_lossy(certificate.expose()).into_owned();
                ClusterAuthority::load(&certificate, &zeroize::Zeroizing::new(key)).map_err(wrong)?
            }
            (None, Some(_)) => {
                return Err(folder.malformed_file(
                    AUTHORITY_KEY,
                    "the private key of the cluster's authority is not there, only its certificate: put it back",
                ));
            }
            (key, None) => {
                progress("making the cluster's authority");
                let key = match key {
                    Some(key) => key,
                    None => {
                        let key = ClusterAuthority::generate(cluster, now).map_err(wrong)?.key();
                        abort::around(Step::MakeAuthorityKey.name(), async {
                            folder.keep_text(AUTHORITY_KEY, key.expose())
                        })
                        .await?;
                        key
                    }
                };
                let pem = zeroize::Zeroizing::new(String::from_utf8_lossy(key.expose()).into_owned());
                let authority = ClusterAuthority::certify_itself(cluster, &pem, now).map_err(wrong)?;
                abort::around(Step::MakeAuthorityCertificate.name(), async {
                    folder.keep_text(AUTHORITY_CERTIFICATE, authority.certificate().as_bytes())
                })
                .await?;
                authority
            }
        };
        let anchor = TrustAnchor::from_pem(authority.certificate()).map_err(wrong)?;
        if !anchor.is_of(cluster) {
            // Certified by it, a token of one cluster would be a member of the other too.
            let why = format!("is the authority of another cluster than {cluster}: each has a folder of its own");
            return Err(folder.malformed_file(AUTHORITY_CERTIFICATE, &why));
        }
        Ok(Self { authority, anchor, clock: clock.clone() })
    }

    /// Whether this certificate in a token is ours, for this HSM, token and key.
    pub(super) fn has_certified(&self, kind: Kind, der: &[u8], hsm: &HsmId, serial: &str, key: &PublicKey) -> bool {
        self.anchor
            .certified(kind, der, self.clock.calendar())
            .is_ok_and(|certified| certified.hsm == *hsm && certified.serial == serial && certified.public_key == *key)
    }

    /// Certifies a key.
    pub(super) fn issue(&self, kind: Kind, key: &PublicKey, hsm: &HsmId, serial: &str) -> Result<String, Error> {
        let issued = self.authority.issue(kind, key, hsm, serial, self.clock.calendar());
        issued.map_err(|error| Error::at(hsm, "certifying a key pair", error.to_string()))
    }
}

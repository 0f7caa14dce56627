//! Where the identity certificates of HSMs are whose tokens hold none (`objects.certificate = "host-file"`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use toml::Spanned;

use super::check::Context;
use super::{Cluster, Error, raw};
use model::profile::Capabilities;

impl Context<'_> {
    /// The file that is named, if one is. Only an HSM whose token holds no certificates has one.
    pub(super) fn certificate(&self, hsm: &raw::Hsm, capabilities: &Capabilities) -> Result<Option<PathBuf>, Error> {
        let Some(written) = &hsm.certificate else { return Ok(None) };
        if !capabilities.objects.in_host_file() {
            let message = "the certificate of this HSM is in its token; take the line out, or say that the token holds none \
                           (capabilities.objects.certificate = \"host-file\")";
            return Err(self.at(written, message));
        }
        self.path(written).map(Some)
    }

    /// Names the file of each such HSM for which none was named, beside its lock file. Two HSMs have two files: the ceremony
    /// would write one over the other.
    pub(super) fn certificates(
        &self,
        state_dir: &Path,
        written: &[Spanned<raw::Cluster>],
        clusters: &mut [Cluster],
    ) -> Result<(), Error> {
        let mut known = BTreeMap::new();
        let places = written.iter().flat_map(|cluster| &cluster.get_ref().hsm);
        for (hsm, place) in clusters.iter_mut().flat_map(|cluster| &mut cluster.hsms).zip(places) {
            if hsm.capabilities.objects.in_host_file() {
                let usual = || state_dir.join(format!("hsm-{}.crt", hsm.id));
                let file = hsm.certificate.get_or_insert_with(usual);
                if let Some(twin) = known.insert(file.clone(), hsm.id.clone()) {
                    let message =
                        format!("HSM {twin} has its certificate in the same file; each HSM has one of its own");
                    let place = place.get_ref().certificate.as_ref().map_or_else(|| place.span(), Spanned::span);
                    return Err(self.error(Some(place), message));
                }
            }
        }
        Ok(())
    }
}

//! What the ceremony does next: pure functions over what the tokens and the folder hold.

use std::collections::BTreeSet;

use bytes::Bytes;

use model::id::HsmId;
use model::profile::Capabilities;
use model::step::steps;
use protocol::{CeremonyObjects, Token, TokenSeen};

steps! {
    /// What is next.
    pub enum Step in "ceremony" {
        /// Initialise a blank token.
        InitToken = "init-token",
        /// Set kmsuser's PIN in a token without a user.
        InitUserPin = "init-user-pin",
        /// Make the private key of the cluster's authority.
        MakeAuthorityKey = "make-authority-key",
        /// Make its certificate, the trust anchor.
        MakeAuthorityCertificate = "make-authority-certificate",
        /// Log in to a token.
        LogIn = "log-in",
        /// Make a token's identity pair.
        MakeIdentityPair = "make-identity-pair",
        /// Certify it.
        CertifyIdentity = "certify-identity",
        /// Make a token's transport pair.
        MakeTransportPair = "make-transport-pair",
        /// Certify it.
        CertifyTransport = "certify-transport",
        /// Make a token's canary key.
        MakeCanary = "make-canary",
        /// Look which parcels the folder holds.
        ReadParcels = "read-parcels",
        /// Make the wrapping key in a token, wrapped to all.
        MakeWrappingKey = "make-wrapping-key",
        /// Keep one token's parcel in the folder.
        KeepParcel = "keep-parcel",
        /// Unwrap a token's parcel.
        PlaceWrappingKey = "place-wrapping-key",
    }
}

/// What is known of one token.
#[derive(Clone, Debug)]
pub(super) struct Observed {
    /// The HSM.
    pub hsm: HsmId,
    /// The token's serial number.
    pub serial: String,
    /// Its keys are made in it and stay there: it needs no transport pair and no wrapping key.
    pub in_place: bool,
    /// Which objects it holds.
    pub objects: CeremonyObjects,
    /// The public half of its identity pair, where it holds one.
    pub identity: Option<Bytes>,
    /// It holds a certificate of this cluster's authority for this HSM, this token and its identity key.
    pub identity_certified: bool,
    /// Likewise for its transport key.
    pub transport_certified: bool,
    /// Not looked for yet; or the set of the parcel that lies in the folder for this token's transport key, if any.
    pub parcel: Option<Option<String>>,
}

/// What a token needs before anybody can log in to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Raw {
    /// It is blank.
    Blank,
    /// It has no user.
    NoUser,
    /// It has a user, and needs no officer.
    Usable,
}

/// What the token that is meant needs; an error says why none can be meant, why it cannot be used, or why nobody may log
/// in. Nothing is changed in a token that cannot be used, and no blank one initialised.
pub(super) fn raw(seen: &[TokenSeen], meant: &Token, capabilities: &Capabilities) -> Result<Raw, String> {
    let serial_fits = |token: &&TokenSeen| {
        meant.serials.is_empty() || meant.serials.iter().any(|serial| serial.trim() == token.serial)
    };
    let labelled = seen.iter().filter(|token| token.initialised && token.label == meant.label.trim_end());
    let fitting: Vec<&TokenSeen> = labelled.filter(serial_fits).collect();
    unsuitable(seen, &fitting, serial_fits, capabilities)?;
    match fitting[..] {
        [] => Ok(Raw::Blank),
        [token] if !token.user.initialised => Ok(Raw::NoUser),
        [token] if token.user.locked => {
            Err("its token has locked kmsuser: the security officer has to set the PIN".into())
        }
        [token] if token.user.final_try => {
            Err("one more wrong PIN would lock kmsuser: the security officer has to set the PIN".into())
        }
        [_] => Ok(Raw::Usable),
        _ => {
            let serials: Vec<&str> = fitting.iter().map(|token| token.serial.as_str()).collect();
            Err(format!(
                "{} tokens have the label '{}' (serial numbers {}); name the right one in token_serials",
                fitting.len(),
                meant.label,
                serials.join(", ")
            ))
        }
    }
}

/// Refuses where no token that can be meant can be used: the labelled one; else those that are blank; else all, since some
/// HSMs show a blank token as if it were none.
fn unsuitable<'t>(
    seen: &'t [TokenSeen],
    labelled: &[&'t TokenSeen],
    fits: impl Fn(&&TokenSeen) -> bool,
    capabilities: &Capabilities,
) -> Result<(), String> {
    let blank: Vec<&TokenSeen> = seen.iter().filter(|token| !token.initialised).filter(fits).collect();
    let meant: Vec<&TokenSeen> = match (labelled, &blank[..]) {
        ([], []) => seen.iter().collect(),
        ([], blank) => blank.to_vec(),
        (labelled, _) => labelled.to_vec(),
    };
    let refusals: Option<Vec<String>> = meant.iter().map(|token| token.abilities.refusal(capabilities)).collect();
    refusals.and_then(|all| all.into_iter().next()).map_or(Ok(()), Err)
}

/// The next step once everybody is logged in, and in which token; `None` when nothing is left to do. Without `whole`, a
/// token is prepared for a cluster that has its wrapping key. An error says why no step leads on and what a person can
/// do.
pub(super) fn next(tokens: &[Observed], whole: bool) -> Result<Option<(Step, usize)>, String> {
    distinct(tokens)?;
    for (place, token) in tokens.iter().enumerate() {
        // The pairs of a token that keeps its wrapping key are never missed: what lacks them did not come from here.
        if token.objects.wrapping && !(token.objects.identity && token.objects.transport) {
            return Err(format!(
                "HSM {} holds a cluster wrapping key but not the key pairs of a ceremony: its objects were tampered with \
                 or come from elsewhere; initialise the token anew and bring it in as a further HSM",
                token.hsm
            ));
        }
        let step = match token {
            Observed { objects: CeremonyObjects { identity: false, .. }, .. } => Step::MakeIdentityPair,
            Observed { identity_certified: false, .. } => Step::CertifyIdentity,
            Observed { in_place: false, objects: CeremonyObjects { transport: false, .. }, .. } => {
                Step::MakeTransportPair
            }
            Observed { in_place: false, transport_certified: false, .. } => Step::CertifyTransport,
            Observed { objects: CeremonyObjects { canary: false, .. }, .. } => Step::MakeCanary,
            Observed { .. } => continue,
        };
        return Ok(Some((step, place)));
    }
    let without = tokens.iter().position(|token| !token.in_place && !token.objects.wrapping);
    let Some(without) = without.filter(|_| whole) else { return Ok(None) };
    if tokens.iter().any(|token| token.parcel.is_none()) {
        return Ok(Some((Step::ReadParcels, without)));
    }
    if one_set(tokens) {
        return Ok(Some((Step::PlaceWrappingKey, without)));
    }
    if tokens.iter().all(|token| !token.objects.wrapping) {
        return Ok(Some((Step::MakeWrappingKey, 0)));
    }
    let names = |with: bool| {
        let of = tokens.iter().filter(|token| token.objects.wrapping == with);
        of.map(|token| token.hsm.as_str()).collect::<Vec<_>>().join(", ")
    };
    Err(format!(
        "{} hold a cluster wrapping key and {} don't, and the folder has no complete set of its wrapped copies for \
         these tokens: name the folder of the ceremony that made the key, bring the others in by add-hsm, or initialise \
         all tokens anew if they hold nothing that is still needed",
        names(true),
        names(false)
    ))
}

/// The folder holds a parcel for each token and all are of one wrapping key.
fn one_set(tokens: &[Observed]) -> bool {
    let set = |token: &Observed| token.parcel.clone().flatten();
    let first = tokens.first().and_then(set);
    first.is_some() && tokens.iter().all(|token| set(token) == first)
}

/// No HSM is named twice. Known before the first worker is started: the second would wait for the first one's lock.
pub(super) fn named_once<'a>(hsms: impl Iterator<Item = &'a HsmId>) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    for hsm in hsms {
        if !seen.insert(hsm) {
            return Err(format!("HSM {hsm} takes part twice: name each HSM once"));
        }
    }
    Ok(())
}

/// No token stands behind two HSMs, and no identity: a cluster of one token only looks like two, and a copied token
/// would prove to be two HSMs.
fn distinct(tokens: &[Observed]) -> Result<(), String> {
    for (place, token) in tokens.iter().enumerate() {
        for other in &tokens[..place] {
            if other.serial == token.serial {
                return Err(format!(
                    "HSM {} and HSM {} are the same token (serial {}): each needs a token of its own",
                    other.hsm, token.hsm, token.serial
                ));
            }
            if token.identity.is_some() && other.identity == token.identity {
                return Err(format!(
                    "HSM {} and HSM {} have one identity key: one token is a copy of the other; initialise one of them \
                     anew and run the ceremony again",
                    other.hsm, token.hsm
                ));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;

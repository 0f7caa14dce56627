//! The data file of profiles, and what one HSM's configuration says otherwise.

use toml::{Spanned, Table, Value};

use super::check::Context;
use super::functions::is_function;
use super::{Error, raw};
use model::ciphertext::{BOUND_BYTES, IV_BYTES};
use model::limits;
use model::profile::{CKM_AES_GCM, CKM_AES_KEY_WRAP, Capabilities, ChangedBy, FirstLogin, PinForm, Profile};

/// Every profile with all of its capabilities.
pub(super) const DATA: &str = include_str!("profiles.toml");

/// The capabilities of a profile as the data file has them.
pub fn capabilities(profile: Profile) -> Result<Capabilities, Error> {
    table(profile)?.try_into().map_err(|error: toml::de::Error| wrong(profile, error.message()))
}

/// What capabilities say otherwise than the profile, as `gcm.iv = "caller"`; in the order of their names.
#[must_use]
pub fn overrides(profile: Profile, of: &Capabilities) -> Vec<String> {
    let (Ok(said), Ok(has)) = (table(profile), Table::try_from(of)) else { return Vec::new() };
    let mut otherwise = Vec::new();
    for (group, keys) in &has {
        let Some(keys) = keys.as_table() else { continue };
        let said = said.get(group).and_then(Value::as_table);
        let changed = keys.iter().filter(|(key, value)| said.and_then(|said| said.get(*key)) != Some(*value));
        otherwise.extend(changed.map(|(key, value)| format!("{group}.{key} = {value}")));
    }
    otherwise
}

fn table(profile: Profile) -> Result<Table, Error> {
    let mut all: Table = toml::from_str(DATA).map_err(|error| wrong(profile, error.message()))?;
    match all.remove(profile.name()) {
        Some(Value::Table(table)) => Ok(table),
        _ => Err(wrong(profile, "it is not there")),
    }
}

/// The file is part of the program: a test meets this first.
fn wrong(profile: Profile, why: &str) -> Error {
    Error { file: "profiles.toml".into(), line: None, message: format!("profile {}: {}", profile.name(), why.trim()) }
}

/// The longest CKA_ID and label of what the ceremony makes: that of the wrapping key, or of a certificate.
const NAME_BYTES: u64 = 32;
/// Longest that a new object is waited for: shorter than a step of making a key may take.
const SETTLES_MS: u64 = 15_000;
/// From here on mechanisms are vendors' own.
const VENDOR_DEFINED: u64 = 0x8000_0000;

/// A capability that contradicts another one, or what keystored needs.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Contradiction {
    pub(super) group: &'static str,
    pub(super) key: &'static str,
    pub(super) why: String,
}

impl Context<'_> {
    /// The profile's capabilities with what is said otherwise of this HSM.
    pub(super) fn capabilities(&self, hsm: &Spanned<raw::Hsm>, profile: Profile) -> Result<Capabilities, Error> {
        let said = &hsm.get_ref().capabilities;
        let mut table = table(profile)?;
        for (group, keys) in said {
            let groups = names(table.iter().filter(|(_, value)| value.is_table()));
            let Some(has) = table.get(group.get_ref()).and_then(Value::as_table) else {
                return Err(
                    self.at(group, format!("{:?} is no group of capabilities; these are: {groups}", group.get_ref()))
                );
            };
            let known = names(has.iter());
            for (key, value) in keys {
                let named = format!("capabilities.{}.{}", group.get_ref(), key.get_ref());
                let place = table.get_mut(group.get_ref()).and_then(Value::as_table_mut);
                let Some(place) = place.and_then(|has| has.get_mut(key.get_ref())) else {
                    return Err(self.at(key, format!("there is no {named}; its group has: {known}")));
                };
                *place = value.get_ref().clone();
                // One after the other, so that it is known which of them is wrong.
                if let Err(error) = table.clone().try_into::<Capabilities>() {
                    return Err(self.at(value, format!("{named}: {}", error.message().trim())));
                }
            }
        }
        let decided = table.try_into().map_err(|error: toml::de::Error| self.at(hsm, error.message().to_owned()))?;
        match contradiction(&decided) {
            None => Ok(decided),
            Some(Contradiction { group, key, why }) => {
                Err(self.error(Some(place(hsm, group, key)), format!("capabilities.{group}.{key}: {why}")))
            }
        }
    }
}

/// Where the file says something of a capability; the HSM itself where it does not.
fn place(hsm: &Spanned<raw::Hsm>, group: &str, key: &str) -> std::ops::Range<usize> {
    let mut groups = hsm.get_ref().capabilities.iter();
    let keys = groups.find(|(of, _)| of.get_ref() == group).map(|(_, keys)| keys);
    let value = keys.and_then(|keys| keys.iter().find(|(of, _)| of.get_ref() == key));
    value.map_or_else(|| hsm.span(), |(_, value)| value.span())
}

fn names<'t>(of: impl Iterator<Item = (&'t String, &'t Value)>) -> String {
    of.map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ")
}

/// The first thing that cannot be.
pub(super) fn contradiction(known: &Capabilities) -> Option<Contradiction> {
    let Capabilities { basis: _, run, gcm, wrap, attributes, objects, login, calls, codes, topology, keys } = known;
    let found = |group, key, why: String| Some(Contradiction { group, key, why });
    let iv_bytes = IV_BYTES as u64;
    if gcm.mechanism != CKM_AES_GCM && gcm.mechanism < VENDOR_DEFINED {
        let why = format!("{:#x} is neither CKM_AES_GCM nor a vendor's own number", gcm.mechanism);
        return found("gcm", "mechanism", why);
    }
    if gcm.iv_bytes != iv_bytes {
        let why = format!(
            "an IV has {iv_bytes} bytes here, since ciphertexts have no room for one of {}; where the HSM can make one of \
             {iv_bytes} have it do so (Luna from firmware 7.9.3 on, by iv_bits = {}), else it cannot be used",
            gcm.iv_bytes,
            8 * iv_bytes
        );
        return found("gcm", "iv_bytes", why);
    }
    if ![0, 8 * iv_bytes].contains(&gcm.iv_bits) {
        return found("gcm", "iv_bits", format!("is 0 or {}, the bits of an IV", 8 * iv_bytes));
    }
    let needs = |bytes: usize, what: &str| format!("is less than the {bytes} bytes of {what} that callers may send");
    if gcm.plaintext_max < limits::PLAINTEXT_BYTES as u64 {
        return found("gcm", "plaintext_max", needs(limits::PLAINTEXT_BYTES, "plaintext"));
    }
    let aad = limits::CONTEXT_BYTES + BOUND_BYTES;
    if gcm.aad_max < aad as u64 {
        return found("gcm", "aad_max", needs(aad, "encryption context and header"));
    }
    for (key, count, most) in [("workers", run.workers, 64), ("sessions", run.sessions, 256)] {
        if !(1..=most).contains(&count) {
            return found("run", key, format!("{count} is outside 1 to {most}"));
        }
    }
    if !(32..=65_536).contains(&calls.random_bytes) {
        return found("calls", "random_bytes", format!("{} is outside 32 to 65536", calls.random_bytes));
    }
    if calls.retry_ms > 60_000 {
        return found("calls", "retry_ms", format!("{} is outside 0 to 60000", calls.retry_ms));
    }
    if topology.settles_ms > SETTLES_MS {
        return found("topology", "settles_ms", format!("{} is outside 0 to {SETTLES_MS}", topology.settles_ms));
    }
    if topology.settles_ms != 0 && !topology.replicates() {
        let why = "is of an HSM alone that replicates its keys by itself (topology.kind = \"self-replicating\")";
        return found("topology", "settles_ms", why.to_owned());
    }
    if keys.in_place() && !topology.replicates() {
        let why = "what is made in place is in one HSM alone where the HSM does not replicate it by itself \
                   (topology.kind = \"self-replicating\"), and a key has to be in two zones";
        return found("keys", "made", why.to_owned());
    }
    if wrap.key_wrap != CKM_AES_KEY_WRAP && wrap.key_wrap < VENDOR_DEFINED {
        let why = format!("{:#x} is neither CKM_AES_KEY_WRAP nor a vendor's own number", wrap.key_wrap);
        return found("wrap", "key_wrap", why);
    }
    if login.pin_form == PinForm::UserAndPin && (login.user.is_empty() || login.user.contains(':')) {
        return found("login", "user", "is to be a name without ':', as login.pin_form has it".to_owned());
    }
    if login.pin_min > login.pin_max || login.pin_min > 32 {
        return found("login", "pin_min", "is more than login.pin_max, or than the 32 characters of a PIN".to_owned());
    }
    if login.pin_max < 8 {
        return found("login", "pin_max", "is less than the 8 characters of the shortest PIN".to_owned());
    }
    if objects.versions_max() == Some(0) {
        return found("objects", "keys_max", format!("{} has no room for keystored's own keys", objects.keys_max));
    }
    if login.pin_max < login.pin_alphabet.shortest() {
        let why =
            format!("PINs of digits alone are guessed where they are shorter than {}", login.pin_alphabet.shortest());
        return found("login", "pin_max", why);
    }
    if login.first_login == FirstLogin::Change && login.changed_by == ChangedBy::Nobody {
        let why = "a PIN that has to be changed first is changed by the user, and login.changed_by says nobody can"
            .to_owned();
        return found("login", "first_login", why);
    }
    for (key, most) in [("id_max", attributes.id_max), ("label_max", attributes.label_max)] {
        if most < NAME_BYTES {
            return found("attributes", key, format!("is less than the {NAME_BYTES} bytes of what the ceremony makes"));
        }
    }
    if let Some((function, code)) = codes.hidden_busy() {
        let why = format!(
            "{code:#x} means \"busy\" of some function, and of {function} \"ambiguous\" alone, so that a key could be taken \
             for broken where there is only too much to do; there it is \"ambiguous-or-busy\""
        );
        return found("codes", "meaning", why);
    }
    if let Some((function, code)) = codes.hidden_wrong_pin() {
        let why = format!(
            "{code:#x} is CKR_PIN_INCORRECT, and of {function} it means \"login\" or \"locked\": else wrong PINs would be \
             tried until the token locks its user; name the functions that are meant in the place of \"*\""
        );
        return found("codes", "meaning", why);
    }
    let entries = codes.meaning.iter().map(|meaning| ("codes", "meaning", &meaning.functions));
    let left_out = attributes.left_out.iter().map(|left| ("attributes", "left_out", &left.functions));
    for (group, key, functions) in entries.chain(left_out) {
        if functions.is_empty() {
            return found(group, key, "an entry names no function; write some, or \"*\"".to_owned());
        }
        if let Some(name) = functions.iter().find(|name| *name != "*" && !is_function(name)) {
            let why = format!("{name:?} is no function of PKCS#11; write C_Encrypt or another one, or \"*\"");
            return found(group, key, why);
        }
    }
    None
}

//! The PKCS#11 module: loaded once, initialised and finalised as often as it takes.

use std::collections::BTreeSet;
use std::path::Path;

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::mechanism::vendor_defined::VendorDefinedMechanism;
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::session::Session;
use cryptoki::slot::{Slot, TokenInfo};

use super::fault::Failure;
use model::profile::{Abilities, CKM_AES_KEY_WRAP, Capabilities, Codes, Flags, Login, Need, Offer, Use};
use protocol::{Class, Role, Token, UserFlags};

/// A loaded module.
pub(super) struct Module {
    pkcs11: Pkcs11,
    extra: pkcs11_extra::Module,
    capabilities: Capabilities,
    /// Asked for each item.
    gcm_is_plain: bool,
    role: Role,
}

/// A token that was found.
pub(super) struct Found {
    /// Where it is, until the module is initialised again.
    pub(super) slot: Slot,
    /// Its flags and names.
    pub(super) info: TokenInfo,
}

impl Module {
    /// Loads the module; nothing is initialised yet.
    pub(super) fn load(path: &Path, capabilities: &Capabilities, role: Role) -> Result<Self, Failure> {
        let missing = |reason: String| {
            let path = path.display();
            Failure::own(Class::Token, "load", format!("cannot load the PKCS#11 module {path}: {reason}"))
        };
        let pkcs11 = Pkcs11::new(path).map_err(|error| missing(error.to_string()))?;
        let extra = pkcs11_extra::Module::load(path).map_err(|error| missing(error.to_string()))?;
        let (capabilities, gcm_is_plain) = (capabilities.clone(), capabilities.gcm.is_plain());
        Ok(Self { pkcs11, extra, capabilities, gcm_is_plain, role })
    }

    /// C_Initialize, with the operating system's locks.
    pub(super) fn initialise(&self) -> Result<(), Failure> {
        Ok(self.pkcs11.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK))?)
    }

    /// C_Finalize. No call may be under way.
    pub(super) fn finalise(&self) -> Result<(), Failure> {
        Ok(self.pkcs11.clone().finalize()?)
    }

    /// What cryptoki offers.
    pub(super) fn pkcs11(&self) -> &Pkcs11 {
        &self.pkcs11
    }

    /// What it does not.
    pub(super) fn extra(&self) -> &pkcs11_extra::Module {
        &self.extra
    }

    /// What the HSM can do and how.
    pub(super) fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// What its codes mean.
    pub(super) fn codes(&self) -> &Codes {
        &self.capabilities.codes
    }

    /// AES key wrap without padding, by the number that it has here.
    pub(super) fn key_wrap(&self) -> Result<Mechanism<'static>, Failure> {
        key_wrap_by(self.capabilities.wrap.key_wrap)
    }

    /// AES-GCM is done the standard's way.
    pub(super) fn gcm_is_plain(&self) -> bool {
        self.gcm_is_plain
    }

    /// Manufacturer, description and version, for humans.
    pub(super) fn description(&self) -> Result<String, Failure> {
        let info = self.extra.library_info()?;
        let (maker, what) = (info.manufacturer_id().trim_end(), info.library_description().trim_end());
        Ok(format!("{maker} {what} {}", info.library_version()))
    }

    /// All tokens, blank ones too.
    pub(super) fn all_tokens(&self) -> Result<Vec<Found>, Failure> {
        let slots = self.pkcs11.get_slots_with_token()?;
        slots.into_iter().map(|slot| Ok(Found { slot, info: self.extra.token_info(slot)? })).collect()
    }

    /// Those that can be asked, and why one of the others cannot: behind one module there may be several HSMs, of which one is
    /// down.
    pub(super) fn tokens_that_answer(&self) -> Result<(Vec<Found>, Option<Failure>), Failure> {
        let (mut answering, mut silent) = (Vec::new(), None);
        for slot in self.pkcs11.get_slots_with_token()? {
            match self.extra.token_info(slot) {
                Ok(info) => answering.push(Found { slot, info }),
                Err(error) => silent = silent.or(Some(Failure::from(error))),
            }
        }
        Ok((answering, silent))
    }

    /// Finds the token by label and serial; never by slot number, which changes from one start to the next.
    pub(super) fn find(&self, token: &Token) -> Result<Found, Failure> {
        let (mut all, silent) = self.tokens_that_answer()?;
        // A ceremony writes to what it finds, before anything shows whether that is the one that is meant.
        if self.role == Role::Ceremony
            && token.serials.is_empty()
            && let Some(silent) = silent
        {
            return Err(silent);
        }
        all.retain(|found| found.info.token_initialized());
        let listed: Vec<String> = all.iter().map(|found| describe(&found.info)).collect();
        let meant = |found: &Found| {
            found.info.label().trim_end() == token.label.trim_end()
                && (token.serials.is_empty()
                    || token.serials.iter().any(|serial| found.info.serial_number().trim() == serial.trim()))
        };
        let mut fitting: Vec<Found> = all.into_iter().filter(meant).collect();
        let named = match &token.serials[..] {
            [] => format!("label '{}'", token.label),
            serials => format!("label '{}' and serial {}", token.label, serials.join(" or ")),
        };
        match (fitting.pop(), fitting.len()) {
            (Some(found), 0) => Ok(found),
            (Some(_), _) => {
                let detail = format!(
                    "{} tokens have {named}: {}; name the serial number of the right one in the configuration",
                    fitting.len() + 1,
                    listed.join(", ")
                );
                Err(Failure::own(Class::Refused, "find token", detail))
            }
            (None, _) => {
                let there = if listed.is_empty() { "none".to_owned() } else { listed.join(", ") };
                let detail = format!("no token has {named}; the module shows: {there}");
                Err(match silent {
                    None => Failure::own(Class::Token, "find token", detail),
                    Some(silent) => {
                        silent.during(&format!("{detail}; and one that cannot be asked"), self.codes()).into()
                    }
                })
            }
        }
    }

    /// Opens a session. Read-only where that is known to suffice.
    pub(super) fn open(&self, slot: Slot) -> Result<Session, Failure> {
        let read_only = self.role == Role::Data && self.capabilities.calls.read_only_sessions;
        let opened = if read_only { self.pkcs11.open_ro_session(slot) } else { self.pkcs11.open_rw_session(slot) };
        Ok(opened?)
    }

    /// The mechanisms of a token.
    pub(super) fn mechanisms(&self, slot: Slot) -> Result<Vec<MechanismType>, Failure> {
        Ok(self.pkcs11.get_mechanism_list(slot)?)
    }

    /// What the token can do of what is needed, by its list of mechanisms. One that the list leaves out is asked for all
    /// the same: a module that answers has it.
    pub(super) fn abilities(&self, found: &Found) -> Result<Abilities, Failure> {
        let capabilities = &self.capabilities;
        let listed = self.pkcs11.get_mechanism_list(found.slot)?;
        let numbers = Need::ALL.into_iter().filter_map(|need| need.mechanism(capabilities)).map(|(number, _)| number);
        let offers: Vec<Offer> = numbers.filter_map(|number| self.offer(found.slot, &listed, number)).collect();
        let library = self.extra.library_info()?;
        let names = (library.manufacturer_id(), library.library_description());
        Ok(Abilities::of(&offers, found.info.rng(), names, capabilities))
    }

    /// A mechanism with what its flags say that it is for: nothing, where it is listed and its flags cannot be had. Units
    /// of key sizes differ between vendors (bytes or bits), so they are not looked at.
    fn offer(&self, slot: Slot, listed: &[MechanismType], number: u64) -> Option<Offer> {
        let mechanism = MechanismType::try_from(number).ok()?;
        let Ok(info) = self.pkcs11.get_mechanism_info(slot, mechanism) else {
            return listed.contains(&mechanism).then(|| Offer { mechanism: number, uses: BTreeSet::new() });
        };
        let uses = [
            (info.encrypt(), Use::Encrypt),
            (info.decrypt(), Use::Decrypt),
            (info.sign(), Use::Sign),
            (info.generate(), Use::Generate),
            (info.generate_key_pair(), Use::GenerateKeyPair),
            (info.wrap(), Use::Wrap),
            (info.unwrap(), Use::Unwrap),
        ];
        let uses = uses.into_iter().filter_map(|(is, wanted)| is.then_some(wanted)).collect();
        Some(Offer { mechanism: number, uses })
    }
}

/// The same by this number.
pub(super) fn key_wrap_by(number: u64) -> Result<Mechanism<'static>, Failure> {
    match number {
        CKM_AES_KEY_WRAP => Ok(Mechanism::AesKeyWrap),
        number => {
            let own = MechanismType::new_vendor_defined(number)?;
            Ok(Mechanism::VendorDefined(VendorDefinedMechanism::new::<()>(own, None)))
        }
    }
}

/// A token's flags about its user, as far as they tell anything.
pub(super) fn user_flags(info: &TokenInfo, login: &Login) -> UserFlags {
    let longest_pin = u32::try_from(info.max_pin_length()).unwrap_or(u32::MAX);
    match login.flags {
        Flags::Truth => UserFlags {
            initialised: info.user_pin_initialized(),
            count_low: info.user_pin_count_low(),
            final_try: info.user_pin_final_try(),
            locked: info.user_pin_locked(),
            longest_pin,
        },
        // A login tells.
        Flags::AlwaysSet => UserFlags { initialised: true, longest_pin, ..UserFlags::default() },
    }
}

/// A token's names, for people.
pub(super) fn describe(info: &TokenInfo) -> String {
    format!("'{}' (serial {})", info.label().trim_end(), info.serial_number().trim())
}

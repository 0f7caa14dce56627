//! The PKCS#11 module: loaded once, initialised and finalised as often as it takes.

use std::path::Path;

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::mechanism::vendor_defined::VendorDefinedMechanism;
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::session::Session;
use cryptoki::slot::{Slot, TokenInfo};

use super::fault::Failure;
use model::profile::{CKM_AES_KEY_WRAP, Capabilities, Codes, Flags, Login};
use protocol::{Abilities, Class, Role, Token, UserFlags};

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
        match self.capabilities.wrap.key_wrap {
            CKM_AES_KEY_WRAP => Ok(Mechanism::AesKeyWrap),
            number => {
                let own = MechanismType::new_vendor_defined(number)?;
                Ok(Mechanism::VendorDefined(VendorDefinedMechanism::new::<()>(own, None)))
            }
        }
    }

    /// AES-GCM is done the standard's way.
    pub(super) fn gcm_is_plain(&self) -> bool {
        self.gcm_is_plain
    }

    /// Manufacturer, description and version, for humans.
    pub(super) fn description(&self) -> Result<String, Failure> {
        let info = self.pkcs11.get_library_info()?;
        let (maker, what) = (info.manufacturer_id().trim_end(), info.library_description().trim_end());
        Ok(format!("{maker} {what} {}", info.library_version()))
    }

    /// All tokens, blank ones too.
    pub(super) fn all_tokens(&self) -> Result<Vec<Found>, Failure> {
        let slots = self.pkcs11.get_slots_with_token()?;
        slots.into_iter().map(|slot| Ok(Found { slot, info: self.pkcs11.get_token_info(slot)? })).collect()
    }

    /// All tokens that say of themselves that they are initialised.
    pub(super) fn tokens(&self) -> Result<Vec<Found>, Failure> {
        Ok(self.all_tokens()?.into_iter().filter(|found| found.info.token_initialized()).collect())
    }

    /// Finds the token by label and serial; never by slot number, which changes from one start to the next.
    pub(super) fn find(&self, token: &Token) -> Result<Found, Failure> {
        let all = self.tokens()?;
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
                Err(Failure::own(Class::Token, "find token", detail))
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

    /// What the token can do.
    pub(super) fn abilities(&self, found: &Found) -> Result<Abilities, Failure> {
        let listed = self.pkcs11.get_mechanism_list(found.slot)?;
        let info = |mechanism: MechanismType| {
            listed.contains(&mechanism).then(|| self.pkcs11.get_mechanism_info(found.slot, mechanism).ok()).flatten()
        };
        let wraps = |mechanism| info(mechanism).is_some_and(|can| can.wrap() && can.unwrap());
        Ok(Abilities {
            // Units of key sizes differ between vendors (bytes or bits), so they are not looked at.
            aes_gcm: MechanismType::try_from(self.capabilities.gcm.mechanism)
                .is_ok_and(|gcm| info(gcm).is_some_and(|can| can.encrypt() && can.decrypt())),
            aes_key_gen: info(MechanismType::AES_KEY_GEN).is_some_and(|can| can.generate()),
            aes_key_wrap: MechanismType::try_from(self.capabilities.wrap.key_wrap).is_ok_and(wraps),
            aes_key_wrap_pad: wraps(MechanismType::AES_KEY_WRAP_PAD),
            rsa_oaep: wraps(MechanismType::RSA_PKCS_OAEP),
            random: found.info.rng(),
        })
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

//! What the module and its token say of themselves, for a vendor's support desk. Nothing of it is secret.

use cryptoki::mechanism::{MechanismInfo, MechanismType};
use cryptoki::slot::{Limit, SlotInfo, TokenInfo};

use crate::fault::Failure;
use crate::owner::Owner;
use protocol::{Described, Library, MechanismSeen, Reply, SlotSeen, TokenDescribed};

/// Mechanisms that keystored uses, or could be told to use.
const MECHANISMS: [(u64, &str); 17] = [
    (0x1087, "CKM_AES_GCM"),
    (0x1080, "CKM_AES_KEY_GEN"),
    (0x2109, "CKM_AES_KEY_WRAP"),
    (0x210a, "CKM_AES_KEY_WRAP_PAD"),
    (0x210b, "CKM_AES_KEY_WRAP_KWP"),
    (0x0000, "CKM_RSA_PKCS_KEY_PAIR_GEN"),
    (0x0009, "CKM_RSA_PKCS_OAEP"),
    (0x1040, "CKM_EC_KEY_PAIR_GEN"),
    (0x1041, "CKM_ECDSA"),
    (0x1055, "CKM_EC_EDWARDS_KEY_PAIR_GEN"),
    (0x1057, "CKM_EDDSA"),
    (0x1081, "CKM_AES_ECB"),
    (0x1082, "CKM_AES_CBC"),
    (0x8000_1087, "CKM_CLOUDHSM_AES_GCM"),
    (0x8000_2109, "CKM_CLOUDHSM_AES_KEY_WRAP_NO_PAD"),
    (0x8000_0170, "CKM_AES_KW (Luna)"),
    (0x8000_0171, "CKM_AES_KWP (Luna)"),
];

pub(super) fn run(owner: &mut Owner) -> Result<Reply, Failure> {
    let (module, slot) = (&owner.token.module, owner.token.slot);
    let pkcs11 = module.pkcs11();
    let (info, token) = (module.extra().library_info()?, module.extra().token_info(slot)?);
    let listed = module.mechanisms(slot)?;
    let mut mechanisms: Vec<MechanismSeen> = MECHANISMS
        .iter()
        .map(|(number, name)| mechanism(owner, &listed, *number, name))
        // Of those of other vendors nothing is to be said.
        .filter(|seen| seen.listed || seen.number < 0x8000_0000)
        .collect();
    let of = module.capabilities();
    for (number, name) in
        [(of.gcm.mechanism, "capabilities.gcm.mechanism"), (of.wrap.key_wrap, "capabilities.wrap.key_wrap")]
    {
        if mechanisms.iter().all(|seen| seen.number != number) {
            mechanisms.push(mechanism(owner, &listed, number, name));
        }
    }
    Ok(Reply::Described(Box::new(Described {
        library: Library {
            cryptoki_version: info.cryptoki_version().to_string(),
            manufacturer: text(info.manufacturer_id()),
            description: text(info.library_description()),
            version: info.library_version().to_string(),
        },
        slot: slot_seen(&pkcs11.get_slot_info(slot)?),
        token: token_described(&token),
        mechanisms,
        mechanisms_listed: u32::try_from(listed.len()).unwrap_or(u32::MAX),
    })))
}

fn mechanism(owner: &Owner, listed: &[MechanismType], number: u64, name: &str) -> MechanismSeen {
    let seen = MechanismSeen { number, name: name.to_owned(), ..MechanismSeen::default() };
    let known = MechanismType::try_from(number).ok().filter(|known| listed.contains(known));
    let Some(known) = known else { return seen };
    match owner.token.module.pkcs11().get_mechanism_info(owner.token.slot, known) {
        Ok(info) => MechanismSeen {
            listed: true,
            least: info.min_key_size() as u64,
            most: info.max_key_size() as u64,
            flags: flags(&mechanism_flags(&info)),
            ..seen
        },
        Err(_) => MechanismSeen { listed: true, ..seen },
    }
}

fn text(padded: &str) -> String {
    padded.trim_end().to_owned()
}

/// The names of those that are set.
fn flags(all: &[(bool, &str)]) -> Vec<String> {
    all.iter().filter(|(set, _)| *set).map(|(_, name)| (*name).to_owned()).collect()
}

fn mechanism_flags(info: &MechanismInfo) -> [(bool, &'static str); 10] {
    [
        (info.hardware(), "CKF_HW"),
        (info.encrypt(), "CKF_ENCRYPT"),
        (info.decrypt(), "CKF_DECRYPT"),
        (info.sign(), "CKF_SIGN"),
        (info.verify(), "CKF_VERIFY"),
        (info.generate(), "CKF_GENERATE"),
        (info.generate_key_pair(), "CKF_GENERATE_KEY_PAIR"),
        (info.wrap(), "CKF_WRAP"),
        (info.unwrap(), "CKF_UNWRAP"),
        (info.derive(), "CKF_DERIVE"),
    ]
}

fn slot_seen(slot: &SlotInfo) -> SlotSeen {
    let set = [
        (slot.token_present(), "CKF_TOKEN_PRESENT"),
        (slot.removable_device(), "CKF_REMOVABLE_DEVICE"),
        (slot.hardware_slot(), "CKF_HW_SLOT"),
    ];
    SlotSeen {
        description: text(slot.slot_description()),
        manufacturer: text(slot.manufacturer_id()),
        flags: flags(&set),
        hardware_version: slot.hardware_version().to_string(),
        firmware_version: slot.firmware_version().to_string(),
    }
}

fn token_described(token: &TokenInfo) -> TokenDescribed {
    let set = [
        (token.rng(), "CKF_RNG"),
        (token.write_protected(), "CKF_WRITE_PROTECTED"),
        (token.login_required(), "CKF_LOGIN_REQUIRED"),
        (token.user_pin_initialized(), "CKF_USER_PIN_INITIALIZED"),
        (token.restore_key_not_needed(), "CKF_RESTORE_KEY_NOT_NEEDED"),
        (token.clock_on_token(), "CKF_CLOCK_ON_TOKEN"),
        (token.protected_authentication_path(), "CKF_PROTECTED_AUTHENTICATION_PATH"),
        (token.dual_crypto_operations(), "CKF_DUAL_CRYPTO_OPERATIONS"),
        (token.token_initialized(), "CKF_TOKEN_INITIALIZED"),
        (token.user_pin_count_low(), "CKF_USER_PIN_COUNT_LOW"),
        (token.user_pin_final_try(), "CKF_USER_PIN_FINAL_TRY"),
        (token.user_pin_locked(), "CKF_USER_PIN_LOCKED"),
        (token.user_pin_to_be_changed(), "CKF_USER_PIN_TO_BE_CHANGED"),
        (token.so_pin_count_low(), "CKF_SO_PIN_COUNT_LOW"),
        (token.so_pin_final_try(), "CKF_SO_PIN_FINAL_TRY"),
        (token.so_pin_locked(), "CKF_SO_PIN_LOCKED"),
        (token.so_pin_to_be_changed(), "CKF_SO_PIN_TO_BE_CHANGED"),
        (token.error_state(), "CKF_ERROR_STATE"),
    ];
    TokenDescribed {
        label: text(token.label()),
        manufacturer: text(token.manufacturer_id()),
        model: text(token.model()),
        serial: text(token.serial_number()),
        flags: flags(&set),
        hardware_version: token.hardware_version().to_string(),
        firmware_version: token.firmware_version().to_string(),
        sessions: token.session_count(),
        most_sessions: match token.max_session_count() {
            Limit::Max(most) => most.to_string(),
            Limit::Unavailable => "not told".to_owned(),
            Limit::Infinite => "no limit".to_owned(),
        },
        shortest_pin: token.min_pin_length() as u64,
        longest_pin: token.max_pin_length() as u64,
    }
}

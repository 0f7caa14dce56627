//! What a personality is made of, as a person writes it.

use std::collections::BTreeMap;
use std::iter;

use cryptoki_sys::*;
use serde::Deserialize;

use super::names::{Attribute, Class, Code, Function, Mechanism, Value};

/// Habits of an HSM. Whatever is not said is as the module below has it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Personality {
    /// How AES-GCM gets its IV.
    pub(crate) gcm: Option<Gcm>,
    /// Which mechanisms there are.
    pub(crate) mechanisms: Mechanisms,
    /// Wrapping and unwrapping.
    pub(crate) wrap: Wrap,
    /// What happens to templates. The names say what for, and let a setting take the place of a preset's.
    pub(crate) attributes: BTreeMap<String, AttributeRule>,
    /// Which objects there can be.
    pub(crate) objects: Objects,
    /// Users and their PINs.
    pub(crate) login: Login,
    /// What calls there are, and how many.
    pub(crate) calls: Calls,
    /// A function's return value that is shown as another one.
    pub(crate) codes: BTreeMap<Function, BTreeMap<Code, Code>>,
    /// How the token describes itself.
    pub(crate) token: Token,
    /// How the module describes itself.
    pub(crate) library: Library,
    /// Several back ends behind the slot.
    pub(crate) topology: Option<Topology>,
}

/// AES-GCM.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Gcm {
    /// Its number; the standard's where absent. Of another one the standard's is hidden, if `also` does not name it.
    pub(crate) mechanism: Option<Mechanism>,
    /// Whose IV, and where it goes.
    pub(crate) iv: Iv,
    /// Bytes of it. Where the caller chooses it: any where absent; else 12, and 16 for `null-appended`.
    pub(crate) iv_length: Option<usize>,
    /// What ulIvBits may be when encrypting; anything where absent.
    pub(crate) iv_bits: Option<Vec<CK_ULONG>>,
    /// The same when decrypting.
    pub(crate) decrypt_iv_bits: Option<Vec<CK_ULONG>>,
    /// What C_EncryptInit says of an IV that it does not take: CKR_MECHANISM_PARAM_INVALID where absent.
    pub(crate) iv_code: Option<Code>,
    /// When an IV is written back.
    pub(crate) written: Written,
    /// Most bytes of plaintext.
    pub(crate) max_plaintext: Option<usize>,
    /// Most bytes of additional data.
    pub(crate) max_aad: Option<usize>,
    /// What the calls for parts say; they work where absent and the IV is not put into the ciphertext.
    pub(crate) multi_part: Option<Code>,
    /// Further mechanisms that are AES-GCM too.
    pub(crate) also: Vec<Self>,
}

/// Where the IV comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Iv {
    /// The caller's.
    #[default]
    Caller,
    /// The token makes it, and writes it into the caller's buffer, which must be all zeroes.
    ZeroedWriteback,
    /// The token makes it, and puts it behind the tag.
    NullAppended,
    /// The token makes it, and puts it before the ciphertext, where it is looked for when decrypting.
    NullPrepended,
    /// The token makes it and nothing says so.
    Ignored,
}

/// When an IV is written back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Written {
    /// By C_EncryptInit.
    #[default]
    AtInit,
    /// By C_Encrypt: the caller must keep the buffer.
    AtEncrypt,
}

/// Which mechanisms there are.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Mechanisms {
    /// Neither listed nor usable.
    pub(crate) hidden: Vec<Mechanism>,
    /// Usable, and not listed.
    pub(crate) unlisted: Vec<Mechanism>,
    /// Listed, and its flags say that it is for nothing.
    pub(crate) without_flags: Vec<Mechanism>,
    /// A vendor's number, and the one of the standard that it stands for.
    pub(crate) map: BTreeMap<Mechanism, Mechanism>,
}

/// Wrapping and unwrapping.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Wrap {
    /// CKA_VALUE_LEN in the template of C_UnwrapKey.
    pub(crate) value_len: ValueLen,
    /// CKA_UNWRAP_TEMPLATE.
    pub(crate) template: UnwrapTemplate,
    /// Hashes that OAEP takes; any where absent.
    pub(crate) oaep_hash: Option<Vec<Mechanism>>,
}

/// CKA_VALUE_LEN in the template of C_UnwrapKey.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ValueLen {
    /// As the module below has it (SoftHSM: refused).
    #[default]
    AsBelow,
    /// CKR_TEMPLATE_INCOMPLETE without.
    Demanded,
    /// With or without.
    Optional,
    /// CKR_ATTRIBUTE_TYPE_INVALID with it.
    Refused,
}

/// CKA_UNWRAP_TEMPLATE of a wrapping key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum UnwrapTemplate {
    /// However the key is made.
    #[default]
    AtUnwrap,
    /// Not at C_UnwrapKey.
    AtGenerate,
    /// Never: CKR_ATTRIBUTE_TYPE_INVALID.
    None,
    /// Taken and forgotten: nothing is enforced.
    Dropped,
}

/// What happens to templates of some functions and classes.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct AttributeRule {
    /// Absent: all that make or change objects. C_FindObjectsInit only where it is named.
    pub(crate) function: Option<Vec<Function>>,
    /// Absent: all.
    pub(crate) class: Option<Vec<Class>>,
    /// Are an error.
    pub(crate) refuse: Vec<Attribute>,
    /// Others are an error.
    pub(crate) only: Option<Vec<Attribute>>,
    /// Their absence is an error.
    pub(crate) demand: Vec<Attribute>,
    /// Are an error with this value.
    pub(crate) refuse_values: BTreeMap<Attribute, Value>,
    /// Are an error when they are longer.
    pub(crate) max_length: BTreeMap<Attribute, usize>,
    /// Are taken and forgotten.
    pub(crate) ignore: Vec<Attribute>,
    /// Have this value whatever the template says.
    pub(crate) force: BTreeMap<Attribute, Value>,
    /// Have this value where the template says nothing.
    pub(crate) default: BTreeMap<Attribute, Value>,
    /// The error's, instead of the usual ones.
    pub(crate) code: Option<Code>,
    /// Takes the rule of a preset out.
    pub(crate) off: bool,
}

/// Which objects there can be.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Objects {
    /// Token objects with one CKA_ID.
    pub(crate) shared_id: SharedId,
    /// What is said of another: CKR_ATTRIBUTE_VALUE_INVALID where absent.
    pub(crate) shared_id_code: Option<Code>,
    /// Most objects in the token.
    pub(crate) most: Option<usize>,
    /// What is said of one more: CKR_DEVICE_MEMORY where absent.
    pub(crate) most_code: Option<Code>,
    /// Classes that C_CreateObject makes; any where absent.
    pub(crate) classes: Option<Vec<Class>>,
}

/// Whether token objects share a CKA_ID.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum SharedId {
    /// As many as like.
    #[default]
    Any,
    /// One of each class.
    Pair,
    /// No two.
    None,
}

/// Users and their PINs.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Login {
    /// What a PIN of the user looks like.
    pub(crate) pin_form: PinForm,
    /// The user's name; any where absent.
    pub(crate) user: Option<String>,
    /// What is said of a PIN of another form: CKR_ARGUMENTS_BAD where absent.
    pub(crate) wrong_form: Option<Code>,
    /// What is said of a wrong PIN: CKR_PIN_INCORRECT where absent.
    pub(crate) wrong_pin: Option<Code>,
    /// Wrong PINs in a row that lock the user; the module below decides where absent.
    pub(crate) tries: Option<u64>,
    /// What is said of a locked user: CKR_PIN_LOCKED where absent.
    pub(crate) locked: Option<Code>,
    /// What the token's flags say of all that.
    pub(crate) flags: Flags,
    /// A PIN that C_InitPIN set is good for C_SetPIN only.
    pub(crate) must_change: bool,
    /// Least and most bytes of a new PIN (without the user's name).
    pub(crate) pin_length: Option<[usize; 2]>,
}

/// What a PIN looks like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) enum PinForm {
    /// It is the PIN.
    #[default]
    #[serde(rename = "{pin}", alias = "pin")]
    Pin,
    /// The user's name stands before it.
    #[serde(rename = "{user}:{pin}", alias = "user:pin")]
    UserPin,
}

/// What the token's flags say of the user's PIN.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Flags {
    /// What the module below says.
    #[default]
    AsBelow,
    /// COUNT_LOW, FINAL_TRY, LOCKED and TO_BE_CHANGED as it is.
    Truth,
    /// Always initialised, and none of these.
    Silent,
}

/// What calls there are, and how many.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Calls {
    /// Functions that always say this (CKR_OK takes out what a preset says).
    pub(crate) refused: BTreeMap<Function, Code>,
    /// What C_OpenSession says without CKF_RW_SESSION.
    pub(crate) read_only_sessions: Option<Code>,
    /// Least and most bytes of C_GenerateRandom.
    pub(crate) random: Option<[CK_ULONG; 2]>,
    /// What it says of others: CKR_ARGUMENTS_BAD where absent.
    pub(crate) random_code: Option<Code>,
    /// Most sessions of a process.
    pub(crate) sessions: Option<usize>,
    /// What is said of one more: CKR_SESSION_COUNT where absent.
    pub(crate) sessions_code: Option<Code>,
    /// Calls by the clock.
    pub(crate) rate: Option<Rate>,
}

/// Calls by the clock, over all processes.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rate {
    /// So many.
    pub(crate) per_second: f64,
    /// So many at once after a pause.
    #[serde(default = "one")]
    pub(crate) burst: u32,
    /// These functions together; where absent, all but those that begin and end modules and sessions.
    pub(crate) function: Option<Vec<Function>>,
    /// What is said of one more: CKR_FUNCTION_FAILED where absent.
    pub(crate) code: Option<Code>,
    /// The same by function.
    #[serde(default)]
    pub(crate) codes: BTreeMap<Function, Code>,
}

fn one() -> u32 {
    1
}

/// How the token describes itself.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Token {
    /// Of every slot: the same in two HSMs where two say so.
    pub(crate) serial: Option<String>,
    /// Of every slot that has a token.
    pub(crate) label: Option<String>,
    /// Who made it.
    pub(crate) manufacturer: Option<String>,
    /// What it is.
    pub(crate) model: Option<String>,
}

/// How the module describes itself.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Library {
    /// Who made it.
    pub(crate) manufacturer: Option<String>,
    /// What it is.
    pub(crate) description: Option<String>,
}

/// Several back ends behind the slot, each with all token objects, sooner or later.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Topology {
    /// How many.
    pub(crate) back_ends: usize,
    /// Which of them a new session gets.
    pub(crate) spread: Spread,
    /// A token object made on one is on the others after so long.
    pub(crate) visible_ms: u64,
    /// A key that is on fewer than two of them cannot be used.
    pub(crate) availability_check: bool,
    /// What is said of one: CKR_FUNCTION_FAILED where absent.
    pub(crate) availability_code: Option<Code>,
    /// Which are down.
    pub(crate) down: Vec<usize>,
    /// Others that are down by the number of calls.
    pub(crate) outages: Option<Outages>,
    /// A call that meets a back end that is down takes so long, counted from when that was first noticed.
    pub(crate) failover_ms: u64,
    /// What it says then; where absent it does what it was asked for.
    pub(crate) failover_code: Option<Code>,
    /// What becomes of session objects.
    pub(crate) session_objects: SessionObjects,
    /// What is said while all are down: CKR_DEVICE_ERROR where absent.
    pub(crate) all_down: Option<Code>,
}

/// Which back end a new session gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Spread {
    /// The first that is up.
    #[default]
    None,
    /// One after the other, over all processes.
    Sessions,
}

/// What becomes of session objects of a back end that goes down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum SessionObjects {
    /// They are gone.
    #[default]
    Lost,
    /// The module has them elsewhere.
    Kept,
}

/// Back ends that are down by the number of calls, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Outages {
    /// From each so-manieth call of all functions and processes on,
    pub(crate) every: u64,
    /// for so many calls.
    pub(crate) lasts: u64,
}

impl Gcm {
    /// Its number.
    pub(crate) fn number(&self) -> CK_MECHANISM_TYPE {
        self.mechanism.map_or(CKM_AES_GCM, |mechanism| mechanism.0)
    }

    /// Bytes of an IV that the token makes.
    pub(crate) fn made(&self) -> usize {
        self.iv_length.unwrap_or(if self.iv == Iv::NullAppended { 16 } else { 12 })
    }
}

impl Personality {
    /// Every mechanism that is AES-GCM here and has its own way.
    pub(crate) fn gcms(&self) -> impl Iterator<Item = &Gcm> {
        self.gcm.iter().flat_map(|gcm| iter::once(gcm).chain(&gcm.also))
    }

    /// The one with this number.
    pub(crate) fn gcm(&self, number: CK_MECHANISM_TYPE) -> Option<&Gcm> {
        self.gcms().find(|gcm| gcm.number() == number)
    }
}

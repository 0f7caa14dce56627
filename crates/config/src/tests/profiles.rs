//! The data file of profiles, and what is said otherwise of one HSM.

use std::collections::BTreeSet;

use super::topology::alone;
use super::{GOOD, judge, refused};
use crate::profiles::{DATA, contradiction};
use crate::{capabilities, overrides};
use model::profile::{Basis, Capabilities, IvBy, Means, Profile};

/// `hsm-b` of the good file, with this said of it.
fn said(of: &str) -> String {
    GOOD.replacen("kill.crypto_ms = 500", of, 1)
}

/// What has an HSM that could make its keys in place share those of others.
const WRAPPED: &str = "capabilities.keys.made = \"wrapped\"";

/// The same in a cluster whose PINs are not rotated.
fn without_rotation(of: &str) -> String {
    said(of).replacen("rotation = \"connect\"", "rotation = \"none\"", 1)
}

#[test]
fn every_profile_is_there_whole_and_without_contradiction() {
    let file: toml::Table = toml::from_str(DATA).expect("the data file is TOML");
    let there: BTreeSet<&str> = file.keys().map(String::as_str).collect();
    assert_eq!(there, Profile::ALL.map(Profile::name).into_iter().collect());
    for profile in Profile::ALL {
        let known = capabilities(profile).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(contradiction(&known), None, "{profile:?}");
        let named: Profile = toml::Value::String(profile.name().to_owned()).try_into().expect("its name");
        assert_eq!(named, profile);
    }
    assert_eq!(capabilities(Profile::Generic).expect("there"), Capabilities::standard());
}

/// What nobody has run is not called measured.
#[test]
fn only_what_was_run_is_measured() {
    for profile in Profile::ALL {
        let basis = match profile {
            Profile::SoftHsm | Profile::Kryoptic => Basis::Measured,
            Profile::Generic => Basis::Standard,
            _ => Basis::Documents,
        };
        assert_eq!(capabilities(profile).expect("there").basis, basis, "{profile:?}");
    }
}

/// Who reads a value wants to know how far to trust it.
#[test]
fn behind_each_value_stands_where_it_is_from() {
    let sources = [
        "measured",
        "document",
        "code",
        "report",
        "inferred",
        "not found",
        "the standard",
        "as generic",
        "the one length",
    ];
    let mut in_list = false;
    for line in DATA.lines() {
        let (value, source) = line.split_once('#').map_or((line, ""), |(value, source)| (value.trim(), source.trim()));
        let is_value = !in_list && value.contains('=') && !value.starts_with("basis");
        in_list = (in_list || value.ends_with('[')) && line != "]";
        if is_value && value != "meaning = [" {
            assert!(sources.iter().any(|known| source.starts_with(known)), "{line}");
        }
    }
}

#[test]
fn profiles_are_run_as_they_are_known_to_be() {
    let config = judge(&said("profile = \"luna-fips\"")).expect("good");
    let luna = &config.clusters[0].hsms[1];
    assert_eq!((luna.profile, luna.capabilities.gcm.iv), (Profile::LunaFips, IvBy::NullAppended));
    assert_eq!((luna.workers, luna.sessions, luna.hot_copies), (1, 8, false));
    let config = judge(&without_rotation(&format!("profile = \"luna-ha\"\n{WRAPPED}"))).expect("good");
    let limits = config.clusters[0].hsms[1].kill.map(|limit| limit.as_millis());
    assert_eq!(limits, [20_250, 25_000, 50_000, 80_000], "a module that moves to another HSM is not killed for it");
}

#[test]
fn what_is_said_of_one_hsm_holds_for_it_alone() {
    let config = judge(&said(
        "capabilities.gcm = { iv = \"zeroed-writeback\", mechanism = 0x80001087, iv_bits = 0 }\n\
         capabilities.calls.random_bytes = 1024\ncapabilities.run.sessions = 3\n\
         capabilities.codes.meaning = [{ functions = [\"*\"], code = 0x80000001, means = \"busy\" }]",
    ))
    .expect("good");
    let [a, b] = &config.clusters[0].hsms[..] else { panic!("two HSMs") };
    assert_eq!(a.capabilities, capabilities(Profile::SoftHsm).expect("there"));
    let mut expected = capabilities(Profile::Generic).expect("there");
    expected.gcm.iv = IvBy::ZeroedWriteback;
    (expected.gcm.mechanism, expected.gcm.iv_bits) = (0x8000_1087, 0);
    (expected.calls.random_bytes, expected.run.sessions) = (1_024, 3);
    expected.codes.meaning = b.capabilities.codes.meaning.clone();
    assert_eq!(b.capabilities, expected);
    assert_eq!(b.capabilities.codes.means("C_Sign", 0x8000_0001), Some(Means::Busy));
    assert_eq!(b.sessions, 3);
    let config = judge(&said("sessions = 5\ncapabilities.run.sessions = 3")).expect("good");
    assert_eq!(config.clusters[0].hsms[1].sessions, 5, "the HSM's own setting is nearer");
}

/// A key of the data file that could not be said otherwise would be of no use to who has such an HSM.
#[test]
fn every_capability_can_be_said_otherwise() {
    let file: toml::Table = toml::from_str(DATA).expect("the data file is TOML");
    for profile in Profile::ALL {
        for (group, keys) in file[profile.name()].as_table().expect("a table") {
            for (key, value) in keys.as_table().into_iter().flatten() {
                let known = capabilities(profile).expect("there");
                let text =
                    without_rotation(&format!("profile = {:?}\ncapabilities.{group}.{key} = {value}", profile.name()));
                let text = if known.keys.in_place() { alone(&text, "zones = [\"b\", \"c\"]") } else { text };
                let config = judge(&text).unwrap_or_else(|error| panic!("{group}.{key}: {error}"));
                assert_eq!(config.clusters[0].hsms.last().expect("hsm-b").capabilities, known);
            }
        }
    }
}

#[test]
fn what_cannot_be_is_refused_with_its_place() {
    for (text, says) in [
        (
            "capabilities.gmc.iv = \"caller\"",
            "\"gmc\" is no group of capabilities; these are: attributes, calls, codes, gcm, keys, login, objects, run, topology, wrap",
        ),
        ("capabilities.gcm.ivs = \"caller\"", "there is no capabilities.gcm.ivs; its group has: aad_max, iv, iv_bits"),
        ("capabilities.gcm.iv = \"random\"", "capabilities.gcm.iv: unknown variant `random`, expected one of `caller`"),
        ("capabilities.gcm.mechanism = \"CKM_AES_GCM\"", "capabilities.gcm.mechanism: invalid type"),
        (
            "capabilities.gcm.mechanism = 0x1088",
            "capabilities.gcm.mechanism: 0x1088 is neither CKM_AES_GCM nor a vendor's own number",
        ),
        ("capabilities.gcm.mechanism = -1", "capabilities.gcm.mechanism: invalid value"),
        (
            "capabilities.gcm.iv_bytes = 16",
            "capabilities.gcm.iv_bytes: an IV has 12 bytes here, since ciphertexts have no room for one of 16",
        ),
        ("capabilities.gcm.iv_bits = 128", "capabilities.gcm.iv_bits: is 0 or 96"),
        (
            "capabilities.gcm.plaintext_max = 4095",
            "capabilities.gcm.plaintext_max: is less than the 4096 bytes of plaintext",
        ),
        ("capabilities.gcm.aad_max = 8212", "capabilities.gcm.aad_max: is less than the 8213 bytes"),
        (
            "capabilities.wrap.key_wrap = 0x210a",
            "capabilities.wrap.key_wrap: 0x210a is neither CKM_AES_KEY_WRAP nor a vendor's",
        ),
        (
            "capabilities.wrap.unwrap_template = \"at-copy\"",
            "capabilities.wrap.unwrap_template: unknown variant `at-copy`",
        ),
        (
            "capabilities.objects.certificate = \"host\"",
            "capabilities.objects.certificate: unknown variant `host`, expected `token` or `host-file`",
        ),
        (
            "capabilities.objects.keys_max = 16",
            "capabilities.objects.keys_max: 16 has no room for keystored's own keys",
        ),
        ("capabilities.objects.destroy = \"nowhere\"", "capabilities.objects.destroy: unknown variant `nowhere`"),
        (
            "capabilities.login = { pin_form = \"{user}:{pin}\", user = \"a:b\" }",
            "capabilities.login.user: is to be a name without",
        ),
        ("capabilities.login.pin_form = \"{user}/{pin}\"", "capabilities.login.pin_form: unknown variant"),
        ("capabilities.login.pin_min = 33", "capabilities.login.pin_min: is more than login.pin_max"),
        (
            "capabilities.login = { pin_max = 7, pin_min = 1 }",
            "capabilities.login.pin_max: is less than the 8 characters",
        ),
        (
            "capabilities.login = { pin_alphabet = \"digits\", pin_max = 14 }",
            "capabilities.login.pin_max: PINs of digits alone are guessed where they are shorter than 15",
        ),
        ("capabilities.login.pin_alphabet = \"hex\"", "capabilities.login.pin_alphabet: unknown variant `hex`"),
        ("capabilities.login.flags = \"lies\"", "capabilities.login.flags: unknown variant `lies`"),
        (
            "capabilities.login = { first_login = \"change\", changed_by = \"nobody\" }",
            "capabilities.login.first_login: a PIN that has to be changed first is changed by the user",
        ),
        ("capabilities.attributes.id_max = 20", "capabilities.attributes.id_max: is less than the 32 bytes"),
        ("capabilities.attributes.label_max = 20", "capabilities.attributes.label_max: is less than the 32 bytes"),
        (
            "capabilities.attributes.left_out = [{ functions = [\"*\"], objects = [\"secret-key\"], names = [\"CKA_SENSITIVE\"] }]",
            "capabilities.attributes.left_out: unknown variant `CKA_SENSITIVE`",
        ),
        (
            "capabilities.attributes.left_out = [{ functions = [\"Unwrap\"], objects = [\"secret-key\"], names = [\"CKA_COPYABLE\"] }]",
            "capabilities.attributes.left_out: \"Unwrap\" is no function",
        ),
        ("capabilities.run.workers = 0", "capabilities.run.workers: 0 is outside 1 to 64"),
        ("capabilities.run.workers = 65536", "capabilities.run.workers: invalid value"),
        ("capabilities.calls.random_bytes = 8", "capabilities.calls.random_bytes: 8 is outside 32 to 65536"),
        ("capabilities.calls.retry_ms = 60001", "capabilities.calls.retry_ms: 60001 is outside 0 to 60000"),
        (
            "capabilities.codes.meaning = [{ functions = [\"Encrypt\"], code = 6, means = \"busy\" }]",
            "capabilities.codes.meaning: \"Encrypt\" is no function",
        ),
        (
            "capabilities.codes.meaning = [{ functions = [\"C_Encript\"], code = 6, means = \"busy\" }]",
            "capabilities.codes.meaning: \"C_Encript\" is no function of PKCS#11",
        ),
        (
            "capabilities.codes.meaning = [{ functions = [], code = 6, means = \"busy\" }]",
            "capabilities.codes.meaning: an entry names no function",
        ),
        (
            "capabilities.codes.meaning = [{ functions = [\"*\"], code = 6, means = \"idle\" }]",
            "capabilities.codes.meaning: unknown variant `idle`",
        ),
        (
            "capabilities.codes.meaning = [{ functions = [\"*\"], means = \"busy\" }]",
            "capabilities.codes.meaning: missing field `code`",
        ),
        (
            "capabilities.codes.meaning = [{ functions = [\"C_Decrypt\"], code = 6, means = \"ambiguous\" }, \
             { functions = [\"*\"], code = 6, means = \"busy\" }]",
            "capabilities.codes.meaning: 0x6 means \"busy\" of some function, and of C_Decrypt \"ambiguous\" alone",
        ),
        (
            "capabilities.codes.meaning = [{ functions = [\"*\"], code = 0xa0, means = \"token\" }]",
            "capabilities.codes.meaning: 0xa0 is CKR_PIN_INCORRECT, and of C_Login it means \"login\" or \"locked\"",
        ),
        (
            "capabilities.codes.meaning = [{ functions = [\"C_SetPIN\"], code = 0xa0, means = \"busy\" }]",
            "capabilities.codes.meaning: 0xa0 is CKR_PIN_INCORRECT, and of C_SetPIN it means",
        ),
        (
            "sessions = 8\ncapabilities.calls.sessions = 17",
            "1 workers with 8 sessions each need 18, with the control worker",
        ),
        (
            "kill.crypto_ms = 900\ncapabilities.calls.retry_ms = 1000",
            "900 is less than the 1000 that the module itself may take",
        ),
    ] {
        let (line, message) = refused("kill.crypto_ms = 500", text);
        assert!(message.contains(says), "{text}: {message}");
        assert_eq!(line, 36, "{text}: {message}");
    }
    // Where the file says nothing of what is contradicted, the HSM is named.
    let text = said("profile = \"softhsm\"\ncapabilities.login.pin_max = 7");
    let error = judge(&text).expect_err("PINs of 8 characters at least and 7 at most");
    assert_eq!(error.line, Some(30));
    assert!(error.message.contains("capabilities.login.pin_min: is more than login.pin_max"), "{error}");
}

/// What one token wraps another one unwraps.
#[test]
fn all_hsms_of_a_cluster_have_one_hash_for_oaep() {
    let error = judge(&said("capabilities.wrap.oaep_hash = \"sha256\"")).expect_err("hsm-a has SHA-1");
    assert_eq!(error.line, Some(30));
    assert!(error.message.contains("HSM hsm-a has RSA-OAEP with Sha1 and HSM hsm-b with Sha256"), "{error}");
    let both = said("capabilities.wrap.oaep_hash = \"sha256\"").replacen(
        "token_serials = [\"1\"]",
        "token_serials = [\"1\"]\ncapabilities.wrap.oaep_hash = \"sha256\"",
        1,
    );
    judge(&both).expect("both alike");
}

/// A rotation would fail at each connect, and with it the connect.
#[test]
fn what_the_hsm_does_with_pins_binds_the_cluster() {
    let cloudhsm = format!("profile = \"cloudhsm\"\n{WRAPPED}");
    let error = judge(&said(&cloudhsm)).expect_err("no rotation there");
    assert_eq!(error.line, Some(30));
    assert!(error.message.contains("the user of HSM hsm-b cannot change its PIN"), "{error}");
    assert!(error.message.contains("set rotation = \"none\""), "{error}");
    let text = without_rotation(&cloudhsm);
    let config = judge(&text).expect("good");
    assert_eq!(config.clusters[0].hsms[1].capabilities.login.text(b"12345678"), b"kmsuser:12345678");
    let tries =
        |tries: u8| text.replacen("rotation = \"none\"", &format!("rotation = \"none\"\nlogin_tries = {tries}"), 1);
    judge(&tries(4)).expect("one less than what locks");
    let error = judge(&tries(5)).expect_err("that would lock it");
    assert_eq!(error.line, Some(20));
    assert!(error.message.contains("login_tries is 5, and HSM hsm-b locks its user after 5"), "{error}");
}

#[test]
fn what_is_said_otherwise_is_told() {
    for profile in Profile::ALL {
        assert_eq!(overrides(profile, &capabilities(profile).unwrap()), Vec::<String>::new(), "{profile:?}");
    }
    let mut of = capabilities(Profile::Luna).unwrap();
    of.gcm.iv = IvBy::ZeroedWriteback;
    of.calls.random_bytes = 1_024;
    let said = overrides(Profile::Luna, &of);
    assert_eq!(said, ["calls.random_bytes = 1024", "gcm.iv = \"zeroed-writeback\""]);
}

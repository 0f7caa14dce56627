use super::*;
use model::id::KeyId;
use model::profile::{LeftOut, Profile};

const KIND: Kind = Kind::Encryption;

fn of(profile: Profile) -> Capabilities {
    config::capabilities(profile).unwrap()
}

fn key() -> KeyVersionId {
    KeyVersionId { key: KeyId::from_bytes([7; 16]), version: 1 }
}

fn ids(template: &[Attribute]) -> Vec<&[u8]> {
    template.iter().filter_map(|of| if let Attribute::Id(id) = of { Some(&id[..]) } else { None }).collect()
}

#[test]
fn what_an_hsm_does_not_take_is_not_named() {
    let names = |template: &[Attribute]| template.iter().filter_map(optional).collect::<Vec<_>>();
    let softhsm = of(Profile::SoftHsm);
    assert!(names(&placed_key(&softhsm, KIND, key(), "k")).contains(&Optional::AllowedMechanisms));
    let cloudhsm = of(Profile::CloudHsm);
    for template in
        [placed_key(&cloudhsm, KIND, key(), "k"), canary(&cloudhsm), wrapping_key(&cloudhsm, KIND).unwraps_to]
    {
        let named = names(&template);
        assert!(!named.contains(&Optional::AllowedMechanisms) && !named.contains(&Optional::Copyable), "{named:?}");
    }
    let (public, private) = transport_pair(&cloudhsm);
    for template in [&public, &private] {
        let named = names(template);
        assert!(!named.contains(&Optional::SignRecover) && !named.contains(&Optional::VerifyRecover), "{named:?}");
    }
    assert!(!names(&public).contains(&Optional::Private) && names(&private).contains(&Optional::Private));
}

/// Whatever is left out: what a key is for, and what keeps it from being read, is said.
#[test]
fn what_matters_most_is_always_named() {
    let mut none = of(Profile::Generic);
    let names = [
        Optional::AllowedMechanisms,
        Optional::Copyable,
        Optional::Modifiable,
        Optional::Destroyable,
        Optional::Private,
        Optional::Encrypt,
        Optional::Decrypt,
        Optional::Wrap,
        Optional::Unwrap,
        Optional::Sign,
        Optional::SignRecover,
        Optional::Verify,
        Optional::VerifyRecover,
        Optional::Derive,
    ];
    let objects = vec![Objects::SecretKey, Objects::PrivateKey, Objects::PublicKey, Objects::Certificate];
    none.attributes.left_out = vec![LeftOut { functions: vec!["*".to_owned()], objects, names: names.to_vec() }];
    let placed = placed_key(&none, KIND, key(), "k");
    for wanted in [
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Token(true),
        Attribute::Encrypt(true),
        Attribute::Decrypt(true),
    ] {
        assert!(placed.contains(&wanted), "{wanted:?}");
    }
    assert!(!placed.contains(&Attribute::Wrap(false)));
    assert!(wrapping_key(&none, KIND).first.contains(&Attribute::Unwrap(true)));
    assert!(identity_pair(&none).1.contains(&Attribute::Sign(true)));
}

/// Every key names its mechanism, and every use, where the HSM takes it.
#[test]
fn no_key_may_do_more_than_it_is_for() {
    let of = of(Profile::SoftHsm);
    let wrapping = wrapping_key(&of, KIND);
    let by = |mechanism| only(mechanism);
    let (gcm, wraps) = (by(MechanismType::AES_GCM), by(MechanismType::AES_KEY_WRAP));
    let encrypts = [true, true, false, false];
    let data = [placed_key(&of, KIND, key(), "k"), hot_copy(&of, KIND), challenge_key(&of, KIND)];
    let more = [challenge_key_opened(&of, KIND), canary(&of), stand_in(&of), wrapping.unwraps_to];
    let wrap = [wrapping.first, wrapping_key_on_trial(&of, KIND), passing_wrapping_key(&of, KIND)];
    for (templates, mechanism, [encrypt, decrypt, wrap, unwrap]) in [
        (&data[..], &gcm, encrypts),
        (&more, &gcm, encrypts),
        (&wrap, &wraps, [false, false, true, true]),
        (&[passing_key(&of, KIND)], &gcm, [false; 4]),
        (&[new_wrapping_key(&of, KIND)], &wraps, [false; 4]),
    ] {
        for template in templates {
            for wanted in [
                mechanism.clone(),
                Attribute::Encrypt(encrypt),
                Attribute::Decrypt(decrypt),
                Attribute::Wrap(wrap),
                Attribute::Unwrap(unwrap),
                Attribute::Sign(false),
                Attribute::Verify(false),
                Attribute::Derive(false),
                Attribute::Sensitive(true),
            ] {
                assert!(template.contains(&wanted), "{wanted:?} in {template:?}");
            }
        }
    }
    let pairs = [
        (identity_pair(&of), MechanismType::ECDSA),
        (log_pair(&of, &EDWARDS_25519, MechanismType::EDDSA), MechanismType::EDDSA),
        (transport_pair(&of), MechanismType::RSA_PKCS_OAEP),
    ];
    for ((public, private), mechanism) in pairs {
        assert!(public.contains(&by(mechanism)) && private.contains(&by(mechanism)), "{mechanism}");
    }
    assert!(transport_public(&of, &[1], &[3]).contains(&by(MechanismType::RSA_PKCS_OAEP)));
    for last in [placed_key(&of, KIND, key(), "k"), hot_copy(&of, KIND), canary(&of), wrapping.last] {
        assert!(last.ends_with(&[Attribute::Copyable(false), Attribute::Modifiable(false)]), "{last:?}");
    }
}

#[test]
fn halves_have_ids_of_their_own_where_they_must() {
    let (public, private) = identity_pair(&of(Profile::SoftHsm));
    assert_eq!(ids(&public), ids(&private));
    let cloudhsm = of(Profile::CloudHsm);
    let (public, private) = identity_pair(&cloudhsm);
    let certificate = certificate(&cloudhsm, IDENTITY, b"der", b"subject");
    let mut all = [ids(&public), ids(&private), ids(&certificate)].concat();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 3);
}

#[test]
fn the_length_is_named_where_it_is_wanted() {
    let length = Attribute::ValueLen(AES_256_BYTES.into());
    for (profile, wanted) in [(Profile::SoftHsm, false), (Profile::Luna, true), (Profile::CloudHsm, false)] {
        let of = of(profile);
        assert_eq!(placed_key(&of, KIND, key(), "k").contains(&length), wanted, "{profile:?}");
        assert_eq!(challenge_key_opened(&of, KIND).contains(&length), wanted, "{profile:?}");
        assert!(!wrapping_key_on_trial(&of, KIND).contains(&length), "that is RSA's");
        assert!(passing_key(&of, KIND).contains(&length));
    }
}

/// Nothing of it can be changed, copied, wrapped or read.
#[test]
fn a_key_made_in_place_stays_as_it_is() {
    for profile in Profile::ALL {
        let template = key_made_in_place(&of(profile), KIND, key(), "k");
        let kept = [Attribute::Sensitive(true), Attribute::Extractable(false), Attribute::Modifiable(false)];
        assert!(kept.iter().all(|attribute| template.contains(attribute)), "{profile:?}: {template:?}");
        assert!(template.contains(&Attribute::ValueLen(AES_256_BYTES.into())), "{profile:?}");
        let copyable = of(profile).attributes.leave_out("C_GenerateKey", Objects::SecretKey, Optional::Copyable);
        assert_eq!(template.contains(&Attribute::Copyable(false)), !copyable, "{profile:?}");
    }
}

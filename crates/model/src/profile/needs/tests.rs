use super::*;

const NOBODY: (&str, &str) = ("SoftHSM", "Implementation of PKCS11");

/// A token that lists all that is needed under the standard's numbers.
fn offers(capabilities: &Capabilities) -> Vec<Offer> {
    let offer = |need: Need| {
        let (mechanism, uses) = need.mechanism(capabilities)?;
        Some(Offer { mechanism, uses: uses.iter().copied().collect() })
    };
    Need::ALL.into_iter().filter_map(offer).collect()
}

fn judged(offers: &[Offer]) -> Abilities {
    Abilities::of(offers, true, NOBODY, &Capabilities::standard())
}

fn without(number: u64) -> Vec<Offer> {
    offers(&Capabilities::standard()).into_iter().filter(|offer| offer.mechanism != number).collect()
}

#[test]
fn what_lists_everything_is_not_refused() {
    let abilities = judged(&offers(&Capabilities::standard()));
    assert_eq!(abilities, Abilities::default());
    assert_eq!((abilities.refusal(&Capabilities::standard()), abilities.doubt()), (None, None));
}

#[test]
fn a_mechanism_of_the_standard_that_is_not_listed_is_missing_whichever_it_is() {
    let standard = Capabilities::standard();
    for need in Need::ALL {
        let Some((number, _)) = need.mechanism(&standard) else { continue };
        let abilities = judged(&without(number));
        assert_eq!((&abilities.missing, abilities.unclear.len()), (&BTreeSet::from([need]), 0), "{need:?}");
        let why = abilities.refusal(&standard).unwrap();
        let number = format!("{number:#x}");
        for words in [need.name(), need.without(), number.as_str(), need.setting().unwrap_or("Use another HSM")] {
            assert!(why.contains(words), "{why}");
        }
    }
}

#[test]
fn flags_that_are_missing_do_not_condemn() {
    let standard = Capabilities::standard();
    for need in Need::ALL {
        let Some((number, uses)) = need.mechanism(&standard) else { continue };
        for lost in uses {
            let mut offers = offers(&standard);
            for offer in &mut offers {
                if offer.mechanism == number {
                    offer.uses.remove(lost);
                }
            }
            let abilities = judged(&offers);
            assert_eq!((abilities.missing.len(), &abilities.unclear), (0, &BTreeSet::from([need])), "{need:?}");
            assert_eq!(abilities.refusal(&standard), None);
            assert!(abilities.doubt().unwrap().contains(need.name()));
        }
    }
}

#[test]
fn a_vendor_s_own_number_may_be_hidden() {
    let mut own = Capabilities::standard();
    (own.gcm.mechanism, own.wrap.key_wrap) = (0x8000_1087, 0x8000_2109);
    let listed = Abilities::of(&offers(&own), true, NOBODY, &own);
    assert_eq!(listed, Abilities::default());
    // The standard's are there, and others than those that are called.
    let hidden = Abilities::of(&offers(&Capabilities::standard()), true, NOBODY, &own);
    assert_eq!(hidden.unclear, BTreeSet::from([Need::AesGcm, Need::AesKeyWrap]));
    assert_eq!((hidden.missing.len(), hidden.refusal(&own)), (0, None));
}

#[test]
fn the_flag_of_random_numbers_is_no_more_than_that() {
    let standard = Capabilities::standard();
    let abilities = Abilities::of(&offers(&standard), false, NOBODY, &standard);
    assert_eq!((abilities.missing.len(), abilities.unclear), (0, BTreeSet::from([Need::RandomNumbers])));
}

/// Whatever it lists.
#[test]
fn a_library_that_is_known_not_to_do_is_refused_by_its_name() {
    let standard = Capabilities::standard();
    let library = ("Google                          ", "Cryptoki Library for Cloud KMS  ");
    let abilities = Abilities::of(&offers(&standard), true, library, &standard);
    let why = abilities.refusal(&standard).unwrap();
    assert!(why.contains("Google Cloud KMS") && why.contains("neither wraps nor unwraps"), "{why}");
}

/// All that is missing is said at once.
#[test]
fn one_sentence_says_all_of_it() {
    let standard = Capabilities::standard();
    let why = judged(&[]).refusal(&standard).unwrap();
    let expected = "the token cannot do what keystored needs. It lists no AES-GCM (mechanism 0x1087): nothing can be \
                    encrypted in it; no AES key generation (mechanism 0x1080): no key can be made in it; no AES key wrap \
                    (mechanism 0x2109): no key comes into it from another token, and none goes from it to another; no ";
    assert!(why.starts_with(expected), "{why}");
    assert!(why.ends_with("by numbers of its own: capabilities.gcm.mechanism, capabilities.wrap.key_wrap)"), "{why}");
}

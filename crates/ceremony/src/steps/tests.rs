use proptest::prelude::*;

use super::*;
use model::profile::{Abilities, Need};
use protocol::UserFlags;

fn token(name: &str, made: bool, wrapping: bool) -> Observed {
    Observed {
        hsm: name.into(),
        serial: format!("serial of {name}"),
        in_place: false,
        objects: CeremonyObjects { identity: made, transport: made, canary: made, wrapping },
        identity: made.then(|| format!("key of {name}").into()),
        identity_certified: made,
        transport_certified: made,
        parcel: None,
    }
}

fn with_parcel(mut token: Observed, set: Option<&str>) -> Observed {
    token.parcel = Some(set.map(str::to_owned));
    token
}

/// A world of tokens and a folder, which does each step; what a ceremony sees afresh each time it is run.
#[derive(Clone, Debug)]
struct World {
    tokens: Vec<Observed>,
    folder: Vec<Option<String>>,
    /// The set to which each token's wrapping key belongs.
    held: Vec<Option<String>>,
    sets: usize,
}

impl World {
    fn new(count: usize) -> Self {
        let tokens = (0..count).map(|n| token(&format!("h{n}"), false, false)).collect();
        Self { tokens, folder: vec![None; count], held: vec![None; count], sets: 0 }
    }

    /// Runs a ceremony; `crash` counts down the single effects until it is cut short.
    fn run(&mut self, mut crash: usize) -> Result<bool, String> {
        for token in &mut self.tokens {
            token.parcel = None;
        }
        while let Some((step, place)) = next(&self.tokens, true)? {
            if crash == 0 {
                return Ok(false);
            }
            crash -= 1;
            let token = &mut self.tokens[place];
            match step {
                Step::MakeIdentityPair => {
                    token.objects.identity = true;
                    token.identity = Some(format!("key of {}", token.hsm).into());
                }
                Step::CertifyIdentity => token.identity_certified = true,
                Step::MakeTransportPair => token.objects.transport = true,
                Step::CertifyTransport => token.transport_certified = true,
                Step::MakeCanary => token.objects.canary = true,
                Step::ReadParcels => {
                    for (token, parcel) in self.tokens.iter_mut().zip(&self.folder) {
                        token.parcel = Some(parcel.clone());
                    }
                }
                Step::MakeWrappingKey => {
                    self.sets += 1;
                    for place in 0..self.tokens.len() {
                        if crash == 0 {
                            return Ok(false);
                        }
                        crash -= 1;
                        let set = Some(format!("set {}", self.sets));
                        self.folder[place] = set.clone();
                        self.tokens[place].parcel = Some(set);
                    }
                }
                Step::PlaceWrappingKey => {
                    token.objects.wrapping = true;
                    self.held[place] = self.folder[place].clone();
                }
                other => panic!("{other:?} is no step of the logged-in part"),
            }
        }
        Ok(true)
    }
}

#[test]
fn a_finished_cluster_is_left_alone() {
    assert_eq!(next(&[token("a", true, true), token("b", true, true)], true), Ok(None));
}

#[test]
fn a_token_that_joins_is_prepared_without_a_wrapping_key() {
    assert_eq!(next(&[token("c", true, false)], false), Ok(None));
    assert_eq!(next(&[token("c", false, false)], false), Ok(Some((Step::MakeIdentityPair, 0))));
}

#[test]
fn a_token_whose_keys_are_made_in_place_needs_no_wrapping_key() {
    let mut world = World::new(1);
    world.tokens[0].in_place = true;
    assert_eq!(world.run(usize::MAX), Ok(true));
    let CeremonyObjects { identity, transport, canary, wrapping } = world.tokens[0].objects;
    assert_eq!((identity, transport, canary, wrapping), (true, false, true, false));
    assert!(world.tokens[0].identity_certified && world.held == [None] && world.sets == 0);
}

#[test]
fn blobs_of_an_interrupted_ceremony_are_placed() {
    let a = with_parcel(token("a", true, true), Some("s"));
    let b = with_parcel(token("b", true, false), Some("s"));
    assert_eq!(next(&[a, b], true), Ok(Some((Step::PlaceWrappingKey, 1))));
}

#[test]
fn without_the_blobs_a_half_made_cluster_is_not_touched() {
    let a = with_parcel(token("a", true, true), None);
    let b = with_parcel(token("b", true, false), None);
    let error = next(&[a.clone(), b.clone()], true).unwrap_err();
    assert!(error.starts_with("a hold a cluster wrapping key and b don't"), "{error}");
    let mixed = [with_parcel(a, Some("s")), with_parcel(b, Some("t"))];
    assert!(next(&mixed, true).is_err(), "blobs of two wrapping keys must not be mixed");
}

#[test]
fn a_wrapping_key_without_its_pairs_is_not_ours() {
    let error = next(&[token("a", false, true)], true).unwrap_err();
    assert!(error.contains("tampered"), "{error}");
}

#[test]
fn an_hsm_is_named_once() {
    let names: [HsmId; 3] = ["a".into(), "b".into(), "a".into()];
    assert!(named_once(names[..2].iter()).is_ok());
    assert!(named_once(names.iter()).unwrap_err().contains("HSM a takes part twice"));
}

#[test]
fn one_token_behind_two_names_is_refused() {
    let a = token("a", false, false);
    let mut b = token("b", false, false);
    b.serial = a.serial.clone();
    assert!(next(&[a, b], true).unwrap_err().contains("the same token"));
}

#[test]
fn one_identity_in_two_tokens_is_refused() {
    let a = token("a", true, false);
    let b = Observed { identity: a.identity.clone(), ..token("b", true, false) };
    assert!(next(&[a, b], true).unwrap_err().contains("have one identity key"));
    assert!(
        next(&[token("a", false, false), token("b", false, false)], true).is_ok(),
        "two without a key are no twins"
    );
}

fn seen(label: &str, initialised: bool, user: UserFlags) -> TokenSeen {
    TokenSeen { label: label.into(), serial: label.into(), initialised, user, abilities: Abilities::default() }
}

#[test]
fn what_a_token_needs_is_seen_before_anybody_logs_in() {
    let meant = Token { label: "one".into(), serials: Vec::new() };
    let user = UserFlags { initialised: true, ..UserFlags::default() };
    let raw = |seen: &[TokenSeen], meant: &Token| raw(seen, meant, &Capabilities::standard());
    assert_eq!(raw(&[seen("", false, UserFlags::default())], &meant), Ok(Raw::Blank));
    assert_eq!(raw(&[seen("other", true, user)], &meant), Ok(Raw::Blank));
    assert_eq!(raw(&[seen("one", true, UserFlags::default())], &meant), Ok(Raw::NoUser));
    assert_eq!(raw(&[seen("one", true, user)], &meant), Ok(Raw::Usable));
    assert!(raw(&[seen("one", true, UserFlags { final_try: true, ..user })], &meant).is_err());
    assert!(raw(&[seen("one", true, UserFlags { locked: true, ..user })], &meant).is_err());
    assert!(raw(&[seen("one", true, user), seen("one", true, user)], &meant).unwrap_err().contains("token_serials"));
    let exact = Token { serials: vec!["one".into()], ..meant };
    assert_eq!(
        raw(&[seen("one", true, user), TokenSeen { serial: "2".into(), ..seen("one", true, user) }], &exact),
        Ok(Raw::Usable)
    );
}

/// Blank or not; and no other token keeps the one that is meant from being used.
#[test]
fn a_token_that_cannot_do_the_job_is_not_touched() {
    let meant = Token { label: "one".into(), serials: Vec::new() };
    let user = UserFlags { initialised: true, ..UserFlags::default() };
    let raw = |seen: &[TokenSeen]| raw(seen, &meant, &Capabilities::standard());
    let without_gcm = Abilities { missing: [Need::AesGcm].into(), ..Abilities::default() };
    let poor = |token: TokenSeen| TokenSeen { abilities: without_gcm.clone(), ..token };
    for token in
        [seen("", false, UserFlags::default()), seen("one", true, UserFlags::default()), seen("one", true, user)]
    {
        let why = raw(&[poor(token)]).unwrap_err();
        assert!(why.contains("AES-GCM"), "{why}");
    }
    assert_eq!(raw(&[poor(seen("other", true, user)), seen("one", true, user)]), Ok(Raw::Usable));
    assert_eq!(raw(&[poor(seen("", false, UserFlags::default())), seen("one", true, user)]), Ok(Raw::Usable));
    // One of two blank ones can be used: which is meant is seen later.
    let blank = || seen("", false, UserFlags::default());
    assert_eq!(raw(&[poor(blank()), blank()]), Ok(Raw::Blank));
    // Shown as if it were none.
    assert!(raw(&[poor(seen("", true, user))]).is_err());
    assert_eq!(raw(&[]), Ok(Raw::Blank));
}

proptest! {
    #[test]
    fn however_often_it_is_cut_short_it_ends_with_one_key(
        count in 1..5_usize, crashes in prop::collection::vec(0..40_usize, 0..8),
    ) {
        let mut world = World::new(count);
        for crash in crashes {
            prop_assert!(world.run(crash).is_ok());
        }
        prop_assert_eq!(world.run(usize::MAX), Ok(true));
        prop_assert!(world.held[0].is_some());
        prop_assert!(world.held.iter().all(|held| *held == world.held[0]));
        let before = world.sets;
        prop_assert_eq!(world.run(usize::MAX), Ok(true));
        prop_assert_eq!(world.sets, before, "a further run makes nothing");
    }
}

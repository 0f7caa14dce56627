//! What the ceremony does next: a pure function over what the tokens and the folder hold.

use std::collections::BTreeSet;

use crate::hsm::protocol::CeremonyObjects;
use crate::model::id::HsmId;

/// What is known of one token.
#[derive(Clone, Debug)]
pub(super) struct Observed {
    /// The HSM.
    pub hsm: HsmId,
    /// The token's serial number.
    pub serial: String,
    /// Which objects it holds.
    pub objects: CeremonyObjects,
    /// Not looked for yet; or the set of the parcel that lies in the folder for this token's transport key, if any.
    pub parcel: Option<Option<String>>,
}

/// What is next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Make the transport pair in this token.
    MakeTransportPair(usize),
    /// Make the canary key in this token.
    MakeCanary(usize),
    /// Look which parcels the folder holds.
    ReadParcels,
    /// Make the wrapping key in this token and store a parcel for each.
    MakeWrappingKey(usize),
    /// Unwrap this token's parcel.
    PlaceWrappingKey(usize),
    /// Nothing is left to do.
    Finished,
}

/// The next step; an error says why no step leads on and what a person can do.
pub(super) fn next(tokens: &[Observed]) -> Result<Step, String> {
    distinct(tokens)?;
    if let Some(place) = tokens.iter().position(|token| !token.objects.transport) {
        // The transport key of a token that keeps its wrapping key is never missed, but the wrapping key of a token
        // without one cannot have come from this ceremony.
        if tokens[place].objects.wrapping {
            return Err(format!(
                "HSM {} holds a cluster wrapping key but no transport pair: its objects were tampered with or come \
                 from elsewhere; initialise the token anew and run the ceremony with the others' folder",
                tokens[place].hsm
            ));
        }
        return Ok(Step::MakeTransportPair(place));
    }
    if let Some(place) = tokens.iter().position(|token| !token.objects.canary) {
        return Ok(Step::MakeCanary(place));
    }
    let Some(without) = tokens.iter().position(|token| !token.objects.wrapping) else { return Ok(Step::Finished) };
    if tokens.iter().any(|token| token.parcel.is_none()) {
        return Ok(Step::ReadParcels);
    }
    if one_set(tokens) {
        return Ok(Step::PlaceWrappingKey(without));
    }
    if tokens.iter().all(|token| !token.objects.wrapping) {
        return Ok(Step::MakeWrappingKey(0));
    }
    let names = |with: bool| {
        let of = tokens.iter().filter(|token| token.objects.wrapping == with);
        of.map(|token| token.hsm.as_str()).collect::<Vec<_>>().join(", ")
    };
    Err(format!(
        "{} hold a cluster wrapping key and {} don't, and the folder has no complete set of its wrapped copies for \
         these tokens: name the folder of the ceremony that made the key, or initialise all tokens anew if they hold \
         nothing that is still needed",
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

/// No token stands behind two HSMs: a cluster of one token only looks like two.
fn distinct(tokens: &[Observed]) -> Result<(), String> {
    for (place, token) in tokens.iter().enumerate() {
        for other in &tokens[..place] {
            if other.serial == token.serial {
                return Err(format!(
                    "HSM {} and HSM {} are the same token (serial {}): each needs a token of its own",
                    other.hsm, token.hsm, token.serial
                ));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn token(name: &str, transport: bool, canary: bool, wrapping: bool) -> Observed {
        Observed {
            hsm: name.into(),
            serial: format!("serial of {name}"),
            objects: CeremonyObjects { transport, canary, wrapping },
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
            let tokens = (0..count).map(|n| token(&format!("h{n}"), false, false, false)).collect();
            Self { tokens, folder: vec![None; count], held: vec![None; count], sets: 0 }
        }

        /// Runs a ceremony; `crash` counts down the single effects until it is cut short.
        fn run(&mut self, mut crash: usize) -> Result<bool, String> {
            for token in &mut self.tokens {
                token.parcel = None;
            }
            loop {
                let step = next(&self.tokens)?;
                if step == Step::Finished {
                    return Ok(true);
                }
                if crash == 0 {
                    return Ok(false);
                }
                crash -= 1;
                match step {
                    Step::MakeTransportPair(place) => self.tokens[place].objects.transport = true,
                    Step::MakeCanary(place) => self.tokens[place].objects.canary = true,
                    Step::ReadParcels => {
                        for (token, parcel) in self.tokens.iter_mut().zip(&self.folder) {
                            token.parcel = Some(parcel.clone());
                        }
                    }
                    Step::MakeWrappingKey(_) => {
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
                    Step::PlaceWrappingKey(place) => {
                        self.tokens[place].objects.wrapping = true;
                        self.held[place] = self.folder[place].clone();
                    }
                    Step::Finished => {}
                }
            }
        }
    }

    #[test]
    fn a_finished_cluster_is_left_alone() {
        assert_eq!(next(&[token("a", true, true, true), token("b", true, true, true)]), Ok(Step::Finished));
    }

    #[test]
    fn blobs_of_an_interrupted_ceremony_are_placed() {
        let a = with_parcel(token("a", true, true, true), Some("s"));
        let b = with_parcel(token("b", true, true, false), Some("s"));
        assert_eq!(next(&[a, b]), Ok(Step::PlaceWrappingKey(1)));
    }

    #[test]
    fn without_the_blobs_a_half_made_cluster_is_not_touched() {
        let a = with_parcel(token("a", true, true, true), None);
        let b = with_parcel(token("b", true, true, false), None);
        let error = next(&[a.clone(), b.clone()]).unwrap_err();
        assert!(error.starts_with("a hold a cluster wrapping key and b don't"), "{error}");
        let mixed = [with_parcel(a, Some("s")), with_parcel(b, Some("t"))];
        assert!(next(&mixed).is_err(), "blobs of two wrapping keys must not be mixed");
    }

    #[test]
    fn an_hsm_is_named_once() {
        let names: [HsmId; 3] = ["a".into(), "b".into(), "a".into()];
        assert!(named_once(names[..2].iter()).is_ok());
        assert!(named_once(names.iter()).unwrap_err().contains("HSM a takes part twice"));
    }

    #[test]
    fn one_token_behind_two_names_is_refused() {
        let a = token("a", false, false, false);
        let mut b = token("b", false, false, false);
        b.serial = a.serial.clone();
        assert!(next(&[a, b]).unwrap_err().contains("the same token"));
    }

    proptest! {
        #[test]
        fn however_often_it_is_cut_short_it_ends_with_one_key(
            count in 1..5_usize, crashes in prop::collection::vec(0..20_usize, 0..8),
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
}

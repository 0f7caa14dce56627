//! What happens to a call: a pure function of the rules, the function and the call's number, so that a run can be had
//! again.

use crate::rules::{Fault, Rules};

/// A fault that meets a call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Met<'a> {
    /// Which.
    pub(crate) fault: &'a Fault,
    /// The real function is called first.
    pub(crate) after_call: bool,
    /// From 0 to 1, for what the fault leaves to chance.
    pub(crate) chance: f64,
}

/// The first rule that applies.
pub(crate) fn decide<'a>(rules: &'a Rules, function: &str, number: u64) -> Option<Met<'a>> {
    rules.rules.iter().enumerate().find_map(|(at, rule)| {
        let meant = rule.function.contains(function)
            && rule.calls.is_none_or(|calls| calls.from <= number && calls.to.is_none_or(|to| number <= to));
        let drawn = |salt| chance(&[rules.seed, at as u64, salt, number], function);
        let hit = meant && rule.probability.is_none_or(|share| drawn(0) < share);
        hit.then(|| Met { fault: &rule.fault, after_call: rule.after_call, chance: drawn(1) })
    })
}

/// From 0 to 1, evenly, and the same for the same numbers.
pub(crate) fn chance(numbers: &[u64], function: &str) -> f64 {
    let bytes = function.bytes().map(u64::from);
    let mixed = numbers.iter().copied().chain(bytes).fold(0x9e37_79b9_7f4a_7c15, |state, number| mix(state ^ number));
    // The upper 53 bits are what a double holds exactly.
    (mixed >> 11) as f64 / (1_u64 << 53) as f64
}

/// The finaliser of SplitMix64.
pub(crate) fn mix(state: u64) -> u64 {
    let state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    state ^ (state >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hits(text: &str, function: &str, calls: u64) -> Vec<u64> {
        let rules = Rules::parse(text).unwrap();
        (1..=calls).filter(|number| decide(&rules, function, *number).is_some()).collect()
    }

    #[test]
    fn calls_are_counted_from_one() {
        let text = "[[rule]]\nfunction = \"C_Sign\"\ncalls = { from = 2, to = 3 }\nfault = \"hang\"";
        assert_eq!(hits(text, "C_Sign", 9), [2, 3]);
        assert_eq!(hits(text, "C_Encrypt", 9), [0; 0]);
    }

    #[test]
    fn a_seed_decides_the_same_again_and_another_one_otherwise() {
        let text = |seed: u64| format!("seed = {seed}\n[[rule]]\nprobability = 0.25\nfault = \"crash\"");
        let (one, two) = (hits(&text(1), "C_Encrypt", 10_000), hits(&text(2), "C_Encrypt", 10_000));
        assert_eq!(one, hits(&text(1), "C_Encrypt", 10_000));
        assert_ne!(one, two);
        assert!((2_300..2_700).contains(&one.len()), "{} of 10,000", one.len());
        assert_ne!(one, hits(&text(1), "C_Decrypt", 10_000));
    }

    #[test]
    fn what_begins_and_ends_the_module_is_spared_by_the_star() {
        assert_eq!(hits("[[rule]]\nfault = \"crash\"", "C_Finalize", 3), [0; 0]);
        assert_eq!(hits("[[rule]]\nfault = \"crash\"", "C_Login", 1), [1]);
    }
}

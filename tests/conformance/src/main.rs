//! Compares the evaluator of policies with an independent implementation, case by case: `make conformance`.
//!
//! `conformance SCRIPT CASES SEED` draws CASES cases from SEED, has `auth::policy` decide them, and asks the node program
//! SCRIPT about each. A difference that no class of DIFFERENCES.md explains ends the run, with a case that is as small as
//! can be found.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it is for people at a terminal")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod case;
mod differences;
mod draw;
mod keys;
mod oracle;
mod policy;
mod tally;
mod world;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::ExitCode;

use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

use case::{Case, Verdict};
use differences::{Class, reading};
use oracle::Oracle;
use tally::Tally;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let numbers = |cases: &str, seed: &str| Some((cases.parse().ok()?, seed.parse().ok()?));
    let [script, cases, seed] = &arguments[..] else {
        eprintln!("conformance: SCRIPT CASES SEED are asked for");
        return ExitCode::FAILURE;
    };
    let Some((cases, seed)) = numbers(cases, seed) else {
        eprintln!("conformance: {cases} and {seed} are not numbers");
        return ExitCode::FAILURE;
    };
    match run(Path::new(script), cases, seed) {
        Ok(tally) => {
            println!("{tally}");
            let poor = tally.poor();
            poor.iter().for_each(|why| eprintln!("conformance: the run says too little: {why}"));
            if poor.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(why) => {
            eprintln!("conformance: {why}");
            ExitCode::FAILURE
        }
    }
}

/// Compares so many cases.
fn run(script: &Path, cases: u32, seed: u64) -> Result<Tally, String> {
    let oracle = RefCell::new(Oracle::start(script)?);
    let tally = RefCell::new(Tally::default());
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let compare = |case: Case| compare(&case, &oracle, &tally).map_err(TestCaseError::fail);
    match runner.run(&draw::case(), compare) {
        Ok(()) => Ok(tally.into_inner()),
        Err(TestError::Fail(why, case)) => {
            let reason = case.decide().map_or_else(|refused| refused, |(_, reason)| reason);
            Err(format!("{why}\n\n{case}\nthe evaluator: {reason}"))
        }
        Err(other) => Err(other.to_string()),
    }
}

/// Compares one case.
fn compare(case: &Case, oracle: &RefCell<Oracle>, tally: &RefCell<Tally>) -> Result<(), String> {
    let (ours, _) = case.decide()?;
    let theirs = oracle.borrow_mut().ask(case)?;
    let classes = if ours == theirs { BTreeSet::new() } else { explanation(case, ours, oracle)? };
    if ours != theirs && classes.is_empty() {
        return Err(format!("a difference that no class explains: the evaluator says {ours:?}, the oracle {theirs:?}"));
    }
    tally.borrow_mut().case(case, ours, &classes);
    Ok(())
}

/// The classes that explain why the oracle does not decide like this; one alone, if one is enough.
fn explanation(case: &Case, ours: Verdict, oracle: &RefCell<Oracle>) -> Result<BTreeSet<Class>, String> {
    let all = || Class::ALL.iter().copied();
    for among in all().map(|class| BTreeSet::from([class])).chain([all().collect()]) {
        let (read, found) = reading(case, &among);
        if !found.is_empty() && read.decide()?.0 == ours && oracle.borrow_mut().ask(&read)? == ours {
            return Ok(found);
        }
    }
    Ok(BTreeSet::new())
}

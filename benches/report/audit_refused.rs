//! What a call that policies refuse costs the daemon beside one that they allow: who may not do a thing can ask for it all day,
//! and each time it is judged and has its record.

use std::collections::BTreeMap;

use client::Client;
use futures_util::future::join_all;
use proto::v1::EncryptRequest;
use tokio::runtime::Runtime;

use super::audit_daemon::Side;
use super::daemon::connect;
use super::table::{median, spread};
use super::{Options, Outcome, PLAINTEXT_BYTES, said};

/// Calls of each kind in a round: the kernel counts processor time in hundredths of a second.
const CALLS: usize = 12_800;
const IN_FLIGHT: usize = 64;
const DENIED: &str = "AccessDeniedException";

/// Measures one beside the other, without a bound.
pub(super) fn measure(side: &Side, options: &Options, runtime: &Runtime) -> Outcome<String> {
    let mut micros: [Vec<f64>; 2] = Default::default();
    for number in 1..=options.rounds {
        eprintln!("audit, what a refusal costs, round {number} of {} ...", options.rounds);
        for (is_allowed, micros) in [true, false].into_iter().zip(&mut micros) {
            micros.push(runtime.block_on(round(side, is_allowed))?);
        }
    }
    let [allowed, refused] = &micros;
    let ratios: Vec<f64> = refused.iter().zip(allowed).map(|(refused, allowed)| refused / allowed).collect();
    Ok(format!(
        "a call that policies refuse / one that they allow: {:.2} times the daemon's processor time ({} / {} µs; unary Encrypt, \
         {IN_FLIGHT} in flight, each with its record)\n",
        median(&ratios),
        spread(refused),
        spread(allowed),
    ))
}

/// Microseconds of a processor that the daemon had for each call, until all that it left to be done was done.
async fn round(side: &Side, is_allowed: bool) -> Outcome<f64> {
    let client = connect(side.caller()).await?;
    // The first call has more to do.
    call(&client, side.key(), is_allowed).await?;
    side.rest().await?;
    let before = side.processor_time()?;
    let callers = (0..IN_FLIGHT).map(|_| async {
        for _ in 0..CALLS / IN_FLIGHT {
            call(&client, side.key(), is_allowed).await?;
        }
        Ok(())
    });
    join_all(callers).await.into_iter().collect::<Outcome<()>>()?;
    side.rest().await?;
    let took = side.processor_time()?.saturating_sub(before);
    Ok(took.as_secs_f64() * 1e6 / CALLS as f64)
}

/// One that has to end like this. Without a context no statement is about it.
async fn call(client: &Client, key: &str, is_allowed: bool) -> Outcome<()> {
    let context = is_allowed.then(|| ("item".to_owned(), "any".to_owned()));
    let request = EncryptRequest {
        key_id: key.to_owned(),
        plaintext: vec![0x5a; PLAINTEXT_BYTES],
        encryption_context: BTreeMap::from_iter(context),
        ..Default::default()
    };
    match client.encrypt(request).await {
        Ok(_) if is_allowed => Ok(()),
        Ok(_) => Err("a call was allowed that is to be refused".to_owned()),
        Err(error) if !is_allowed && error.exception.as_deref() == Some(DENIED) => Ok(()),
        Err(error) => Err(said("encrypting")(error)),
    }
}

//! Waiting until a key store has got where an operator wants it.

use std::ops::ControlFlow;
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use super::which::describe;
use crate::failure::{Exit, Failure};
use crate::status::connection_state;
use crate::{Context, interruption};
use client::Client;
use proto::v1::{DescribeKeyStoresRequest, KeyStore};

/// Between two looks.
const EVERY: Duration = Duration::from_millis(50);

/// What a look says: go on, or the end of the waiting.
pub(super) type Verdict = ControlFlow<Result<(), Failure>>;

/// Looks at the store until `judge` has seen enough, for as long as the user wants to wait.
pub(super) async fn until(
    context: &Context,
    client: &Client,
    id: &str,
    mut judge: impl FnMut(&KeyStore) -> Verdict,
) -> Result<KeyStore, Failure> {
    let patience = context.connection.patience();
    let mut last = None;
    let watching = async {
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let request = DescribeKeyStoresRequest { key_store_id: id.to_owned(), ..Default::default() };
            let store = match describe(client, request).await {
                Ok(store) => store,
                // It may answer at the next look.
                Err(failure) if failure.exit == Exit::Retryable || failure.was_broken_off() => continue,
                Err(failure) => return Err(failure),
            };
            last = Some(store.connection_state());
            if let ControlFlow::Break(end) = judge(&store) {
                return end.map(|()| store);
            }
        }
    };
    let hint = format!("it goes on in the service; `keystorectl key-store describe {id}` tells how far it is");
    tokio::select! {
        ended = tokio::time::timeout(patience, watching) => ended.unwrap_or_else(|_| {
            let state = last.map_or("not known", connection_state);
            let message = format!("not done within {patience:?}: the key store is {state}");
            Err(Failure::new(Exit::Retryable, message).with_hint(format!("{hint}; --timeout allows for more time")))
        }),
        () = interruption() => Err(Failure::new(Exit::Interrupted, "interrupted").with_hint(hint)),
    }
}

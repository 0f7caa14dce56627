//! `keystorectl key-store connect`

use std::ops::ControlFlow;

use clap::Args;
use serde::Serialize;

use super::Done;
use super::advice::advice;
use super::steps::{Step, Steps};
use super::wait::{self, Verdict};
use super::which::Which;
use crate::Context;
use crate::failure::{Exit, Failure};
use crate::printer::Report;
use crate::status::connection_state;
use model::key_store::ConnectionErrorCode;
use proto::v1::{ConnectionState, KeyStore};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    which: Which,
    /// Wait until it is connected or has failed, and show each step of each HSM meanwhile; --timeout says how long
    /// [default: 60s]
    #[arg(long)]
    wait: bool,
}

#[derive(Serialize)]
struct Connected {
    key_store_id: String,
    key_store_name: String,
    cluster_id: String,
    connection_state: &'static str,
    steps: Vec<Step>,
}

impl Report for Connected {
    fn text(&self) -> String {
        format!("Connected {} ({})", self.key_store_name, self.key_store_id)
    }
}

pub(super) async fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let client = context.connection.connect().await?;
    if !arguments.wait {
        let id = arguments.which.id(&client).await?;
        client.connect_key_store(&id).await?;
        let text = format!("Connecting; `keystorectl key-store describe {id}` tells how far it is");
        return context.printer.report(&Done { key_store_id: id, text });
    }
    let before = arguments.which.find(&client).await?;
    let mut steps = Steps::default();
    if before.connection_state() != ConnectionState::Connecting {
        steps.ignore(&before.hsms);
    }
    let id = before.key_store_id;
    client.connect_key_store(&id).await?;
    let store = wait::until(context, &client, &id, |store| {
        for step in steps.new_ones(&store.hsms) {
            context.printer.note(step);
        }
        verdict(store)
    })
    .await?;
    context.printer.report(&Connected {
        connection_state: connection_state(store.connection_state()),
        key_store_id: store.key_store_id,
        key_store_name: store.key_store_name,
        cluster_id: store.cluster_id,
        steps: steps.into_told(),
    })
}

/// Whether the connect that was answered has come to its end.
fn verdict(store: &KeyStore) -> Verdict {
    let end = match store.connection_state() {
        ConnectionState::Unspecified | ConnectionState::Connecting => return ControlFlow::Continue(()),
        ConnectionState::Connected => Ok(()),
        ConnectionState::Failed => Err(failed(store)),
        ConnectionState::Disconnecting | ConnectionState::Disconnected => {
            Err(Failure::new(Exit::Refused, "somebody disconnected the key store before it was connected"))
        }
    };
    ControlFlow::Break(end)
}

fn failed(store: &KeyStore) -> Failure {
    let (code, message) = (&store.connection_error_code, &store.connection_error_message);
    let hint = advice(code, &store.key_store_id);
    let Some(known) = ConnectionErrorCode::from_name(code) else {
        // A newer service's.
        return Failure::new(Exit::Refused, format!("{code}: {message}")).with_hint(hint);
    };
    Failure { connection_error: Some(known), ..Failure::new(Exit::Refused, message.clone()) }.with_hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(state: ConnectionState) -> KeyStore {
        KeyStore { key_store_id: "cks-1".to_owned(), connection_state: state.into(), ..Default::default() }
    }

    #[test]
    fn it_waits_while_it_connects() {
        assert_eq!(verdict(&store(ConnectionState::Connecting)), ControlFlow::Continue(()));
        assert_eq!(verdict(&store(ConnectionState::Connected)), ControlFlow::Break(Ok(())));
        for state in [ConnectionState::Disconnecting, ConnectionState::Disconnected] {
            let ControlFlow::Break(Err(failure)) = verdict(&store(state)) else { panic!("{state:?}") };
            assert_eq!(failure.exit, Exit::Refused);
        }
    }

    #[test]
    fn a_failed_connect_says_why_and_what_to_do() {
        let store = KeyStore {
            connection_error_code: "USER_LOCKED_OUT".to_owned(),
            connection_error_message: "HSM hsm-b has locked kmsuser".to_owned(),
            ..store(ConnectionState::Failed)
        };
        let ControlFlow::Break(Err(failure)) = verdict(&store) else { panic!("it goes on") };
        assert_eq!(failure.exit, Exit::Refused);
        assert_eq!(failure.connection_error, Some(ConnectionErrorCode::UserLockedOut));
        assert_eq!(failure.message, "HSM hsm-b has locked kmsuser");
        assert!(failure.hint.unwrap().contains("disconnect cks-1"));
    }
}

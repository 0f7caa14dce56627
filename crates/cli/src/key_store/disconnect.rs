//! `keystorectl key-store disconnect`

use std::ops::ControlFlow;

use clap::Args;

use super::Done;
use super::wait::{self, Verdict};
use super::which::Which;
use crate::Context;
use crate::failure::{Exit, Failure};
use proto::v1::ConnectionState;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    which: Which,
    /// Wait until all HSMs are logged out of; --timeout says how long [default: 60s]. Its keys are out of use before
    /// that
    #[arg(long)]
    wait: bool,
}

pub(super) async fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let client = context.connection.connect().await?;
    let id = arguments.which.id(&client).await?;
    client.disconnect_key_store(&id).await?;
    let text = if arguments.wait {
        wait::until(context, &client, &id, |store| verdict(store.connection_state())).await?;
        format!("Disconnected {id}")
    } else {
        format!("Disconnecting {id}: no operation with its keys succeeds any more")
    };
    context.printer.report(&Done { key_store_id: id, text })
}

fn verdict(state: ConnectionState) -> Verdict {
    match state {
        ConnectionState::Unspecified | ConnectionState::Disconnecting => ControlFlow::Continue(()),
        ConnectionState::Disconnected => ControlFlow::Break(Ok(())),
        ConnectionState::Connecting | ConnectionState::Connected | ConnectionState::Failed => {
            let message = "it was disconnected, and somebody has connected it again";
            ControlFlow::Break(Err(Failure::new(Exit::Refused, message)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_waits_for_the_log_outs() {
        assert_eq!(verdict(ConnectionState::Disconnecting), ControlFlow::Continue(()));
        assert_eq!(verdict(ConnectionState::Disconnected), ControlFlow::Break(Ok(())));
        assert!(matches!(verdict(ConnectionState::Connecting), ControlFlow::Break(Err(_))));
    }
}

//! What the cluster needs of one HSM. There is one implementation in the product, the supervisor's handle; the tests
//! of this crate put scripted members in its place.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use model::call_options::CallOptions;
use model::profile::judgement::Judgement;
use protocol::{Op, Reply};
use supervisor::{self, CallError, Hsm, Status};

pub(super) trait Port: Clone + Send + Sync + 'static {
    /// Hands an operation over and waits for its reply until its deadline.
    fn call(&self, op: Arc<Op>, options: CallOptions) -> impl Future<Output = Result<Reply, CallError>> + Send;

    /// How long a request that came now would wait for its turn.
    fn wait(&self) -> Duration;

    /// Items that one session does in a time, as far as is known.
    fn items_in(&self, time: Duration) -> usize;

    /// Items that wait for or are in this HSM.
    fn load(&self) -> usize;

    /// What it is doing now.
    fn status(&self) -> Arc<Status>;

    /// Sees every change of the status.
    fn watch(&self) -> watch::Receiver<Arc<Status>>;

    /// How it is run.
    fn settings(&self) -> &supervisor::Settings;

    /// Takes over what another look at its token has found.
    fn examined(&self, judgement: Judgement);
}

impl Port for Hsm {
    fn call(&self, op: Arc<Op>, options: CallOptions) -> impl Future<Output = Result<Reply, CallError>> + Send {
        Hsm::call(self, op, options)
    }

    fn wait(&self) -> Duration {
        Hsm::wait(self)
    }

    fn items_in(&self, time: Duration) -> usize {
        Hsm::items_in(self, time)
    }

    fn load(&self) -> usize {
        Hsm::load(self)
    }

    fn status(&self) -> Arc<Status> {
        Hsm::status(self)
    }

    fn watch(&self) -> watch::Receiver<Arc<Status>> {
        Hsm::watch(self)
    }

    fn settings(&self) -> &supervisor::Settings {
        Hsm::settings(self)
    }

    fn examined(&self, judgement: Judgement) {
        Hsm::examined(self, judgement);
    }
}

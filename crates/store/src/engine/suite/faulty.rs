//! Stands between the store and an engine, and fails at a statement of choice.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use futures_util::future::BoxFuture;

use super::super::value::Value;
use super::super::{Answer, Connection, Distress, Done, Engine, Fault, Session, Told};
use crate::Error;
use model::lock::MutexExt as _;
use model::outage::Outage;

/// How a statement fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// It is not carried out.
    Refused,
    /// It is, and its answer is lost.
    Lost,
    /// It takes its task along.
    Panics,
}

/// What the statement fails with.
pub(crate) const FAULTS: [(&str, Told); 5] = [
    ("full", Told::Outage(Outage::Full)),
    ("I/O error", Told::Look(Some(Outage::Io))),
    ("busy", Told::Outage(Outage::InUse)),
    ("read-only", Told::Look(Some(Outage::ReadOnly))),
    ("file gone", Told::Outage(Outage::Gone)),
];

/// What will fail.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) told: Told,
    pub(crate) way: Way,
    /// Statements that go well before it.
    pub(crate) after: usize,
    /// Everything fails from then on.
    pub(crate) lasting: bool,
}

/// What is to fail, and how far it is.
#[derive(Default)]
struct Standing {
    plan: Option<Plan>,
    seen: usize,
    struck: bool,
}

/// Tells an engine's decorator what to do.
#[derive(Clone, Default)]
pub(crate) struct Switch(Arc<Mutex<Standing>>);

impl Switch {
    pub(crate) fn arm(&self, plan: Plan) {
        *self.standing() = Standing { plan: Some(plan), ..Standing::default() };
    }

    /// Nothing fails any more; whether anything did.
    pub(crate) fn disarm(&self) -> bool {
        std::mem::take(&mut *self.standing()).struck
    }

    /// What becomes of the next statement.
    fn next(&self) -> Option<Plan> {
        let mut standing = self.standing();
        let plan = standing.plan?;
        standing.seen += 1;
        let strikes = if plan.lasting { standing.seen > plan.after } else { standing.seen == plan.after + 1 };
        standing.struck |= strikes;
        strikes.then_some(plan)
    }

    fn standing(&self) -> MutexGuard<'_, Standing> {
        self.0.lock_anyway()
    }
}

pub(crate) struct Faulty {
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) switch: Switch,
}

impl Engine for Faulty {
    fn directory(&self) -> &Path {
        self.engine.directory()
    }

    fn connect(&self) -> Answer<'_, Connection> {
        Box::pin(async move {
            let connection = perform(&self.switch, self.engine.connect()).await?;
            Ok(Connection::new(Shaky { inner: connection, switch: self.switch.clone() }))
        })
    }

    fn present(&self) -> BoxFuture<'_, bool> {
        self.engine.present()
    }

    fn closed(&self) {
        self.engine.closed();
    }

    fn distress(&self, distress: Option<Distress>) -> Answer<'_, bool> {
        self.engine.distress(distress)
    }
}

struct Shaky {
    inner: Connection,
    switch: Switch,
}

async fn perform<T>(switch: &Switch, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let Some(plan) = switch.next() else { return work.await };
    match plan.way {
        Way::Refused => {}
        Way::Lost => drop(work.await?),
        Way::Panics => panic!("a statement that takes its task along"),
    }
    Err(Error::Engine(Fault { told: plan.told, code: 0, message: "planted".to_owned() }))
}

impl Session for Shaky {
    fn probe(&mut self) -> Answer<'_, ()> {
        Box::pin(perform(&self.switch, self.inner.probe()))
    }

    fn prepare(&mut self) -> Answer<'_, ()> {
        Box::pin(perform(&self.switch, self.inner.prepare()))
    }

    fn begin(&mut self) -> Answer<'_, ()> {
        Box::pin(perform(&self.switch, self.inner.begin()))
    }

    fn look(&mut self) -> Answer<'_, ()> {
        Box::pin(perform(&self.switch, self.inner.look()))
    }

    fn run(&mut self, sql: &'static str, values: Vec<Value>) -> Answer<'_, Done> {
        Box::pin(perform(&self.switch, self.inner.0.run(sql, values)))
    }

    fn commit(&mut self) -> Answer<'_, ()> {
        Box::pin(perform(&self.switch, self.inner.commit()))
    }

    fn rollback(&mut self) -> Answer<'_, ()> {
        Box::pin(perform(&self.switch, self.inner.rollback()))
    }

    fn tidy(&mut self) -> Answer<'_, ()> {
        Box::pin(perform(&self.switch, self.inner.tidy()))
    }

    /// Leaving is no statement: the connection is gone afterwards, whatever comes of it.
    fn close(self: Box<Self>) -> Answer<'static, ()> {
        Box::pin(self.inner.close())
    }
}

//! Looking after the disk: opening the metadata on a full one, and healing when there is room again.

use std::sync::Arc;
use std::time::Duration;

use super::change::Work;
use super::connection::{judged, retire};
use super::disk::{Room, try_writing};
use super::engine::value::values;
use super::engine::{Connection, Engine};
use super::reserve::{Purpose, Reserve, Standing};
use super::trouble::Status;
use super::{Catalogue, Error, Inner, Store, Writer, load};
use model::outage::Outage;

/// Who changes something now is not waited for longer.
const TURN: Duration = Duration::from_secs(1);

impl Store {
    /// One look at the disk and, where something is wrong, one try to mend it: the reserve is made whole, and something
    /// is written. Whoever runs the store does this now and then; changes that are refused for the reserve's sake try
    /// too.
    pub async fn tend(&self) -> Status {
        let inner = &self.inner;
        let directory = inner.engine.directory().to_owned();
        inner.record.asked(inner.clock.now());
        inner.record.seen(blocking(move || Room::of(&directory).ok()).await.flatten());
        inner.reserve.look();
        let present = inner.engine.present().await;
        if !present || inner.record.fails() || inner.reserve.standing() != Standing::Whole {
            // Where a change does not end, this must not wait for it: it tells that the disk hangs.
            if let Ok(mut turn) = tokio::time::timeout(TURN, inner.writer.lock()).await
                && !turn.closed
            {
                if !present && !inner.record.fails() {
                    // A change finds it out and says it; what is without a name is left before it is lost.
                    inner.write_something(&mut turn).await.ok();
                }
                inner.mend(&mut turn).await;
            }
        }
        inner.have_reader().await;
        self.disk()
    }

    /// Whether a change that is no restricting one would be recorded now, as far as is known.
    #[must_use]
    pub fn records(&self) -> bool {
        !self.inner.record.fails() && self.inner.reserve.standing() != Standing::Spent
    }

    /// How the disk is, as far as is known. Asks nobody.
    #[must_use]
    pub fn disk(&self) -> Status {
        let inner = &self.inner;
        inner.record.status(inner.engine.directory(), inner.reserve.kept(), inner.clock.now())
    }
}

impl Inner {
    /// Opens the connection that reads where it broke: it also keeps what SQLite needs beside the database in being.
    async fn have_reader(&self) {
        let Ok(mut reader) = self.reader.try_lock() else { return };
        if reader.database.is_none() && !reader.closed {
            reader.database = self.engine.connect().await.ok();
        }
    }

    /// Makes the reserve whole, and finds out whether changes can be recorded again.
    pub(super) async fn mend(&self, turn: &mut Writer) {
        let spent = self.reserve.standing() == Standing::Spent;
        let whole = self.refill().await;
        if spent && !whole {
            return;
        }
        if self.record.fails() {
            let directory = self.engine.directory().to_owned();
            if !blocking(move || try_writing(&directory).is_ok()).await.unwrap_or(false) {
                return;
            }
            // It also takes the place of what a commit that failed may have left at the end of the log.
            if self.write_something(turn).await.is_err() {
                return;
            }
            self.record.worked(self.clock.now());
        }
        if spent && let Some(database) = &mut turn.database {
            // What the reserve gave to the log is not needed there any more.
            if let Err(error) = database.tidy().await {
                tracing::debug!(%error, "the write-ahead log was not made shorter");
            }
        }
    }

    async fn write_something(&self, turn: &mut Writer) -> Result<(), Error> {
        let same = "UPDATE revision SET value = value WHERE id = 1";
        let work: Work =
            Box::new(move |transaction| Box::pin(async move { transaction.execute(same, values![]).await.map(drop) }));
        self.attempt(turn, work).await
    }

    /// Whether the reserve is whole now.
    pub(super) async fn refill(&self) -> bool {
        let reserve = Arc::clone(&self.reserve);
        blocking(move || reserve.refill()).await.unwrap_or(false)
    }
}

/// Opens the database and reads what is in it. Where the disk is too full for SQLite to open it, which makes an index
/// of the write-ahead log beside it, the reserve has the room. Migrations have to wait for room of their own.
pub(super) async fn open(engine: &dyn Engine, reserve: &Reserve) -> Result<(Connection, Catalogue), Error> {
    let mut database = loop {
        match opened(engine).await {
            Ok(database) => break database,
            Err(error) => match judged(engine.directory(), error).await {
                Error::Storage(trouble)
                    if trouble.outage == Outage::Full && reserve.release(Purpose::Restricting).unwrap_or(false) =>
                {
                    tracing::warn!("{trouble}; a part of the reserve is used to open them");
                }
                error => return Err(error),
            },
        }
    };
    let read = async {
        database.prepare().await?;
        if load::nameless(&mut database).await? {
            database.begin().await?;
            load::name_materials(&mut database).await?;
            database.commit().await?;
        }
        load::catalogue(&mut database).await
    };
    match read.await {
        Ok(catalogue) => Ok((database, catalogue)),
        Err(error) => {
            retire(database).await;
            Err(judged(engine.directory(), error).await)
        }
    }
}

async fn opened(engine: &dyn Engine) -> Result<Connection, Error> {
    let mut database = engine.connect().await?;
    match database.probe().await {
        Ok(()) => Ok(database),
        Err(error) => {
            retire(database).await;
            Err(error)
        }
    }
}

/// Runs what may wait for the disk where nobody else waits for it.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    // On panic: as if it had come to nothing.
    tokio::task::spawn_blocking(work).await.ok()
}

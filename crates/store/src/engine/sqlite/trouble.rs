//! Real trouble for tests.

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sqlx::sqlite::SqliteConnectOptions;

use super::lineage::{LOG, beside};
use super::{Place, copy};
use crate::Error;
use crate::engine::value::values;
use crate::engine::{Connection, Distress};

/// What was brought about.
#[derive(Default)]
pub(super) struct Brought {
    distress: Option<Distress>,
    /// Holds the lock that writers wait for.
    holder: Option<Connection>,
}

impl Place {
    pub(super) fn troubled(&self, options: SqliteConnectOptions) -> SqliteConnectOptions {
        match self.distress.lock().unwrap().distress {
            Some(Distress::Full) => options.pragma("max_page_count", self.pages.load(Ordering::Relaxed).to_string()),
            Some(Distress::Busy) => options.busy_timeout(Duration::ZERO),
            Some(Distress::ReadOnly) => options.pragma("query_only", "ON"),
            _ => options,
        }
    }

    pub(super) async fn bring(&self, distress: Option<Distress>) -> Result<bool, Error> {
        let mut holder = None;
        match distress {
            Some(Distress::Full) => {
                let mut database = copy::open(&self.file).await?;
                let (pages,): (u32,) = database.one("PRAGMA page_count", values![]).await?;
                database.close().await?;
                self.pages.store(pages, Ordering::Relaxed);
            }
            Some(Distress::Busy) => {
                let mut database = copy::open(&self.file).await?;
                database.begin().await?;
                holder = Some(database);
            }
            Some(Distress::Gone) => std::fs::rename(&self.file, self.aside()).unwrap(),
            Some(Distress::LogGone) => std::fs::remove_file(beside(&self.file, LOG)).unwrap(),
            Some(Distress::ReadOnly) | None => {}
        }
        let former = {
            let mut brought = self.distress.lock().unwrap();
            if brought.distress == Some(Distress::Gone) {
                std::fs::rename(self.aside(), &self.file).unwrap();
            }
            std::mem::replace(&mut *brought, Brought { distress, holder })
        };
        if let Some(holder) = former.holder {
            holder.close().await?;
        }
        Ok(true)
    }

    fn aside(&self) -> PathBuf {
        beside(&self.file, ".aside")
    }
}

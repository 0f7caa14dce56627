//! The steps from one schema to the next, in migrations/. Once released, a step is never changed.

use std::sync::LazyLock;

use sqlx::SqlSafeStr as _;
use sqlx::migrate::{Migration, MigrationType, Migrator};

/// Every step, in its order. Named here one by one, because sqlx's macro would have SQLite compiled a second time.
pub(super) static MIGRATIONS: LazyLock<Migrator> = LazyLock::new(|| {
    let steps = [
        (1, "keys", include_str!("../../../migrations/0001_keys.sql")),
        (2, "key stores", include_str!("../../../migrations/0002_key_stores.sql")),
        (3, "tombstones", include_str!("../../../migrations/0003_tombstones.sql")),
        (5, "offered pins", include_str!("../../../migrations/0005_offered_pins.sql")),
        (6, "changes", include_str!("../../../migrations/0006_changes.sql")),
        (7, "key life", include_str!("../../../migrations/0007_key_life.sql")),
        (8, "access", include_str!("../../../migrations/0008_access.sql")),
        (9, "voters", include_str!("../../../migrations/0009_voters.sql")),
        (10, "access keys", include_str!("../../../migrations/0010_access_keys.sql")),
        (11, "audit logs", include_str!("../../../migrations/0011_audit_logs.sql")),
        (12, "in place", include_str!("../../../migrations/0012_in_place.sql")),
        (13, "makers", include_str!("../../../migrations/0013_makers.sql")),
        (14, "taken by", include_str!("../../../migrations/0014_taken_by.sql")),
    ];
    let step = |(version, what, sql): (i64, &'static str, &'static str)| {
        Migration::new(version, what.into(), MigrationType::Simple, sql.into_sql_str(), false)
    };
    Migrator::with_migrations(steps.into_iter().map(step).collect())
});

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use sqlx::Connection as _;
    use sqlx::migrate::Migrator;
    use sqlx::sqlite::SqliteConnectOptions;
    use sqlx::{ConnectOptions as _, Executor as _};

    use super::MIGRATIONS;
    use crate::access::{NewKeyPolicy, NewPrincipal};
    use crate::engine::sqlite::copy;
    use crate::engine::value::values;
    use crate::log::{self, Change, Entity, ID_BYTES, Position, SLOTS};
    use crate::{Store, load};
    use model::clock::Clock;
    use model::id::{KeyId, PrincipalId};
    use model::key::KeyState;

    #[test]
    fn every_file_is_a_step() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
        let name = |entry: std::io::Result<std::fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
        let files: BTreeSet<_> = std::fs::read_dir(folder).unwrap().map(name).collect();
        let steps =
            MIGRATIONS.iter().map(|step| format!("{:04}_{}.sql", step.version, step.description.replace(' ', "_")));
        assert_eq!(files, steps.collect());
    }

    /// A database as a release left it that knew the steps up to one, with a key and a change of it.
    async fn of_step(file: &Path, last: i64, key: KeyId) {
        let steps = MIGRATIONS.iter().filter(|step| step.version <= last).cloned().collect();
        let options = SqliteConnectOptions::new().filename(file).create_if_missing(true);
        let mut database = options.connect().await.unwrap();
        Migrator::with_migrations(steps).run_direct(None, &mut database, false).await.unwrap();
        let rows = format!(
            "INSERT INTO key_stores (id, name, cluster_id, state, created_at, revision) \
             VALUES ('cks-1', 'main', 'cluster-aaaaaaaaaaa', 'CONNECTED', 0, 1); \
             INSERT INTO keys (id, key_store_id, state, description, created_at, revision) \
             VALUES ('{key}', 'cks-1', 'Enabled', 'of before', 7, 2); \
             INSERT INTO key_versions (key_id, version, material_id) VALUES ('{key}', 1, 'ab'); \
             UPDATE revision SET value = 2, log_end = 2 WHERE id = 1; \
             UPDATE changes SET position = 1, revision = 2, entity = 'key', id = '{key}', gone = 0 WHERE slot = 1"
        );
        for row in rows.split(';') {
            database.execute(sqlx::AssertSqlSafe(row.to_owned())).await.unwrap();
        }
        database.close().await.unwrap();
    }

    #[tokio::test]
    async fn a_database_from_before_access_has_its_keys_and_its_log() {
        const ANY: &[KeyState] = &[KeyState::Enabled];
        let folder = tempfile::tempdir().unwrap();
        let (file, key) = (folder.path().join("keystored.db"), KeyId::random());
        of_step(&file, 7, key).await;
        let store = Store::open(&file, Clock::manual()).await.unwrap();
        let found = store.catalogue().key(key).cloned().unwrap();
        assert_eq!(
            (found.description.as_str(), found.policy.as_ref(), found.state),
            ("of before", None, KeyState::Enabled)
        );
        assert_eq!((store.catalogue().principal_count(), store.catalogue().grant_count_of(key)), (0, 0));

        let mut database = copy::open(&file).await.unwrap();
        let lengths = "SELECT MIN(length(id)), MAX(length(id)), COUNT(*) FROM changes";
        let lengths: (i64, i64, i64) = database.one(lengths, values![]).await.unwrap();
        let long = i64::try_from(ID_BYTES).unwrap();
        assert_eq!(lengths, (long, long, SLOTS), "as long as they will be");
        let (from, to) = (Position { revision: 1, end: 1 }, Position { revision: 2, end: 2 });
        let changes = log::between(&mut database, from, to).await.unwrap().unwrap();
        assert_eq!(changes, [Change { entity: Entity::Key(key), gone: false }], "what it said before is still read");

        let id: PrincipalId = store.create_principal(NewPrincipal::new("arn:aws:iam::1:user/a")).await.unwrap();
        let names = [("arn:aws:iam::1:user/a".to_owned(), id)].into();
        store.put_key_policy(key, NewKeyPolicy { document: "{}".into(), names }, ANY).await.unwrap();
        let read = load::catalogue(&mut database).await.unwrap();
        assert_eq!(format!("{read:?}"), format!("{:?}", store.catalogue()));
    }
}

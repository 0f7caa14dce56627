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

    use super::MIGRATIONS;

    #[test]
    fn every_file_is_a_step() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
        let name = |entry: std::io::Result<std::fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
        let files: BTreeSet<_> = std::fs::read_dir(folder).unwrap().map(name).collect();
        let steps =
            MIGRATIONS.iter().map(|step| format!("{:04}_{}.sql", step.version, step.description.replace(' ', "_")));
        assert_eq!(files, steps.collect());
    }
}

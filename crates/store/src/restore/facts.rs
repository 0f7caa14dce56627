//! Reads what a plan is made of, and carries it out: one transaction, whose rows are in the restored database alone.

use std::collections::BTreeMap;

use super::access;
use super::plan::{Facts, Plan};
use crate::change::Transaction;
use crate::engine::Connection;
use crate::engine::value::values;
use crate::{Error, Store, audit, load, log, pins};
use model::id::{ClusterId, HsmId, KeyVersionId};
use model::key::KeyState;
use model::key_store::ConnectionState;

impl Store {
    /// Everything that a restore compares.
    pub(super) async fn facts(&self) -> Result<Facts, Error> {
        let catalogue = self.catalogue();
        let mut known = BTreeMap::new();
        for store in catalogue.key_stores().map(|store| &store.id) {
            known.extend(self.pins(store).await?.into_iter().map(|(hsm, pin)| ((store.clone(), hsm), pin)));
        }
        // On the connection that reads: it works on a full disk.
        let (destroyed, reserved, left) = self.read(|database| Box::pin(counted(database))).await?;
        let mut spent: BTreeMap<_, _> = left.into_iter().collect();
        for ((store, hsm), pin) in &known {
            let Some(store) = catalogue.key_store(store) else { continue };
            let count: &mut u32 = spent.entry((store.cluster.clone(), hsm.clone())).or_default();
            *count = pin.spent().max(*count);
        }
        let audit_logs = self.audit_logs().await?;
        Ok(Facts { catalogue, pins: known, spent, destroyed, reserved, audit_logs })
    }

    /// Takes over what a plan says. No catalogue follows it: whoever has one reads everything.
    pub(super) async fn take_over(&self, plan: &Plan) -> Result<(), Error> {
        let plan = plan.clone();
        self.change(move |database| Box::pin(async move { apply(database, &plan).await })).await
    }
}

type Counted = (BTreeMap<KeyVersionId, i64>, BTreeMap<KeyVersionId, u64>, Vec<((ClusterId, HsmId), u32)>);

async fn counted(database: &mut Connection) -> Result<Counted, Error> {
    let destroyed: Vec<(String, i64, i64)> =
        database.all("SELECT key_id, version, destroyed_at FROM destroyed_versions", values![]).await?;
    let reserved: Vec<(String, i64, i64)> =
        database.all("SELECT key_id, version, encryptions_reserved FROM key_versions", values![]).await?;
    let left: Vec<(String, String, i64)> =
        database.all("SELECT cluster_id, hsm_id, failures FROM failed_logins", values![]).await?;
    let destroyed = destroyed
        .into_iter()
        .map(|(key, version, at)| Ok((load::version_id(&key, version)?, at)))
        .collect::<Result<_, Error>>()?;
    // A negative number is damage; that nothing is left is the safe side.
    let reserved = reserved
        .into_iter()
        .map(|(key, version, count)| Ok((load::version_id(&key, version)?, u64::try_from(count).unwrap_or(u64::MAX))))
        .collect::<Result<_, Error>>()?;
    let left = left
        .into_iter()
        .map(|(cluster, hsm, count)| {
            ((ClusterId::from(cluster.as_str()), HsmId::from(hsm.as_str())), u32::try_from(count).unwrap_or(u32::MAX))
        })
        .collect();
    Ok((destroyed, reserved, left))
}

async fn apply(database: &mut Transaction, plan: &Plan) -> Result<(), Error> {
    access::apply(database, &plan.access).await?;
    for (key_store, hsm, pin) in &plan.pins {
        pins::put(database, key_store, hsm, pin).await?;
    }
    for (cluster, hsm, count) in &plan.spent {
        pins::count_at_least(database, cluster, hsm, *count).await?;
    }
    for (version, at) in &plan.destroyed {
        database
            .execute(
                "INSERT INTO destroyed_versions (key_id, version, destroyed_at) VALUES ($1, $2, $3) \
             ON CONFLICT (key_id, version) DO NOTHING",
                values![version.key.to_string(), i64::from(version.version), *at],
            )
            .await?;
    }
    for (version, used) in &plan.reserved {
        database
            .execute(
                "UPDATE key_versions SET encryptions_reserved = $1 WHERE key_id = $2 AND version = $3",
                values![i64::try_from(*used).unwrap_or(i64::MAX), version.key.to_string(), i64::from(version.version)],
            )
            .await?;
    }
    for version in plan.gone.iter().chain(&plan.half_made) {
        database
            .execute(
                "DELETE FROM key_versions WHERE key_id = $1 AND version = $2",
                values![version.key.to_string(), i64::from(version.version)],
            )
            .await?;
        database
            .execute(
                "DELETE FROM keys WHERE id = $1 AND NOT EXISTS (SELECT 1 FROM key_versions WHERE key_id = $1)",
                values![version.key.to_string()],
            )
            .await?;
    }
    for key in &plan.left_out {
        database.execute("DELETE FROM keys WHERE id = $1", values![key.to_string()]).await?;
    }
    for key in &plan.disabled {
        database
            .execute("UPDATE keys SET state = $1 WHERE id = $2", values![KeyState::Disabled.name(), key.to_string()])
            .await?;
    }
    for key in &plan.spared {
        let sql = "UPDATE keys SET state = $1, deletion_date = NULL WHERE id = $2 AND material_destroyed = 0";
        database.execute(sql, values![KeyState::Disabled.name(), *key]).await?;
    }
    if let Some(logs) = &plan.audit_logs {
        audit::replace(database, logs).await?;
    }
    // Of PINs that were told since, nobody finds out by the call that made the key store what they are.
    database.execute("UPDATE key_stores SET maker = NULL", values![]).await?;
    // Whoever restores has a day to see what is to be deleted.
    database.execute("UPDATE keys SET overdue = 0", values![]).await?;
    for store in &plan.disconnected {
        database
            .execute(
                "UPDATE key_stores SET state = $1, error_code = NULL, error_message = NULL WHERE id = $2",
                values![ConnectionState::Disconnected.name(), store.as_str()],
            )
            .await?;
    }
    log::break_off(database, i64::try_from(plan.revision.saturating_add(1)).unwrap_or(i64::MAX)).await
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::NewKeyStore;
    use crate::restore::{Order, plan};
    use model::clock::Clock;
    use model::id::{KeyStoreId, PrincipalId};
    use model::pin::{Pin, PinChange};

    async fn with_key_store(folder: &tempfile::TempDir, name: &str, id: &KeyStoreId) -> Store {
        let store = Store::open(&folder.path().join(name), Clock::manual()).await.unwrap();
        store.create_key_store(new(id.clone())).await.unwrap();
        store
    }

    fn new(id: KeyStoreId) -> NewKeyStore {
        NewKeyStore {
            id,
            name: "main".into(),
            cluster: ClusterId::from("cluster-aaaaaaaaaaa"),
            trust_anchor: "PEM".into(),
            pins: vec![("hsm-a".into(), given())],
            maker: Some("AIDAANNA".into()),
        }
    }

    fn given() -> Pin {
        Pin::given(Bytes::from_static(b"sealed"))
    }

    async fn spend(store: &Store, id: &KeyStoreId, failures: u32) {
        let change = PinChange { hsm: "hsm-a".into(), before: Some(given()), after: Pin { failures, ..given() } };
        store.replace_pin(id, change).await.unwrap();
    }

    async fn spent(store: &Store, id: &KeyStoreId) -> u32 {
        store.pins(id).await.unwrap()[0].1.spent()
    }

    /// As the database has it: no catalogue follows a restore.
    async fn maker(store: &Store, id: &KeyStoreId) -> Option<PrincipalId> {
        let of = id.clone();
        let found = store.read(move |database| Box::pin(async move { load::key_store(database, &of).await })).await;
        found.unwrap().unwrap().maker
    }

    /// Otherwise whoever restores, deletes and makes key stores in turns spends more tries than a token has.
    #[tokio::test]
    async fn failed_logins_outlive_a_restore() {
        let folder = tempfile::tempdir().unwrap();
        let id = KeyStoreId::random();
        // Of a key store that was deleted since.
        let (backup, former) = (with_key_store(&folder, "a.db", &id).await, with_key_store(&folder, "b.db", &id).await);
        spend(&former, &id, 2).await;
        former.delete_key_store(&id).await.unwrap();
        let plan_of = async |backup: &Store, former: &Store| {
            plan(&backup.facts().await.unwrap(), Some(&former.facts().await.unwrap()), Order::FormerIsNewer)
        };
        backup.take_over(&plan_of(&backup, &former).await).await.unwrap();
        assert_eq!(spent(&backup, &id).await, 2);
        backup.take_over(&plan_of(&backup, &former).await).await.unwrap();
        assert_eq!(spent(&backup, &id).await, 2, "the same tries are not counted twice");
        assert_eq!(maker(&backup, &id).await, None, "a PIN that came from the former one is not what the maker gave");

        // Of a key store that was made since.
        let (backup, former) = (with_key_store(&folder, "c.db", &id).await, with_key_store(&folder, "d.db", &id).await);
        backup.delete_key_store(&id).await.unwrap();
        spend(&former, &id, 2).await;
        backup.take_over(&plan_of(&backup, &former).await).await.unwrap();
        backup.create_key_store(new(id.clone())).await.unwrap();
        assert_eq!(spent(&backup, &id).await, 2);
    }
}

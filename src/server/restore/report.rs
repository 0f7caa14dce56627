//! What is told before anything is changed.

use std::io::{self, Write};
use std::path::Path;

use super::access;
use super::tokens::Look;
use cluster::placement::compare;
use model::clock::utc;
use model::id::{HsmId, KeyStoreId, KeyVersionId};
use model::key::KeyState;
use model::key_store::ConnectionState;
use service::lifecycle::wanted_in;
use store::Catalogue;
use store::restore::{MARGIN, Plan, Present, Restore};

/// What an operator does about PINs that the restored database does not know. A store that was CONNECTED cannot be told one
/// before the start, which connects it. One that is DISCONNECTED, or becomes so with the start, refuses to be disconnected.
fn officer(store: &KeyStoreId, state: ConnectionState) -> String {
    let start = "have the security officer set kmsuser's PIN in the HSM, and start the daemon";
    let told = format!(
        "keystorectl key-store update {store} --password-file FILE --pin-was-reset --hsm HSM, and keystorectl key-store \
         connect {store} --wait"
    );
    if matches!(state, ConnectionState::Disconnected | ConnectionState::Disconnecting) {
        return format!("{start}; then {told}");
    }
    format!(
        "{start}; where the start connects the key store, an older PIN costs one try in that HSM and is not tried again; then \
         keystorectl key-store disconnect {store} --wait, {told}"
    )
}

pub(super) fn tell(
    out: &mut (dyn Write + Send),
    file: &Path,
    restore: &Restore,
    plan: &Plan,
    looks: &[Look],
    sealed: &[(KeyStoreId, HsmId)],
) -> io::Result<()> {
    let restored = restore.restored();
    both(out, file, restore, &restored)?;
    taken_over(out, plan, &restored)?;
    not_known(out, restore, plan, &restored)?;
    access::tell(out, &plan.access)?;
    if !sealed.is_empty() {
        writeln!(
            out,
            "\nNo seal key of the configuration opens these PINs of kmsuser; name the one with which they were sealed in \
             `former`:"
        )?;
    }
    for (store, hsm) in sealed {
        writeln!(out, "  HSM {hsm} of key store {store}")?;
    }
    writeln!(out, "\nIn the tokens:")?;
    if looks.is_empty() {
        writeln!(out, "  no HSM of the configuration belongs to a key store of the restored database")?;
    }
    for look in looks {
        token(out, look, &restored)?;
    }
    Ok(())
}

fn both(out: &mut (dyn Write + Send), file: &Path, restore: &Restore, restored: &Catalogue) -> io::Result<()> {
    let origin = restore.origin();
    let held = |catalogue: &Catalogue| {
        format!("{} in {}", many(catalogue.key_count(), "key"), many(catalogue.key_stores().count(), "key store"))
    };
    match origin.made_at {
        Some(at) => writeln!(out, "{}: a backup of {}", origin.path.display(), utc(at))?,
        None => writeln!(
            out,
            "{}: a database, not a backup by `keystored backup`; what was in a log beside it, if it had one, is missing",
            origin.path.display()
        )?,
    }
    writeln!(out, "  at change {}, with {}; whole and readable", origin.change, held(restored))?;
    writeln!(out, "{}:", file.display())?;
    match (restore.present(), restore.former()) {
        (Present::Missing, _) => writeln!(out, "  is not there")?,
        (Present::Itself, _) => writeln!(out, "  is this very file; it is set aside, and a copy takes its place")?,
        (Present::Unreadable(why), _) => {
            writeln!(out, "  is there and cannot be read ({why}); it is set aside, not deleted")?;
        }
        (Present::Readable { change, damage }, former) => {
            let holds = former.map(|(store, _)| held(&store.catalogue())).unwrap_or_default();
            writeln!(out, "  is there, at change {change}, with {holds}; it is set aside, not deleted")?;
            if let Some(damage) = damage {
                writeln!(out, "  {damage}: what could be read of it is used below")?;
            }
        }
    }
    Ok(())
}

fn taken_over(out: &mut (dyn Write + Send), plan: &Plan, restored: &Catalogue) -> io::Result<()> {
    let Plan { pins, destroyed, gone, reserved, by_margin, disabled, spared, disconnected, audit_logs, .. } = plan;
    let known = reserved.len().saturating_sub(*by_margin);
    let nothing = pins.is_empty() && destroyed.is_empty() && known == 0 && audit_logs.is_none();
    if nothing && disabled.is_empty() && spared.is_empty() && disconnected.is_empty() {
        return Ok(());
    }
    writeln!(out, "\nTaken over from what is there, because it cannot be undone:")?;
    for (store, hsm, pin) in pins {
        let of = restored.key_store(store).map_or(store.as_str(), |store| &store.name);
        let when = pin.rotated_at.map(|at| format!("rotated {}", utc(at)));
        writeln!(
            out,
            "  kmsuser's PIN in HSM {hsm} of key store {of:?} ({})",
            when.unwrap_or_else(|| "as it was given last".to_owned())
        )?;
    }
    if let Some(log) = audit_logs.as_ref().and_then(|logs| logs.last()) {
        let records = log.head.map_or(0, |head| head.size);
        writeln!(out, "  the audit log's newest head: {} of {}", format_args!("{records} records"), log.origin)?;
    }
    if !destroyed.is_empty() {
        writeln!(out, "  {} stay destroyed", many(destroyed.len(), "destroyed key version"))?;
    }
    for version in gone {
        writeln!(out, "    of the backup: {version}")?;
    }
    if known > 0 {
        writeln!(out, "  the encryptions that were used of {}", many(known, "key version"))?;
    }
    for key in disabled {
        writeln!(out, "  key {key} stays disabled (keystorectl key enable)")?;
    }
    for key in spared {
        writeln!(out, "  key {key} is kept, as its deletion was cancelled, and disabled (keystorectl key enable)")?;
    }
    for store in disconnected {
        writeln!(out, "  key store {store} stays disconnected (keystorectl key-store connect)")?;
    }
    Ok(())
}

fn not_known(out: &mut (dyn Write + Send), restore: &Restore, plan: &Plan, restored: &Catalogue) -> io::Result<()> {
    let Plan { unknown, unknown_versions, unknown_stores, back, by_margin, half_made, .. } = plan;
    if !matches!(restore.present(), Present::Readable { .. }) {
        writeln!(out, "\nWhat happened after the backup is not known:")?;
        for store in restored.key_stores() {
            writeln!(
                out,
                "  if kmsuser's PINs of key store {:?} were rotated or set since (each connect rotates them), {}",
                store.name,
                officer(&store.id, store.state)
            )?;
        }
        writeln!(out, "  keys that were destroyed, disabled or disconnected since are as they were")?;
    }
    if *by_margin > 0 {
        writeln!(
            out,
            "  {} of each of {} count as used, since nobody knows how many were",
            many(usize::try_from(MARGIN).unwrap_or(usize::MAX), "encryption"),
            many(*by_margin, "key version")
        )?;
    }
    let in_place = restored.keys().flat_map(|key| &key.versions).filter(|version| version.in_place).count();
    if in_place > 0 {
        writeln!(
            out,
            "\n{} made in place: their material is in their HSM alone, and no backup of keystored's has it.",
            match in_place {
                1 => "1 key version was".to_owned(),
                more => format!("{more} key versions were"),
            }
        )?;
    }
    for version in half_made {
        writeln!(
            out,
            "  {version} was being made when the backup was: it is left out, and what HSMs hold of it is left alone \
             (keystorectl cluster status --orphans)"
        )?;
    }
    if !unknown.is_empty() {
        writeln!(
            out,
            "\nThe restored database will not know {}, made after the backup. What was encrypted under them\ncannot be \
             decrypted with it; their objects stay in the tokens, and their records in what is set aside:",
            many(unknown.len(), "key")
        )?;
    }
    for key in unknown {
        writeln!(out, "  {} {:?}, made {}, {}", key.id, key.description, utc(key.created_at), key.state.name())?;
    }
    if !unknown_versions.is_empty() {
        writeln!(
            out,
            "\nThe restored database will not know {} of keys that it knows, made by rotations after the backup. What\nwas \
             encrypted under them cannot be decrypted with it; their records are in what is set aside:",
            many(unknown_versions.len(), "version")
        )?;
    }
    for version in unknown_versions {
        writeln!(out, "  {version}")?;
    }
    let deleted: Vec<_> =
        restored.keys_in(KeyState::PendingDeletion).filter(|key| !plan.spared.contains(&key.id)).collect();
    if !deleted.is_empty() {
        writeln!(
            out,
            "\nThe restored database has {} to be deleted, not before a day after the daemon's start (keystorectl key\n\
             cancel-deletion keeps one):",
            many(deleted.len(), "key")
        )?;
    }
    for key in deleted {
        let date = key.deletion.map(|deletion| utc(deletion.date)).unwrap_or_default();
        writeln!(out, "  {} {:?}, after {date}", key.id, key.description)?;
    }
    if !unknown_stores.is_empty() {
        writeln!(
            out,
            "\nIt will not know these key stores; kmsuser's PINs in their HSMs are then in what is set aside alone:"
        )?;
    }
    for store in unknown_stores {
        writeln!(out, "  {} {:?} over {}", store.id, store.name, store.cluster)?;
    }
    if matches!(restore.present(), Present::Readable { .. }) && !back.is_empty() {
        writeln!(out, "\nIt knows {} that what is there does not:", many(back.len(), "key"))?;
        for key in back {
            writeln!(out, "  {key}")?;
        }
    }
    Ok(())
}

fn token(out: &mut (dyn Write + Send), look: &Look, restored: &Catalogue) -> io::Result<()> {
    let hsm = &look.hsm;
    let seen = match &look.seen {
        Ok(seen) => seen,
        Err(why) => return writeln!(out, "  HSM {hsm}: not looked at: {why}"),
    };
    let found = compare(&wanted_in(restored, &look.key_store, hsm), Some(seen));
    writeln!(out, "  HSM {hsm}: its token holds {}", many(seen.len(), "key version"))?;
    list(out, "unknown to the restored database, and left alone", &found.orphans)?;
    list(out, "in the restored database, and not in the token; not put back by themselves", &found.gone)?;
    let missing: Vec<_> = found.to_fill.into_iter().filter(|version| !seen.contains(version)).collect();
    list(out, "not in the token yet; placed from escrow when it can be reached", &missing)?;
    list(out, "destroyed, and in the token again; destroyed again when it can be reached", &found.to_destroy)
}

fn list(out: &mut (dyn Write + Send), what: &str, versions: &[KeyVersionId]) -> io::Result<()> {
    if versions.is_empty() {
        return Ok(());
    }
    writeln!(out, "    {} {what}:", versions.len())?;
    versions.iter().try_for_each(|version| writeln!(out, "      {version}"))
}

fn many(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::key_store::{Event, Next};

    /// What is told is what the state allows: a store that is DISCONNECTED refuses to be disconnected.
    #[test]
    fn only_a_store_that_can_be_disconnected_is_to_be() {
        let store = KeyStoreId::random();
        for state in ConnectionState::ALL {
            let told = officer(&store, *state);
            let refused = state.next(Event::Disconnect) == Next::Refused;
            assert_eq!(told.contains("disconnect"), !refused, "{state:?}: {told}");
            assert_eq!(told.contains("costs one try"), !refused, "{state:?}: {told}");
            let (_, then) = told.split_once("; then ").unwrap();
            let commands: Vec<&str> = then.split(", ").map(|it| it.trim_start_matches("and ")).collect();
            let connects = format!("keystorectl key-store connect {store} --wait");
            assert_eq!(commands.len(), if refused { 2 } else { 3 }, "{told}");
            assert!(commands.iter().all(|it| it.starts_with("keystorectl key-store ")), "{told}");
            assert_eq!(commands.last(), Some(&connects.as_str()), "{told}");
        }
    }
}

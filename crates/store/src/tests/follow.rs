//! The change log, and catalogues that follow it: the store's own, and one of another process.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use super::*;
use crate::access::{NewApproval, NewPrincipal, Request, Requested, Vote};
use crate::engine::Connection;
use crate::log::{self, Change, Entity, SLOTS};
use crate::{Catalogue, follow, load};

/// Names the file to the process that follows.
const FOLLOWED: &str = "KEYSTORED_TEST_FOLLOWED";

impl Bench {
    /// What the log says has changed between two catalogues.
    async fn logged(&self, from: &Catalogue) -> Option<Vec<Change>> {
        let mut database = copy::open(&self.file()).await.unwrap();
        log::between(&mut database, from.position(), self.store.catalogue().position()).await.unwrap()
    }

    async fn enabled_key(&self) -> KeyVersionId {
        let version = self.new_key().await;
        self.store.force_state(version.key, KeyState::Enabled).await.unwrap();
        version
    }
}

fn changed(entity: Entity) -> Change {
    Change { entity, gone: false }
}

fn gone(entity: Entity) -> Change {
    Change { entity, gone: true }
}

/// What somebody sees who reads everything.
async fn whole(file: &Path) -> String {
    format!("{:?}", load::catalogue(&mut copy::open(file).await.unwrap()).await.unwrap())
}

#[tokio::test]
async fn every_commit_writes_what_it_changed() {
    let bench = Bench::new().await;
    let store = &bench.store;
    let before = store.catalogue();
    let version = bench.new_key().await;
    let key = version.key;
    assert_eq!(bench.logged(&before).await.unwrap(), [changed(Entity::Key(key))]);

    // A version, a placement and a state are the key's.
    let before = store.catalogue();
    store.keep_blob(version, &Bytes::from_static(b"blob")).await.unwrap();
    store.keep_proof(version, &[3; 12], &Bytes::from_static(b"proof")).await.unwrap();
    store.set_placement(version, &"hsm-a".into(), Placement::Present).await.unwrap();
    assert_eq!(bench.logged(&before).await.unwrap(), vec![changed(Entity::Key(key)); 3]);

    // What no catalogue shows is not in it.
    let before = store.catalogue();
    store.reserve_encryptions(version, 10).await.unwrap();
    store.replace_pin(&bench.key_store, first_pin("hsm-a")).await.unwrap();
    assert_eq!(store.catalogue().position(), before.position());

    // A change that fails leaves nothing.
    assert!(store.keep_blob(KeyVersionId { version: 2, ..version }, &Bytes::new()).await.is_err());
    assert_eq!(store.catalogue().position(), before.position());

    let id = store.create_key_store(new_store("other", "cluster-zzzzzzzzzzz")).await.unwrap();
    store.delete_key_store(&id).await.unwrap();
    let entity = Entity::KeyStore(id);
    assert_eq!(bench.logged(&before).await.unwrap(), [changed(entity.clone()), gone(entity)]);
}

#[tokio::test]
async fn one_transaction_changes_several_things_in_one_revision() {
    let bench = Bench::new().await;
    let (store, before) = (&bench.store, bench.store.catalogue());
    let (version, kept) = (bench.new_key().await, bench.enabled_key().await);
    store.keep_blob(version, &Bytes::from_static(b"blob")).await.unwrap();
    let between = store.catalogue();
    store.abandon_key(version.key).await.unwrap();
    let after = store.catalogue();
    assert_eq!(after.revision(), between.revision() + 1);
    let expected = [gone(Entity::Key(version.key)), changed(Entity::Destroyed(version.key))];
    assert_eq!(bench.logged(&between).await.unwrap(), expected);

    // Of several words on one thing the last one counts.
    let (one, other) = (kept.key, bench.new_key().await.key);
    let between = store.catalogue();
    store
        .change(move |transaction| {
            Box::pin(async move {
                for key in [one, other, one] {
                    crate::change::touch_key(transaction, key).await?;
                }
                transaction.execute("UPDATE keys SET description = 'both'", values![]).await
            })
        })
        .await
        .unwrap();
    let after = store.catalogue();
    assert_eq!(after.revision(), between.revision() + 1);
    assert_eq!(bench.logged(&between).await.unwrap(), [changed(Entity::Key(other)), changed(Entity::Key(one))]);
    assert!(after.keys().all(|key| key.description == "both"));

    // Whoever was away for all of it follows as well.
    let mut database = copy::open(&bench.file()).await.unwrap();
    let followed = follow::follow(&mut database, &before).await.unwrap().unwrap();
    assert_eq!(format!("{followed:?}"), format!("{after:?}"));
    assert!(follow::follow(&mut database, &after).await.unwrap().is_none(), "there is nothing new");
}

/// What goes along with something, and is part of something else, is said of that.
#[tokio::test]
async fn what_goes_with_a_principal_or_a_group_is_in_the_log() {
    let bench = Bench::new().await;
    let store = &bench.store;
    let [app, voter] = ["app", "voter"].map(|name| store.create_principal(NewPrincipal::new(name)));
    let (app, voter, admins) = (app.await.unwrap(), voter.await.unwrap(), "admins".into());
    store.create_group(&admins, 9).await.unwrap();
    store.add_member(&admins, &voter, 9).await.unwrap();
    let request = Request {
        requester: app.clone(),
        operation: "DisableKey".into(),
        resource: String::new(),
        parameters: [7; 32],
    };
    let (life, description) = (Duration::from_secs(9), String::new());
    let new = NewApproval { request, description, life, needed: std::num::NonZeroU32::MIN, most: 9, most_in_all: 9 };
    let before = store.catalogue();
    let Requested::New(asked) = store.request_approval(new).await.unwrap() else { panic!("it is new") };
    assert_eq!(bench.logged(&before).await.unwrap(), [changed(Entity::Approval(asked.clone()))]);
    store.vote(&asked, &voter, Vote::Approve).await.unwrap();
    let before = store.catalogue();
    store.delete_group(&admins).await.unwrap();
    let expected = [changed(Entity::Principal(voter.clone())), gone(Entity::Group(admins))];
    assert_eq!(bench.logged(&before).await.unwrap(), expected);
    let before = store.catalogue();
    store.delete_principal(&voter).await.unwrap();
    let expected = [changed(Entity::Approval(asked.clone())), gone(Entity::Principal(voter))];
    assert_eq!(bench.logged(&before).await.unwrap(), expected);
    assert!(store.catalogue().approval(&asked).unwrap().votes.is_empty());
}

/// The ring is written over without taking room, whatever the numbers grow to.
#[tokio::test]
async fn the_log_takes_no_room() {
    let bench = Bench::new().await;
    let version = bench.enabled_key().await;
    let mut database = copy::open(&bench.file()).await.unwrap();
    let pages = async |database: &mut Connection| -> (i64,) {
        database.one("SELECT page_count FROM pragma_page_count", values![]).await.unwrap()
    };
    let before = pages(&mut database).await;
    for reached in [0_i64, 1 << 20, 1 << 50] {
        let moved = "UPDATE revision SET value = value + $1, log_end = log_end + $1";
        database.execute(moved, values![reached]).await.unwrap();
        for _ in 0..=SLOTS / 8 {
            database.begin().await.unwrap();
            let bump = "UPDATE revision SET value = value + 1 RETURNING value, log_end";
            let (revision, end): (i64, i64) = database.one(bump, values![]).await.unwrap();
            let changes = vec![changed(Entity::Key(version.key)); 9];
            log::write(&mut database, revision, end, &changes).await.unwrap();
            database.commit().await.unwrap();
        }
    }
    assert_eq!(pages(&mut database).await, before);
}

#[tokio::test]
async fn whoever_is_too_far_behind_reads_everything() {
    let bench = Bench::new().await;
    let (version, start) = (bench.enabled_key().await, bench.store.catalogue());
    for _ in 0..SLOTS {
        bench.store.force_state(version.key, KeyState::Disabled).await.unwrap();
    }
    assert_eq!(bench.logged(&start).await.unwrap().len(), usize::try_from(SLOTS).unwrap(), "the whole ring");
    bench.store.force_state(version.key, KeyState::Enabled).await.unwrap();
    assert_eq!(bench.logged(&start).await, None);
    let mut database = copy::open(&bench.file()).await.unwrap();
    let read = follow::follow(&mut database, &start).await.unwrap().unwrap();
    assert_eq!(format!("{read:?}"), whole(&bench.file()).await);

    // A revision that says nothing of itself, and an entry that is not the one that was there.
    let last = bench.store.catalogue();
    database.execute("UPDATE revision SET value = value + 1", values![]).await.unwrap();
    assert!(follow::follow(&mut database, &last).await.unwrap().is_some());
    let silent = log::position(&mut database).await.unwrap();
    assert_eq!(log::between(&mut database, last.position(), silent).await.unwrap(), None);
    database.execute("UPDATE changes SET position = position + 1", values![]).await.unwrap();
    let of = last.position();
    let earlier = log::Position { revision: of.revision - 1, end: of.end - 1 };
    assert_eq!(log::between(&mut database, earlier, of).await.unwrap(), None);
}

/// As a restore does, which knows of no way from one database to the other.
#[tokio::test]
async fn a_log_that_is_broken_off_leads_nowhere() {
    let bench = Bench::new().await;
    let (key, before) = (bench.enabled_key().await.key, bench.store.catalogue());
    let further = before.revision() + 100;
    let broken = bench.store.change(move |transaction| {
        Box::pin(async move {
            transaction.execute("UPDATE keys SET state = 'Disabled'", values![]).await?;
            log::break_off(transaction, i64::try_from(further).unwrap()).await
        })
    });
    broken.await.unwrap();
    assert_eq!(bench.logged(&before).await, None);
    let now = bench.store.catalogue();
    assert_eq!((now.revision(), now.key(key).unwrap().state), (further, KeyState::Disabled));
    assert_eq!(format!("{now:?}"), whole(&bench.file()).await);
    bench.store.force_state(key, KeyState::Enabled).await.unwrap();
    assert_eq!(bench.logged(&now).await.unwrap(), [changed(Entity::Key(key))]);
}

/// Another process that has the same file open and follows when it is told to.
struct Follower {
    process: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Follower {
    fn of(file: &Path) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "tests::follow::follows_in_another_process", "--nocapture"]);
        command.env(FOLLOWED, file).stdin(Stdio::piped()).stdout(Stdio::piped());
        // On panic: the test fails, and its end closes what the process reads from.
        let mut process = command.spawn().unwrap();
        let (stdin, stdout) = (process.stdin.take().unwrap(), process.stdout.take().unwrap());
        Self { process, stdin, stdout: BufReader::new(stdout) }
    }

    /// How it got there, and what it shows then.
    fn shows(&mut self) -> (String, String) {
        writeln!(self.stdin, "follow").unwrap();
        loop {
            let mut line = String::new();
            assert_ne!(self.stdout.read_line(&mut line).unwrap(), 0, "it has ended");
            if let Some((_, shown)) = line.trim_end().split_once("shown: ")
                && let Some((way, catalogue)) = shown.split_once(' ')
            {
                return (way.to_owned(), catalogue.to_owned());
            }
        }
    }

    fn end(mut self) {
        drop(self.stdin);
        assert!(self.process.wait().unwrap().success());
    }
}

/// Does nothing unless a test has started this process for it.
#[tokio::test]
async fn follows_in_another_process() {
    let Some(file) = std::env::var_os(FOLLOWED) else { return };
    let mut database = copy::open(Path::new(&file)).await.unwrap();
    let mut catalogue = load::catalogue(&mut database).await.unwrap();
    for line in std::io::stdin().lines() {
        assert_eq!(line.unwrap(), "follow");
        database.look().await.unwrap();
        let position = log::position(&mut database).await.unwrap();
        let leads = log::between(&mut database, catalogue.position(), position).await.unwrap().is_some();
        if let Some(next) = follow::follow(&mut database, &catalogue).await.unwrap() {
            catalogue = next;
        }
        database.rollback().await.unwrap();
        println!("shown: {} {catalogue:?}", if leads { "followed" } else { "read" });
    }
}

#[tokio::test]
async fn another_process_sees_the_same_after_each_change() {
    let bench = Bench::new().await;
    let store = &bench.store;
    let mut follower = Follower::of(&bench.file());
    let mut same = |way: &str, what: &str| {
        let shown = follower.shows();
        assert_eq!(shown, (way.to_owned(), format!("{:?}", store.catalogue())), "{what}");
    };
    same("read", "nothing has happened since");
    let version = bench.new_key().await;
    same("followed", "a key");
    store.keep_blob(version, &Bytes::from_static(b"blob")).await.unwrap();
    store.set_placement(version, &"hsm-a".into(), Placement::Present).await.unwrap();
    same("followed", "two changes of it");
    let kept = bench.enabled_key().await;
    store.abandon_key(version.key).await.unwrap();
    same("followed", "another key, and the end of the first");
    let id = store.create_key_store(new_store("other", "cluster-zzzzzzzzzzz")).await.unwrap();
    same("followed", "a key store");
    let app = store.create_principal(NewPrincipal::new("app")).await.unwrap();
    store.add_identity(&app, "cn:app", 9).await.unwrap();
    same("followed", "a principal");
    store.delete_principal(&app).await.unwrap();
    store.delete_key_store(&id).await.unwrap();
    store.advance_key_store(&bench.key_store, Event::Disconnect, None, false).await.unwrap();
    same("followed", "its end, and what happened to the other one");
    for _ in 0..=SLOTS {
        store.force_state(kept.key, KeyState::Disabled).await.unwrap();
    }
    same("read", "more than the log reaches back");
    store.force_state(kept.key, KeyState::Enabled).await.unwrap();
    same("followed", "and on from there");
    follower.end();
}

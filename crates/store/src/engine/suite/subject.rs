//! A store over an engine that can be made to fail, and all that a store is asked to do.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;

use super::Made;
use super::access::AccessAct;
use super::faulty::{Faulty, Switch};
use crate::access::NewKeyPolicy;
use crate::audit::{AuditHead, NewAuditLog};
use crate::engine::Connection;
use crate::reserve::Reserve;
use crate::{
    Admits, Begun, Catalogue, ClientToken, Error, Finished, GiveUp, KeyStoreChange, NewKey, NewKeyStore, Rotating,
    Store, follow, load,
};
use model::clock::Clock;
use model::id::{AliasName, ClusterId, HsmId, KeyId, KeyStoreId, KeyVersionId};
use model::key::{KeyState, Placement, RotationCause};
use model::key_store::Event;
use model::pin::{Pin, PinChange};

pub(super) struct Subject {
    pub(super) store: Store,
    pub(super) switch: Switch,
    pub(super) key_store: KeyStoreId,
    made: Made,
    /// Follows from beside, without failing.
    beside: Option<Connection>,
    followed: Catalogue,
    made_so_far: u32,
}

/// A change, with what it was made ready for.
pub(super) type Change<'a> = BoxFuture<'a, Result<(), Error>>;

/// Everything that changes metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    BeginKey,
    KeepBlob,
    KeepProof,
    Place,
    Finish,
    Disable,
    Abandon,
    MakeCurrent,
    AbandonVersion,
    GiveUp,
    DeleteKey,
    CreateStore,
    MoveStore,
    ConnectStore,
    DeleteStore,
    ReserveEncryptions,
    ReturnEncryptions,
    ReplacePin,
    ResealPins,
    BeginAuditLog,
    NoteAuditHead,
    ResealAuditKey,
    CreateAlias,
    MoveAlias,
    SetTags,
    Access(AccessAct),
}

impl Act {
    const OF_KEYS: [Self; 25] = [
        Self::BeginKey,
        Self::KeepBlob,
        Self::KeepProof,
        Self::Place,
        Self::Finish,
        Self::Disable,
        Self::Abandon,
        Self::MakeCurrent,
        Self::AbandonVersion,
        Self::GiveUp,
        Self::DeleteKey,
        Self::CreateStore,
        Self::MoveStore,
        Self::ConnectStore,
        Self::DeleteStore,
        Self::ReserveEncryptions,
        Self::ReturnEncryptions,
        Self::ReplacePin,
        Self::ResealPins,
        Self::BeginAuditLog,
        Self::NoteAuditHead,
        Self::ResealAuditKey,
        Self::CreateAlias,
        Self::MoveAlias,
        Self::SetTags,
    ];

    pub(super) fn all() -> impl Iterator<Item = Self> {
        Self::OF_KEYS.into_iter().chain(AccessAct::ALL.map(Self::Access))
    }

    /// Whether a catalogue shows it.
    pub(super) fn shows(self) -> bool {
        !matches!(
            self,
            Self::ReserveEncryptions
                | Self::ReturnEncryptions
                | Self::ReplacePin
                | Self::ResealPins
                | Self::BeginAuditLog
                | Self::NoteAuditHead
                | Self::ResealAuditKey
        )
    }
}

/// The witness may be in whatever state another act has put it into.
pub(super) const ADMITS: Admits = Admits {
    states: &[KeyState::Creating, KeyState::Enabled, KeyState::Disabled, KeyState::PendingDeletion],
    most: usize::MAX,
};

/// One that no other key has.
fn alias(key: KeyId) -> AliasName {
    AliasName::from(format!("alias/{key}").as_str())
}

fn given() -> Pin {
    Pin::given(Bytes::from_static(b"sealed"))
}

impl Subject {
    pub(super) async fn over(made: Made) -> Self {
        let switch = Switch::default();
        let engine = Arc::new(Faulty { engine: Arc::clone(&made.engine), switch: switch.clone() });
        let reserve = Reserve::find(&made.engine.directory().join("metadata"));
        let store = Store::over(engine, reserve, Clock::manual(), None).await.unwrap();
        store.tend().await;
        let key_store = store.connected_key_store("main", &ClusterId::from("cluster-aaaaaaaaaaa")).await;
        let mut beside = made.engine.connect().await.unwrap();
        let followed = load::catalogue(&mut beside).await.unwrap();
        Self { store, switch, key_store, made, beside: Some(beside), followed, made_so_far: 0 }
    }

    /// Does what an act needs, and gives the act.
    pub(super) async fn ready(&mut self, act: Act) -> Change<'static> {
        let (store, key_store) = (self.store.clone(), self.key_store.clone());
        self.made_so_far += 1;
        let number = self.made_so_far;
        let name = format!("store-{number}");
        let hsms: [HsmId; 2] = ["hsm-a".into(), "hsm-b".into()];
        match act {
            Act::BeginKey => {
                let token = ClientToken {
                    principal: "cn:anna".into(),
                    operation: "CreateKey",
                    token: name,
                    parameters: [7; 32],
                };
                let tags = [("team".to_owned(), "payroll".to_owned())].into();
                let new = NewKey { description: "words".into(), tags, ..NewKey::new(&key_store, &hsms) };
                let policy = NewKeyPolicy { document: "{}".into(), names: [].into() };
                Box::pin(async move { store.begin_key_with_policy(new, Some(policy), Some(&token)).await.map(drop) })
            }
            Act::Access(act) => self.of_access(act, number).await,
            Act::CreateStore | Act::MoveStore | Act::ConnectStore | Act::DeleteStore => self.of_store(act, name).await,
            Act::ReplacePin => {
                let known = self.store.pins(&key_store).await.unwrap();
                let before = known.into_iter().find(|(hsm, _)| *hsm == hsms[0]).map(|(_, pin)| pin);
                let after = Pin { failures: number, ..given() };
                let change = PinChange { hsm: hsms[0].clone(), before, after };
                Box::pin(async move { store.replace_pin(&key_store, change).await })
            }
            Act::ResealPins => {
                Box::pin(
                    async move { store.reseal_pins(|_, _, sealed| Ok(Bytes::copy_from_slice(sealed))).await.map(drop) },
                )
            }
            Act::BeginAuditLog | Act::NoteAuditHead | Act::ResealAuditKey => self.of_audit(act, name).await,
            _ => {
                let Begun::New(key) = self.store.begin_key(NewKey::new(&key_store, &hsms), None).await.unwrap() else {
                    panic!("without a token every key is new")
                };
                let version = KeyVersionId { key, version: 1 };
                self.of_key(act, version).await
            }
        }
    }

    async fn of_key(&self, act: Act, version: KeyVersionId) -> Change<'static> {
        let (store, key) = (self.store.clone(), version.key);
        let bytes = Bytes::from_static(b"something");
        match act {
            Act::KeepBlob => Box::pin(async move { store.keep_blob(version, &bytes).await }),
            Act::KeepProof => Box::pin(async move { store.keep_proof(version, &[3; 12], &bytes).await }),
            Act::Place => {
                Box::pin(async move { store.set_placement(version, &"hsm-a".into(), Placement::Present).await })
            }
            Act::Finish => {
                let proven = vec!["hsm-a".into(), "hsm-b".into()];
                let finished = Finished { version, proof: ([3; 12], bytes), proven, reserve: 10 };
                Box::pin(async move { store.finish_version(finished).await.map(drop) })
            }
            Act::Disable => Box::pin(async move { store.force_state(key, KeyState::Disabled).await }),
            Act::Abandon => {
                self.store.keep_blob(version, &bytes).await.unwrap();
                Box::pin(async move { store.abandon_key(key).await })
            }
            Act::CreateAlias => Box::pin(async move { store.create_alias(&alias(key), key, ADMITS, None).await }),
            Act::MoveAlias => {
                let from = self.witness().await.key;
                self.store.create_alias(&alias(key), from, ADMITS, None).await.unwrap();
                Box::pin(async move { store.move_alias(&alias(key), from, key, ADMITS).await })
            }
            Act::SetTags => {
                let tags = [("team".to_owned(), "payroll".to_owned())].into();
                Box::pin(async move { store.set_tags(key, &tags, ADMITS).await })
            }
            Act::MakeCurrent | Act::AbandonVersion => {
                self.store.force_state(key, KeyState::Enabled).await.unwrap();
                let next = KeyVersionId { key, version: 2 };
                let rotating = Rotating { version: next, cause: RotationCause::Period, in_place: false };
                self.store.begin_version(rotating, &["hsm-a".into()]).await.unwrap();
                let finished =
                    Finished { version: next, proof: ([3; 12], bytes), proven: vec!["hsm-a".into()], reserve: 10 };
                match act {
                    Act::MakeCurrent => Box::pin(async move { store.finish_version(finished).await.map(drop) }),
                    _ => Box::pin(async move { store.abandon_version(next).await }),
                }
            }
            Act::GiveUp | Act::DeleteKey => {
                let why = GiveUp::Asked { date: 1 };
                self.store.force_state(key, KeyState::Disabled).await.unwrap();
                if act == Act::GiveUp {
                    return Box::pin(async move { store.give_up_material(key, why, &["hsm-a".into()]).await });
                }
                self.store.give_up_material(key, why, &[]).await.unwrap();
                Box::pin(async move { store.delete_key(key).await })
            }
            Act::ReserveEncryptions => Box::pin(async move { store.reserve_encryptions(version, 10).await.map(drop) }),
            _ => {
                self.store.reserve_encryptions(version, 10).await.unwrap();
                Box::pin(async move { store.return_encryptions(&[(version, 10)]).await })
            }
        }
    }

    async fn of_audit(&self, act: Act, origin: String) -> Change<'static> {
        let store = self.store.clone();
        let after = store.audit_log().await.unwrap().map(|log| log.number);
        let new = NewAuditLog { origin, sealed: Bytes::from_static(b"sealed"), after };
        if act == Act::BeginAuditLog {
            return Box::pin(async move { store.begin_audit_log(new).await });
        }
        store.begin_audit_log(new).await.unwrap();
        let number = after.unwrap_or(0) + 1;
        match act {
            Act::NoteAuditHead => {
                let head = AuditHead { size: 7, root: [7; 32] };
                Box::pin(async move { store.note_audit_head(number, head).await })
            }
            _ => {
                let anew = |_: &str, sealed: &[u8]| Ok(Bytes::copy_from_slice(sealed));
                Box::pin(async move { store.reseal_audit_key(anew).await.map(drop) })
            }
        }
    }

    pub(super) async fn new_key(&self) -> KeyId {
        let (Begun::New(key) | Begun::Existing(key)) =
            self.store.begin_key(NewKey::new(&self.key_store, &[]), None).await.unwrap();
        key
    }

    async fn of_store(&self, act: Act, name: String) -> Change<'static> {
        let store = self.store.clone();
        // There may be ten: those of before make room.
        for left in self.store.catalogue().key_stores().filter(|left| left.id != self.key_store) {
            self.store.advance_key_store(&left.id, Event::Disconnect, None, false).await.ok();
            self.store.advance_key_store(&left.id, Event::DisconnectDone, None, false).await.ok();
            self.store.delete_key_store(&left.id).await.unwrap();
        }
        let cluster = ClusterId::from(format!("cluster-{name}").as_str());
        let pins = vec![("hsm-a".into(), given())];
        let id = KeyStoreId::random();
        let new = NewKeyStore { id: id.clone(), name, cluster, trust_anchor: "PEM".into(), pins, maker: None };
        if act == Act::CreateStore {
            return Box::pin(async move { store.create_key_store(new).await.map(drop) });
        }
        self.store.create_key_store(new).await.unwrap();
        match act {
            Act::MoveStore => {
                let tried = Pin { failures: 1, ..given() };
                let spent = PinChange { hsm: "hsm-a".into(), before: Some(given()), after: tried.clone() };
                self.store.replace_pin(&id, spent).await.unwrap();
                let told = PinChange { hsm: "hsm-a".into(), before: Some(tried), after: given() };
                let cluster = Some(ClusterId::from(format!("cluster-{}", id.as_str()).as_str()));
                let change = KeyStoreChange { cluster, pins: vec![told], ..KeyStoreChange::default() };
                Box::pin(async move { store.update_key_store(&id, change).await })
            }
            Act::ConnectStore => {
                Box::pin(async move { store.advance_key_store(&id, Event::Connect, None, true).await.map(drop) })
            }
            _ => Box::pin(async move { store.delete_key_store(&id).await }),
        }
    }

    /// The store works, and what it shows is what the database holds and what somebody sees who follows the log.
    pub(super) async fn agrees(&mut self, what: &str) {
        self.store.tend().await;
        self.store.set_placement(self.witness().await, &"hsm-a".into(), Placement::Present).await.unwrap();
        let shown = format!("{:?}", self.store.catalogue());
        let mut beside = match self.beside.take() {
            Some(beside) => beside,
            None => self.made.engine.connect().await.unwrap(),
        };
        let held = load::catalogue(&mut beside).await.unwrap();
        assert_eq!(format!("{held:?}"), shown, "{what}: what the database holds");
        beside.look().await.unwrap();
        if let Some(next) = follow::follow(&mut beside, &self.followed).await.unwrap() {
            self.followed = next;
        }
        beside.rollback().await.unwrap();
        self.beside = Some(beside);
        assert_eq!(format!("{:?}", self.followed), shown, "{what}: what whoever follows sees");
    }

    /// A key that is always there.
    async fn witness(&self) -> KeyVersionId {
        let known: Option<KeyId> = self.store.catalogue().keys().next().map(|key| key.id);
        let key = match known {
            Some(key) => key,
            None => self.new_key().await,
        };
        KeyVersionId { key, version: 1 }
    }

    /// Makes both of the store's connections anew, so that they have the trouble that was brought about.
    pub(super) async fn reconnect(&self) {
        if let Some(database) = self.store.inner.writer.lock().await.database.take() {
            crate::connection::retire(database).await;
        }
        self.store.inner.leave_reader().await;
    }

    /// Nobody but the store has the database open.
    pub(super) async fn alone(&mut self) {
        if let Some(beside) = self.beside.take() {
            beside.close().await.unwrap();
        }
    }

    pub(super) fn made(&self) -> &Made {
        &self.made
    }
}

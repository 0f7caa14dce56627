//! What a change of the metadata costs among many keys and among few: the transaction without the wait for a disk, and
//! what the next call has to make of the change. Both stores are on a disk in memory, where fsync costs nothing.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use auth::peer::Principal;
use model::clock::Clock;
use model::id::{ClusterId, HsmId, KeyId, KeyStoreId, Scope};
use model::key::KeyState;
use model::key_store::Event;
use model::limits::Quotas;
use pki::seal::{SealKey, SealKeys, new_key};
use service::cluster_registry::ClusterRegistry;
use service::observer::Unobserved;
use service::{GrantTokens, Interface, LogRecorder, RequestContext, Service, Settings};
use store::{Begun, NewKey, NewKeyStore, Store};
use telemetry::watchdog::Watchdog;
use tempfile::TempDir;
use tokio::sync::mpsc;

use super::table::{Must, Row, median, show, spread};
use super::{Options, Outcome, Part, said};

const FEW: usize = 10;
const MANY: usize = 10_000;
/// At most so many times as long among many as among few.
const LIMIT: f64 = 3.0;
/// Changes in each measurement.
const CHANGES: usize = 100;
/// Whatever a key is in.
const ANY: &[KeyState] = &[KeyState::Creating, KeyState::Enabled, KeyState::Disabled];
/// Where files cost no disk.
pub(super) const IN_MEMORY: &str = "/dev/shm";

/// A service over metadata with so many keys.
struct Side {
    clock: Clock,
    store: Store,
    service: Service,
    keys: Vec<KeyId>,
    /// Each change is of another key.
    next: usize,
}

/// Microseconds, medians of a round.
struct Figures {
    change: f64,
    call: f64,
}

impl Side {
    async fn start(dir: &Path, keys: usize, clock: &Clock) -> Outcome<Self> {
        std::fs::create_dir(dir).map_err(said("making a directory"))?;
        let store = Store::open(&dir.join("keystored.db"), clock.clone()).await.map_err(said("opening metadata"))?;
        let key_store = KeyStoreId::random();
        let new = NewKeyStore {
            id: key_store.clone(),
            name: "main".to_owned(),
            cluster: ClusterId::from("cluster-aaaaaaaaaaa"),
            trust_anchor: String::new(),
            pins: Vec::new(),
            maker: None,
        };
        store.create_key_store(new).await.map_err(said("making a key store"))?;
        for event in [Event::Connect, Event::ConnectSucceeded] {
            store.advance_key_store(&key_store, event, None, false).await.map_err(said("connecting"))?;
        }
        let hsms: [HsmId; 2] = ["hsm-a".into(), "hsm-b".into()];
        let mut made = Vec::with_capacity(keys);
        for _ in 0..keys {
            let begun = store.begin_key(NewKey::new(&key_store, &hsms), None).await.map_err(said("making a key"))?;
            let (Begun::New(key) | Begun::Existing(key)) = begun;
            store.set_state(key, ANY, KeyState::Enabled).await.map_err(said("enabling a key"))?;
            made.push(key);
        }
        let service = service_over(&store, clock, dir)?;
        Ok(Self { clock: clock.clone(), store, service, keys: made, next: 0 })
    }

    /// Changes keys one after the other, with a call after each.
    async fn measure(&mut self) -> Outcome<Figures> {
        let (mut changes, mut calls) = (Vec::new(), Vec::new());
        for at in 0..CHANGES {
            // Far apart, so that no two are neighbours in a tree.
            self.next = (self.next + 7_919) % self.keys.len();
            let key = self.keys.get(self.next).copied().ok_or("there are no keys")?;
            let state = if at % 2 == 0 { KeyState::Disabled } else { KeyState::Enabled };
            let begun = self.clock.now();
            self.store.set_state(key, ANY, state).await.map_err(said("changing a key"))?;
            let changed = self.clock.now();
            let call = RequestContext {
                principal: Principal::new("cn:bench"),
                source: None,
                user_agent: None,
                tls: None,
                interface: Interface::Grpc,
                request_id: "bench".into(),
                deadline: changed + Duration::from_secs(30),
                charge: None,
                trace: Arc::default(),
            };
            self.service
                .describe_key_with(&call, &key.to_string(), GrantTokens::default())
                .await
                .map_err(|error| error.message)?;
            let called = self.clock.now();
            changes.push((changed - begun).as_secs_f64() * 1e6);
            calls.push((called - changed).as_secs_f64() * 1e6);
        }
        Ok(Figures { change: median(&changes), call: median(&calls) })
    }
}

/// No cluster of it is in use: what is measured is what any change costs.
fn service_over(store: &Store, clock: &Clock, dir: &Path) -> Outcome<Service> {
    let path = dir.join("seal.key");
    let drawn = new_key().map_err(said("drawing a key"))?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).map_err(said("a key"))?;
    file.write_all(drawn.expose()).map_err(said("writing a key"))?;
    let key = SealKey::read(&path).map_err(said("reading a key"))?;
    let seals = Arc::new(ArcSwap::from_pointee(SealKeys::new(key, Vec::new())));
    let registry = ClusterRegistry::new(Vec::new(), seals, mpsc::channel(1).0, Watchdog::new(clock.clone()));
    let scope = Scope { partition: "aws".into(), region: "eu-central-1".into(), account: "111122223333".into() };
    let settings =
        Settings { scope, items_in_work: 2_000, items_in_work_per_principal: 1_500, quotas: Quotas::default() };
    Ok(Service::new(settings, store.clone(), registry, clock.clone(), Arc::new(Unobserved), Arc::new(LogRecorder)))
}

/// Measures and prints the table.
pub(super) async fn report(options: &Options, clock: &Clock) -> Outcome<Part> {
    let in_memory = Path::new(IN_MEMORY);
    let dir = TempDir::with_prefix_in("keystored-bench-", in_memory)
        .map_err(|error| format!("{IN_MEMORY}, where files cost no disk, cannot be used: {error}"))?;
    eprintln!("changes among {FEW} and among {MANY} keys, which are made first ...");
    let mut few = Side::start(&dir.path().join("few"), FEW, clock).await?;
    let mut many = Side::start(&dir.path().join("many"), MANY, clock).await?;
    let (mut among_few, mut among_many) = (Vec::new(), Vec::new());
    for _ in 0..options.rounds {
        among_few.push(few.measure().await?);
        among_many.push(many.measure().await?);
    }
    let row = |what: &str, of: fn(&Figures) -> f64| {
        let figures = |of_side: &[Figures]| of_side.iter().map(of).collect::<Vec<_>>();
        let (few, many) = (figures(&among_few), figures(&among_many));
        let ratios: Vec<f64> = few.iter().zip(&many).map(|(few, many)| many / few).collect();
        let of = format!("{} µs among {MANY} keys, {} µs among {FEW}", spread(&many), spread(&few));
        Row::new(what, median(&ratios), Must::BeAtMost(LIMIT), of)
    };
    let rows = [
        row("a change of a key, without its fsync", |figures| figures.change),
        row("the first call after it", |figures| figures.call),
        row("both", |figures| figures.change + figures.call),
    ];
    few.store.close().await;
    many.store.close().await;
    println!(
        "\nWhat a change costs among {MANY} keys, in parts of what it costs among {FEW}\n\n{}",
        show(&rows, false)
    );
    Ok(Part { passed: rows.iter().all(Row::passed), module: "none was asked".to_owned() })
}

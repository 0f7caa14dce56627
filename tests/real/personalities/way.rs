//! The way that each kind of HSM goes.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use chaos_hsm::Control;
use proto::v1::{
    ConnectionState, DestroyKeyMaterialRequest, PlacementState, RotateKeyOnDemandRequest, ScheduleKeyDeletionRequest,
};

use super::given::{Given, Going, Ledger, altered_ones_are_the_callers_fault, open};
use crate::deletion::make_due;
use crate::harness::daemon::Site;
use crate::harness::habits::{Habits, objects};
use crate::harness::other::{PIN, SO_PIN};
use crate::harness::tool::{self, Ran};
use crate::harness::zone::Zone;
use crate::harness::{Caller, Daemon, context, wait};
use crate::members;
use crate::zones::wait_until_down;

const CLUSTER: &str = "cluster-ofpersonality";
/// As members::add names the third zone's.
const ZONES: [&str; 3] = ["a", "b", "c"];

/// HSMs that can be lost, in the order of the zones.
struct Hsms(Vec<(&'static Habits, Control)>);

impl Hsms {
    fn lose(&self, at: usize) {
        let (habits, control) = &self.0[at];
        control.set(&format!("{}\n[[rule]]\nfault = \"lost-token\"\n", habits.played)).unwrap();
    }

    fn find(&self, at: usize) {
        let (habits, control) = &self.0[at];
        control.set(habits.played).unwrap();
    }
}

/// Two HSMs of these kinds, and later a third.
pub(super) async fn go(of: [&'static Habits; 2], joins: &'static Habits) {
    let site = Site::prepare().await;
    let (mut hsms, anchor) = ceremony(&site, of);
    let daemon = site.launch();
    daemon.wait_until_ready();
    let caller = daemon.caller().await.with_deadline(wait::LONG);
    let id = caller.create_key_store_with("personas", CLUSTER, &anchor, PIN).await.unwrap();
    let store = caller.connect(&id).await.unwrap();
    assert_eq!(store.connection_state(), ConnectionState::Connected, "{store:?}\n{}", daemon.log_tail());
    daemon.wait_until_healthy_for(&caller).await;
    let store = caller.key_store(&id).await;
    let rotates = rotates(&of);
    assert!(store.hsms.iter().all(|hsm| hsm.proven && hsm.last_rotation.is_some() == rotates), "{store:?}");

    let (ledger, spent) = (Ledger::default(), Ledger::default());
    let (key, other) = (caller.create_key("of two HSMs").await, caller.create_key("another").await);
    ledger.encrypt_in_every_way(&caller, &key, &other).await;
    rotate(&caller, &key).await;
    ledger.encrypt_in_every_way(&caller, &key, &other).await;
    altered_ones_are_the_callers_fault(&caller, &ledger.all()[0]).await;
    is_in(&caller, &key, 2).await;

    let daemon = join(daemon, &caller, &mut hsms, joins).await;
    is_in(&caller, &key, 3).await;
    let (brief, due) = (caller.create_key("not for long").await, caller.create_key("for a week").await);
    rotate(&caller, &brief).await;
    spent.encrypt_in_every_way(&caller, &brief, &due).await;
    all_sign_heads(&daemon, ZONES.len());

    fail_in_turn(&daemon, &caller, &hsms, &key, &ledger).await;
    ledger.has_no_iv_twice();
    let all = [ledger.all(), spent.all()].concat();
    each_opens(&daemon, &caller, &hsms, &all).await;

    let before = counts(&daemon.zones);
    destroy(&caller, &brief).await;
    let refused = caller.encrypt(&brief, b"gone", &context(&[])).await.unwrap_err();
    assert_eq!(refused.reason, "KMSInvalidStateException", "{refused:?}");
    assert_eq!(counts(&daemon.zones), less(&before, 2), "both of its versions");
    begin_anew(daemon, &due, &ledger).await;
}

/// Whether the PINs of these can be changed by PKCS#11.
fn rotates(of: &[&Habits]) -> bool {
    of.iter().all(|habits| !habits.fixed_pin)
}

/// The ceremony over two tokens, as an operator carries it out; customerCA.crt.
fn ceremony(site: &Site, of: [&'static Habits; 2]) -> (Hsms, String) {
    let dir = site.path().join("personas");
    let (mut tables, mut hsms) = (Vec::new(), Vec::new());
    for (habits, zone) in of.iter().copied().zip(ZONES) {
        let (hsm, control) = habits.come(&dir, zone);
        tables.push(toml::Value::from(hsm));
        hsms.push((habits, control));
    }
    init(site, tables, rotates(&of)).ok();
    (Hsms(hsms), fs::read_to_string(ceremony::trust_anchor(&site.ceremony())).unwrap())
}

/// What an HSM of one kind is told at the ceremony when its profile is another kind's.
pub(super) fn mistaken_for(site: &Site, is: &'static Habits, other: &'static Habits) -> Ran {
    let dir = site.path().join(format!("{}-as-{}", is.name, other.name));
    let tables = ZONES[..2].iter().map(|zone| {
        let (mut hsm, control) = is.come(&dir, zone);
        other.describe(&mut hsm);
        drop(control);
        toml::Value::from(hsm)
    });
    init(site, tables.collect(), true)
}

/// `keystorectl cluster init` over these HSMs.
fn init(site: &Site, hsms: Vec<toml::Value>, rotates: bool) -> Ran {
    site.configure(|config| {
        let mut cluster = toml::Table::new();
        cluster.insert("id".to_owned(), CLUSTER.into());
        cluster.insert("hsm".to_owned(), hsms.into());
        if !rotates {
            cluster.insert("rotation".to_owned(), "none".into());
        }
        config.insert("cluster".to_owned(), vec![toml::Value::from(cluster)].into());
    });
    // That of a cluster before this one.
    fs::remove_dir_all(site.ceremony()).unwrap();
    let shown = |path: &Path| path.display().to_string();
    let pin = |name: &str, pin: &str| {
        let file = site.path().join(name);
        fs::write(&file, pin).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        shown(&file)
    };
    let (pin, so_pin) = (pin("user.pin", PIN), pin("officer.pin", SO_PIN));
    let (config, folder) = (shown(site.config_file()), shown(&site.ceremony()));
    let arguments = ["cluster", "init", "--config", &config, "--folder", &folder];
    let pins = ["--pin-file", &pin, "--so-pin-file", &so_pin];
    tool::keystorectl(BTreeMap::new(), &[&arguments[..], &pins].concat())
}

/// Brings another HSM in.
async fn join(mut daemon: Daemon, caller: &Caller, hsms: &mut Hsms, joins: &'static Habits) -> Daemon {
    let (hsm, control) = joins.come(&daemon.site().path().join("personas"), ZONES[2]);
    daemon.site().configure(|config| config["cluster"][0]["hsm"].as_array_mut().unwrap().push(hsm.into()));
    hsms.0.push((joins, control));
    daemon.hang_up("the configuration was read again");
    members::add(&daemon, "hsm-c", PIN, &[]).ok();
    members::filled(caller).await;
    daemon.zones = daemon.site().zones(daemon.pid());
    daemon.wait_until_healthy_for(caller).await;
    daemon
}

async fn rotate(caller: &Caller, key: &str) {
    let request = RotateKeyOnDemandRequest { key_id: key.to_owned() };
    caller.keys.clone().rotate_key_on_demand(caller.request(request)).await.unwrap();
}

/// So many HSMs hold every version of a key.
async fn is_in(caller: &Caller, key: &str, hsms: usize) {
    let placements = caller.describe_key(key).await.unwrap().placements;
    let present = placements.iter().filter(|at| at.state() == PlacementState::Present).count();
    assert_eq!((present, placements.len()), (hsms, hsms), "{placements:?}");
}

/// So many HSMs have made their log keys.
fn all_sign_heads(daemon: &Daemon, hsms: usize) {
    wait::until("all HSMs sign heads of the audit log", wait::LONG, || {
        let log = daemon.log();
        let said: Vec<_> = log.lines().filter(|line| line.contains("heads of the audit log")).collect();
        assert!(said.iter().all(|line| line.contains("the HSM signs heads")), "{said:#?}");
        (said.len() >= hsms).then_some(())
    });
}

/// One after the other is lost and comes back, which callers do not notice.
async fn fail_in_turn(daemon: &Daemon, caller: &Caller, hsms: &Hsms, key: &str, ledger: &Ledger) {
    let going = Going::start(caller, key, ledger);
    for (at, zone) in daemon.zones.iter().enumerate() {
        hsms.lose(at);
        wait_until_down(caller, zone).await;
        hsms.find(at);
        daemon.wait_until_healthy_for(caller).await;
    }
    let failures = going.stop().await;
    assert!(failures.is_empty(), "{} calls failed: {:?}\n{}", failures.len(), failures.first(), daemon.log_tail());
}

/// Everything opens in each zone while all others are lost.
async fn each_opens(daemon: &Daemon, caller: &Caller, hsms: &Hsms, all: &[Given]) {
    for (left, zone) in daemon.zones.iter().enumerate() {
        let others = || (0..daemon.zones.len()).filter(move |at| *at != left);
        others().for_each(|at| hsms.lose(at));
        for at in others() {
            wait_until_down(caller, &daemon.zones[at]).await;
        }
        open(caller, all, &format!("in zone {} alone, {}", zone.name, hsms.0[left].0.name)).await;
        others().for_each(|at| hsms.find(at));
        daemon.wait_until_healthy_for(caller).await;
    }
}

/// The files of objects in the tokens of each zone whose HSM is played over SoftHSM.
fn counts(zones: &[Zone]) -> Vec<usize> {
    zones.iter().filter(|zone| !zone.softhsm_conf.as_os_str().is_empty()).map(|zone| objects(&zone.tokens())).collect()
}

fn less(counts: &[usize], by: usize) -> Vec<usize> {
    counts.iter().map(|count| count - by).collect()
}

/// Gives a key's material up in every zone.
async fn destroy(caller: &Caller, key: &str) {
    caller.switch_key(key, false).await.unwrap();
    let arn = caller.describe_key(key).await.unwrap().arn;
    let request = DestroyKeyMaterialRequest { key_id: key.to_owned(), confirm_key_arn: arn };
    caller.keys.clone().destroy_key_material(caller.request(request)).await.unwrap();
    wait::until_async("its material is destroyed in every zone", wait::LONG, async || {
        let shown = caller.describe_key(key).await.unwrap();
        let done = shown.destructions.iter().filter(|one| one.destruction_date.is_some()).count();
        (done == ZONES.len()).then_some(())
    })
    .await;
}

/// Over a restart, with PINs that only the service knows: a key whose time is over goes from every token, and what others
/// have encrypted opens.
async fn begin_anew(daemon: Daemon, due: &str, ledger: &Ledger) {
    let caller = daemon.caller().await;
    let request = ScheduleKeyDeletionRequest { key_id: due.to_owned(), pending_window_in_days: Some(7) };
    caller.keys.clone().schedule_key_deletion(caller.request(request)).await.unwrap();
    drop(caller);
    let before = counts(&daemon.zones);
    let (status, site) = daemon.terminate();
    assert!(status.success(), "{status}");
    make_due(&site, due).await;
    let daemon = site.launch();
    daemon.wait_until_ready();
    let caller = daemon.caller().await.with_deadline(wait::LONG);
    daemon.wait_until_healthy_for(&caller).await;
    wait::until_async("the key is gone", wait::LONG, async || {
        caller.describe_key(due).await.err().map(|failure| assert_eq!(failure.reason, "NotFoundException"))
    })
    .await;
    assert_eq!(counts(&daemon.zones), less(&before, 1));
    open(&caller, &ledger.all(), "after a restart").await;
    let (status, _) = daemon.terminate();
    assert!(status.success(), "{status}");
}

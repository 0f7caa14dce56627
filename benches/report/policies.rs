//! What policies cost: a principal that a key policy of ten statements and an identity policy of ten have to let in, by
//! conditions on the encryption context, beside an administrator of the configuration, whom none binds. One daemon, one
//! key, each measurement of the one beside the same of the other. And what single decisions take, by large policies and slow ones.

use std::time::Duration;

use client::Client;
use model::clock::Clock;
use proto::v1::{AttachPolicyRequest, DetachPolicyRequest, PutKeyPolicyRequest, PutPolicyRequest};
use proto::v1::{attach_policy_request, detach_policy_request};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::daemon::{Daemon, Environment, connect};
use super::load::{Kind, Load};
use super::raw::{RawLimit, disturbed};
use super::table::{self, Must, Row, extremes, median, spread};
use super::{Options, Outcome, Part, ZONES, decisions, said};

/// How long it is looked, before and after, whether something else runs on the machine.
const LOOK: Duration = Duration::from_secs(1);
/// Encryption contexts among which items are spread: as many as a batch has items.
pub(super) const CONTEXTS: u32 = 256;
/// Statements of each policy. The last one is what decides.
const STATEMENTS: usize = 10;
/// The identity policy.
const POLICY: &str = "bench";

/// What is called, how people know it, and what it must reach of what the administrator reaches.
const KINDS: [(Kind, &str, &str, f64); 2] = [
    (Kind::Unary64, "unary Encrypt, 64 in flight: under 10 + 10 statements / an administrator", "calls/s", 0.95),
    (Kind::Batch, "batch Encrypt (256 items, each its context): the same", "items/s", 0.9),
];

/// Measures and prints the table.
pub(super) fn report(options: &Options, clock: &Clock, runtime: &Runtime) -> Outcome<Part> {
    let decisions = decisions::rows(options, clock)?;
    let program = std::env::current_exe().map_err(said("finding this program"))?;
    let softhsm = provision::find_module().ok_or("SoftHSM's module is not installed; `make deps` installs it")?;
    let dir = TempDir::with_prefix("keystored-bench-").map_err(said("making a directory"))?;
    let mut raw = RawLimit::start(&program, dir.path(), &softhsm, ZONES)?;
    let before = raw.round(LOOK)?.share;
    let daemon = runtime.block_on(Daemon::start(&dir.path().join("dev"), clock))?;
    let (key, app) = runtime.block_on(prepare(&daemon))?;
    let load = Load { key, keys: 1, length: options.length, operation: "encrypt", contexts: Some(CONTEXTS) };

    let mut figures: [[Vec<f64>; 2]; KINDS.len()] = Default::default();
    for number in 1..=options.rounds {
        eprintln!("policies, round {number} of {} ...", options.rounds);
        for ((kind, ..), [bound, free]) in KINDS.iter().zip(&mut figures) {
            // What is compared with something stands on both sides of it, since a machine changes while it is measured.
            let first = load.run(&daemon.environment, *kind)?.rate;
            bound.push(load.run(&app, *kind)?.rate);
            free.push(f64::midpoint(first, load.run(&daemon.environment, *kind)?.rate));
        }
    }
    let module = raw.module.clone();
    let void = disturbed(before.min(raw.round(LOOK)?.share));
    drop((raw, daemon));

    let rows = KINDS.iter().zip(&figures).map(|((_, what, unit, must), [bound, free])| {
        let ratios: Vec<f64> = bound.iter().zip(free).map(|(bound, free)| bound / free).collect();
        let (least, most) = extremes(&ratios);
        let made_of =
            format!("{least:.2} to {most:.2}: {} by policies, {} administrator {unit}", spread(bound), spread(free));
        Row::new(*what, median(&ratios), Must::Reach(*must), made_of)
    });
    let rows: Vec<Row> = rows.chain(decisions).collect();
    println!("\nWhat policies cost, medians of {} rounds of {:?} each\n", options.rounds, options.length);
    println!("{}", table::show(&rows, void.is_some()));
    if let Some(why) = &void {
        println!("{why}\n");
    }
    Ok(Part { passed: void.is_none() && rows.iter().all(Row::passed), module })
}

/// Makes a key and the policies; the key's id, and how the one whom they bind calls.
pub(super) async fn prepare(daemon: &Daemon) -> Outcome<(String, Environment)> {
    let app = daemon.app().await?;
    let key = daemon.create_keys(1).await?.pop().ok_or("no key was made")?;
    let admin = connect(&daemon.environment).await?;
    let who = connect(&app).await?.who_am_i().await.map_err(said("asking who the app is"))?;
    let arn = who.principal.ok_or("the app is no principal")?.arn;
    // What lets it in must be these policies alone.
    let from = Some(detach_policy_request::From::Principal(arn.clone()));
    let request = DetachPolicyRequest { policy: "KeyUser".to_owned(), from };
    admin.detach_policy(request).await.map_err(said("detaching a policy"))?;
    put_policies(&admin, &key, &arn).await?;
    let to = Some(attach_policy_request::To::Principal(arn));
    let request = AttachPolicyRequest { policy: POLICY.to_owned(), to };
    admin.attach_policy(request).await.map_err(said("attaching a policy"))?;
    Ok((key, app))
}

async fn put_policies(admin: &Client, key: &str, arn: &str) -> Outcome<()> {
    let root = format!("{}:root", arn.split_inclusive(':').take(4).collect::<String>() + account(arn)?);
    let others = (1..STATEMENTS).map(|number| {
        let tenant = format!("tenant-{number}-*");
        // Every third one denies, which has to be looked at whatever allows.
        statement(number % 3 != 0, Some(arn), "kms:*", &tenant)
    });
    let key_policy = others.chain([statement(true, Some(&root), "kms:*", "*")]).collect();
    let request = PutKeyPolicyRequest {
        key_id: key.to_owned(),
        policy: document(key_policy),
        bypass_policy_lockout_safety_check: true,
        ..Default::default()
    };
    admin.put_key_policy(request).await.map_err(said("putting the key's policy"))?;
    let others = (1..STATEMENTS).map(|number| {
        let tenant = format!("tenant-{number}-*");
        statement(number % 3 != 0, None, "kms:Encrypt", &tenant)
    });
    let identity_policy = others.chain([statement(true, None, "kms:Encrypt", "*")]).collect();
    let document = document(identity_policy);
    let request = PutPolicyRequest { name: POLICY.to_owned(), document, ..Default::default() };
    admin.put_policy(request).await.map_err(said("putting an identity policy"))?;
    Ok(())
}

fn account(arn: &str) -> Outcome<&str> {
    arn.split(':').nth(4).ok_or_else(|| format!("{arn} has no account"))
}

fn document(statements: Vec<Value>) -> String {
    json!({ "Version": "2012-10-17", "Statement": statements }).to_string()
}

/// One about items whose context's `item` is like this.
fn statement(allows: bool, principal: Option<&str>, action: &str, item: &str) -> Value {
    let mut statement = json!({
        "Effect": if allows { "Allow" } else { "Deny" },
        "Action": action,
        "Resource": "*",
        "Condition": { "StringLike": { "kms:EncryptionContext:item": item } },
    });
    if let Some(principal) = principal {
        statement["Principal"] = json!({ "AWS": principal });
    }
    statement
}

//! No call is forgotten: every method of the gRPC interface and every operation of AWS's is asked for, by somebody who may
//! do it and by somebody who may not, and each has the records that it should have and no other. What is added to either
//! interface is met here, because both are walked by what describes them.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use model::exception::Exception;
use model::operation::{Effect, Operation};
use proto::v1::CreateAccessKeyRequest;
use serde_json::{Value, json};
use tonic::Code;

use crate::access::every_method::Named;
use crate::access::{make_user, user};
use crate::harness::audit::{Receipt, records};
use crate::harness::aws::{AccessKey, Ask, Endpoint, Scope, principal};
use crate::harness::clients::address_of;
use crate::harness::wire::Interface;
use crate::harness::{Caller, Daemon, Failure};

const DENIED: &str = "AccessDeniedException";
/// What comes too late has no receipt, and this is not about time.
const PATIENCE: Duration = Duration::from_secs(60);

/// A call, and what its caller was told.
#[derive(Debug)]
struct Asked {
    request_id: String,
    /// Its name in records; any of these.
    names: Vec<&'static str>,
    /// Whether what it asks for is a change.
    changes: bool,
    /// The exception's name, where one is told that records have.
    failure: Option<String>,
    failed: bool,
    /// Where its record stands; absent for streams, which say it elsewhere.
    receipt: Option<Receipt>,
}

/// A record, or the first leaf of one, with its number.
type Numbered = (u64, Value);

/// The events of each request, each by its first leaf.
fn events(directory: &Path) -> BTreeMap<String, Vec<Numbered>> {
    let mut of: BTreeMap<String, Vec<Numbered>> = BTreeMap::new();
    for (number, record) in (0..).zip(records(directory)) {
        let Some(id) = record["requestID"].as_str() else { continue };
        let events = of.entry(id.to_owned()).or_default();
        if events.iter().all(|(_, known)| known["eventID"] != record["eventID"]) {
            events.push((number, record));
        }
    }
    of
}

impl Asked {
    /// What is wrong with its records.
    fn wrong(&self, events: &[Numbered]) -> Option<String> {
        let phase = |(_, event): &Numbered| event["additionalEventData"]["phase"].as_str().map(str::to_owned);
        let intended = |(_, event): &Numbered| event["additionalEventData"]["intentEventID"].clone();
        let ended = match events {
            [ended] if (!self.changes || self.failed) && phase(ended).is_none() => ended,
            [intent, ended] if self.changes => {
                let pair = phase(intent).as_deref() == Some("intent") && phase(ended).as_deref() == Some("outcome");
                if !pair || intended(ended) != intent.1["eventID"] || intent.1["eventName"] != ended.1["eventName"] {
                    return Some("these are no intent and its outcome".to_owned());
                }
                ended
            }
            _ => return Some(format!("it has {} events", events.len())),
        };
        let (number, event) = ended;
        if !self.names.iter().any(|name| event["eventName"] == *name) {
            return Some(format!("it is called {}", event["eventName"]));
        }
        let code = event["errorCode"].as_str();
        if code.is_some() != self.failed || self.failure.as_deref().is_some_and(|failure| code != Some(failure)) {
            return Some(format!("its errorCode is {code:?}"));
        }
        match &self.receipt {
            Some(receipt) if receipt.first != *number => Some(format!("its record is {number}")),
            _ => None,
        }
    }
}

/// All calls, in the log of a daemon.
#[track_caller]
fn all_are_recorded(daemon: &Daemon, asked: &[Asked]) {
    let events = events(&daemon.site().audit_dir());
    let none = Vec::new();
    let wrong = asked.iter().filter_map(|asked| {
        let events = events.get(&asked.request_id).unwrap_or(&none);
        asked.wrong(events).map(|why| format!("{why}: {asked:?} {events:?}"))
    });
    let wrong: Vec<String> = wrong.collect();
    assert!(wrong.is_empty(), "{} of {}: {wrong:#?}", wrong.len(), asked.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_method_leaves_its_records() {
    let daemon = Daemon::start().await;
    let admin = daemon.caller().await.with_deadline(PATIENCE);
    let named = Named::make(&daemon, &admin).await;
    let value = |message: &str, field: &str| named.value(message, field);
    let interface = Interface::read();
    let mut asked = Vec::new();
    // Whoever may do it last, since it changes what there is.
    let [nobody, bare] = ["nobody", "bare"].map(|name| address_of(&daemon, name));
    let callers = [("nobody", nobody.connect().await.unwrap()), ("bare", bare.connect().await.unwrap())];
    for (who, caller) in callers.iter().chain([&("admin", admin.clone())]) {
        let before = asked.len();
        for method in &interface.methods {
            for request in interface.requests(method, &value) {
                let request_id = format!("{who}-{}", asked.len());
                asked.push(over_grpc(caller, &method.path, request, &request_id).await);
            }
        }
        let done = asked[before..].iter().filter(|asked| !asked.failed).count();
        match *who {
            // Most of what is left needs something that is not there.
            "admin" => assert!(done > 30, "{done} of {} were done", asked.len() - before),
            _ => assert_eq!(done, 1, "WhoAmI alone is for everybody"),
        }
    }
    // What there is not is asked for all the same.
    let unknown = over_grpc(&callers[1].1, "/keystored.v1.KeysService/Nonsense", Vec::new(), "unknown").await;
    assert!(unknown.failed, "{unknown:?}");
    asked.push(unknown);
    let streams = asked.iter().filter(|asked| asked.receipt.is_none()).count();
    assert_eq!(streams, 3 * (callers.len() + 1), "one for each alternative of Stream's requests");
    all_are_recorded(&daemon, &asked);
}

async fn over_grpc(caller: &Caller, path: &str, request: Vec<u8>, request_id: &str) -> Asked {
    let method = path.rsplit('/').next().unwrap();
    let one = method.strip_prefix("Batch").unwrap_or(method);
    let operation = Operation::ALL.iter().find(|operation| operation.name() == one);
    let stream = method == "Stream";
    let entries = [("x-request-id", request_id), ("keystored-audit-receipt", "true")];
    let (answer, metadata) = caller.raw_saying(path, request, &entries).await;
    // Items have errors of their own, and one was asked for.
    let of_item = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes);
        let named = Exception::ALL.iter().find(|exception| text.contains(exception.name()));
        named.filter(|_| stream || one != method).map(|exception| exception.name().to_owned())
    };
    let failure = match answer {
        Ok(bytes) => of_item(&bytes),
        // gRPC's own word for what there is not.
        Err(status) if status.code() == Code::Unimplemented && operation.is_none() => {
            Some("UnsupportedOperationException".to_owned())
        }
        Err(status) => Some(Failure::from(status).reason),
    };
    let receipt = metadata.get("keystored-audit-record").map(|told| Receipt::read(told.to_str().unwrap()));
    assert_eq!(receipt.is_none(), stream, "{path}: {metadata:?}");
    Asked {
        request_id: request_id.to_owned(),
        names: match operation {
            Some(operation) => vec![operation.spec().event],
            None if stream => vec!["Encrypt", "Decrypt", "ReEncrypt"],
            None => vec!["UnknownMethod"],
        },
        changes: operation.is_some_and(|operation| operation.spec().effect == Effect::Changes),
        failed: failure.is_some(),
        failure,
        receipt,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_operation_of_aws_leaves_its_records() {
    let daemon = Daemon::start().await;
    let admin = daemon.caller().await;
    let aws = Aws::new(&daemon, &admin).await;
    let (mut asked, mut unsigned) = (Vec::new(), 0);
    let operations: Vec<&'static str> = api::aws::model::operations().map(|operation| operation.name()).collect();
    assert!(operations.len() >= 56, "{}", operations.len());
    for (number, operation) in operations.into_iter().enumerate() {
        let admin = &aws.admins[number % aws.admins.len()];
        let (least, empty) = (aws.least(operation), json!({}));
        for (body, key) in [(&least, &aws.nobody), (&empty, admin), (&least, admin)] {
            asked.push(aws.asked(Ask::kms(operation, body), operation, Some(key)).await.unwrap());
        }
        assert!(aws.asked(Ask::kms(operation, &least), operation, None).await.is_none(), "{operation}");
        unsigned += 1;
    }
    for (form, name, key) in [
        ("Action=GetCallerIdentity&Version=2011-06-15", "GetCallerIdentity", &aws.nobody),
        ("Action=GetCallerIdentity&Version=2011-06-15", "GetCallerIdentity", &aws.admins[0]),
        ("Action=GetSessionToken&Version=2011-06-15", "other", &aws.admins[0]),
    ] {
        asked.push(aws.asked(Ask::sts(form), name, Some(key)).await.unwrap());
    }
    let done = asked.iter().filter(|asked| !asked.failed).count();
    assert!(done > 25, "{done} of {} were done", asked.len());
    let denied = asked.iter().filter(|asked| asked.failure.as_deref() == Some(DENIED)).count();
    assert!(denied > 30, "{denied} of {} were denied", asked.len());
    all_are_recorded(&daemon, &asked);

    // Nobody has signed these: they are counted by where they came from, and have no record of their own.
    let (status, site) = daemon.terminate();
    assert!(status.success());
    let strangers = records(&site.audit_dir()).into_iter();
    let strangers: Vec<Value> = strangers.filter(|record| record["eventName"] == "UnauthenticatedRefusals").collect();
    let refusals = strangers.iter().flat_map(|record| record["additionalEventData"]["refusals"].as_array().unwrap());
    let of_calls = refusals.filter(|refusal| refusal["eventName"] != "TlsHandshake");
    let counted = of_calls.map(|refusal| refusal["count"].as_u64().unwrap());
    assert_eq!(counted.sum::<u64>(), unsigned, "{strangers:#?}");
    for record in &strangers {
        assert_eq!(record["userIdentity"]["accountId"], "ANONYMOUS_PRINCIPAL", "{record:#}");
        assert!(record["sourceIPAddress"] == "127.0.0.1" && record["errorCode"].is_string(), "{record:#}");
        assert!(record.get("requestID").is_none(), "{record:#}");
    }
}

/// Callers of AWS's interface, and what they name.
struct Aws {
    endpoint: Endpoint,
    /// One after the other: what is turned away at the door has a record of its own 60 times a minute for each.
    admins: Vec<AccessKey>,
    /// Somebody who may nothing.
    nobody: AccessKey,
    model: Value,
    known: BTreeMap<&'static str, String>,
    /// A key that may be switched off.
    other_key: String,
}

impl Aws {
    async fn new(daemon: &Daemon, admin: &Caller) -> Self {
        make_user(admin, "bare", None).await;
        let made = CreateAccessKeyRequest { principal: user("bare") };
        let made = admin.access.clone().create_access_key(admin.request(made)).await.unwrap().into_inner();
        let (id, secret) = (made.access_key.unwrap().access_key_id, made.secret_access_key);
        let key = admin.create_key("of every operation").await;
        let known = BTreeMap::from([
            ("KeyId", key.clone()),
            ("TargetKeyId", key.clone()),
            ("DestinationKeyId", key),
            ("AliasName", "alias/walked".to_owned()),
            ("CustomKeyStoreId", admin.key_stores().await.remove(0).key_store_id),
            ("GranteePrincipal", user("bare")),
            ("RetiringPrincipal", user("bare")),
            ("TrustAnchorCertificate", daemon.site().trust_anchor()),
        ]);
        let mut admins = Vec::new();
        for name in ["walker-a", "walker-b", "walker-c"] {
            admins.push(principal(admin, name, "Administrator").await);
        }
        Self {
            endpoint: Endpoint::of(daemon),
            admins,
            nobody: AccessKey { principal: user("bare"), id, secret },
            model: serde_json::from_str(include_str!("../../../crates/api/src/aws/model/model.json")).unwrap(),
            known,
            other_key: admin.create_key("to be switched").await,
        }
    }

    /// The members that the model requires of an operation, and those that are known where it has them.
    fn least(&self, operation: &str) -> Value {
        let shape = self.model["operations"][operation]["input"].as_str().unwrap();
        let mut body = self.sample(shape);
        for member in self.model["shapes"][shape]["members"].as_array().unwrap() {
            if let Some(value) = self.known.get(member[0].as_str().unwrap()) {
                body[member[0].as_str().unwrap()] = json!(value);
            }
        }
        match operation {
            // What others need stays as it is.
            "DisableKey" | "EnableKey" | "ScheduleKeyDeletion" => body["KeyId"] = json!(self.other_key),
            "DisconnectCustomKeyStore" => body["CustomKeyStoreId"] = json!("cks-00000000000000000"),
            "GenerateDataKey" | "GenerateDataKeyWithoutPlaintext" => body["KeySpec"] = json!("AES_256"),
            "GenerateRandom" => body = json!({ "NumberOfBytes": 8 }),
            _ => {}
        }
        body
    }

    fn sample(&self, shape: &str) -> Value {
        let facts = &self.model["shapes"][shape];
        let least = usize::try_from(facts["min"].as_u64().unwrap_or(1).max(1)).unwrap();
        let of = |name: &str| self.sample(facts[name].as_str().unwrap());
        match facts["type"].as_str().unwrap() {
            "structure" => {
                let required = facts["required"].as_array().into_iter().flatten();
                let member = |name: &Value| {
                    let members = facts["members"].as_array().unwrap();
                    let shape = members.iter().find(|member| member[0] == *name).unwrap()[1].as_str().unwrap();
                    let known = self.known.get(name.as_str().unwrap()).map(|value| json!(value));
                    (name.as_str().unwrap().to_owned(), known.unwrap_or_else(|| self.sample(shape)))
                };
                Value::Object(required.map(member).collect())
            }
            "list" => json!([of("member")]),
            "map" => json!({ "a": "b" }),
            "string" => match &facts["enum"][0] {
                Value::Null => json!("a".repeat(least)),
                first => first.clone(),
            },
            "blob" => json!("AQ=="),
            "integer" => json!(least),
            "boolean" => json!(false),
            "timestamp" => json!(1_700_000_000),
            other => panic!("{other} is no type that requests have"),
        }
    }

    /// What became of a request; absent where nobody has signed it, so that it has no record of its own.
    async fn asked(&self, ask: Ask, name: &'static str, key: Option<&AccessKey>) -> Option<Asked> {
        let service = if ask.headers.iter().any(|(name, _)| name == "x-amz-target") { "kms" } else { "sts" };
        let ask = match key {
            Some(key) => ask.header("x-keystored-audit-receipt", "true").sign(key, &Scope::of(service)),
            None => ask.header("x-keystored-audit-receipt", "true"),
        };
        let answer = self.endpoint.ask(&ask).await;
        let receipt = answer.headers.get("x-keystored-audit-record").map(|told| Receipt::read(told));
        assert_eq!(receipt.is_some(), key.is_some(), "{name}: {answer:?}");
        let told = answer.headers.get("x-amzn-errortype");
        let failure = told.filter(|told| Exception::ALL.iter().any(|exception| exception.name() == told.as_str()));
        let operation = Operation::ALL.iter().find(|operation| operation.spec().event == name);
        key.map(|_| Asked {
            request_id: answer.headers["x-amzn-requestid"].clone(),
            names: vec![name],
            changes: operation.is_some_and(|operation| operation.spec().effect == Effect::Changes),
            failure: failure.cloned(),
            failed: answer.status != 200,
            receipt,
        })
    }
}

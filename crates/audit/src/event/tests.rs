//! Records of events, as any reader of JSON reads them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::*;

const KEY: &str = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";

fn scope() -> Scope {
    Scope { partition: "aws".into(), region: "eu-central-1".into(), account: "111122223333".into() }
}

fn event<'a>(scope: &'a Scope, nothing: &'a Fields, request: Request<'a>) -> Event<'a> {
    Event {
        id: EventId::new(1_764_338_585_123),
        unix_millis: 1_764_338_585_123,
        source: KMS,
        name: "Encrypt",
        scope,
        actor: Actor::Principal {
            id: "AIDAABCDEFGHIJKLMNOPQ",
            arn: "arn:aws:iam::111122223333:user/path/anna",
            access_key: Some("AKKSABCDEFGHIJKLMNOP"),
        },
        address: Some("192.0.2.7".parse().unwrap()),
        user_agent: Some("aws-cli/2 \"quoted\""),
        tls: Some(Tls { version: "TLSv1.3", cipher_suite: "TLS_AES_128_GCM_SHA256", host: Some("kms.example:443") }),
        failure: None,
        request,
        response: None,
        interface: Some("aws"),
        certificate: None,
        phase: Phase::Outcome,
        intent: None,
        latency: Some(Duration::from_micros(1_234)),
        decided_by: Some("the key's policy"),
        additional: nothing,
        request_id: "r-1",
        read_only: true,
        resources: &[KEY],
    }
}

fn read(leaves: &[Vec<u8>]) -> Json {
    assert!(leaves.iter().all(|leaf| leaf.len() <= RECORD_BYTES));
    whole(leaves.iter().map(Vec::as_slice)).unwrap()
}

fn keys(count: usize) -> Arc<[Key]> {
    let key = |number: usize| Key {
        arn: format!("{KEY}{number}").into(),
        version: u32::try_from(number).unwrap(),
        material: format!("material-{number}").into(),
        key_store: "cks-1".into(),
    };
    (0..count).map(key).collect()
}

fn served() -> Arc<[Served]> {
    [("hsm-a", "a"), ("hsm-b", "b")].map(|(hsm, zone)| Served { hsm: hsm.into(), zone: zone.into() }).into()
}

fn pairs(of: &[(&str, &str)]) -> BTreeMap<String, String> {
    of.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn done(key: u32, failure: u32) -> Done {
    Done { key, source_key: NONE, served: 0, source_served: NONE, failure }
}

#[test]
fn an_encrypt_has_the_members_that_cloudtrail_gives_it() {
    let (scope, nothing, context) = (scope(), Fields::new(), pairs(&[("tenant", "7\n")]));
    let mut asked = Asked::new(Shape::Cipher, 1);
    let length = Length::Unsaid;
    asked.note(Says { key: "alias/payments", context: &context, source: None, length, dry_run: false });
    let items = Items::new(Arc::new(asked), keys(1), served(), Vec::new(), std::iter::once(done(0, NONE)));
    let event = event(&scope, &nothing, Request::Items(&items));
    let record = read(&event.records());
    let expected = json!({
        "eventVersion": "1.11",
        "userIdentity": {
            "type": "IAMUser", "principalId": "AIDAABCDEFGHIJKLMNOPQ", "arn": "arn:aws:iam::111122223333:user/path/anna",
            "accountId": "111122223333", "accessKeyId": "AKKSABCDEFGHIJKLMNOP", "userName": "anna",
        },
        "eventTime": "2025-11-28T14:03:05Z",
        "eventSource": "kms.amazonaws.com",
        "eventName": "Encrypt",
        "awsRegion": "eu-central-1",
        "sourceIPAddress": "192.0.2.7",
        "userAgent": "aws-cli/2 \"quoted\"",
        "requestParameters": {
            "keyId": "alias/payments", "encryptionContext": { "tenant": "7\n" }, "encryptionAlgorithm": "SYMMETRIC_DEFAULT",
        },
        "responseElements": null,
        "additionalEventData": {
            "eventTimeMillis": 1_764_338_585_123_i64, "interface": "aws", "latencyMicros": 1_234,
            "decidedBy": "the key's policy", "customKeyStoreId": "cks-1", "keyMaterialId": "material-0", "keyVersion": 0,
            "servedBy": { "hsm": "hsm-a", "zone": "a" },
        },
        "requestID": "r-1",
        "eventID": event.id.to_string(),
        "readOnly": true,
        "resources": [{ "accountId": "111122223333", "type": "AWS::KMS::Key", "ARN": KEY }],
        "eventType": "AwsApiCall",
        "managementEvent": true,
        "recipientAccountId": "111122223333",
        "eventCategory": "Management",
        "tlsDetails": {
            "tlsVersion": "TLSv1.3", "cipherSuite": "TLS_AES_128_GCM_SHA256", "clientProvidedHostHeader": "kms.example:443",
        },
    });
    assert_eq!(record, expected);
}

#[test]
fn who_it_was_is_said_as_cloudtrail_says_it() {
    let (scope, nothing) = (scope(), Fields::new());
    let of = |actor: Actor<'_>| {
        let event = Event { actor, user_agent: None, address: None, ..event(&scope, &nothing, Request::None) };
        read(&event.records())
    };
    let principal = |arn| of(Actor::Principal { id: "AIDA", arn, access_key: None })["userIdentity"].clone();
    let role = principal("arn:aws:iam::111122223333:role/app");
    assert_eq!(
        role,
        json!({ "type": "Role", "principalId": "AIDA", "arn": "arn:aws:iam::111122223333:role/app", "accountId": "111122223333" })
    );
    assert_eq!(principal("arn:aws:sts::444455556666:assumed-role/app/session")["type"], "AssumedRole");
    assert_eq!(principal("arn:aws:iam::444455556666:root")["accountId"], "444455556666");
    let admin = of(Actor::Unmapped("cn:admin"))["userIdentity"].clone();
    assert_eq!(admin, json!({ "type": "Unknown", "principalId": "cn:admin", "accountId": "111122223333" }));
    assert_eq!(of(Actor::Anonymous)["userIdentity"]["accountId"], "ANONYMOUS_PRINCIPAL");
    let service = of(Actor::Service);
    assert_eq!(service["userIdentity"], json!({ "accountId": "111122223333", "invokedBy": "AWS Internal" }));
    let same = ["sourceIPAddress", "userAgent"].map(|name| service[name].as_str().map(str::to_owned));
    assert_eq!(
        (service["eventType"].as_str(), same),
        (Some("AwsServiceEvent"), [Some("AWS Internal".to_owned()), Some("AWS Internal".to_owned())])
    );
}

#[test]
fn re_encrypt_and_data_keys_have_their_own_parameters() {
    let (scope, nothing, none, context) = (scope(), Fields::new(), pairs(&[]), pairs(&[("a", "b")]));
    let record = |shape, says: Says<'_>, done: Done| {
        let mut asked = Asked::new(shape, 1);
        asked.note(says);
        let items = Items::new(Arc::new(asked), keys(2), served(), Vec::new(), std::iter::once(done));
        read(&event(&scope, &nothing, Request::Items(&items)).records())
    };
    let says = Says { key: "k", context: &context, source: Some(("", &none)), length: Length::Unsaid, dry_run: true };
    let again = record(Shape::ReEncrypt, says, Done { source_key: 1, ..done(0, NONE) });
    assert_eq!(
        again["requestParameters"],
        json!({
            "sourceEncryptionAlgorithm": "SYMMETRIC_DEFAULT", "destinationKeyId": "k",
            "destinationEncryptionContext": { "a": "b" }, "destinationEncryptionAlgorithm": "SYMMETRIC_DEFAULT", "dryRun": true,
        })
    );
    let more = &again["additionalEventData"];
    assert_eq!(
        (&more["sourceKeyMaterialId"], &more["destinationKeyMaterialId"]),
        (&json!("material-1"), &json!("material-0"))
    );
    for (length, name, value) in
        [(Length::Spec("AES_256"), "keySpec", json!("AES_256")), (Length::Bytes(24), "numberOfBytes", json!(24))]
    {
        let says = Says { key: "k", context: &none, source: None, length, dry_run: false };
        assert_eq!(
            record(Shape::DataKey, says, done(0, NONE))["requestParameters"],
            json!({ "keyId": "k", name: value })
        );
    }
}

/// What an item of a record is, told in words.
type Told = (Option<String>, Option<Json>, Json, bool, Option<String>, Option<String>, Option<String>);

/// Reads rows back: an independent reading of what `items.columns` says.
fn decoded(record: &Json) -> Vec<Told> {
    let items = &record["additionalEventData"]["items"];
    let columns: Vec<&str> = items["columns"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    let mut told = Vec::new();
    for row in items["rows"].as_array().unwrap() {
        let of = |name: &str| &row[columns.iter().position(|column| *column == name).unwrap()];
        let entry =
            |name: &str, table: &str| of(name).as_u64().map(|at| items[table][usize::try_from(at).unwrap()].clone());
        let text = |value: Option<Json>, member: &str| value.map(|value| value[member].as_str().unwrap().to_owned());
        assert_eq!(of("first").as_u64(), Some(told.len() as u64));
        for _ in 0..of("count").as_u64().unwrap() {
            told.push((
                entry("keyId", "keyIds").map(|name| name.as_str().unwrap().to_owned()),
                entry("encryptionContext", "encryptionContexts"),
                of("length").clone(),
                of("dryRun").as_bool().unwrap(),
                text(entry("key", "keys"), "arn"),
                text(entry("servedBy", "servedBy"), "hsm"),
                text(entry("failure", "failures"), "errorCode"),
            ));
        }
    }
    assert_eq!(items["count"].as_u64(), Some(told.len() as u64));
    told
}

#[test]
fn items_that_are_alike_are_one_row() {
    let (scope, nothing, context) = (scope(), Fields::new(), pairs(&[("a", "b")]));
    let mut asked = Asked::new(Shape::Cipher, 1_000);
    (0..1_000).for_each(|_| {
        asked.note(Says { key: KEY, context: &context, source: None, length: Length::Unsaid, dry_run: false });
    });
    let outcomes = (0..1_000).map(|at| done(0, if at == 500 { 0 } else { NONE }));
    let failures = vec![("DisabledException", "it is disabled".to_owned())];
    let items = Items::new(Arc::new(asked), keys(1), served(), failures, outcomes);
    assert_eq!((items.rows(), items.count(), items.failure()), (3, 1_000, None));
    let leaves = event(&scope, &nothing, Request::Items(&items)).records();
    assert!(leaves.len() == 1 && leaves.iter().all(|leaf| leaf.len() < 2_500));
    let record = read(&leaves);
    // What all have in common stands where it stands for one.
    assert_eq!(record["requestParameters"]["encryptionContext"], json!({ "a": "b" }));
    assert_eq!(record.get("errorCode"), None);
    let told = decoded(&record);
    assert_eq!(told.iter().filter(|item| item.6.is_some()).count(), 1);
    assert_eq!(told[500].6.as_deref(), Some("DisabledException"));
}

#[test]
fn a_batch_of_which_nothing_went_well_has_the_error_of_its_first_item() {
    let asked = |count| {
        let (none, mut asked) = (pairs(&[]), Asked::new(Shape::Cipher, count));
        (0..count).for_each(|_| {
            asked.note(Says { key: "k", context: &none, source: None, length: Length::Unsaid, dry_run: false });
        });
        Arc::new(asked)
    };
    let failures = vec![("NotFoundException", "a".to_owned()), ("DisabledException", "b".to_owned())];
    let of = |failed: [u32; 2]| {
        Items::new(asked(2), keys(1), served(), failures.clone(), failed.map(|one| done(0, one)).into_iter())
    };
    assert_eq!(of([1, 0]).failure(), Some(("DisabledException", "b")));
    assert_eq!(of([1, NONE]).failure(), None);
}

/// One that looks in JSON like the one before is another one all the same.
#[test]
fn contexts_are_told_apart_however_they_are_written() {
    let (scope, nothing) = (scope(), Fields::new());
    let contexts = [
        pairs(&[("a", "b"), ("c", "d")]),
        pairs(&[("a\":\"b\",\"c", "d")]),
        pairs(&[("a", "b")]),
        pairs(&[("a", "b"), ("c", "d")]),
        pairs(&[("a", "b"), ("c", "d")]),
        pairs(&[("a", "b\u{1}")]),
        pairs(&[("a", "b\u{1}")]),
        pairs(&[("a", "b\\u0001")]),
    ];
    let mut asked = Asked::new(Shape::Cipher, contexts.len());
    for context in &contexts {
        asked.note(Says { key: "k", context, source: None, length: Length::Unsaid, dry_run: false });
    }
    let items = Items::new(Arc::new(asked), keys(1), served(), Vec::new(), contexts.iter().map(|_| done(0, NONE)));
    assert_eq!(items.rows(), 6);
    let told = decoded(&read(&event(&scope, &nothing, Request::Items(&items)).records()));
    let told: Vec<Json> = told.into_iter().map(|item| item.1.unwrap()).collect();
    assert_eq!(told, contexts.iter().map(|pairs| json!(pairs)).collect::<Vec<_>>());
}

#[test]
fn what_names_no_legal_context_stands_whole_in_the_record() {
    let (scope, nothing) = (scope(), Fields::new());
    let context = pairs(&[(&"n\u{1}".repeat(60_000), &"v".repeat(90_000)), ("b", "c")]);
    let mut asked = Asked::new(Shape::Cipher, 1);
    asked.note(Says { key: "k", context: &context, source: None, length: Length::Unsaid, dry_run: false });
    let failures = vec![("ValidationException", "too large".to_owned())];
    let items = Items::new(Arc::new(asked), keys(0), served(), failures, std::iter::once(done(NONE, 0)));
    let leaves = event(&scope, &nothing, Request::Items(&items)).records();
    assert!(leaves.len() > 3);
    let expected: Vec<Json> = context.iter().map(|(name, value)| json!([name, value])).collect();
    assert_eq!(read(&leaves)["requestParameters"]["encryptionContext"], Json::from(expected));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn rows_say_what_was_asked_and_what_came_of_it(
        items in prop::collection::vec((0_usize..4, 0_usize..4, 0_usize..3, any::<bool>(), 0_u32..3, 0_u32..3), 2..400),
        names in prop::collection::vec(any::<String>(), 4), words in prop::collection::vec("\\PC{0,3000}", 4),
    ) {
        let (scope, nothing) = (scope(), Fields::new());
        let context = |at: usize| if at == 0 { pairs(&[]) } else { pairs(&[("c", &words[at]), (&names[at], "\u{0}")]) };
        let lengths = [Length::Unsaid, Length::Spec("AES_128"), Length::Bytes(7)];
        let shown = [Json::Null, json!("AES_128"), json!(7)];
        let mut asked = Asked::new(Shape::DataKey, items.len());
        for (name, at, length, dry_run, ..) in &items {
            let says = Says { key: &names[*name], context: &context(*at), source: None, length: lengths[*length], dry_run: *dry_run };
            asked.note(says);
        }
        let index = |at: u32| if at == 2 { NONE } else { at };
        let failures = vec![("DisabledException", "\u{0}\"".repeat(3)), ("NotFoundException", String::new())];
        let outcomes = items.iter().map(|(.., key, failure)| done(index(*key), index(*failure)));
        let recorded = Items::new(Arc::new(asked), keys(2), served(), failures, outcomes);
        let told = decoded(&read(&event(&scope, &nothing, Request::Items(&recorded)).records()));
        // A record of one row has no rows only where it is of one item.
        prop_assert_eq!(told.len(), items.len());
        for ((name, at, length, dry_run, key, failure), told) in items.iter().zip(&told) {
            let expected: Told = (
                Some(names[*name].clone()).filter(|name| !name.is_empty()),
                Some(context(*at)).filter(|pairs| !pairs.is_empty()).map(|pairs| json!(pairs)),
                shown[*length].clone(),
                *dry_run,
                keys(2).get(*key as usize).map(|key| key.arn.to_string()),
                Some("hsm-a".to_owned()),
                ["DisabledException", "NotFoundException"].get(*failure as usize).map(|name| (*name).to_owned()),
            );
            prop_assert_eq!(told, &expected);
        }
    }

    #[test]
    fn every_event_is_json_and_nothing_of_it_is_cut(
        texts in prop::collection::vec((any::<String>(), 0_usize..3_000), 6), number: i64, resources in 0_usize..900,
    ) {
        let scope = scope();
        let texts: Vec<String> = texts.into_iter().map(|(text, times)| text.repeat(times)).collect();
        let list = vec![Value::from(texts[0].as_str()), Value::Object(Fields::new().text("tagKey", &texts[1]))];
        let asked = Fields::new().text("policy", &texts[2]).with("tags", Value::List(list)).number("days", number);
        let (answered, more) = (Fields::new().text("keyId", &texts[3]), Fields::new().text("grantId", &texts[4]));
        let arns: Vec<String> = (0..resources).map(|at| format!("{KEY}{at}")).collect();
        let arns: Vec<&str> = arns.iter().map(String::as_str).collect();
        let event = Event {
            failure: Some(("ValidationException", &texts[5])),
            response: Some(&answered),
            phase: Phase::Intent,
            resources: &arns,
            ..event(&scope, &more, Request::Fields(&asked))
        };
        let record = read(&event.records());
        prop_assert_eq!(&record["requestParameters"], &json!({
            "policy": texts[2], "tags": [texts[0], { "tagKey": texts[1] }], "days": number,
        }));
        prop_assert_eq!(&record["responseElements"]["keyId"], &json!(texts[3]));
        prop_assert_eq!(&record["additionalEventData"]["grantId"], &json!(texts[4]));
        prop_assert_eq!(record.get("errorMessage").and_then(Json::as_str).unwrap_or_default(), texts[5].as_str());
        let named: BTreeSet<&str> = record["resources"].as_array().unwrap().iter().map(|one| one["ARN"].as_str().unwrap()).collect();
        prop_assert_eq!(named, arns.into_iter().collect::<BTreeSet<_>>());
        prop_assert_eq!((&record["eventTime"], &record["userAgent"]), (&json!("2025-11-28T14:03:05Z"), &json!("aws-cli/2 \"quoted\"")));
    }
}

#[test]
fn names_that_are_longer_than_a_leaf_are_in_a_list() {
    let (scope, nothing) = (scope(), Fields::new());
    let (name, value) = ("n".repeat(100_000), "v".repeat(3_000_000));
    let asked = Fields::new().with("constraints", Value::pairs([(name.as_str(), value.as_str())]));
    let leaves = event(&scope, &nothing, Request::Fields(&asked)).records();
    assert!(leaves.len() < 60, "{}", leaves.len());
    assert_eq!(read(&leaves)["requestParameters"]["constraints"], json!([[name, value]]));
    let asked = Fields::new().with("constraints", Value::pairs([("a", "b"), ("c", "d")]));
    let few = read(&event(&scope, &nothing, Request::Fields(&asked)).records());
    assert_eq!(few["requestParameters"]["constraints"], json!({ "a": "b", "c": "d" }));
}

#[test]
fn what_is_longer_than_an_event_may_be_is_told_by_its_digest() {
    let (scope, nothing) = (scope(), Fields::new());
    let value = "\u{1}".repeat(2_000_000);
    let asked = Fields::new().text("description", &value);
    let leaves = event(&scope, &nothing, Request::Fields(&asked)).leaves().unwrap();
    assert_eq!(leaves.count(), 1);
    let small = Fields::new().text("description", "short");
    let small = event(&scope, &nothing, Request::Fields(&small)).leaves().unwrap();
    assert!(leaves.framed().len() < small.framed().len() + 200);
    let told = serde_json::to_value(String::from_utf8_lossy(leaves.framed())).unwrap();
    assert!(told.as_str().unwrap().contains("\"abridged\":{\"bytes\":120"), "{told}");
}

/// What one record was written into is not kept for the next where it was large: each thread has one.
#[test]
fn what_a_large_record_was_written_into_is_not_kept() {
    let (scope, nothing) = (scope(), Fields::new());
    let kept = |bytes: usize| {
        let text = "x".repeat(bytes);
        let asked = Fields::new().text("description", &text);
        event(&scope, &nothing, Request::Fields(&asked)).leaves().unwrap();
        LINE.with_borrow(|line| line.0.capacity())
    };
    assert!((1..=RECORD_BYTES).contains(&kept(100)));
    assert!(kept(RECORD_BYTES - 2_000) <= RECORD_BYTES);
    // In several records, and in none.
    for bytes in [1_000_000, 12_000_000] {
        assert_eq!(kept(bytes), 0, "{bytes}");
    }
    assert!(kept(100) > 0);
}

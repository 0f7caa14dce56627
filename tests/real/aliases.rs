//! Aliases, tags and descriptions of keys, and lists that are filtered by them.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use proto::v1::{
    AliasListEntry, CreateAliasRequest, CreateKeyRequest, DecryptRequest, DeleteAliasRequest, GenerateDataKeyRequest,
    KeyFilter, KeyState, ListAliasesRequest, ListKeysRequest, ListKeysResponse, ListResourceTagsRequest,
    ScheduleKeyDeletionRequest, Tag, TagFilter, TagResourceRequest, UntagResourceRequest, UpdateAliasRequest,
    UpdateKeyDescriptionRequest,
};
use tonic::Code;

use crate::harness::daemon::Site;
use crate::harness::{Caller, Failure, context, shared, wait};

impl Caller {
    async fn alias(&self, name: &str, target: &str, token: &str) -> Result<(), Failure> {
        let (alias_name, target_key_id, client_token) = (name.to_owned(), target.to_owned(), token.to_owned());
        let request = CreateAliasRequest { alias_name, target_key_id, client_token };
        Ok(self.keys.clone().create_alias(self.request(request)).await.map(drop)?)
    }

    async fn update_alias(&self, name: &str, target: &str) -> Result<(), Failure> {
        let request = UpdateAliasRequest { alias_name: name.to_owned(), target_key_id: target.to_owned() };
        Ok(self.keys.clone().update_alias(self.request(request)).await.map(drop)?)
    }

    async fn delete_alias(&self, name: &str) -> Result<(), Failure> {
        let request = DeleteAliasRequest { alias_name: name.to_owned() };
        Ok(self.keys.clone().delete_alias(self.request(request)).await.map(drop)?)
    }

    async fn aliases(&self, key: &str, limit: Option<u32>, marker: &str) -> Result<Vec<AliasListEntry>, Failure> {
        let request = ListAliasesRequest { key_id: key.to_owned(), limit, marker: marker.to_owned() };
        Ok(self.keys.clone().list_aliases(self.request(request)).await?.into_inner().aliases)
    }

    async fn tag(&self, key: &str, tags: &[(&str, &str)]) -> Result<(), Failure> {
        let request = TagResourceRequest { key_id: key.to_owned(), tags: wire(tags) };
        Ok(self.keys.clone().tag_resource(self.request(request)).await.map(drop)?)
    }

    async fn untag(&self, key: &str, tags: &[&str]) -> Result<(), Failure> {
        let tag_keys = tags.iter().map(|tag| (*tag).to_owned()).collect();
        let request = UntagResourceRequest { key_id: key.to_owned(), tag_keys };
        Ok(self.keys.clone().untag_resource(self.request(request)).await.map(drop)?)
    }

    async fn tags(&self, key: &str, limit: Option<u32>, marker: &str) -> Result<(Vec<Tag>, String), Failure> {
        let request = ListResourceTagsRequest { key_id: key.to_owned(), limit, marker: marker.to_owned() };
        let page = self.keys.clone().list_resource_tags(self.request(request)).await?.into_inner();
        assert_eq!(page.truncated, !page.next_marker.is_empty());
        Ok((page.tags, page.next_marker))
    }

    async fn describe_anew(&self, key: &str, description: &str) -> Result<(), Failure> {
        let request = UpdateKeyDescriptionRequest { key_id: key.to_owned(), description: description.to_owned() };
        Ok(self.keys.clone().update_key_description(self.request(request)).await.map(drop)?)
    }

    async fn create_tagged(&self, tags: &[(&str, &str)], token: &str) -> Result<String, Failure> {
        let request = CreateKeyRequest { tags: wire(tags), client_token: token.to_owned(), ..Default::default() };
        let made = self.keys.clone().create_key(self.request(request)).await?.into_inner();
        Ok(made.key_metadata.unwrap().key_id)
    }

    async fn keys(&self, request: ListKeysRequest) -> Result<ListKeysResponse, Failure> {
        Ok(self.keys.clone().list_keys(self.request(request)).await?.into_inner())
    }

    async fn schedule_deletion(&self, key: &str) {
        let request = ScheduleKeyDeletionRequest { key_id: key.to_owned(), pending_window_in_days: None };
        self.keys.clone().schedule_key_deletion(self.request(request)).await.unwrap();
    }
}

fn wire(tags: &[(&str, &str)]) -> Vec<Tag> {
    tags.iter().map(|(name, value)| Tag { tag_key: (*name).into(), tag_value: (*value).into() }).collect()
}

fn names(aliases: &[AliasListEntry]) -> Vec<&str> {
    aliases.iter().map(|alias| alias.alias_name.as_str()).collect()
}

fn bound(site: &Site, bounds: &[(&str, i64)]) {
    site.configure(|config| {
        let limits = config.entry("limits").or_insert_with(|| toml::Table::new().into());
        limits.as_table_mut().unwrap().extend(bounds.iter().map(|(name, most)| ((*name).to_owned(), (*most).into())));
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn all_four_forms_name_a_key_where_it_is_used_and_two_where_it_is_managed() {
    let daemon = shared().await;
    let caller = daemon.caller().await;
    let key = caller.create_key("of four names").await;
    let arn = caller.describe_key(&key).await.unwrap().arn;
    caller.alias("alias/four/forms", &arn, "").await.unwrap();
    let alias_arn = arn.replace(&format!("key/{key}"), "alias/four/forms");
    let none = context(&[]);
    for form in [&key, &arn, "alias/four/forms", &alias_arn] {
        assert_eq!(caller.describe_key(form).await.unwrap().key_id, key);
        let blob = caller.encrypt(form, b"bytes", &none).await.unwrap();
        let request = DecryptRequest { key_id: form.to_owned(), ciphertext_blob: blob.into(), ..Default::default() };
        let opened = caller.crypto.clone().decrypt(caller.request(request)).await.unwrap().into_inner();
        assert_eq!((&opened.plaintext.to_vec()[..], &opened.key_id), (&b"bytes"[..], &arn), "never the alias");
        let request =
            GenerateDataKeyRequest { key_id: form.to_owned(), number_of_bytes: Some(16), ..Default::default() };
        assert_eq!(caller.generate_data_key(request).await.unwrap().key_id, arn);
    }
    for form in [&key, &arn] {
        caller.switch_key(form, false).await.unwrap();
        caller.switch_key(form, true).await.unwrap();
        caller.tag(form, &[("a", "1")]).await.unwrap();
        assert_eq!(caller.tags(form, None, "").await.unwrap().0, wire(&[("a", "1")]));
        caller.untag(form, &["a"]).await.unwrap();
        caller.describe_anew(form, "of four names still").await.unwrap();
        assert_eq!(names(&caller.aliases(form, None, "").await.unwrap()), ["alias/four/forms"]);
        caller.update_alias("alias/four/forms", form).await.unwrap();
    }
    for form in ["alias/four/forms", &alias_arn] {
        let refused = [
            caller.switch_key(form, false).await,
            caller.tag(form, &[("a", "1")]).await,
            caller.untag(form, &["a"]).await,
            caller.tags(form, None, "").await.map(drop),
            caller.describe_anew(form, "").await,
            caller.aliases(form, None, "").await.map(drop),
            caller.alias("alias/four/others", form, "").await,
            caller.update_alias("alias/four/forms", form).await,
        ];
        for refused in refused {
            let failure = refused.unwrap_err();
            assert_eq!((failure.code, failure.reason.as_str()), (Code::InvalidArgument, "InvalidArnException"));
            assert_eq!(failure.message, "Key Aliases are not supported for this operation.");
        }
    }
    caller.delete_alias("alias/four/forms").await.unwrap();
    let failure = caller.encrypt("alias/four/forms", b"bytes", &none).await.unwrap_err();
    assert_eq!(failure.message, format!("Alias {alias_arn} is not found."));
}

/// Whoever names an alias while it is given from key to key meets the one key or the other, and no moment without one.
#[tokio::test(flavor = "multi_thread")]
async fn an_alias_moves_without_a_failed_call() {
    let daemon = shared().await;
    let caller = daemon.caller().await;
    let keys = [caller.create_key("one").await, caller.create_key("other").await];
    caller.alias("alias/moving", &keys[0], "").await.unwrap();
    let (none, moving) = (context(&[]), Arc::new(AtomicBool::new(true)));
    let met = Arc::new(Mutex::new(BTreeSet::new()));
    let callers = (0..4).map(|_| {
        let (caller, none, moving, met) = (caller.clone(), none.clone(), Arc::clone(&moving), Arc::clone(&met));
        tokio::spawn(async move {
            let mut made = Vec::new();
            while moving.load(Ordering::Relaxed) {
                let blob = caller.encrypt("alias/moving", b"bytes", &none).await.unwrap();
                met.lock().unwrap().insert(blob[1..17].to_vec());
                made.push(blob);
            }
            made
        })
    });
    let callers: Vec<_> = callers.collect();
    // Until both were met: who gives it away may be served far more often than who uses it.
    for turn in (1..).take_while(|turn| *turn <= 40 || (*turn < 4_000 && met.lock().unwrap().len() < 2)) {
        caller.update_alias("alias/moving", &keys[turn % 2]).await.unwrap();
        let meant = caller.describe_key("alias/moving").await.unwrap().key_id;
        assert_eq!(meant, keys[turn % 2], "what is answered counts");
    }
    moving.store(false, Ordering::Relaxed);
    for task in callers {
        for blob in task.await.unwrap() {
            assert_eq!(caller.decrypt(&blob, &none).await.unwrap(), b"bytes");
        }
    }
    assert_eq!(met.lock().unwrap().len(), 2, "both keys were met");
    caller.delete_alias("alias/moving").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_refusal_has_aws_s_name_and_words() {
    let daemon = shared().await;
    let caller = daemon.caller().await;
    let (key, going) = (caller.create_key("refused").await, caller.create_key("going").await);
    let arn = caller.describe_key(&key).await.unwrap().arn;
    let unknown = "00000000-0000-4000-8000-000000000001";
    let (unknown_arn, alias_arn) = (arn.replace(&key, unknown), |name: &str| arn.replace(&format!("key/{key}"), name));
    caller.alias("alias/refused", &key, "refused").await.unwrap();
    caller.schedule_deletion(&going).await;
    let long = |length: usize| format!("alias/{}", "x".repeat(length - 6));
    let pending = format!("{} is pending deletion.", arn.replace(&key, &going));
    let invalid = "InvalidAliasNameException";
    let create: [(&str, &str, &str, &str, &str); 12] = [
        ("refused", &key, "", "ValidationException", "Alias must start with the prefix \"alias/\"."),
        ("", &key, "", "ValidationException", "Member must have length greater than or equal to 1"),
        (&long(257), &key, "", "ValidationException", "Member must have length less than or equal to 256"),
        ("alias/a b", &key, "", "ValidationException", "Member must satisfy regular expression pattern"),
        ("alias/aws/s3", &key, "", invalid, "reserved"),
        ("alias/a:b", &key, "", invalid, "alias/a:b"),
        ("alias/", &key, "", invalid, "alias/"),
        ("alias/refused", &key, "", "AlreadyExistsException", &alias_arn("alias/refused")),
        ("alias/unknown", unknown, "", "NotFoundException", &format!("Key '{unknown_arn}' does not exist")),
        ("alias/going", &going, "", "KMSInvalidStateException", &pending),
        ("alias/other", &key, "refused", "ConflictException", "client_token"),
        ("alias/other", "arn:aws:kms", "", "InvalidArnException", "arn:"),
    ];
    for (name, target, token, reason, text) in create {
        let failure = caller.alias(name, target, token).await.unwrap_err();
        assert!(failure.reason == reason && failure.message.contains(text), "{name} {target}: {failure:?}");
        assert!(!failure.retryable);
    }
    caller.alias(&long(256), &key, "").await.expect("it is not too long");
    caller.delete_alias(&long(256)).await.unwrap();
    for name in ["alias/none", "alias/aws/s3", "alias/a:b"] {
        let text = format!("Alias {} is not found.", alias_arn(name));
        for failure in [caller.update_alias(name, &key).await, caller.delete_alias(name).await] {
            let failure = failure.unwrap_err();
            assert_eq!((failure.reason.as_str(), &failure.message), ("NotFoundException", &text));
        }
    }
    let (at, past) = ("k".repeat(128), "k".repeat(129));
    let (value_at, value_past) = ("v".repeat(256), "v".repeat(257));
    let tags = [
        (&[("a", ""), ("a", "")][..], "TagException", "Duplicate tag keys"),
        (&[("aws:a", "")], "TagException", "Tags beginning with aws: are reserved"),
        (&[("", "")], "ValidationException", "'tags.1.member.tagKey'"),
        (&[("a", ""), (&past, "")], "ValidationException", "'tags.2.member.tagKey'"),
        (&[("a", &value_past)], "ValidationException", "'tags.1.member.tagValue'"),
    ];
    for (tags, reason, text) in tags {
        for failure in [caller.tag(&key, tags).await, caller.create_tagged(tags, "").await.map(drop)] {
            let failure = failure.unwrap_err();
            assert!(failure.reason == reason && failure.message.contains(text), "{failure:?}");
        }
    }
    caller.tag(&key, &[(&at, &value_at), ("Case", ""), ("case", "")]).await.unwrap();
    assert_eq!(caller.tags(&key, None, "").await.unwrap().0.len(), 3);
    assert_eq!(caller.untag(&key, &["aws:a"]).await.unwrap_err().reason, "TagException");
    assert_eq!(caller.untag(&key, &[&past]).await.unwrap_err().reason, "ValidationException");
    for refused in [
        caller.tag(&going, &[("a", "")]).await,
        caller.untag(&going, &["a"]).await,
        caller.describe_anew(&going, "").await,
        caller.update_alias("alias/refused", &going).await,
    ] {
        let failure = refused.unwrap_err();
        assert_eq!((failure.reason.as_str(), &failure.message), ("KMSInvalidStateException", &pending));
    }
    caller.describe_anew(&key, &"ä".repeat(8_192)).await.unwrap();
    assert_eq!(caller.describe_anew(&key, &"ä".repeat(8_193)).await.unwrap_err().reason, "ValidationException");
    assert_eq!(caller.describe_key(&key).await.unwrap().description.chars().count(), 8_192);
    for (limit, good) in [(0, false), (100, true), (101, false)] {
        assert_eq!(caller.aliases("", Some(limit), "").await.is_ok(), good, "{limit}");
    }
    for (limit, good) in [(0, false), (50, true), (51, false)] {
        assert_eq!(caller.tags(&key, Some(limit), "").await.is_ok(), good, "{limit}");
    }
    assert_eq!(caller.aliases("", None, "made up").await.unwrap_err().reason, "InvalidMarkerException");
    assert_eq!(caller.tags(&key, None, "a1zz").await.unwrap_err().reason, "InvalidMarkerException");
    caller.delete_alias("alias/refused").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn quotas_are_the_configuration_s_and_names_outlive_a_restart() {
    let site = Site::prepare().await;
    bound(&site, &[("keys_per_key_store", 2), ("aliases_per_key", 2), ("tags_per_key", 2)]);
    let daemon = site.start().await;
    let caller = daemon.caller().await;
    let one = caller.create_tagged(&[("team", "payroll"), ("stage", "")], "one").await.unwrap();
    let other = caller.create_tagged(&[], "").await.unwrap();
    let limited = |failure: Failure, reason: &str, text: &str| {
        assert!(failure.reason == reason && failure.message.contains(text), "{failure:?}");
    };
    limited(caller.create_tagged(&[], "").await.unwrap_err(), "LimitExceededException", "limits.keys_per_key_store");
    assert_eq!(caller.create_tagged(&[("stage", ""), ("team", "payroll")], "one").await.unwrap(), one);
    limited(
        caller.create_tagged(&[("team", "payroll")], "one").await.unwrap_err(),
        "ConflictException",
        "client_token",
    );
    limited(caller.tag(&one, &[("third", "")]).await.unwrap_err(), "TagException", "Too many tags");
    caller.tag(&one, &[("stage", "live")]).await.unwrap();
    for name in ["alias/a", "alias/b"] {
        caller.alias(name, &one, name).await.unwrap();
    }
    caller.alias("alias/c", &other, "").await.unwrap();
    limited(caller.alias("alias/d", &one, "").await.unwrap_err(), "LimitExceededException", "limits.aliases_per_key");
    limited(caller.update_alias("alias/c", &one).await.unwrap_err(), "LimitExceededException", "aliases");
    caller.update_alias("alias/a", &other).await.unwrap();

    // Lowered, they take nothing away; a call whose answer was lost still has it.
    let (_, site) = daemon.terminate();
    bound(&site, &[("keys_per_key_store", 1), ("aliases_per_key", 1), ("tags_per_key", 1)]);
    let daemon = site.start().await;
    let caller = daemon.caller().await;
    let none = context(&[]);
    wait::until_async("the keys are in use", wait::LONG, async || caller.encrypt("alias/b", b"x", &none).await.ok())
        .await;
    assert_eq!(names(&caller.aliases("", None, "").await.unwrap()), ["alias/a", "alias/b", "alias/c"]);
    assert_eq!(names(&caller.aliases(&other, None, "").await.unwrap()), ["alias/a", "alias/c"]);
    let tags = wire(&[("stage", "live"), ("team", "payroll")]);
    assert_eq!(caller.tags(&one, None, "").await.unwrap().0, tags);
    caller.alias("alias/b", &one, "alias/b").await.unwrap();
    caller.tag(&one, &[("stage", "test")]).await.expect("what it has it may change");
    limited(caller.tag(&one, &[("third", "")]).await.unwrap_err(), "TagException", "Too many tags");
    caller.untag(&one, &["stage", "team"]).await.expect("all of them at once");
    limited(caller.create_tagged(&[], "").await.unwrap_err(), "LimitExceededException", "keys_per_key_store");

    // One that waits for deletion keeps its place and its names.
    caller.schedule_deletion(&other).await;
    limited(caller.create_tagged(&[], "").await.unwrap_err(), "LimitExceededException", "keys_per_key_store");
    let failure = caller.encrypt("alias/c", b"x", &none).await.unwrap_err();
    limited(failure, "KMSInvalidStateException", "is pending deletion.");
    caller.delete_alias("alias/c").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_are_whole_whatever_happens_between_them() {
    let daemon = shared().await;
    let caller = daemon.caller().await;
    let key = caller.create_key("of many names").await;
    let name = |number: usize| format!("alias/pages/{number:02}");
    for number in (0..20).step_by(2) {
        caller.alias(&name(number), &key, "").await.unwrap();
        caller.tag(&key, &[(&format!("tag {number:02}"), "")]).await.unwrap();
    }
    let (mut seen, mut marker, mut turn) = (Vec::new(), String::new(), 0);
    loop {
        let request = ListAliasesRequest { key_id: key.clone(), limit: Some(3), marker };
        let page = caller.keys.clone().list_aliases(caller.request(request)).await.unwrap().into_inner();
        assert_eq!(page.truncated, !page.next_marker.is_empty());
        seen.extend(page.aliases.into_iter().map(|alias| alias.alias_name));
        if !page.truncated {
            break;
        }
        marker = page.next_marker;
        // The last one that was listed goes, one comes before it and one far behind it.
        caller.delete_alias(seen.last().unwrap()).await.unwrap();
        caller.alias(&name(1 + 2 * turn), &key, "").await.unwrap();
        caller.alias(&name(30 + turn), &key, "").await.unwrap();
        turn += 1;
    }
    let stayed = (0..20).step_by(2).map(name);
    assert!(stayed.clone().all(|name| seen.iter().filter(|seen| **seen == name).count() == 1), "{seen:?}");
    assert!(seen.is_sorted() && seen.len() >= stayed.count() + turn, "{seen:?}");

    let (mut tags, mut marker) = caller.tags(&key, Some(4), "").await.unwrap();
    caller.untag(&key, &["tag 06", "tag 08"]).await.unwrap();
    caller.tag(&key, &[("tag 01", ""), ("tag 07", "")]).await.unwrap();
    while !marker.is_empty() {
        let (more, next) = caller.tags(&key, Some(4), &marker).await.unwrap();
        tags.extend(more);
        marker = next;
    }
    let tags: Vec<&str> = tags.iter().map(|tag| tag.tag_key.as_str()).collect();
    let expected = ["00", "02", "04", "06", "07", "10", "12", "14", "16", "18"].map(|number| format!("tag {number}"));
    assert_eq!(tags, expected);

    // Keys: one that was listed goes, others come.
    let filter = KeyFilter {
        tags: vec![TagFilter { tag_key: "paged".into(), tag_value: Some("yes".into()) }],
        ..Default::default()
    };
    let mut made = BTreeSet::new();
    for _ in 0..6 {
        made.insert(caller.create_tagged(&[("paged", "yes")], "").await.unwrap());
    }
    let (mut listed, mut marker) = (Vec::new(), String::new());
    loop {
        let filter = Some(filter.clone());
        let page = caller.keys(ListKeysRequest { limit: Some(2), marker, filter, detailed: true }).await.unwrap();
        listed.extend(page.keys);
        if !page.truncated {
            break;
        }
        marker = page.next_marker;
        if let Some(last) = listed.last() {
            caller.untag(&last.key_id, &["paged"]).await.unwrap();
        }
    }
    let ids: BTreeSet<String> = listed.iter().map(|key| key.key_id.clone()).collect();
    assert_eq!((listed.len(), ids), (6, made));
    for key in listed {
        let details = key.details.unwrap();
        assert_eq!(details.key_state(), KeyState::Enabled);
        assert!(details.key_store_id.starts_with("cks-") && details.creation_date.is_some());
        assert_eq!(details.tags, wire(&[("paged", "yes")]));
    }
    let unknown = KeyFilter { key_states: vec![0], ..Default::default() };
    let failure = caller.keys(ListKeysRequest { filter: Some(unknown), ..Default::default() }).await.unwrap_err();
    assert_eq!(failure.reason, "ValidationException");
    let plain = caller.keys(ListKeysRequest::default()).await.unwrap();
    assert!(plain.keys.iter().all(|key| key.details.is_none()), "as AWS has it, unless more is asked for");
    for alias in caller.aliases(&key, Some(100), "").await.unwrap() {
        caller.delete_alias(&alias.alias_name).await.unwrap();
    }
}

//! Aliases, tags, descriptions, and lists that are filtered by them.

use std::time::Duration;

use futures_util::future::join_all;

use super::bench::{Bench, exception, plain, sealed, statement};
use crate::GrantTokens;
use crate::{CreateAliasInput, CreateKeyInput, Error, KeyFilter, ListKeysInput, RequestContext};
use model::exception::Exception;
use model::key::KeyState;
use model::operation::Operation;

const SCOPE: &str = "arn:aws:kms:eu-central-1:111122223333";

impl Bench {
    async fn alias(&self, name: &str, target: &str) -> Result<(), Error> {
        self.alias_with(name, target, "").await
    }

    async fn alias_with(&self, name: &str, target: &str, token: &str) -> Result<(), Error> {
        let input =
            CreateAliasInput { alias_name: name.into(), target_key_id: target.into(), client_token: token.into() };
        self.service.create_alias(&self.call(), input).await
    }

    async fn create_tagged(&self, tags: &[(&str, &str)], token: &str) -> Result<crate::KeyMetadata, Error> {
        let input = CreateKeyInput { tags: pairs(tags), client_token: token.into(), ..CreateKeyInput::default() };
        self.service.create_key(&self.call(), input).await
    }

    async fn tags(&self, key: &str) -> Vec<(String, String)> {
        self.service.list_resource_tags(&self.call(), key, None, "").await.unwrap().items
    }

    async fn aliases(&self, key: &str) -> Vec<String> {
        let page = self.service.list_aliases(&self.call(), key, None, "").await.unwrap();
        page.items.into_iter().map(|alias| alias.name.to_string()).collect()
    }

    async fn listed(&self, filter: KeyFilter) -> Vec<String> {
        let input = ListKeysInput { filter, ..ListKeysInput::default() };
        let page = self.service.list_keys(&self.call(), input).await.unwrap();
        page.items.into_iter().map(|key| key.arn.to_string()).collect()
    }
}

fn pairs(tags: &[(&str, &str)]) -> Vec<(String, String)> {
    tags.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn said(error: &Error) -> (Exception, &str) {
    (error.exception, error.message.as_str())
}

fn allows(actions: &[Operation], resource: &str) -> Vec<String> {
    actions.iter().map(|operation| statement("Allow", operation.spec().permission, resource, &[])).collect()
}

/// Whether there is such a key in another account is nobody's to tell, and no policy of this one could let anybody use it.
#[tokio::test]
async fn keys_of_other_accounts_and_regions_are_refused_as_aws_refuses_them() {
    let bench = Bench::new().await;
    let (arn, call) = (bench.create().await.arn, bench.call());
    let account = arn.replace("111122223333", "999999999999");
    let denied = |permission: &str| {
        format!(
            "User: cn:anna is not authorized to perform: {permission} on this resource because the resource does not exist \
             in this Region, no resource-based policies allow access, or a resource-based policy explicitly denies access"
        )
    };
    let described = bench.service.describe_key_with(&call, &account, GrantTokens::default()).await.unwrap_err();
    assert_eq!(said(&described), (Exception::AccessDenied, &*denied("kms:DescribeKey")));
    let encrypted = bench.encrypt(plain(&account, b"x")).await.unwrap_err();
    assert_eq!(said(&encrypted), (Exception::AccessDenied, &*denied("kms:Encrypt")));
    let alias = bench.alias("alias/a", &account).await.unwrap_err();
    assert_eq!(said(&alias), (Exception::AccessDenied, &*denied("kms:CreateAlias")));
    let region = arn.replace("eu-central-1", "us-east-1");
    let described = bench.service.describe_key_with(&call, &region, GrantTokens::default()).await.unwrap_err();
    assert_eq!(said(&described), (Exception::NotFound, "Invalid arn us-east-1"));
}

#[tokio::test]
async fn an_alias_stands_for_its_key_where_aws_takes_one() {
    let bench = Bench::new().await;
    let (one, other) = (bench.create().await, bench.create().await);
    bench.alias("alias/payroll", &one.arn).await.unwrap();
    let (name, arn) = ("alias/payroll", format!("{SCOPE}:alias/payroll"));
    for form in [name, &arn] {
        assert_eq!(
            bench.service.describe_key_with(&bench.call(), form, GrantTokens::default()).await.unwrap().id,
            one.id
        );
    }
    let blob = bench.encrypt(plain(name, b"secret")).await.unwrap();
    let named = |form: &str| crate::DecryptInput { key_id: form.to_owned(), ..sealed(&blob) };
    assert_eq!(bench.decrypt(named(&arn)).await.unwrap(), b"secret");
    for form in [name, &arn] {
        let error = bench.service.disable_key(&bench.call(), form).await.unwrap_err();
        assert_eq!(said(&error), (Exception::InvalidArn, "Key Aliases are not supported for this operation."));
        assert_eq!(exception(bench.alias("alias/other", form).await), Exception::InvalidArn);
        let error = bench.service.list_aliases(&bench.call(), form, None, "").await.unwrap_err();
        assert_eq!(error.exception, Exception::InvalidArn);
    }
    // Whether there is such an alias, or could be one, makes no difference.
    for form in ["alias/nobody", "alias/a:b", &format!("{SCOPE}:alias/nobody")] {
        assert_eq!(exception(bench.service.disable_key(&bench.call(), form).await), Exception::InvalidArn, "{form}");
    }
    bench.service.update_alias(&bench.call(), name, &other.id.to_string()).await.unwrap();
    assert_eq!(
        bench.service.describe_key_with(&bench.call(), name, GrantTokens::default()).await.unwrap().id,
        other.id
    );
    // What the alias's former key encrypted says so itself, and is not this one's.
    assert_eq!(bench.decrypt(sealed(&blob)).await.unwrap(), b"secret");
    assert_eq!(exception(bench.decrypt(named(name)).await), Exception::IncorrectKey);
    bench.service.delete_alias(&bench.call(), name).await.unwrap();
    let error = bench.service.describe_key_with(&bench.call(), name, GrantTokens::default()).await.unwrap_err();
    assert_eq!(said(&error), (Exception::NotFound, format!("Alias {arn} is not found.").as_str()));
}

#[tokio::test]
async fn aliases_are_refused_with_aws_s_words() {
    let bench = Bench::new().await;
    let key = bench.create().await;
    bench.alias("alias/a", &key.arn).await.unwrap();
    let unknown = key.arn.replace(&key.id.to_string(), "00000000-0000-4000-8000-000000000001");
    let cases = [
        (
            "a",
            &key.arn,
            Exception::Validation,
            "Alias must start with the prefix \"alias/\". Please see \
             https://docs.aws.amazon.com/kms/latest/developerguide/kms-alias.html",
        ),
        ("alias/aws/a", &key.arn, Exception::InvalidAliasName, "reserved"),
        ("alias/a:b", &key.arn, Exception::InvalidAliasName, "behind the prefix"),
        ("alias/a", &key.arn, Exception::AlreadyExists, "An alias with the name arn:aws:kms:eu-central-1:"),
        ("alias/b", &unknown, Exception::NotFound, &format!("Key '{unknown}' does not exist")),
        ("alias/b", &"nonsense".to_owned(), Exception::NotFound, "Invalid keyId 'nonsense'"),
        ("alias/b", &String::new(), Exception::Validation, "length greater than or equal to 1"),
    ];
    for (name, target, exception, text) in cases {
        let error = bench.alias(name, target).await.unwrap_err();
        assert!(error.exception == exception && error.message.contains(text), "{name} {target}: {error}");
    }
    assert_eq!(exception(bench.alias_with("alias/b", &key.arn, &"t".repeat(129)).await), Exception::Validation);
    let (service, call) = (&bench.service, bench.call());
    for name in ["alias/none", "alias/aws/none", "alias/a:b", "alias/"] {
        let text = format!("Alias {SCOPE}:{name} is not found.");
        let error = service.update_alias(&call, name, &key.arn).await.unwrap_err();
        assert_eq!(said(&error), (Exception::NotFound, text.as_str()));
        let error = service.delete_alias(&call, name).await.unwrap_err();
        assert_eq!(said(&error), (Exception::NotFound, text.as_str()));
    }
    assert_eq!(exception(service.delete_alias(&call, &format!("{SCOPE}:alias/a")).await), Exception::Validation);
    assert_eq!(exception(service.update_alias(&call, "alias/a", &unknown).await), Exception::NotFound);
    assert_eq!(bench.aliases("").await, ["alias/a"]);
}

#[tokio::test]
async fn a_repeated_create_gives_what_was_made() {
    let bench = Bench::new().await;
    let (key, other) = (bench.create().await, bench.create().await);
    for _ in 0..2 {
        bench.alias_with("alias/a", &key.arn, "t").await.unwrap();
        bench.alias_with("alias/a", &key.id.to_string(), "t").await.expect("the same key by another name");
    }
    for (name, target) in [("alias/a", &other.arn), ("alias/b", &key.arn)] {
        assert_eq!(exception(bench.alias_with(name, target, "t").await), Exception::Conflict);
    }
    assert_eq!(bench.aliases("").await, ["alias/a"]);

    let made = bench.create_tagged(&[("a", "1"), ("b", "2")], "t").await.unwrap();
    let again = bench.create_tagged(&[("b", "2"), ("a", "1")], "t").await.unwrap();
    assert_eq!(again.id, made.id, "the order of tags means nothing");
    for tags in [&[("a", "1")][..], &[("a", "1"), ("b", "3")], &[]] {
        assert_eq!(exception(bench.create_tagged(tags, "t").await), Exception::Conflict);
    }
}

#[tokio::test]
async fn a_key_has_aliases_and_tags_up_to_the_quota() {
    let bench = Bench::new().await;
    let (key, other) = (bench.create().await, bench.create().await);
    let made = join_all((0..51).map(|at| {
        let (bench, key) = (&bench, &key);
        async move { bench.alias(&format!("alias/{at:02}"), &key.arn).await }
    }))
    .await;
    let refused: Vec<&Error> = made.iter().filter_map(|made| made.as_ref().err()).collect();
    assert!(matches!(refused[..], [one] if one.exception == Exception::LimitExceeded), "{refused:?}");
    assert!(refused[0].message.contains("limits.aliases_per_key"), "{}", refused[0]);
    bench.alias("alias/other", &other.arn).await.unwrap();
    let past = bench.service.update_alias(&bench.call(), "alias/other", &key.arn).await;
    assert_eq!(exception(past), Exception::LimitExceeded);

    let many = |from: usize, to: usize| (from..to).map(|at| (format!("t{at:02}"), String::new())).collect::<Vec<_>>();
    let tag = |tags: Vec<(String, String)>| {
        let (service, call, arn) = (bench.service.clone(), bench.call(), key.arn.clone());
        async move { service.tag_resource(&call, &arn, tags).await }
    };
    let error = tag(many(0, 51)).await.unwrap_err();
    assert_eq!(said(&error), (Exception::Tag, "Too many tags"));
    tag(many(0, 50)).await.unwrap();
    assert_eq!(said(&tag(many(50, 51)).await.unwrap_err()), (Exception::Tag, "Too many tags"));
    tag(many(0, 50)).await.expect("those it has may be said again");
    assert_eq!(said(&tag(pairs(&[("a", ""), ("a", "")])).await.unwrap_err()), (Exception::Tag, "Duplicate tag keys"));
    let names = many(0, 49).into_iter().map(|(name, _)| name).chain(["none".to_owned()]).collect();
    bench.service.untag_resource(&bench.call(), &key.arn, names).await.unwrap();
    assert_eq!(bench.tags(&key.arn).await, pairs(&[("t49", "")]));
    for tags in [&[("aws:a", "")][..], &[("a", ""), ("a", "")]] {
        assert_eq!(exception(bench.create_tagged(tags, "").await), Exception::Tag);
    }
}

/// Policies look at tags before it is known whether the caller may give any: at no more than there can be.
#[tokio::test]
async fn more_tags_than_there_can_be_are_refused_before_policies_look_at_them() {
    let bench = Bench::new().await;
    let key = bench.create().await;
    bench.may_nothing();
    let (service, call) = (&bench.service, bench.call());
    let tags = |count: usize, value: &str| (0..count).map(|at| (at.to_string(), value.to_owned())).collect::<Vec<_>>();
    for (tags, expected) in [
        (tags(1_001, ""), Exception::Tag),
        (tags(1, &"é".repeat(257)), Exception::Validation),
        (tags(1_000, &"é".repeat(256)), Exception::AccessDenied),
    ] {
        assert_eq!(exception(service.tag_resource(&call, &key.arn, tags.clone()).await), expected);
        assert_eq!(exception(service.create_key(&call, CreateKeyInput { tags, ..Default::default() }).await), expected);
    }
    for (count, expected) in [(1_001, Exception::Tag), (1_000, Exception::AccessDenied)] {
        let names = (0..count).map(|at| at.to_string()).collect();
        assert_eq!(exception(service.untag_resource(&call, &key.arn, names).await), expected);
    }
}

/// Section 3.4 of AWS's table: what waits for deletion is as it is, all else may be named and described.
#[tokio::test]
async fn what_waits_for_deletion_is_not_renamed() {
    let bench = Bench::new().await;
    let (key, other) = (bench.create().await, bench.create().await);
    let (service, call) = (&bench.service, bench.call());
    let states = [KeyState::Creating, KeyState::Enabled, KeyState::Disabled, KeyState::Unavailable];
    for (at, state) in states.into_iter().enumerate() {
        if state == KeyState::Unavailable {
            bench.store.force_state(key.id, KeyState::Enabled).await.unwrap();
            let (store, event) = (&bench.key_store, model::key_store::Event::Disconnect);
            bench.store.advance_key_store(store, event, None, false).await.unwrap();
            assert_eq!(
                service.describe_key_with(&call, &key.arn, GrantTokens::default()).await.unwrap().state,
                KeyState::Unavailable
            );
        } else {
            bench.store.force_state(key.id, state).await.unwrap();
        }
        let name = format!("alias/{at}");
        bench.alias(&name, &key.arn).await.unwrap();
        service.update_alias(&call, &name, &other.arn).await.unwrap();
        service.update_alias(&call, &name, &key.arn).await.unwrap();
        service.tag_resource(&call, &key.arn, pairs(&[("a", &name), ("b", "")])).await.unwrap();
        service.untag_resource(&call, &key.arn, vec!["b".into()]).await.unwrap();
        service.update_key_description(&call, &key.arn, name.clone()).await.unwrap();
        assert_eq!(service.describe_key_with(&call, &key.arn, GrantTokens::default()).await.unwrap().description, name);
        assert_eq!(bench.tags(&key.arn).await, pairs(&[("a", &name)]));
    }
    bench.store.force_state(key.id, KeyState::PendingDeletion).await.unwrap();
    bench.alias("alias/other", &other.arn).await.unwrap();
    let text = format!("{} is pending deletion.", key.arn);
    for refused in [
        bench.alias("alias/x", &key.arn).await,
        service.update_alias(&call, "alias/other", &key.arn).await,
        service.tag_resource(&call, &key.arn, pairs(&[("c", "")])).await,
        service.untag_resource(&call, &key.arn, vec!["a".into()]).await,
        service.update_key_description(&call, &key.arn, String::new()).await,
    ] {
        assert_eq!(said(&refused.unwrap_err()), (Exception::KmsInvalidState, text.as_str()));
    }
    assert_eq!(bench.aliases(&key.arn).await.len(), 4, "its names still lead to it");
    assert_eq!(bench.tags(&key.arn).await.len(), 1);
    service.update_alias(&call, "alias/0", &other.arn).await.unwrap();
    service.delete_alias(&call, "alias/1").await.unwrap();
}

#[tokio::test]
async fn lists_of_names_survive_what_happens_between_their_pages() {
    let bench = Bench::new().await;
    let key = bench.create().await;
    for at in [10, 20, 30, 40, 50] {
        bench.alias(&format!("alias/{at}"), &key.arn).await.unwrap();
        bench.service.tag_resource(&bench.call(), &key.arn, pairs(&[(&format!("ä{at}"), "")])).await.unwrap();
    }
    let (service, call) = (&bench.service, bench.call());
    for of in ["", &key.arn] {
        let first = service.list_aliases(&call, of, Some(2), "").await.unwrap();
        service.delete_alias(&call, "alias/20").await.unwrap();
        for new in ["alias/15", "alias/25"] {
            bench.alias(new, &key.arn).await.unwrap();
        }
        let (mut seen, mut marker) = (first.items, first.next_marker);
        while let Some(next) = marker.take() {
            let page = service.list_aliases(&call, of, Some(2), &next).await.unwrap();
            seen.extend(page.items);
            marker = page.next_marker;
        }
        let names: Vec<&str> = seen.iter().map(|alias| alias.name.as_str()).collect();
        assert_eq!(names, ["alias/10", "alias/20", "alias/25", "alias/30", "alias/40", "alias/50"]);
        assert!(seen.iter().all(|alias| alias.arn == format!("{SCOPE}:{}", alias.name) && alias.target == key.id));
        bench.alias("alias/20", &key.arn).await.unwrap();
        for new in ["alias/15", "alias/25"] {
            service.delete_alias(&call, new).await.unwrap();
        }
    }
    let first = service.list_resource_tags(&call, &key.arn, Some(2), "").await.unwrap();
    service.untag_resource(&call, &key.arn, vec!["ä20".into(), "ä30".into()]).await.unwrap();
    let rest = service.list_resource_tags(&call, &key.arn, None, &first.next_marker.unwrap()).await.unwrap();
    assert_eq!((rest.items, rest.next_marker), (pairs(&[("ä40", ""), ("ä50", "")]), None));

    // Bounds, defaults, and markers of other lists.
    for (limit, good) in [(0, false), (1, true), (100, true), (101, false)] {
        assert_eq!(service.list_aliases(&call, "", Some(limit), "").await.is_ok(), good, "{limit}");
    }
    for (limit, good) in [(0, false), (1, true), (50, true), (51, false)] {
        assert_eq!(service.list_resource_tags(&call, &key.arn, Some(limit), "").await.is_ok(), good, "{limit}");
    }
    let marker = service.list_aliases(&call, "", Some(1), "").await.unwrap().next_marker.unwrap();
    let foreign = service.list_resource_tags(&call, &key.arn, None, &marker).await;
    assert_eq!(exception(foreign), Exception::InvalidMarker);
    let unknown = key.arn.replace(&key.id.to_string(), "00000000-0000-4000-8000-000000000001");
    assert_eq!(exception(service.list_aliases(&call, &unknown, None, "").await), Exception::NotFound);
}

#[tokio::test]
async fn keys_are_listed_by_what_is_said_of_them() {
    let bench = Bench::new().await;
    let one = bench.create_tagged(&[("team", "payroll"), ("stage", "")], "").await.unwrap();
    let two = bench.create_tagged(&[("team", "audit")], "").await.unwrap();
    let three = bench.create().await;
    bench.alias("alias/payroll/2026", &one.arn).await.unwrap();
    bench.alias("alias/audit", &two.arn).await.unwrap();
    bench.service.disable_key(&bench.call(), &two.arn).await.unwrap();
    let tagged = |name: &str, value: Option<&str>| vec![(name.to_owned(), value.map(ToOwned::to_owned))];
    let all = [&one, &two, &three];
    let filter = KeyFilter::default;
    let cases: [(KeyFilter, &[&crate::KeyMetadata]); 9] = [
        (filter(), &all),
        (KeyFilter { states: vec![KeyState::Disabled], ..filter() }, &[&two]),
        (KeyFilter { states: vec![KeyState::Disabled, KeyState::Enabled], ..filter() }, &all),
        (KeyFilter { tags: tagged("team", None), ..filter() }, &[&one, &two]),
        (KeyFilter { tags: tagged("team", Some("audit")), ..filter() }, &[&two]),
        (KeyFilter { tags: [tagged("team", None), tagged("stage", Some(""))].concat(), ..filter() }, &[&one]),
        (KeyFilter { alias: "alias/payroll*".into(), ..filter() }, &[&one]),
        (KeyFilter { alias: "alias/payroll".into(), ..filter() }, &[]),
        (KeyFilter { states: vec![KeyState::Enabled], tags: tagged("team", Some("audit")), ..filter() }, &[]),
    ];
    for (filter, expected) in cases {
        let mut expected: Vec<String> = expected.iter().map(|key| key.arn.clone()).collect();
        expected.sort();
        assert_eq!(bench.listed(filter.clone()).await, expected, "{filter:?}");
    }
    let store = |id: &str| KeyFilter { key_store_id: id.into(), ..filter() };
    assert_eq!(bench.listed(store(bench.key_store.as_str())).await.len(), 3);
    assert!(bench.listed(store("cks-0")).await.is_empty());

    let input = ListKeysInput {
        detailed: true,
        filter: KeyFilter { tags: tagged("stage", None), ..filter() },
        ..ListKeysInput::default()
    };
    let page = bench.service.list_keys(&bench.call(), input.clone()).await.unwrap();
    let details = page.items[0].details.as_ref().unwrap();
    assert_eq!((details.state, &details.key_store), (KeyState::Enabled, &bench.key_store));
    assert_eq!((&details.aliases[..], details.tags.len()), (&["alias/payroll/2026".to_owned()][..], 2));
    for wrong in [
        KeyFilter { alias: "x".repeat(257), ..filter() },
        KeyFilter { tags: tagged("", None), ..filter() },
        KeyFilter { tags: vec![("a".to_owned(), None); 51], ..filter() },
    ] {
        let refused = bench.service.list_keys(&bench.call(), ListKeysInput { filter: wrong, ..input.clone() }).await;
        assert_eq!(exception(refused), Exception::Validation);
    }

    // Details, and what a filter finds by them, are of keys that the caller may know.
    let mut statements = allows(&[Operation::ListKeys, Operation::ListAliases], "*");
    let known = [Operation::DescribeKey, Operation::ListResourceTags];
    statements.extend(allows(&known, &two.arn));
    bench.may_only(&statements).await;
    assert_eq!(
        bench.listed(KeyFilter { tags: tagged("team", None), ..filter() }).await,
        std::slice::from_ref(&two.arn)
    );
    let input = ListKeysInput { detailed: true, ..ListKeysInput::default() };
    let page = bench.service.list_keys(&bench.call(), input).await.unwrap();
    let shown: Vec<_> = page.items.iter().filter(|key| key.details.is_some()).map(|key| &*key.arn).collect();
    assert_eq!((page.items.len(), shown), (3, vec![two.arn.as_str()]));
}

#[tokio::test]
async fn an_alias_needs_permission_on_itself_and_on_its_keys() {
    let bench = Bench::new().await;
    let (one, other) = (bench.create().await, bench.create().await);
    bench.alias("alias/a", &one.arn).await.unwrap();
    let alias = format!("{SCOPE}:alias/a");
    let verbs = [Operation::CreateAlias, Operation::UpdateAlias, Operation::DeleteAlias];
    let tries: [(&[&str], [bool; 2]); 5] = [
        (&[&alias], [false, false]),
        (&[&one.arn, &other.arn], [false, false]),
        (&[&alias, &one.arn], [false, true]),
        (&[&alias, &other.arn], [false, false]),
        (&[&alias, &one.arn, &other.arn], [true, true]),
    ];
    let call: RequestContext = bench.call_within(Duration::from_secs(30));
    for (resources, [updates, deletes]) in tries {
        let statements: Vec<String> = resources.iter().flat_map(|arn| allows(&verbs, arn)).collect();
        bench.may_only(&statements).await;
        let updated = bench.service.update_alias(&call, "alias/a", &other.arn).await;
        assert_eq!(updated.is_ok(), updates, "{resources:?}");
        assert!(updated.is_ok() || exception(updated) == Exception::AccessDenied);
        let deleted = bench.service.delete_alias(&call, "alias/a").await;
        assert_eq!(deleted.is_ok(), deletes, "{resources:?}");
        bench.may_everything();
        if deletes {
            bench.alias("alias/a", &one.arn).await.unwrap();
        }
    }
    // Whether there is such an alias is told only to those who may use it.
    bench.may_only(&allows(&[Operation::CreateKey], "*")).await;
    for name in ["alias/a", "alias/none"] {
        let error = bench.service.delete_alias(&call, name).await.unwrap_err();
        assert_eq!(error.exception, Exception::AccessDenied);
    }
    let tagged = bench.create_tagged(&[("a", "")], "").await;
    assert_eq!(exception(tagged), Exception::AccessDenied, "tags need their own permission");
    bench.create().await;
}

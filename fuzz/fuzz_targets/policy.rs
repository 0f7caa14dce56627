//! Policies are written by people and by programs of others. Any text is taken or refused with findings, the same each time,
//! and what is taken decides on any request. That it takes neither long nor much is seen to by the limits of the run.
#![no_main]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use auth::policy::{
    Caller, Circumstances, Compiled, Home, Key, Kind, POLICY_BYTES, Parameters, Policy, Request, Rules, Severity,
    Target, check, decide, nearest, shown,
};
use libfuzzer_sys::fuzz_target;
use model::context::EncryptionContext;
use model::id::PrincipalId;

const KEY: &str = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";
const HOME: Home<'static> = Home { partition: "aws", region: "eu-central-1", account: "111122223333" };
const KINDS: &[Kind<'_>] = &[Kind::Key { arn: Some(KEY) }, Kind::Key { arn: None }, Kind::Identity];

fuzz_target!(|text: &str| {
    for kind in KINDS {
        let compile = || Policy::compile(&"fuzzed".into(), text, *kind, &resolve);
        let compiled = compile();
        assert_eq!(format!("{compiled:?}"), format!("{:?}", compile()), "another policy of the same text");
        let findings = check(text, *kind, Some(HOME), &resolve);
        let refused = findings.iter().any(|one| one.severity == Severity::Error);
        assert_eq!(refused, compiled.is_err(), "{findings:?}");
        assert!(findings.len() <= 100 && findings.iter().all(|one| !one.to_string().is_empty() && one.line >= 1));
        assert!(refused || text.len() <= POLICY_BYTES);
        if let Ok(Compiled { policy, .. }) = compiled {
            decided(&policy);
            let bindings = policy.bindings();
            assert_eq!(shown(text, bindings, &resolve), text, "everybody is who was meant");
            let gone = shown(text, bindings, &|_| None);
            assert_eq!(gone == text, bindings.pairs().is_empty(), "{gone}");
            // What is stored is read again with the names that it was stored with.
            let stored = Policy::compile(&"fuzzed".into(), text, *kind, &|arn| bindings.resolve(arn));
            assert!(stored.is_ok_and(|again| format!("{:?}", again.policy) == format!("{policy:?}")));
        }
    }
});

/// Whom an ARN means.
fn resolve(arn: &str) -> Option<PrincipalId> {
    let (_, name) = arn.split_once(":user/")?;
    (name.len() <= 32).then(|| format!("AIDA{name}").as_str().into())
}

/// Has some requests decided on, twice each.
fn decided(policy: &Policy) {
    let tags = BTreeMap::from([("team", "red"), ("Ünit", "*"), ("until", "2026-11-29")]);
    let pairs =
        (0..64).map(|index| (format!("name-{index}"), "a".repeat(index))).chain([("tenant".into(), "7".into())]);
    let context = EncryptionContext::new(pairs.collect()).ok();
    let aliases = vec!["alias/app-1", "alias/other"];
    let key = Key { spec: "SYMMETRIC_DEFAULT", usage: "ENCRYPT_DECRYPT", origin: "AWS_CLOUDHSM", aliases: &aliases };
    let everything = Parameters {
        encryption_context: context.as_ref(),
        encryption_algorithm: Some("SYMMETRIC_DEFAULT"),
        alias: Some("alias/app-1"),
        tags: Some(&tags),
        pending_window_days: Some(7),
        bypass_lockout_check: Some(true),
        ..Parameters::default()
    };
    for (account, name) in [("111122223333", "user/a"), ("111122223333", "root"), ("999900001111", "user/team/b")] {
        let (id, arn) = (PrincipalId::from("AIDAa"), format!("arn:aws:iam::{account}:{name}"));
        for (action, arn_of, key) in
            [("kms:Encrypt", KEY, Some(key)), ("kms:CreateKey", "*", None), ("kms:FutureThing", KEY, Some(key))]
        {
            for parameters in [Parameters::default(), everything] {
                let request = Request {
                    caller: Caller { id: &id, arn: &arn, account, tags: &tags },
                    action,
                    target: Target { arn: arn_of, account: "111122223333", key, tags: &tags },
                    circumstances: Circumstances {
                        time: UNIX_EPOCH + Duration::from_secs(1_795_953_600),
                        source: "2001:db8::1".parse().ok(),
                        secure: true,
                        user_agent: Some("fuzz"),
                        interface: "grpc",
                        region: "eu-central-1",
                    },
                    parameters,
                };
                let identity_policies = [Arc::new(policy.clone())];
                let rules = Rules { key_policy: Some(policy), identity_policies: &identity_policies, grants: &[] };
                assert_eq!(decide(&request, &rules), decide(&request, &rules));
                assert!(nearest(&request, &rules, 5).len() <= 5);
            }
            // It only has to come to an end.
            let _ = policy.depends_on_request(action);
        }
    }
}

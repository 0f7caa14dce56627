//! Grant tokens: they give nothing, and have to be authentic all the same.

use super::bench::{Bench, exception, plain, sealed};
use super::permissions::{arn, bench, by, created, encrypt, principal};
use crate::{CreateGrantInput, DataKeyInput, EncryptInput, Error, Extras, GrantTokens, ReEncryptInput, RequestedSpec};
use model::exception::Exception;
use model::key::DataKeySpec;

const OUTCOMES: usize = 7;

async fn granted(bench: &Bench, key: &str, to: &str, operations: &[&str]) -> crate::CreatedGrant {
    let input = CreateGrantInput {
        key_id: key.to_owned(),
        grantee: arn(to),
        operations: operations.iter().map(|one| (*one).to_owned()).collect(),
        ..CreateGrantInput::default()
    };
    bench.service.create_grant(&by(bench, "admin"), input).await.unwrap()
}

/// What becomes of each operation that takes tokens, asked for by a principal with these.
async fn outcomes(bench: &Bench, name: &str, key: &str, blob: &[u8], tokens: &[&str]) -> Vec<Option<Exception>> {
    fn item<T>(results: Result<Vec<Result<T, Error>>, Error>) -> Option<Exception> {
        results.unwrap().remove(0).err().map(|error| error.exception)
    }
    let (service, call) = (&bench.service, by(bench, name));
    let tokens = || GrantTokens::from(tokens.iter().map(|token| (*token).to_owned()).collect::<Vec<_>>());
    let extras = || Extras { grant_tokens: tokens(), ..Extras::default() };
    let data_key = || DataKeyInput {
        key_id: key.to_owned(),
        key_spec: Some(RequestedSpec::Known(DataKeySpec::Aes256)),
        extras: extras(),
        ..DataKeyInput::default()
    };
    let grant = CreateGrantInput {
        key_id: key.to_owned(),
        grantee: arn("anna"),
        operations: vec!["Encrypt".to_owned()],
        grant_tokens: tokens(),
        ..CreateGrantInput::default()
    };
    let re_encrypt = ReEncryptInput {
        ciphertext: blob.to_vec().into(),
        destination_key_id: key.to_owned(),
        extras: extras(),
        ..ReEncryptInput::default()
    };
    let all = vec![
        item(service.encrypt(&call, vec![EncryptInput { extras: extras(), ..plain(key, b"x") }]).await),
        item(service.decrypt(&call, vec![crate::DecryptInput { extras: extras(), ..sealed(blob) }]).await),
        item(service.generate_data_keys(&call, vec![data_key()], false).await),
        item(service.generate_data_keys(&call, vec![data_key()], true).await),
        item(service.re_encrypt(&call, vec![re_encrypt]).await),
        service.describe_key_with(&call, key, tokens()).await.err().map(|error| error.exception),
        service.create_grant(&call, grant).await.err().map(|error| error.exception),
    ];
    assert_eq!(all.len(), OUTCOMES);
    all
}

#[tokio::test]
async fn a_token_has_to_be_authentic_and_gives_nothing() {
    let bench = bench().await;
    let (key, other) = (created(&bench).await, created(&bench).await);
    for name in ["anna", "bert"] {
        principal(&bench, name).await;
    }
    let uses = [
        "Encrypt",
        "Decrypt",
        "GenerateDataKey",
        "GenerateDataKeyWithoutPlaintext",
        "ReEncryptFrom",
        "ReEncryptTo",
        "DescribeKey",
        "CreateGrant",
    ];
    let own = granted(&bench, &key, "anna", &uses).await;
    let elsewhere = granted(&bench, &other, "bert", &["Encrypt"]).await;
    let gone = granted(&bench, &key, "bert", &["Encrypt"]).await;
    bench.service.revoke_grant(&by(&bench, "admin"), &key, gone.id.as_str(), false).await.unwrap();
    let blob = encrypt(&bench, "anna", &key).await.unwrap();
    // One digit is another one.
    let mut altered = own.token.clone().into_bytes();
    let last = altered.last_mut().unwrap();
    *last = if *last == b'0' { b'1' } else { b'0' };
    let altered = String::from_utf8(altered).unwrap();
    let all = |outcome| vec![outcome; OUTCOMES];
    for (tokens, outcome) in [
        (vec![own.token.as_str()], None),
        (vec![elsewhere.token.as_str(), gone.token.as_str(), own.token.as_str()], None),
        (vec![own.token.as_str(); 10], None),
        (vec![own.token.as_str(); 11], Some(Exception::Validation)),
        (vec![""], Some(Exception::Validation)),
        (vec!["made up"], Some(Exception::InvalidGrantToken)),
        (vec![own.token.as_str(), altered.as_str()], Some(Exception::InvalidGrantToken)),
    ] {
        assert_eq!(outcomes(&bench, "anna", &key, &blob, &tokens).await, all(outcome), "{} tokens", tokens.len());
    }
    // Of somebody else's token nobody has anything, and one that is none tells nothing.
    let denied = || all(Some(Exception::AccessDenied));
    assert_eq!(outcomes(&bench, "bert", &key, &blob, &[&own.token]).await, denied());
    assert_eq!(outcomes(&bench, "bert", &key, &blob, &["made up"]).await, denied());
    let left = bench.service.list_grants(&by(&bench, "admin"), &key, "", &arn("anna"), None, "").await.unwrap();
    for grant in left.items {
        bench.service.revoke_grant(&by(&bench, "admin"), &key, grant.id.as_str(), false).await.unwrap();
    }
    assert_eq!(outcomes(&bench, "anna", &key, &blob, &[&own.token]).await, denied(), "its grant is gone");
}

#[tokio::test]
async fn a_token_is_neither_shown_nor_recorded_and_its_refusal_names_the_key() {
    let bench = bench().await;
    let key = created(&bench).await;
    principal(&bench, "anna").await;
    let own = granted(&bench, &key, "anna", &["Encrypt"]).await;
    let item = |token: &str| EncryptInput {
        extras: Extras { grant_tokens: vec![token.to_owned()].into(), ..Extras::default() },
        ..plain(&key, b"x")
    };
    let input = CreateGrantInput { grant_tokens: vec![own.token.clone()].into(), ..CreateGrantInput::default() };
    for shown in [format!("{:?}", item(&own.token)), format!("{input:?}")] {
        assert!(shown.contains("GrantTokens(1)") && !shown.contains(&own.token), "{shown}");
    }
    bench.recorder.taken();
    let begun = bench.fake.begun.load(std::sync::atomic::Ordering::SeqCst);
    // In a batch the others are not concerned.
    let items = vec![item(&own.token), item("beef"), item(&own.token), item("beef")];
    let results = bench.service.encrypt(&by(&bench, "anna"), items).await.unwrap();
    assert_eq!(results.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, true, false]);
    for refused in results.into_iter().filter(Result::is_err) {
        let error = refused.unwrap_err();
        assert!(error.exception == Exception::InvalidGrantToken && !error.message.contains("beef"), "{error}");
    }
    assert_eq!(bench.fake.begun.load(std::sync::atomic::Ordering::SeqCst), begun + 1);
    let alone = bench.service.encrypt(&by(&bench, "anna"), vec![item("beef")]).await.unwrap().remove(0);
    assert_eq!(exception(alone), Exception::InvalidGrantToken);
    for record in bench.recorder.taken() {
        assert_eq!(record.resources.iter().map(|arn| &**arn).collect::<Vec<_>>(), [key.as_str()]);
        let shown = format!("{record:?}");
        assert!(!shown.contains(&own.token) && !shown.contains("beef"), "{shown}");
    }
}

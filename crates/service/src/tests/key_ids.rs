//! Ids of keys that are none here.

use super::bench::{Bench, plain};
use crate::{Error, GrantTokens};
use model::exception::Exception;

const SCOPE: &str = "arn:aws:kms:eu-central-1:111122223333";

fn said(error: &Error) -> (Exception, &str) {
    (error.exception, error.message.as_str())
}

/// AWS takes an id of its multi-Region keys for one, and says that there is no such key.
#[tokio::test]
async fn multi_region_keys_are_none_that_there_are() {
    let bench = Bench::new().await;
    let id = "mrk-d3b95762d3b95762d3b95762d3b95762";
    let (arn, call) = (format!("{SCOPE}:key/{id}"), bench.call());
    let unknown = format!("Key '{arn}' does not exist");
    for form in [id, &arn] {
        let described = bench.service.describe_key_with(&call, form, GrantTokens::default()).await.unwrap_err();
        assert_eq!(said(&described), (Exception::NotFound, &*unknown));
        let disabled = bench.service.disable_key(&call, form).await.unwrap_err();
        assert_eq!(said(&disabled), (Exception::NotFound, &*unknown));
        let encrypted = bench.encrypt(plain(form, b"x")).await.unwrap_err();
        assert_eq!(said(&encrypted), (Exception::NotFound, &*unknown));
    }
    for none in ["mrk-fake-key-id", "mrk-d3b95762d3b95762d3b95762d3b9576g", "MRK-d3b95762d3b95762d3b95762d3b95762"] {
        let error = bench.encrypt(plain(none, b"x")).await.unwrap_err();
        assert_eq!(said(&error), (Exception::NotFound, &*format!("Invalid keyId '{none}'")));
    }
}

//! Key stores that are looked for by name: permission is asked about the one that has the name.

use super::approvals::{arn, attach, bench, by, principal, put};
use super::bench::{Bench, exception};
use crate::Error;
use model::exception::Exception;

async fn look(bench: &Bench, who: &str, id: &str, name: &str) -> Result<Vec<String>, Error> {
    let page = bench.service.describe_key_stores(&by(bench, who), id, name, None, "").await?;
    Ok(page.items.into_iter().map(|view| view.store.name.clone()).collect())
}

/// Somebody with this statement about DescribeCustomKeyStores.
async fn somebody(bench: &Bench, name: &str, effects: &[(&str, &str)]) {
    principal(bench, name).await;
    let statement = |(effect, resource): &(&str, &str)| {
        format!("{{\"Effect\":\"{effect}\",\"Action\":\"kms:DescribeCustomKeyStores\",\"Resource\":\"{resource}\"}}")
    };
    put(bench, name, &effects.iter().map(statement).collect::<Vec<_>>().join(",")).await;
    attach(bench, name, name).await;
}

#[tokio::test]
async fn who_may_see_one_store_sees_it_by_its_name_as_by_its_id() {
    let bench = bench().await;
    let spare = bench.spare_key_store().await;
    let scope = bench.service.core.scope();
    let [main, all] = [bench.key_store.as_str(), "*"].map(|id| scope.key_store_arn(id));
    somebody(&bench, "one", &[("Allow", &main)]).await;
    somebody(&bench, "all", &[("Allow", &all)]).await;
    somebody(&bench, "but", &[("Allow", "*"), ("Deny", &main)]).await;
    principal(&bench, "nobody").await;

    assert_eq!(look(&bench, "one", "", "main").await.unwrap(), ["main"]);
    assert_eq!(look(&bench, "one", bench.key_store.as_str(), "").await.unwrap(), ["main"]);
    assert_eq!(look(&bench, "all", "", "spare").await.unwrap(), ["spare"]);
    assert_eq!(exception(look(&bench, "all", "", "none").await), Exception::CustomKeyStoreNotFound);
    assert_eq!(look(&bench, "but", "", "spare").await.unwrap(), ["spare"]);
    // Where there is none of a name this is said, so it is of the one that may not be seen.
    let hidden = look(&bench, "but", "", "main").await.unwrap_err();
    let none = look(&bench, "but", "", "none").await.unwrap_err();
    assert_eq!(
        (hidden.exception, none.exception),
        (Exception::CustomKeyStoreNotFound, Exception::CustomKeyStoreNotFound)
    );
    assert_eq!(hidden.message.replace("main", "none"), none.message);
    assert_eq!(exception(look(&bench, "but", bench.key_store.as_str(), "").await), Exception::AccessDenied);
    // A list is of no store in particular.
    assert_eq!(exception(look(&bench, "one", "", "").await), Exception::AccessDenied);
    assert_eq!(exception(look(&bench, "all", "", "").await), Exception::AccessDenied);
    assert_eq!(look(&bench, "but", "", "").await.unwrap().len(), 2);

    // Whether there is a store of a name is not told, nor its id.
    for who in ["one", "nobody"] {
        let there = look(&bench, who, "", "spare").await.unwrap_err();
        let none = look(&bench, who, "", "nonex").await.unwrap_err();
        assert_eq!((there.exception, none.exception), (Exception::AccessDenied, Exception::AccessDenied));
        assert_eq!(there.message.replace("spare", "nonex"), none.message);
        let expected = format!(
            "User: {} is not authorized to perform: kms:DescribeCustomKeyStores on the key store named 'spare'",
            arn(who)
        );
        assert_eq!(there.message, expected);
        assert!(!there.message.contains(spare.as_str()));
    }
    // What a terminal would obey is shown, not done.
    let told = look(&bench, "nobody", "", "a\u{1b}[2J\u{202e}b").await.unwrap_err().message;
    assert!(told.contains("a\\u{1b}[2J\\u{202e}b"), "{told}");
}

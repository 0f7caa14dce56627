//! Lists come in pages, complete and in order.

use proto::v1::{DescribeKeyStoresRequest, ListKeysRequest};

use crate::harness::{Caller, Failure, shared};

#[tokio::test(flavor = "multi_thread")]
async fn every_key_is_listed_once() {
    let daemon = shared().await;
    let caller = daemon.caller().await;
    let mut made = Vec::new();
    for number in 0..5 {
        made.push(caller.create_key(&format!("listed {number}")).await);
    }
    let mut listed = Vec::new();
    let mut marker = String::new();
    loop {
        let request = caller.request(ListKeysRequest { limit: Some(2), marker, ..Default::default() });
        let page = caller.keys.clone().list_keys(request).await.unwrap().into_inner();
        assert!(page.keys.len() <= 2);
        listed.extend(page.keys);
        if !page.truncated {
            assert_eq!(page.next_marker, "");
            break;
        }
        marker = page.next_marker;
    }
    assert!(listed.windows(2).all(|pair| pair[0].key_id < pair[1].key_id), "{listed:?}");
    for key in made {
        let entry = listed.iter().find(|entry| entry.key_id == key).expect("every key made is listed");
        assert!(entry.key_arn.ends_with(&key));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn markers_and_limits_are_checked() {
    let daemon = shared().await;
    let caller = daemon.caller().await;
    for (limit, marker, reason) in [
        (Some(0), "", "ValidationException"),
        (Some(1_001), "", "ValidationException"),
        (None, "made up", "InvalidMarkerException"),
    ] {
        let request = caller.request(ListKeysRequest { limit, marker: marker.to_owned(), ..Default::default() });
        let status = caller.keys.clone().list_keys(request).await.map(drop).unwrap_err();
        assert_eq!(Failure::from(status).reason, reason, "limit {limit:?}, marker {marker:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_store_is_found_by_id_and_by_name() {
    let daemon = shared().await;
    let caller = daemon.caller().await;
    let describe =
        async |key_store_id: &str, key_store_name: &str| describe(&caller, key_store_id, key_store_name).await;
    let all = describe("", "").await.unwrap();
    let [store] = &all[..] else { panic!("{all:?}") };
    assert_eq!(describe(&store.key_store_id, "").await.unwrap().len(), 1);
    assert_eq!(describe("", &store.key_store_name).await.unwrap().len(), 1);
    assert_eq!(store.hsms.len(), 2);
    for hsm in &store.hsms {
        assert!(!hsm.token_serial.is_empty() && !hsm.token_label.is_empty(), "{hsm:?}");
    }
    let failure = describe("cks-00000000000000000", "").await.unwrap_err();
    assert_eq!(failure.reason, "CustomKeyStoreNotFoundException");
    let failure = describe(&store.key_store_id, &store.key_store_name).await.unwrap_err();
    assert_eq!(failure.reason, "ValidationException");
}

async fn describe(caller: &Caller, id: &str, name: &str) -> Result<Vec<proto::v1::KeyStore>, Failure> {
    let request =
        DescribeKeyStoresRequest { key_store_id: id.to_owned(), key_store_name: name.to_owned(), ..Default::default() };
    Ok(caller.stores.clone().describe_key_stores(caller.request(request)).await?.into_inner().key_stores)
}

//! Who made a key store, for whoever repeats the call.

use model::id::PrincipalId;
use model::key_store::Event;

use super::{Bench, first_pin, new_store};
use crate::KeyStoreChange;

#[tokio::test]
async fn it_is_on_record_who_made_a_key_store_until_it_is_used_or_told_of() {
    let mut bench = Bench::new().await;
    let id = bench.store.create_key_store(new_store("other", "cluster-zzzzzzzzzzz")).await.unwrap();
    let maker = |bench: &Bench| bench.store.catalogue().key_store(&id).unwrap().maker.clone();
    let anna = Some(PrincipalId::from("AIDAANNA"));
    assert_eq!(
        (maker(&bench), bench.store.catalogue().key_store(&bench.key_store).unwrap().maker.clone()),
        (anna.clone(), None)
    );
    let rename = KeyStoreChange { name: Some("renamed".into()), ..KeyStoreChange::default() };
    bench.store.update_key_store(&id, rename).await.unwrap();
    bench.reopen().await;
    assert_eq!(maker(&bench), anna);
    let told = KeyStoreChange { pins: vec![first_pin("hsm-b")], ..KeyStoreChange::default() };
    bench.store.update_key_store(&id, told).await.unwrap();
    assert_eq!(maker(&bench), None, "what is on record is not what its maker gave");
    bench.reopen().await;
    assert_eq!(maker(&bench), None);

    bench.store.delete_key_store(&id).await.unwrap();
    let again = bench.store.create_key_store(new_store("other", "cluster-zzzzzzzzzzz")).await.unwrap();
    for event in [Event::Connect, Event::ConnectSucceeded, Event::Disconnect, Event::DisconnectDone] {
        bench.store.advance_key_store(&again, event, None, false).await.unwrap();
    }
    assert_eq!(bench.store.catalogue().key_store(&again).unwrap().maker, None, "it was in use since");
}

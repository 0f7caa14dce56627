//! The fast operations.

use bytes::Bytes;
use model::id::{KeyId, KeyVersionId};
use protocol::{
    Class, CompareItem, DataKeyItem, DecryptItem, EncryptItem, FromWorker, Op, ReEncryptItem, Reply, Role, Sealed,
    encode_frame,
};

use super::rig::{MADE, Tokens};

#[test]
fn what_is_encrypted_opens_with_the_same_context_only() {
    let tokens = Tokens::after_ceremony();
    let mut control = tokens.control();
    let (key, blob) = control.make_key();
    let (other, _) = control.make_key();
    let mut data = tokens.data();
    for length in [1, 2, 3, 32, 33, 4_096] {
        if length == 3 {
            // From here on by the hot copy.
            let said = data.copy(key, Some(blob.clone()));
            assert!(said.contains(MADE), "{said}");
        }
        let plaintext = vec![0x5a; length];
        let sealed = data.encrypt(key, &plaintext, b"context").unwrap();
        assert_eq!(sealed.sealed.len(), length + 16);
        assert_eq!(data.decrypt(key, &sealed, b"context").unwrap().expose(), plaintext);
        let mut altered = sealed.clone();
        let mut bytes = altered.sealed.to_vec();
        bytes[0] ^= 1;
        altered.sealed = bytes.into();
        assert_eq!(data.decrypt(key, &altered, b"context").unwrap_err().class, Class::Ambiguous);
        assert_eq!(data.decrypt(key, &sealed, b"another").unwrap_err().class, Class::Ambiguous);
        assert_eq!(data.decrypt(other, &sealed, b"context").unwrap_err().class, Class::Ambiguous);
    }
    assert!(matches!(data.call(Op::Probe), Reply::Done));
    assert!(data.stop().success());
}

#[test]
fn one_items_failure_is_not_anothers() {
    let tokens = Tokens::after_ceremony();
    let (key, _) = tokens.control().make_key();
    let absent = KeyVersionId { key: KeyId::random(), version: 1 };
    let item = |key| EncryptItem { key, aad: Bytes::new(), plaintext: vec![1, 2, 3].into() };
    let mut data = tokens.data();
    let Reply::Encrypted(results) = data.call(Op::Encrypt(vec![item(key), item(absent), item(key)])) else { panic!() };
    assert!(results[0].is_ok() && results[2].is_ok());
    assert_eq!(results[1].as_ref().unwrap_err().class, Class::KeyAbsent);
    assert_ne!(results[0].as_ref().unwrap().iv, results[2].as_ref().unwrap().iv);
}

#[test]
fn data_keys_open_to_what_was_given_in_clear() {
    let tokens = Tokens::after_ceremony();
    let (key, _) = tokens.control().make_key();
    let mut data = tokens.data();
    let items = [1, 32, 1_024].map(|length| DataKeyItem { key, aad: Bytes::from_static(b"aad"), length }).to_vec();
    let Reply::DataKeys(results) = data.call(Op::GenerateDataKey(items)) else { panic!() };
    for (result, length) in results.into_iter().zip([1, 32, 1_024]) {
        let made = result.unwrap();
        assert_eq!(made.plaintext.len(), length);
        assert_eq!(data.decrypt(key, &made.sealed, b"aad").unwrap(), made.plaintext);
    }
    let Reply::Random(first) = data.call(Op::Random { length: 1_024 }) else { panic!() };
    let Reply::Random(second) = data.call(Op::Random { length: 1_024 }) else { panic!() };
    assert_ne!(first, second);
}

#[test]
fn a_key_made_after_the_start_is_found() {
    let tokens = Tokens::after_ceremony();
    let (mut data, mut control) = (tokens.data(), tokens.control());
    for _ in 0..3 {
        let (key, _) = control.make_key();
        assert!(data.encrypt(key, b"plaintext", b"").is_ok());
    }
}

#[test]
fn many_requests_at_once_are_answered_in_order_by_one_session() {
    let tokens = Tokens::after_ceremony();
    let (key, _) = tokens.control().make_key();
    let mut data = tokens.data();
    let item = EncryptItem { key, aad: Bytes::from_static(b"aad"), plaintext: vec![7; 32].into() };
    let ids: Vec<u64> = (0..500).map(|_| data.request(Op::Encrypt(vec![item.clone(); 3]))).collect();
    for id in ids {
        let FromWorker::Reply { id: answered, reply: Reply::Encrypted(results) } = data.receive() else { panic!() };
        assert_eq!(answered, id);
        assert!(results.iter().all(Result::is_ok));
    }
}

#[test]
fn several_sessions_share_keys_and_forget_them_together() {
    let tokens = Tokens::after_ceremony();
    let (key, blob) = tokens.control().make_key();
    let mut start = tokens.start(Role::Data);
    start.sessions = 4;
    let mut data = tokens.worker(start).unwrap();
    let item = EncryptItem { key, aad: Bytes::new(), plaintext: vec![7; 32].into() };
    let ids: Vec<u64> = (0..400)
        .map(|n| match n {
            _ if n % 40 == 7 => Op::Forget(vec![key]),
            // Copies come and go while others use them.
            _ if n % 8 == 3 => Op::Copy { key, blob: Some(blob.clone()) },
            _ => Op::Encrypt(vec![item.clone(); 2]),
        })
        .map(|op| data.request(op))
        .collect();
    for _ in ids {
        match data.receive() {
            FromWorker::Reply { reply: Reply::Encrypted(results), .. } => {
                assert!(results.iter().all(Result::is_ok), "{results:?}");
            }
            FromWorker::Reply { reply: Reply::Done, .. } => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(data.log().contains(MADE), "{}", data.log());
    assert!(data.stop().success());
}

#[test]
fn what_is_encrypted_anew_never_shows() {
    let tokens = Tokens::after_ceremony();
    let mut control = tokens.control();
    let ((from, _), (to, _)) = (control.make_key(), control.make_key());
    let mut data = tokens.data();
    let plaintext = b"a plaintext that must not come out".to_vec();
    let old = data.encrypt(from, &plaintext, b"old").unwrap();
    let opens = |key, aad: &'static [u8], sealed: &Sealed| DecryptItem {
        key,
        aad: Bytes::from_static(aad),
        iv: sealed.iv,
        sealed: sealed.sealed.clone(),
    };
    let source = opens(from, b"old", &old);
    let item = |source: DecryptItem, key| ReEncryptItem { source, key, aad: Bytes::from_static(b"new") };
    let absent = KeyVersionId { key: KeyId::random(), version: 1 };
    let wrong = opens(from, b"another", &old);
    let items = vec![
        item(source.clone(), to),
        item(wrong.clone(), to),
        item(source.clone(), absent),
        item(opens(absent, b"old", &old), to),
        item(source.clone(), from),
    ];
    let reply = data.call(Op::ReEncrypt(items));
    // As it crosses the socket.
    let mut frame = Vec::new();
    let answer = FromWorker::Reply { id: 1, reply };
    encode_frame(&answer, &mut frame).unwrap();
    assert!(!frame.windows(plaintext.len()).any(|bytes| bytes == plaintext));
    let FromWorker::Reply { reply: Reply::ReEncrypted(results), .. } = answer else { panic!() };
    let made: Vec<&Sealed> = [0, 4].iter().map(|at| results[*at].as_ref().unwrap()).collect();
    assert_eq!(data.decrypt(to, made[0], b"new").unwrap().expose(), plaintext);
    assert_eq!(data.decrypt(from, made[1], b"new").unwrap().expose(), plaintext);
    assert!(made[0].iv != made[1].iv && made[0].iv != old.iv, "each has an IV of its own");
    let faults: Vec<_> = [1, 2, 3].iter().map(|at| results[*at].as_ref().unwrap_err()).collect();
    assert_eq!(
        faults.iter().map(|fault| (fault.class, fault.at_source)).collect::<Vec<_>>(),
        [(Class::Ambiguous, true), (Class::KeyAbsent, false), (Class::KeyAbsent, true),]
    );

    let other = data.encrypt(to, b"another plaintext", b"new").unwrap();
    let compare = |source: &DecryptItem, made| CompareItem { source: source.clone(), made };
    let items = vec![
        compare(&source, opens(to, b"new", made[0])),
        compare(&source, opens(to, b"new", &other)),
        compare(&source, opens(to, b"old", made[0])),
        compare(&wrong, opens(to, b"new", made[0])),
    ];
    let Reply::Compared(results) = data.call(Op::Compare(items)) else { panic!() };
    assert_eq!((results[0].as_ref(), results[1].as_ref()), (Ok(&true), Ok(&false)));
    let faults: Vec<_> = results[2..].iter().map(|result| result.as_ref().unwrap_err()).collect();
    assert!(faults.iter().all(|fault| fault.class == Class::Ambiguous));
    assert_eq!((faults[0].at_source, faults[1].at_source), (false, true));
}

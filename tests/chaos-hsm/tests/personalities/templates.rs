//! Attributes that are refused, forgotten, forced and added, for each function and class; and which objects there can be.

use std::ptr;

use cryptoki_sys::*;

use crate::rig::{Attribute, Hsm, bytes, call, number, plain, played, truth, with_template};

type Session = CK_SESSION_HANDLE;
type Object = CK_OBJECT_HANDLE;

fn data(hsm: &Hsm, session: Session, more: &[Attribute]) -> Result<Object, CK_RV> {
    let mut template = vec![number(CKA_CLASS, CKO_DATA), bytes(CKA_VALUE, b"value")];
    template.extend_from_slice(more);
    let mut made = 0;
    with_template(&template, |at, count| call!(hsm.chaos, C_CreateObject(session, at, count, &raw mut made)))
        .map(|()| made)
}

fn copy(hsm: &Hsm, session: Session, object: Object, template: &[Attribute]) -> Result<Object, CK_RV> {
    let mut made = 0;
    with_template(template, |at, count| call!(hsm.chaos, C_CopyObject(session, object, at, count, &raw mut made)))
        .map(|()| made)
}

fn set(hsm: &Hsm, session: Session, object: Object, template: &[Attribute]) -> Result<(), CK_RV> {
    with_template(template, |at, count| call!(hsm.chaos, C_SetAttributeValue(session, object, at, count)))
}

fn pair(hsm: &Hsm, session: Session, public: &[Attribute], private: &[Attribute]) -> Result<(Object, Object), CK_RV> {
    // The curve P-256.
    let curve = [0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
    let mut publics = vec![bytes(CKA_EC_PARAMS, &curve), truth(CKA_VERIFY, true)];
    publics.extend_from_slice(public);
    let mut privates = vec![truth(CKA_SIGN, true)];
    privates.extend_from_slice(private);
    let (mut one, mut other, mut mechanism) = (0, 0, plain(CKM_EC_KEY_PAIR_GEN));
    with_template(&publics, |at, count| {
        with_template(&privates, |private_at, private_count| {
            let (made, mechanism) = ((&raw mut one, &raw mut other), &raw mut mechanism);
            let all = (at, count, private_at, private_count);
            call!(hsm.chaos, C_GenerateKeyPair(session, mechanism, all.0, all.1, all.2, all.3, made.0, made.1))
        })
    })
    .map(|()| (one, other))
}

played!(each_function_and_class_has_its_own_rules, "", |hsm| {
    let session = hsm.user();
    let key = hsm.key(session, &[]).unwrap();
    let named = bytes(CKA_LABEL, b"name");
    let refused = Some(CKR_ATTRIBUTE_TYPE_INVALID);
    for function in ["C_GenerateKey", "C_GenerateKeyPair", "C_CreateObject", "C_CopyObject", "C_SetAttributeValue"] {
        hsm.set(&format!("[attributes.a]\nfunction = [\"{function}\"]\nrefuse = [\"CKA_LABEL\"]"));
        let only = |name| if name == function { refused } else { None };
        let named = std::slice::from_ref(&named);
        assert_eq!(hsm.key(session, named).err(), only("C_GenerateKey"), "{function}");
        assert_eq!(pair(hsm, session, named, &[]).err(), only("C_GenerateKeyPair"), "{function}");
        assert_eq!(data(hsm, session, named).err(), only("C_CreateObject"), "{function}");
        assert_eq!(copy(hsm, session, key, named).err(), only("C_CopyObject"), "{function}");
        assert_eq!(set(hsm, session, key, named).err(), only("C_SetAttributeValue"), "{function}");
        assert_eq!(pair(hsm, session, &[], named).err(), only("C_GenerateKeyPair"), "{function}");
    }
    hsm.set("[attributes.a]\nclass = [\"public-key\"]\nrefuse = [\"CKA_LABEL\"]");
    assert_eq!(pair(hsm, session, std::slice::from_ref(&named), &[]).err(), refused);
    assert_eq!(pair(hsm, session, &[], std::slice::from_ref(&named)).err(), None);
    assert_eq!(copy(hsm, session, key, std::slice::from_ref(&named)).err(), None, "the class of what is copied");
    hsm.set("[attributes.a]\nclass = [\"secret-key\"]\nrefuse = [\"CKA_LABEL\"]\ncode = \"CKR_DEVICE_ERROR\"");
    assert_eq!(copy(hsm, session, key, std::slice::from_ref(&named)).err(), Some(CKR_DEVICE_ERROR));
    assert_eq!(set(hsm, session, key, &[named]).err(), Some(CKR_DEVICE_ERROR));
});

const CHANGED: &str = "[attributes.a]\nclass = [\"secret-key\"]\nforce = { CKA_SENSITIVE = true, CKA_LABEL = \"forced\" }\n\
                       default = { CKA_EXTRACTABLE = true }\nignore = [\"CKA_ID\", \"CKA_COPYABLE\"]";

played!(attributes_are_forced_added_and_forgotten, CHANGED, |hsm| {
    let session = hsm.user();
    let given =
        [truth(CKA_COPYABLE, false), truth(CKA_SENSITIVE, false), bytes(CKA_ID, b"id"), bytes(CKA_LABEL, b"mine")];
    let key = hsm.key(session, &given).unwrap();
    let value = |type_| hsm.value(session, key, type_).unwrap();
    assert_eq!(value(CKA_SENSITIVE), [1]);
    assert_eq!(value(CKA_LABEL), b"forced");
    assert_eq!(value(CKA_EXTRACTABLE), [1]);
    assert_eq!(value(CKA_ID), b"");
    assert_eq!(value(CKA_COPYABLE), [1], "what was said is forgotten");
    let own = hsm.key(session, &[truth(CKA_EXTRACTABLE, false)]).unwrap();
    assert_eq!(hsm.value(session, own, CKA_EXTRACTABLE).unwrap(), [0], "what is said is no default");
});

played!(values_and_lengths_are_refused, "", |hsm| {
    let session = hsm.user();
    hsm.set("[attributes.a]\nrefuse_values = { CKA_PRIVATE = false }\nmax_length = { CKA_ID = 4 }");
    assert_eq!(hsm.key(session, &[truth(CKA_PRIVATE, false)]).err(), Some(CKR_ATTRIBUTE_VALUE_INVALID));
    assert_eq!(hsm.key(session, &[bytes(CKA_ID, b"12345")]).err(), Some(CKR_ATTRIBUTE_VALUE_INVALID));
    hsm.key(session, &[truth(CKA_PRIVATE, true), bytes(CKA_ID, b"1234")]).unwrap();
    hsm.set("[attributes.a]\ndemand = [\"CKA_ID\"]");
    assert_eq!(hsm.key(session, &[]).err(), Some(CKR_TEMPLATE_INCOMPLETE));
    hsm.key(session, &[bytes(CKA_ID, b"1234")]).unwrap();
    hsm.set("[attributes.a]\nfunction = [\"C_CreateObject\"]\nonly = [\"CKA_CLASS\", \"CKA_VALUE\"]");
    data(hsm, session, &[]).unwrap();
    assert_eq!(data(hsm, session, &[bytes(CKA_LABEL, b"name")]).err(), Some(CKR_ATTRIBUTE_TYPE_INVALID));
});

const SEARCH: &str =
    "[attributes.a]\nfunction = [\"C_FindObjectsInit\"]\nrefuse = [\"CKA_LABEL\"]\nignore = [\"CKA_ID\"]";

played!(searches_have_rules_too, SEARCH, |hsm| {
    let session = hsm.user();
    let key = hsm.key(session, &[bytes(CKA_ID, b"one")]).unwrap();
    let result = with_template(&[bytes(CKA_LABEL, b"name")], |at, count| {
        call!(hsm.chaos, C_FindObjectsInit(session, at, count))
    });
    assert_eq!(result, Err(CKR_ATTRIBUTE_TYPE_INVALID));
    assert_eq!(hsm.find(session, &[bytes(CKA_ID, b"other")]), [key], "the id is forgotten: too many are found");
    hsm.set("");
    assert_eq!(hsm.find(session, &[bytes(CKA_ID, b"other")]), []);
});

played!(ids_are_shared_by_nobody_or_by_a_pair, "", |hsm| {
    let session = hsm.user();
    let of = |id: &[u8]| vec![truth(CKA_TOKEN, true), bytes(CKA_ID, id)];
    let refused = Some(CKR_ATTRIBUTE_VALUE_INVALID);
    hsm.set("[objects]\nshared_id = \"none\"");
    let key = hsm.key(session, &of(b"a")).unwrap();
    assert_eq!(hsm.key(session, &of(b"a")).err(), refused);
    assert_eq!(pair(hsm, session, &of(b"a"), &of(b"b")).err(), refused);
    assert_eq!(pair(hsm, session, &of(b"b"), &of(b"b")).err(), refused, "nor in one call");
    pair(hsm, session, &of(b"b"), &of(b"c")).unwrap();
    assert_eq!(data(hsm, session, &[truth(CKA_TOKEN, true)]).err(), None, "without an id");
    hsm.key(session, &of(b"")).unwrap();
    hsm.key(session, &of(b"")).unwrap();
    hsm.key(session, &[bytes(CKA_ID, b"a")]).unwrap();
    assert_eq!(set(hsm, session, key, &[bytes(CKA_ID, b"b")]).err(), refused);
    assert_eq!(set(hsm, session, key, &[bytes(CKA_ID, b"a")]).err(), None, "its own");

    hsm.set("[objects]\nshared_id = \"pair\"\nshared_id_code = \"CKR_FUNCTION_FAILED\"");
    pair(hsm, session, &of(b"d"), &of(b"d")).unwrap();
    assert_eq!(pair(hsm, session, &of(b"d"), &of(b"e")).err(), Some(CKR_FUNCTION_FAILED));

    hsm.set("");
    hsm.key(session, &of(b"a")).unwrap();
});

const FULL: &str = "[objects]\nmost = 2\nclasses = [\"secret-key\", \"public-key\"]";

played!(a_token_is_full_and_takes_some_classes_only, FULL, |hsm| {
    let session = hsm.user();
    let token = [truth(CKA_TOKEN, true)];
    assert_eq!(data(hsm, session, &[]).err(), Some(CKR_ATTRIBUTE_VALUE_INVALID));
    let first = hsm.key(session, &token).unwrap();
    hsm.key(session, &token).unwrap();
    assert_eq!(hsm.key(session, &token).err(), Some(CKR_DEVICE_MEMORY));
    hsm.key(session, &[]).unwrap();
    call!(hsm.chaos, C_DestroyObject(session, first)).unwrap();
    hsm.key(session, &token).unwrap();
    // A search of the caller's own goes on meanwhile.
    call!(hsm.chaos, C_FindObjectsInit(session, ptr::null_mut(), 0)).unwrap();
    assert_eq!(hsm.key(session, &token).err(), Some(CKR_DEVICE_MEMORY));
    let (mut found, mut count) = ([0; 9], 0);
    call!(hsm.chaos, C_FindObjects(session, found.as_mut_ptr(), 9, &raw mut count)).unwrap();
    assert_eq!(count, 3);
});

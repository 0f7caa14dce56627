//! Each operation on a key in each state, against a table that was written by hand from AWS's: what is allowed, and
//! which error with which text else.

use super::bench::Bench;
use crate::core::authority::Judge;
use crate::core::key_access::KeyAccess;
use auth::policy::Parameters;
use model::exception::Exception;
use model::key::KeyState;
use model::key_store::Event;
use model::operation::{Operation, Resource};

/// What comes of an operation in a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cell {
    /// It is allowed.
    Ok,
    /// DisabledException, "ARN is disabled."
    Disabled,
    /// KMSInvalidStateException, "ARN is pending deletion."
    Pending,
    /// KMSInvalidStateException, "ARN is not pending deletion."
    NotPending,
    /// KMSInvalidStateException, "ARN is unavailable", with why.
    Away,
    /// KMSInvalidStateException, "ARN is creating."
    Creating,
    /// KMSInvalidStateException, "ARN is enabled", with what to do.
    Enabled,
}

use Cell::{Away, Creating, Disabled, Enabled, NotPending, Ok, Pending};

const STATES: [KeyState; 5] =
    [KeyState::Creating, KeyState::Enabled, KeyState::Disabled, KeyState::PendingDeletion, KeyState::Unavailable];

/// In the order of [`STATES`].
#[rustfmt::skip]
const TABLE: &[(&str, [Cell; 5])] = &[
    ("Encrypt",                         [Creating,   Ok,         Disabled,   Pending, Away]),
    ("Decrypt",                         [Creating,   Ok,         Disabled,   Pending, Away]),
    ("ReEncrypt",                       [Creating,   Ok,         Disabled,   Pending, Away]),
    ("GenerateDataKey",                 [Creating,   Ok,         Disabled,   Pending, Away]),
    ("GenerateDataKeyWithoutPlaintext", [Creating,   Ok,         Disabled,   Pending, Away]),
    ("DescribeKey",                     [Ok,         Ok,         Ok,         Ok,      Ok]),
    ("EnableKey",                       [Creating,   Ok,         Ok,         Pending, Ok]),
    ("DisableKey",                      [Creating,   Ok,         Ok,         Pending, Ok]),
    ("UpdateKeyDescription",            [Ok,         Ok,         Ok,         Pending, Ok]),
    ("CreateAlias",                     [Ok,         Ok,         Ok,         Pending, Ok]),
    ("UpdateAlias",                     [Ok,         Ok,         Ok,         Pending, Ok]),
    ("DeleteAlias",                     [Ok,         Ok,         Ok,         Ok,      Ok]),
    ("TagResource",                     [Ok,         Ok,         Ok,         Pending, Ok]),
    ("UntagResource",                   [Ok,         Ok,         Ok,         Pending, Ok]),
    ("ListResourceTags",                [Ok,         Ok,         Ok,         Ok,      Ok]),
    ("ScheduleKeyDeletion",             [Creating,   Ok,         Ok,         Pending, Ok]),
    ("CancelKeyDeletion",               [NotPending, NotPending, NotPending, Ok,      NotPending]),
    ("DestroyKeyMaterial",              [Creating,   Enabled,    Ok,         Ok,      Ok]),
    ("GetKeyLastUsage",                 [Ok,         Ok,         Ok,         Ok,      Ok]),
    ("RotateKeyOnDemand",               [Creating,   Ok,         Disabled,   Pending, Away]),
    ("EnableKeyRotation",               [Creating,   Ok,         Disabled,   Pending, Ok]),
    ("DisableKeyRotation",              [Creating,   Ok,         Disabled,   Pending, Ok]),
    ("GetKeyRotationStatus",            [Ok,         Ok,         Ok,         Ok,      Ok]),
    ("ListKeyRotations",                [Ok,         Ok,         Ok,         Ok,      Ok]),
    ("PutKeyPolicy",                    [Ok,         Ok,         Ok,         Ok,      Ok]),
    ("GetKeyPolicy",                    [Ok,         Ok,         Ok,         Ok,      Ok]),
    ("ListKeyPolicies",                 [Ok,         Ok,         Ok,         Ok,      Ok]),
    ("CreateGrant",                     [Creating,   Ok,         Disabled,   Pending, Ok]),
    ("ListGrants",                      [Ok,         Ok,         Ok,         Ok,      Ok]),
    ("RetireGrant",                     [Ok,         Ok,         Ok,         Ok,      Ok]),
    ("RevokeGrant",                     [Ok,         Ok,         Ok,         Ok,      Ok]),
];

#[tokio::test]
async fn every_operation_in_every_state_is_as_the_table_has_it() {
    let bench = Bench::new().await;
    let key = bench.create().await;
    for (column, state) in STATES.into_iter().enumerate() {
        match state {
            KeyState::Unavailable => {
                bench.store.force_state(key.id, KeyState::Enabled).await.unwrap();
                let disconnect = [Event::Disconnect, Event::DisconnectDone];
                for event in disconnect {
                    bench.store.advance_key_store(&bench.key_store, event, None, false).await.unwrap();
                }
            }
            state => bench.store.force_state(key.id, state).await.unwrap(),
        }
        let core = &bench.service.core;
        let (keyring, authority, call) = (core.keyring(), core.authority(), bench.call());
        let judge = Judge::new(core, &keyring, &authority, &call);
        assert_eq!(keyring.key(key.id).unwrap().state, state);
        for operation in Operation::ALL.iter().copied() {
            if !matches!(operation.spec().resource, Resource::Key | Resource::KeyOrAlias | Resource::Alias) {
                continue;
            }
            let name = operation.name();
            let row = TABLE.iter().find(|(of, _)| *of == name);
            let expected = row.unwrap_or_else(|| panic!("the table has no row of {name}")).1[column];
            let access = KeyAccess::new(&judge, operation);
            let (exception, text) = match access.open(key.id, Parameters::default()) {
                Result::Ok(_) => {
                    assert_eq!(expected, Ok, "{name} in {}", state.name());
                    continue;
                }
                Err(error) => (error.exception, error.message),
            };
            let (expected, end) = match expected {
                Ok => panic!("{name} in {}: {exception}: {text}", state.name()),
                Disabled => (Exception::Disabled, " is disabled."),
                Pending => (Exception::KmsInvalidState, " is pending deletion."),
                NotPending => (Exception::KmsInvalidState, " is not pending deletion."),
                Away => (Exception::KmsInvalidState, " is unavailable. Its key store main is DISCONNECTED."),
                Creating => (Exception::KmsInvalidState, " is creating."),
                Enabled => (Exception::KmsInvalidState, " is enabled; disable it first."),
            };
            assert_eq!((exception, text), (expected, format!("{}{end}", key.arn)), "{name} in {}", state.name());
        }
    }
    for (name, _) in TABLE {
        assert!(Operation::ALL.iter().any(|operation| operation.name() == *name), "there is no operation {name}");
    }
}

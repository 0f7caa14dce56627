//! The table of operations: each once, with everything that follows from which operation it is.
//!
//! State check, authorization, audit, metrics and the coverage tests are derived from [`Operation::spec`]; nothing else
//! in the project lists operations.

use super::key::KeyState;

/// An operation that a caller can ask for. Batch and stream forms are the same operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Encrypt up to 4,096 bytes.
    Encrypt,
    /// Open a ciphertext.
    Decrypt,
    /// Make a data key; return it in clear and wrapped.
    GenerateDataKey,
    /// Make a data key; return it wrapped only.
    GenerateDataKeyWithoutPlaintext,
    /// Random bytes.
    GenerateRandom,
    /// Make a key.
    CreateKey,
    /// Show a key.
    DescribeKey,
    /// List keys.
    ListKeys,
    /// Make a key usable.
    EnableKey,
    /// Make a key unusable.
    DisableKey,
    /// Register a cluster as a key store.
    CreateKeyStore,
    /// Show key stores.
    DescribeKeyStores,
    /// Change a key store.
    UpdateKeyStore,
    /// Log in to a key store's HSMs.
    ConnectKeyStore,
    /// Log out of them.
    DisconnectKeyStore,
    /// Forget a key store.
    DeleteKeyStore,
    /// Show clusters.
    DescribeClusters,
    /// Bring a further HSM into a cluster.
    AddHsm,
    /// Seal the stored PINs under another key.
    ResealPins,
    /// Put keys back where they were removed.
    ResyncKeys,
    /// Show what HSMs did and how long it took them.
    GetStatistics,
}

/// Whether an operation uses keys or manages them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plane {
    /// Uses keys; thousands a second.
    Data,
    /// Manages keys and stores.
    Control,
}

/// What an operation names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// One key.
    Key,
    /// One key store.
    KeyStore,
    /// Nothing in particular: the account.
    Account,
}

/// What is specified of one operation.
#[derive(Clone, Copy, Debug)]
pub struct OperationSpec {
    /// Data or control plane.
    pub plane: Plane,
    /// What it names.
    pub resource: Resource,
    /// Key states in which it is legal; empty where no key is named.
    pub allowed_states: &'static [KeyState],
    /// The permission that it needs.
    pub permission: &'static str,
    /// Its name in the audit log, AWS's event name.
    pub event: &'static str,
    /// Its label in metrics and spans.
    pub label: &'static str,
}

impl Operation {
    /// Every operation, in the order of the table.
    pub const ALL: &[Operation] = &[
        Self::Encrypt,
        Self::Decrypt,
        Self::GenerateDataKey,
        Self::GenerateDataKeyWithoutPlaintext,
        Self::GenerateRandom,
        Self::CreateKey,
        Self::DescribeKey,
        Self::ListKeys,
        Self::EnableKey,
        Self::DisableKey,
        Self::CreateKeyStore,
        Self::DescribeKeyStores,
        Self::UpdateKeyStore,
        Self::ConnectKeyStore,
        Self::DisconnectKeyStore,
        Self::DeleteKeyStore,
        Self::DescribeClusters,
        Self::AddHsm,
        Self::ResealPins,
        Self::ResyncKeys,
        Self::GetStatistics,
    ];

    /// Whether it shows how things are, and changes nothing.
    #[must_use]
    pub const fn shows(self) -> bool {
        matches!(
            self,
            Self::DescribeKey | Self::ListKeys | Self::DescribeKeyStores | Self::DescribeClusters | Self::GetStatistics
        )
    }

    /// The operation's specification.
    #[must_use]
    pub const fn spec(self) -> OperationSpec {
        use KeyState::{Creating, Disabled, Enabled, PendingDeletion, Unavailable};
        use Plane::{Control, Data};
        const ANY: &[KeyState] = &[Creating, Enabled, Disabled, PendingDeletion, Unavailable];
        const USE: &[KeyState] = &[Enabled];
        // While a key is Unavailable it is switched on or off for later.
        const SWITCH: &[KeyState] = &[Enabled, Disabled, Unavailable];
        const fn spec(
            plane: Plane,
            resource: Resource,
            allowed_states: &'static [KeyState],
            permission: &'static str,
            event: &'static str,
            label: &'static str,
        ) -> OperationSpec {
            OperationSpec { plane, resource, allowed_states, permission, event, label }
        }
        const fn store(permission: &'static str, event: &'static str, label: &'static str) -> OperationSpec {
            spec(Control, Resource::KeyStore, &[], permission, event, label)
        }
        match self {
            Self::Encrypt => spec(Data, Resource::Key, USE, "kms:Encrypt", "Encrypt", "encrypt"),
            Self::Decrypt => spec(Data, Resource::Key, USE, "kms:Decrypt", "Decrypt", "decrypt"),
            Self::GenerateDataKey => {
                spec(Data, Resource::Key, USE, "kms:GenerateDataKey", "GenerateDataKey", "generate_data_key")
            }
            Self::GenerateDataKeyWithoutPlaintext => spec(
                Data,
                Resource::Key,
                USE,
                "kms:GenerateDataKeyWithoutPlaintext",
                "GenerateDataKeyWithoutPlaintext",
                "generate_data_key_without_plaintext",
            ),
            Self::GenerateRandom => {
                spec(Data, Resource::Account, &[], "kms:GenerateRandom", "GenerateRandom", "generate_random")
            }
            Self::CreateKey => spec(Control, Resource::Account, &[], "kms:CreateKey", "CreateKey", "create_key"),
            Self::DescribeKey => spec(Control, Resource::Key, ANY, "kms:DescribeKey", "DescribeKey", "describe_key"),
            Self::ListKeys => spec(Control, Resource::Account, &[], "kms:ListKeys", "ListKeys", "list_keys"),
            Self::EnableKey => spec(Control, Resource::Key, SWITCH, "kms:EnableKey", "EnableKey", "enable_key"),
            Self::DisableKey => spec(Control, Resource::Key, SWITCH, "kms:DisableKey", "DisableKey", "disable_key"),
            Self::CreateKeyStore => store("kms:CreateCustomKeyStore", "CreateCustomKeyStore", "create_key_store"),
            Self::DescribeKeyStores => {
                store("kms:DescribeCustomKeyStores", "DescribeCustomKeyStores", "describe_key_stores")
            }
            Self::UpdateKeyStore => store("kms:UpdateCustomKeyStore", "UpdateCustomKeyStore", "update_key_store"),
            Self::ConnectKeyStore => store("kms:ConnectCustomKeyStore", "ConnectCustomKeyStore", "connect_key_store"),
            Self::DisconnectKeyStore => {
                store("kms:DisconnectCustomKeyStore", "DisconnectCustomKeyStore", "disconnect_key_store")
            }
            Self::DeleteKeyStore => store("kms:DeleteCustomKeyStore", "DeleteCustomKeyStore", "delete_key_store"),
            // AWS leaves clusters to another of its services; these names are ours.
            Self::DescribeClusters => store("keystored:DescribeClusters", "DescribeClusters", "describe_clusters"),
            Self::AddHsm => store("keystored:AddHsm", "AddHsm", "add_hsm"),
            Self::ResealPins => store("keystored:ResealPins", "ResealPins", "reseal_pins"),
            Self::ResyncKeys => store("keystored:ResyncKeys", "ResyncKeys", "resync_keys"),
            Self::GetStatistics => store("keystored:GetStatistics", "GetStatistics", "get_statistics"),
        }
    }
}

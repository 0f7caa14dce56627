//! The table of operations: each is one row of it, with everything that follows from which operation it is.
//!
//! State check, authorization, records, metrics and the coverage tests are derived from [`Operation::spec`]; nothing
//! else in the project lists operations.

use super::key::KeyState;

/// What an operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Uses keys; thousands a second.
    Uses,
    /// Shows how things are, and changes nothing.
    Shows,
    /// Changes keys, key stores or clusters.
    Changes,
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
    /// One key, by its id or ARN.
    Key,
    /// One key, by an alias as well.
    KeyOrAlias,
    /// One alias, and the key that has it or is to have it, by its id or ARN.
    Alias,
    /// One key store, or all.
    KeyStore,
    /// One cluster, or all.
    Cluster,
    /// One principal, by its ARN, or all.
    Principal,
    /// One group of principals, or all.
    Group,
    /// One identity policy, or all.
    Policy,
    /// What a call that others have to approve is about, by the approval's id.
    Approval,
    /// The daemon's audit log.
    AuditLog,
    /// Nothing that has an ARN: the account.
    Account,
}

/// What is specified of one operation.
#[derive(Clone, Copy, Debug)]
pub struct OperationSpec {
    /// What it does.
    pub effect: Effect,
    /// What it names.
    pub resource: Resource,
    /// Key states in which it is legal; empty where no key is named.
    pub allowed_states: &'static [KeyState],
    /// The permission that it needs.
    pub permission: &'static str,
    /// The permission that it needs on a second key, whose ciphertext it opens; absent where there is none.
    pub source_permission: Option<&'static str>,
    /// Its name in records, AWS's event name.
    pub event: &'static str,
    /// Its label in metrics and spans.
    pub label: &'static str,
}

impl OperationSpec {
    /// Data or control plane.
    #[must_use]
    pub const fn plane(&self) -> Plane {
        match self.effect {
            Effect::Uses => Plane::Data,
            Effect::Shows | Effect::Changes => Plane::Control,
        }
    }
}

/// Key states: of keys that are used.
const USE: &[KeyState] = &[KeyState::Enabled];
/// Of keys that are switched on or off; while one is Unavailable that is for later.
const SWITCH: &[KeyState] = &[KeyState::Enabled, KeyState::Disabled, KeyState::Unavailable];
/// Of keys whose names, tags and words are changed: all but those that wait for deletion.
const CHANGE: &[KeyState] = &[KeyState::Creating, KeyState::Enabled, KeyState::Disabled, KeyState::Unavailable];
/// Of keys whose rotation by itself is set; while one is Unavailable that is for later.
const SET: &[KeyState] = &[KeyState::Enabled, KeyState::Unavailable];
/// Of keys that are to be deleted. One that is being made is finished first.
const DELETE: &[KeyState] = &[KeyState::Enabled, KeyState::Disabled, KeyState::Unavailable];
/// Of keys that are not to be deleted after all.
const KEEP: &[KeyState] = &[KeyState::PendingDeletion];
/// Of keys whose material is given up: none that anybody may use. Unavailable is one that is Disabled as well; one that is
/// Enabled beneath that is refused by its row.
const GIVE_UP: &[KeyState] = &[KeyState::Disabled, KeyState::PendingDeletion, KeyState::Unavailable];
/// Whatever the key is doing.
const ANY: &[KeyState] =
    &[KeyState::Creating, KeyState::Enabled, KeyState::Disabled, KeyState::PendingDeletion, KeyState::Unavailable];
/// No key is named.
const NONE: &[KeyState] = &[];

/// The name, where there is one.
const fn only(names: &[&'static str]) -> Option<&'static str> {
    match names {
        [name] => Some(*name),
        _ => None,
    }
}

macro_rules! operations {
    ($(
        $(#[$doc:meta])*
        $name:ident: $effect:ident $resource:ident in $states:ident,
            $permission:literal $(from $source:literal)?, $event:literal, $label:literal;
    )+) => {
        /// An operation that a caller can ask for. Batch and stream forms are the same operation.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Operation {
            $($(#[$doc])* $name,)+
        }

        impl Operation {
            /// Whether its calls can be made to need the approval of others: where it changes something, and is no vote
            /// itself.
            #[must_use]
            pub const fn can_need_approval(self) -> bool {
                let spec = self.spec();
                matches!(spec.effect, Effect::Changes) && !matches!(spec.resource, Resource::Approval)
            }

            /// Whether what it changes decides who may do what: principals, groups, policies and grants, and the names
            /// and tags of keys, on which conditions may depend.
            #[must_use]
            pub const fn changes_access(self) -> bool {
                let spec = self.spec();
                let of_key = matches!(
                    self,
                    Self::PutKeyPolicy
                        | Self::CreateGrant
                        | Self::RetireGrant
                        | Self::RevokeGrant
                        | Self::TagResource
                        | Self::UntagResource
                        | Self::CreateAlias
                        | Self::UpdateAlias
                        | Self::DeleteAlias
                );
                let of_others = matches!(spec.resource, Resource::Principal | Resource::Group | Resource::Policy);
                of_key || of_others && matches!(spec.effect, Effect::Changes)
            }

            /// Whether all it does is to take something away that somebody could do: the use of a key, a right, a name to
            /// call by. Such calls are recorded, and so carried out, while the disk has no room for others. PutKeyPolicy and
            /// PutPolicy are none of them, since what they put may allow more than what was there; nor is what destroys
            /// material, which can wait.
            #[must_use]
            pub const fn restricts(self) -> bool {
                matches!(
                    self,
                    Self::DisableKey
                        | Self::ScheduleKeyDeletion
                        | Self::DisconnectKeyStore
                        | Self::RetireGrant
                        | Self::RevokeGrant
                        | Self::DeletePrincipal
                        | Self::RemovePrincipalIdentity
                        | Self::DisableAccessKey
                        | Self::DeleteAccessKey
                        | Self::DeletePolicy
                        | Self::DetachPolicy
                        | Self::DeleteGroup
                        | Self::RemoveGroupMember
                        | Self::RefuseApproval
                )
            }

            /// Every operation, in the order of the table.
            pub const ALL: &[Operation] = &[$(Self::$name),+];

            /// Its name in this table, which its methods have too.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)+
                }
            }

            /// What is specified of it.
            #[must_use]
            pub const fn spec(self) -> OperationSpec {
                match self {
                    $(Self::$name => OperationSpec {
                        effect: Effect::$effect,
                        resource: Resource::$resource,
                        allowed_states: $states,
                        permission: $permission,
                        source_permission: only(&[$($source)?]),
                        event: $event,
                        label: $label,
                    },)+
                }
            }
        }
    };
}

// An operation, what it does with what, in which states of the key, and its names: permission (and the one on the key
// that it opens something with), event, label.
operations! {
    /// Encrypt up to 4,096 bytes.
    Encrypt: Uses KeyOrAlias in USE, "kms:Encrypt", "Encrypt", "encrypt";
    /// Open a ciphertext.
    Decrypt: Uses KeyOrAlias in USE, "kms:Decrypt", "Decrypt", "decrypt";
    /// Make a data key; return it in clear and wrapped.
    GenerateDataKey: Uses KeyOrAlias in USE, "kms:GenerateDataKey", "GenerateDataKey", "generate_data_key";
    /// Make a data key; return it wrapped only.
    GenerateDataKeyWithoutPlaintext: Uses KeyOrAlias in USE,
        "kms:GenerateDataKeyWithoutPlaintext", "GenerateDataKeyWithoutPlaintext", "generate_data_key_without_plaintext";
    /// Random bytes.
    GenerateRandom: Uses Account in NONE, "kms:GenerateRandom", "GenerateRandom", "generate_random";
    /// Open a ciphertext and encrypt what it holds under another key, or under the same one anew.
    ReEncrypt: Uses KeyOrAlias in USE, "kms:ReEncryptTo" from "kms:ReEncryptFrom", "ReEncrypt", "re_encrypt";
    /// Make a key.
    CreateKey: Changes Account in NONE, "kms:CreateKey", "CreateKey", "create_key";
    /// Show a key.
    DescribeKey: Shows KeyOrAlias in ANY, "kms:DescribeKey", "DescribeKey", "describe_key";
    /// List keys.
    ListKeys: Shows Account in NONE, "kms:ListKeys", "ListKeys", "list_keys";
    /// Describe a key anew.
    UpdateKeyDescription: Changes Key in CHANGE,
        "kms:UpdateKeyDescription", "UpdateKeyDescription", "update_key_description";
    /// Give a key tags.
    TagResource: Changes Key in CHANGE, "kms:TagResource", "TagResource", "tag_resource";
    /// Take tags away from a key.
    UntagResource: Changes Key in CHANGE, "kms:UntagResource", "UntagResource", "untag_resource";
    /// List the tags of a key.
    ListResourceTags: Shows Key in ANY, "kms:ListResourceTags", "ListResourceTags", "list_resource_tags";
    /// Give a key a further name.
    CreateAlias: Changes Alias in CHANGE, "kms:CreateAlias", "CreateAlias", "create_alias";
    /// Give a name to another key.
    UpdateAlias: Changes Alias in CHANGE, "kms:UpdateAlias", "UpdateAlias", "update_alias";
    /// Take a name away.
    DeleteAlias: Changes Alias in ANY, "kms:DeleteAlias", "DeleteAlias", "delete_alias";
    /// List names, all or those of one key.
    ListAliases: Shows Account in NONE, "kms:ListAliases", "ListAliases", "list_aliases";
    /// Make a key usable.
    EnableKey: Changes Key in SWITCH, "kms:EnableKey", "EnableKey", "enable_key";
    /// Make a key unusable.
    DisableKey: Changes Key in SWITCH, "kms:DisableKey", "DisableKey", "disable_key";
    /// Make a key unusable at once, and delete it after a waiting period.
    ScheduleKeyDeletion: Changes Key in DELETE,
        "kms:ScheduleKeyDeletion", "ScheduleKeyDeletion", "schedule_key_deletion";
    /// Keep a key that was to be deleted.
    CancelKeyDeletion: Changes Key in KEEP, "kms:CancelKeyDeletion", "CancelKeyDeletion", "cancel_key_deletion";
    /// Destroy a key's material in the HSMs now. AWS has no such operation.
    DestroyKeyMaterial: Changes Key in GIVE_UP,
        "keystored:DestroyKeyMaterial", "DestroyKeyMaterial", "destroy_key_material";
    /// Show when a key was used last.
    GetKeyLastUsage: Shows Key in ANY, "kms:GetKeyLastUsage", "GetKeyLastUsage", "get_key_last_usage";
    /// Give a key new material now.
    RotateKeyOnDemand: Changes Key in USE, "kms:RotateKeyOnDemand", "RotateKeyOnDemand", "rotate_key_on_demand";
    /// Have a key given new material now and then.
    EnableKeyRotation: Changes Key in SET, "kms:EnableKeyRotation", "EnableKeyRotation", "enable_key_rotation";
    /// End that.
    DisableKeyRotation: Changes Key in SET, "kms:DisableKeyRotation", "DisableKeyRotation", "disable_key_rotation";
    /// Show whether a key is given new material by itself.
    GetKeyRotationStatus: Shows Key in ANY,
        "kms:GetKeyRotationStatus", "GetKeyRotationStatus", "get_key_rotation_status";
    /// List the material that a key was given.
    ListKeyRotations: Shows Key in ANY, "kms:ListKeyRotations", "ListKeyRotations", "list_key_rotations";
    /// Put the policy of a key.
    PutKeyPolicy: Changes Key in ANY, "kms:PutKeyPolicy", "PutKeyPolicy", "put_key_policy";
    /// Show the policy of a key.
    GetKeyPolicy: Shows Key in ANY, "kms:GetKeyPolicy", "GetKeyPolicy", "get_key_policy";
    /// List the names of a key's policies.
    ListKeyPolicies: Shows Key in ANY, "kms:ListKeyPolicies", "ListKeyPolicies", "list_key_policies";
    /// Let somebody do something with a key.
    CreateGrant: Changes Key in SET, "kms:CreateGrant", "CreateGrant", "create_grant";
    /// List the grants of a key.
    ListGrants: Shows Key in ANY, "kms:ListGrants", "ListGrants", "list_grants";
    /// List the grants that somebody may retire.
    ListRetirableGrants: Shows Account in NONE,
        "kms:ListRetirableGrants", "ListRetirableGrants", "list_retirable_grants";
    /// Give a grant back.
    RetireGrant: Changes Key in ANY, "kms:RetireGrant", "RetireGrant", "retire_grant";
    /// Take a grant away.
    RevokeGrant: Changes Key in ANY, "kms:RevokeGrant", "RevokeGrant", "revoke_grant";
    /// Register a cluster as a key store.
    CreateKeyStore: Changes Account in NONE, "kms:CreateCustomKeyStore", "CreateCustomKeyStore", "create_key_store";
    /// Show key stores.
    DescribeKeyStores: Shows KeyStore in NONE,
        "kms:DescribeCustomKeyStores", "DescribeCustomKeyStores", "describe_key_stores";
    /// Change a key store.
    UpdateKeyStore: Changes KeyStore in NONE, "kms:UpdateCustomKeyStore", "UpdateCustomKeyStore", "update_key_store";
    /// Log in to a key store's HSMs.
    ConnectKeyStore: Changes KeyStore in NONE,
        "kms:ConnectCustomKeyStore", "ConnectCustomKeyStore", "connect_key_store";
    /// Log out of them.
    DisconnectKeyStore: Changes KeyStore in NONE,
        "kms:DisconnectCustomKeyStore", "DisconnectCustomKeyStore", "disconnect_key_store";
    /// Forget a key store.
    DeleteKeyStore: Changes KeyStore in NONE, "kms:DeleteCustomKeyStore", "DeleteCustomKeyStore", "delete_key_store";
    // AWS leaves clusters to another of its services; from here on the names are ours.
    /// Show clusters.
    DescribeClusters: Shows Cluster in NONE, "keystored:DescribeClusters", "DescribeClusters", "describe_clusters";
    /// Bring a further HSM into a cluster.
    AddHsm: Changes Cluster in NONE, "keystored:AddHsm", "AddHsm", "add_hsm";
    /// Seal the stored PINs under another key.
    ResealPins: Changes Account in NONE, "keystored:ResealPins", "ResealPins", "reseal_pins";
    /// Put keys back where they were removed.
    ResyncKeys: Changes Cluster in NONE, "keystored:ResyncKeys", "ResyncKeys", "resync_keys";
    /// Show what HSMs did and how long it took them.
    GetStatistics: Shows Cluster in NONE, "keystored:GetStatistics", "GetStatistics", "get_statistics";
    /// Have an HSM looked at, for its vendor's support desk.
    DiagnoseHsm: Shows Cluster in NONE, "keystored:DiagnoseHsm", "DiagnoseHsm", "diagnose_hsm";
    /// Say who the caller is.
    WhoAmI: Shows Account in NONE, "keystored:WhoAmI", "WhoAmI", "who_am_i";
    /// Make a principal.
    CreatePrincipal: Changes Principal in NONE, "keystored:CreatePrincipal", "CreatePrincipal", "create_principal";
    /// Take a principal away.
    DeletePrincipal: Changes Principal in NONE, "keystored:DeletePrincipal", "DeletePrincipal", "delete_principal";
    /// Show a principal.
    DescribePrincipal: Shows Principal in NONE,
        "keystored:DescribePrincipal", "DescribePrincipal", "describe_principal";
    /// List principals.
    ListPrincipals: Shows Principal in NONE, "keystored:ListPrincipals", "ListPrincipals", "list_principals";
    /// Have a principal be known by a further certificate.
    AddPrincipalIdentity: Changes Principal in NONE,
        "keystored:AddPrincipalIdentity", "AddPrincipalIdentity", "add_principal_identity";
    /// End that.
    RemovePrincipalIdentity: Changes Principal in NONE,
        "keystored:RemovePrincipalIdentity", "RemovePrincipalIdentity", "remove_principal_identity";
    /// Give a principal tags.
    TagPrincipal: Changes Principal in NONE, "keystored:TagPrincipal", "TagPrincipal", "tag_principal";
    /// Take tags away from a principal.
    UntagPrincipal: Changes Principal in NONE, "keystored:UntagPrincipal", "UntagPrincipal", "untag_principal";
    /// Give a principal an access key: an id and a secret, with which calls are signed.
    CreateAccessKey: Changes Principal in NONE, "keystored:CreateAccessKey", "CreateAccessKey", "create_access_key";
    /// List the access keys of a principal.
    ListAccessKeys: Shows Principal in NONE, "keystored:ListAccessKeys", "ListAccessKeys", "list_access_keys";
    /// Have calls be signed with an access key again.
    EnableAccessKey: Changes Principal in NONE, "keystored:EnableAccessKey", "EnableAccessKey", "enable_access_key";
    /// Have that no more.
    DisableAccessKey: Changes Principal in NONE,
        "keystored:DisableAccessKey", "DisableAccessKey", "disable_access_key";
    /// Take an access key away.
    DeleteAccessKey: Changes Principal in NONE, "keystored:DeleteAccessKey", "DeleteAccessKey", "delete_access_key";
    /// Make a group of principals.
    CreateGroup: Changes Group in NONE, "keystored:CreateGroup", "CreateGroup", "create_group";
    /// Take a group away.
    DeleteGroup: Changes Group in NONE, "keystored:DeleteGroup", "DeleteGroup", "delete_group";
    /// List groups.
    ListGroups: Shows Group in NONE, "keystored:ListGroups", "ListGroups", "list_groups";
    /// List who is in a group.
    ListGroupMembers: Shows Group in NONE, "keystored:ListGroupMembers", "ListGroupMembers", "list_group_members";
    /// Take a principal into a group.
    AddGroupMember: Changes Group in NONE, "keystored:AddGroupMember", "AddGroupMember", "add_group_member";
    /// Take a principal out of a group.
    RemoveGroupMember: Changes Group in NONE,
        "keystored:RemoveGroupMember", "RemoveGroupMember", "remove_group_member";
    /// Put an identity policy.
    PutPolicy: Changes Policy in NONE, "keystored:PutPolicy", "PutPolicy", "put_policy";
    /// Take an identity policy away.
    DeletePolicy: Changes Policy in NONE, "keystored:DeletePolicy", "DeletePolicy", "delete_policy";
    /// Show an identity policy.
    GetPolicy: Shows Policy in NONE, "keystored:GetPolicy", "GetPolicy", "get_policy";
    /// List identity policies.
    ListPolicies: Shows Policy in NONE, "keystored:ListPolicies", "ListPolicies", "list_policies";
    /// Attach an identity policy to a principal or a group.
    AttachPolicy: Changes Policy in NONE, "keystored:AttachPolicy", "AttachPolicy", "attach_policy";
    /// Detach it.
    DetachPolicy: Changes Policy in NONE, "keystored:DetachPolicy", "DetachPolicy", "detach_policy";
    /// Say why somebody may do something or may not.
    ExplainAccess: Shows Account in NONE, "keystored:ExplainAccess", "ExplainAccess", "explain_access";
    /// Look for what is wrong with a policy.
    CheckPolicy: Shows Account in NONE, "keystored:CheckPolicy", "CheckPolicy", "check_policy";
    /// List calls that others have to approve.
    ListApprovals: Shows Account in NONE, "keystored:ListApprovals", "ListApprovals", "list_approvals";
    /// Show one of them.
    DescribeApproval: Shows Approval in NONE, "keystored:DescribeApproval", "DescribeApproval", "describe_approval";
    /// Approve it.
    Approve: Changes Approval in NONE, "keystored:Approve", "Approve", "approve";
    /// Have it not be done.
    RefuseApproval: Changes Approval in NONE, "keystored:Approve", "RefuseApproval", "refuse_approval";
    /// Show what the audit log is checked by.
    GetAuditKeys: Shows AuditLog in NONE, "keystored:GetAuditKeys", "GetAuditKeys", "get_audit_keys";
    /// Show the newest signed head of the audit log.
    GetAuditHead: Shows AuditLog in NONE, "keystored:GetAuditHead", "GetAuditHead", "get_audit_head";
    /// List records of the audit log.
    ListAuditRecords: Shows AuditLog in NONE,
        "keystored:ListAuditRecords", "ListAuditRecords", "list_audit_records";
    /// Show records of the audit log as they come.
    FollowAuditRecords: Shows AuditLog in NONE,
        "keystored:ListAuditRecords", "FollowAuditRecords", "follow_audit_records";
    /// Prove that a record is in the audit log.
    GetAuditProof: Shows AuditLog in NONE, "keystored:GetAuditProof", "GetAuditProof", "get_audit_proof";
    /// Prove that the audit log has only grown since an older head.
    GetAuditConsistency: Shows AuditLog in NONE,
        "keystored:GetAuditProof", "GetAuditConsistency", "get_audit_consistency";
}

//! What keeps metadata from being read or changed, as data: whose fault it is, and whether it passes.

use std::path::PathBuf;

use super::access::{ApprovalState, Holder};
use super::engine::Fault;
use super::trouble::Trouble;
use model::id::{
    AccessKeyId, AliasName, ApprovalId, ClusterId, GrantId, GroupName, HsmId, KeyId, KeyStoreId, PolicyName,
    PrincipalId,
};
use model::key::KeyState;
use model::key_store::ConnectionState;
use model::outage::Outage;

/// Why the metadata could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process owns the database.
    #[error("{0} is in use by another keystored; stop it first, or name another state_dir")]
    InUse(String),
    /// Another key store has this name.
    #[error("there is a key store with the name {0:?} already")]
    NameInUse(String),
    /// A PIN's record is another one than whoever works on it has read.
    #[error("the record of kmsuser's PIN of HSM {0} was changed meanwhile; it is read again")]
    PinChanged(HsmId),
    /// Another key store has this cluster.
    #[error("{0} belongs to another key store")]
    ClusterInUse(ClusterId),
    /// As many key stores as there may be.
    #[error("there are {0} key stores, as many as there may be")]
    Quota(usize),
    /// A key store with keys cannot be deleted.
    #[error("the key store has keys")]
    HasKeys,
    /// As many keys as the key store may have.
    #[error("the key store {0} has {1} keys, as many as limits.keys_per_key_store allows")]
    TooManyKeys(KeyStoreId, usize),
    /// As many aliases as the key may have.
    #[error("key {0} has {1} aliases, as many as limits.aliases_per_key allows")]
    TooManyAliases(KeyId, usize),
    /// More tags than a key may have.
    #[error("a key has at most {0} tags (limits.tags_per_key)")]
    TooManyTags(usize),
    /// There is such an alias already.
    #[error("there is {0} already")]
    AliasInUse(AliasName),
    /// There is no such alias.
    #[error("there is no {0}")]
    NoAlias(AliasName),
    /// The alias is another key's than whoever changes it has looked at.
    #[error("{0} was given to another key meanwhile")]
    AliasMoved(AliasName),
    /// The key store is in another state than the change is for.
    #[error("the key store is {}", .0.name())]
    State(ConnectionState),
    /// The key is in another state than the change is for.
    #[error("key {} is {}", .0, .1.name())]
    KeyState(KeyId, KeyState),
    /// The material of the key was given up, so that nothing brings it back.
    #[error("the material of key {0} was destroyed")]
    MaterialDestroyed(KeyId),
    /// A version of the key is being made already.
    #[error("a new version of key {0} is being made")]
    Rotating(KeyId),
    /// The same token came with other parameters.
    #[error("the client_token was used with other parameters")]
    TokenConflict,
    /// There is no such key store.
    #[error("there is no key store {0}")]
    NoKeyStore(KeyStoreId),
    /// Something of principals, groups, policies, grants or approvals stands against the change.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// A row that must be there is not.
    #[error("{0} is not in the metadata")]
    Missing(String),
    /// What was asked contradicts what the metadata holds.
    #[error("{0}")]
    Contradiction(String),
    /// The file was written by a newer release.
    #[error(
        "{file} has metadata of a newer release (its migration {version} is unknown here); \
         run that release, or restore a backup made before the upgrade"
    )]
    Newer {
        /// The database file.
        file: String,
        /// The first migration that this release does not know.
        version: i64,
    },
    /// The machine lets the metadata down for the moment; it passes, and the same change may succeed then.
    #[error("{0}")]
    Storage(Trouble),
    /// There is no room but the reserve's, which is for other changes.
    #[error(
        "the metadata in {} cannot be written: its disk is full, and what is left of the reserve there is kept for \
         disabling keys, disconnecting key stores and taking access away; free space on it", .0.display()
    )]
    Kept(PathBuf),
    /// A file beside the database cannot be used.
    #[error("{} cannot be used ({error}); {}", file.display(), remedy(error))]
    File {
        /// The file.
        file: PathBuf,
        /// The system's words.
        error: std::io::Error,
    },
    /// The engine's own words, which are judged before they leave this crate.
    #[error("metadata: {}", .0.message)]
    Engine(Fault),
    /// The file is not the one that keystored left.
    #[error(
        "{file} is not what keystored left here: {why}. It was not opened, and nothing was changed. Give the copy that is \
         wanted, which may be this file, to `keystored restore --config FILE COPY`: it looks at both and sets aside what \
         is here"
    )]
    Copied {
        /// The database file.
        file: String,
        /// What tells.
        why: String,
    },
    /// A backup or a restore cannot be made, or what was named is none.
    #[error("{0}")]
    Backup(String),
    /// The database's own trouble.
    #[error("metadata: {0}")]
    Database(String),
}

/// What stands against a change of who may do what.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    /// There is no such principal.
    #[error(
        "there is no principal {0}; it may have been deleted, and one that was made anew under its ARN has another id"
    )]
    NoPrincipal(PrincipalId),
    /// Another principal has this ARN.
    #[error("there is a principal {0} already; delete it first, or choose another ARN")]
    ArnInUse(String),
    /// The identity is a principal's already.
    #[error("{0} is an identity of principal {1}; remove it there first")]
    IdentityInUse(String, PrincipalId),
    /// The principal has no such identity.
    #[error("principal {0} has no identity {1}; its description lists those that it has")]
    NoIdentity(PrincipalId, String),
    /// The principal has no such access key.
    #[error("principal {0} has no access key {1}; it may have been deleted")]
    NoAccessKey(PrincipalId, AccessKeyId),
    /// A policy names a principal by an ARN that is not, or not any more, the one of this id.
    #[error("the principal {0} was deleted or made anew meanwhile; put the policy again")]
    PrincipalChanged(String),
    /// There is no such group.
    #[error("there is no group {0}")]
    NoGroup(GroupName),
    /// There is a group of this name.
    #[error("there is a group {0} already; choose another name")]
    GroupInUse(GroupName),
    /// The principal is not in the group.
    #[error("principal {1} is no member of group {0}")]
    NoMember(GroupName, PrincipalId),
    /// There is no such policy.
    #[error("there is no policy {0}")]
    NoPolicy(PolicyName),
    /// The policy is attached, to this holder among others.
    #[error("policy {0} is attached to {1}; detach it everywhere before it is deleted")]
    PolicyAttached(PolicyName, Holder),
    /// The policy is not attached to the holder.
    #[error("policy {0} is not attached to {1}")]
    NotAttached(PolicyName, Holder),
    /// The name is longer than a name may be.
    #[error("the name {0:?} is too long; at most {bytes} bytes are allowed", bytes = super::log::ID_BYTES)]
    NameTooLong(String),
    /// The key has no such grant.
    #[error("key {0} has no grant {1}; it may have been revoked or retired")]
    NoGrant(KeyId, GrantId),
    /// There is no such approval.
    #[error("there is no approval {0}; it may have expired: ask for another one")]
    NoApproval(ApprovalId),
    /// The approval is for another request.
    #[error("approval {0} is for another call; ask for one for this call")]
    OtherRequest(ApprovalId),
    /// It is in another state than waiting.
    #[error("approval {0} is {state}; ask for another one", state = .1.name())]
    ApprovalOver(ApprovalId, ApprovalState),
    /// Its time is over.
    #[error("approval {0} has expired; ask for another one")]
    ApprovalExpired(ApprovalId),
    /// Somebody has voted against it.
    #[error("principal {1} has refused approval {0}; that vote has to be changed, or another one asked for")]
    VotedDown(ApprovalId, PrincipalId),
    /// Fewer have approved it than have to.
    #[error("approval {approval} has {given} votes of {needed}; others have to approve it")]
    NotApproved {
        /// The approval.
        approval: ApprovalId,
        /// So many have approved it.
        given: usize,
        /// So many have to.
        needed: u32,
    },
    /// Whoever asks for an approval has no vote.
    #[error("approval {0} was asked for by the same principal; another one has to vote")]
    OwnRequest(ApprovalId),
    /// As many of something as there may be.
    #[error("there are {most} {what} of {of}, as many as there may be; remove one first", what = .quota.name())]
    TooMany {
        /// Of what.
        quota: AccessQuota,
        /// Whose they are.
        of: String,
        /// So many there may be.
        most: usize,
    },
}

/// What there may be so many of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessQuota {
    /// Principals of the installation.
    Principals,
    /// Identities of a principal.
    Identities,
    /// Access keys of a principal.
    AccessKeys,
    /// Tags of a principal.
    Tags,
    /// Groups of the installation.
    Groups,
    /// Groups that a principal is in.
    Memberships,
    /// Identity policies of the installation.
    Policies,
    /// Policies that are attached to a principal or to a group.
    Attachments,
    /// Grants of a key.
    Grants,
    /// Grants that one principal has of a key.
    GrantsOfGrantee,
    /// Requests that wait for approval, of one principal or in all.
    Approvals,
    /// Votes for one request.
    Votes,
}

impl AccessQuota {
    /// For people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Principals => "principals",
            Self::Identities => "identities",
            Self::AccessKeys => "access keys",
            Self::Tags => "tags",
            Self::Groups => "groups",
            Self::Memberships => "memberships",
            Self::Policies => "policies",
            Self::Attachments => "attached policies",
            Self::Grants => "grants",
            Self::GrantsOfGrantee => "grants to this principal",
            Self::Approvals => "waiting approvals",
            Self::Votes => "votes",
        }
    }
}

impl Error {
    pub(super) fn closed() -> Self {
        Self::Database("it was closed: keystored is stopping".into())
    }

    /// Whether the same may succeed later although nobody changes anything about it.
    #[must_use]
    pub fn passes(&self) -> bool {
        match self {
            Self::Storage(_) | Self::Kept(_) | Self::InUse(_) => true,
            Self::File { error, .. } => Outage::of(error).is_some(),
            _ => false,
        }
    }
}

fn remedy(error: &std::io::Error) -> &'static str {
    Outage::of(error).map_or("let the daemon's user read and write it, and its directory", Outage::remedy)
}

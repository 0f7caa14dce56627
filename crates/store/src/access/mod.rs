//! Who may do what: principals and their access keys, groups, identity policies, key policies, grants, approvals.
//!
//! What policies say is judged elsewhere. Here they are kept as they were put, with the ids that the principals whom they
//! name had then: one that is made anew under an old ARN is somebody else. What takes access away is recorded on a full
//! disk as well.

pub(super) mod access_keys;
mod approvals;
mod checks;
pub(super) mod grants;
mod groups;
pub(super) mod load;
pub(super) mod policies;
mod principals;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

pub use self::access_keys::{AccessKey, LastAccess, NewAccessKey};

use super::AccessError;
use model::id::{ApprovalId, GrantId, GroupName, KeyId, PolicyName, PrincipalId};

/// So far a calendar may be set back, in milliseconds, before what was asked for to be approved is taken for expired.
const CLOCK_STEP_MILLIS: i64 = 60_000;

/// The ids of the principals that a policy names, by their ARNs, as they were when it was put.
pub type Names = BTreeMap<String, PrincipalId>;

/// Somebody who may call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// Its id, which nobody else will ever have.
    pub id: PrincipalId,
    /// Its ARN, unique while it is there.
    pub arn: Arc<str>,
    /// The creator's words.
    pub description: String,
    /// Milliseconds since the Unix epoch.
    pub created_at: i64,
    /// The names of certificates by which it is known, in their order.
    pub identities: Vec<Identity>,
    /// By name.
    pub tags: BTreeMap<String, String>,
    /// The groups that it is in.
    pub groups: BTreeSet<GroupName>,
    /// The policies that are attached to itself, those that are part of the program included.
    pub policies: BTreeSet<PolicyName>,
    /// Its access keys, in the order of their ids.
    pub access_keys: Vec<AccessKey>,
}

/// A name by which a principal is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The certificate's name, such as `cn:app`.
    pub name: String,
    /// When it was given to the principal, in milliseconds since the Unix epoch.
    pub created_at: i64,
}

/// A group of principals. Who is in it is asked of the catalogue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its name.
    pub name: GroupName,
    /// Milliseconds since the Unix epoch.
    pub created_at: i64,
    /// The policies that are attached to it, those that are part of the program included.
    pub policies: BTreeSet<PolicyName>,
}

/// An identity policy that is kept here. Those that are part of the program are not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Its name.
    pub name: PolicyName,
    /// For people.
    pub description: String,
    /// Byte for byte as it was put.
    pub document: Arc<str>,
    /// The principals that it names.
    pub names: Names,
    /// Milliseconds since the Unix epoch.
    pub created_at: i64,
    /// When it was put the last time, likewise.
    pub updated_at: i64,
}

/// The policy of a key, where it is another one than the default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPolicy {
    /// Byte for byte as it was put.
    pub document: Arc<str>,
    /// The principals that it names.
    pub names: Names,
    /// When it was put, in milliseconds since the Unix epoch.
    pub updated_at: i64,
}

/// What one principal may do with one key, beside all policies. Never changed, only made and removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Its id.
    pub id: GrantId,
    /// The key.
    pub key: KeyId,
    /// Empty where it has none.
    pub name: String,
    /// Whom it allows something: a principal, which may be gone by now, or an account as a whole.
    pub grantee: PrincipalId,
    /// Who may retire it, likewise.
    pub retiring: Option<PrincipalId>,
    /// The account in which it was made.
    pub issuing_account: String,
    /// Who made it. It may be gone by now.
    pub issuer: PrincipalId,
    /// What it allows, in the order in which that was given.
    pub operations: Vec<String>,
    /// For which encryption contexts; any, where it is absent.
    pub constraint: Option<Constraint>,
    /// Milliseconds since the Unix epoch.
    pub created_at: i64,
}

/// Which encryption contexts a grant is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Constraint {
    /// How the pairs are compared.
    pub kind: ConstraintKind,
    /// The pairs.
    pub pairs: BTreeMap<String, String>,
}

/// How a context is compared with the pairs of a constraint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConstraintKind {
    /// It has at least these.
    Subset,
    /// It has these and no others.
    Equals,
}

/// To whom a policy is attached.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Holder {
    /// To a principal.
    Principal(PrincipalId),
    /// To all members of a group.
    Group(GroupName),
}

/// A call that others have to approve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Who calls: a principal, or the name of the certificate of an administrator who is none.
    pub requester: PrincipalId,
    /// The operation's event name.
    pub operation: String,
    /// The ARN of what it is about.
    pub resource: String,
    /// A digest of the whole call, keyed, so that nothing can be guessed from it.
    pub parameters: [u8; 32],
}

/// How a call that others have to approve stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approval {
    /// Its id.
    pub id: ApprovalId,
    /// What is to be approved.
    pub request: Request,
    /// For those who are to approve it.
    pub description: String,
    /// Milliseconds since the Unix epoch.
    pub created_at: i64,
    /// It cannot be used from then on, likewise. It is shown until another approval is asked for.
    pub expires_at: i64,
    /// So many have to approve it.
    pub needed: u32,
    /// Where it is.
    pub state: ApprovalState,
    /// How those who are there have voted; administrators who are no principals by the names of their certificates.
    pub votes: BTreeMap<PrincipalId, Cast>,
    /// By which names of certificates who asked and who approved were known when they did.
    pub identities: BTreeMap<PrincipalId, BTreeSet<String>>,
}

/// A vote that was cast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cast {
    /// For or against.
    pub vote: Vote,
    /// When, in milliseconds since the Unix epoch.
    pub at: i64,
}

/// For or against a request. One against it stands in its way until it is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vote {
    /// For it.
    Approve,
    /// Against it.
    Refuse,
}

/// Where an approval is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApprovalState {
    /// It can be voted on, and used once enough have approved it.
    Waiting,
    /// It has served its call.
    Used,
    /// It was taken back, or turned down for good.
    Refused,
}

/// A principal that is to be made.
#[derive(Clone, Debug)]
pub struct NewPrincipal {
    /// Its ARN.
    pub arn: String,
    /// The creator's words.
    pub description: String,
    /// The names of certificates by which it is known.
    pub identities: BTreeSet<String>,
    /// By name.
    pub tags: BTreeMap<String, String>,
    /// Most principals that there may be, this one included.
    pub most: usize,
}

/// An identity policy that is to be made, or put in the place of the one of its name.
#[derive(Clone, Debug)]
pub struct NewPolicy {
    /// Its name.
    pub name: PolicyName,
    /// For people.
    pub description: String,
    /// Kept byte for byte.
    pub document: String,
    /// The principals that it names, who must be there.
    pub names: Names,
    /// Most policies that there may be, this one included.
    pub most: usize,
}

/// A policy that a key is to have.
#[derive(Clone, Debug)]
pub struct NewKeyPolicy {
    /// Kept byte for byte.
    pub document: String,
    /// The principals that it names, who must be there.
    pub names: Names,
}

/// A policy that is to be attached.
#[derive(Clone, Debug)]
pub struct NewAttachment {
    /// Its name.
    pub policy: PolicyName,
    /// It is part of the program, so that it needs not be kept here.
    pub built_in: bool,
    /// To whom.
    pub holder: Holder,
    /// Most policies that the holder may have, this one included.
    pub most: usize,
}

/// A grant that is to be made.
#[derive(Clone, Debug)]
pub struct NewGrant {
    /// The key.
    pub key: KeyId,
    /// Empty where it has none.
    pub name: String,
    /// Whom it allows something: a principal, who must be there, or an account as a whole.
    pub grantee: PrincipalId,
    /// Who may retire it, likewise.
    pub retiring: Option<PrincipalId>,
    /// The account in which it is made.
    pub issuing_account: String,
    /// Who makes it.
    pub issuer: PrincipalId,
    /// What it allows, each name without blanks.
    pub operations: Vec<String>,
    /// For which encryption contexts.
    pub constraint: Option<Constraint>,
    /// SHA-256 of all parameters: one with the same ones and the same name is the same grant, if it has a name.
    pub parameters: [u8; 32],
}

/// What [`Store::create_grant`](super::Store::create_grant) came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Granted {
    /// It is there now.
    New(GrantId),
    /// The same call made it before.
    Existing(GrantId),
}

/// A request that is to be approved by others.
#[derive(Clone, Debug)]
pub struct NewApproval {
    /// What is to be approved.
    pub request: Request,
    /// For those who are to approve it.
    pub description: String,
    /// For so long it can be used.
    pub life: Duration,
    /// So many have to approve it.
    pub needed: NonZeroU32,
    /// Most that wait for the requester, this one included.
    pub most: usize,
    /// Most that wait for anybody, likewise.
    pub most_in_all: usize,
}

/// What [`Store::request_approval`](super::Store::request_approval) came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Requested {
    /// It is there now.
    New(ApprovalId),
    /// The same request waits already.
    Existing(ApprovalId),
}

/// Names as the metadata keep them.
macro_rules! named {
    ($of:ident { $($value:ident = $name:literal),+ $(,)? }) => {
        impl $of {
            /// The name.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$value => $name),+ }
            }

            pub(super) fn from_name(name: &str) -> Option<Self> {
                match name { $($name => Some(Self::$value),)+ _ => None }
            }
        }
    };
}

named!(ConstraintKind { Subset = "subset", Equals = "equals" });
named!(Vote { Approve = "approve", Refuse = "refuse" });
named!(ApprovalState { Waiting = "waiting", Used = "used", Refused = "refused" });

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Principal(id) => write!(f, "principal {id}"),
            Self::Group(name) => write!(f, "group {name}"),
        }
    }
}

impl NewPrincipal {
    /// One without words, identities and tags, among any number of others.
    #[must_use]
    pub fn new(arn: &str) -> Self {
        Self {
            arn: arn.to_owned(),
            description: String::new(),
            identities: BTreeSet::new(),
            tags: BTreeMap::new(),
            most: usize::MAX,
        }
    }
}

impl NewPolicy {
    /// One without words that names nobody, among any number of others.
    #[must_use]
    pub fn new(name: &PolicyName, document: &str) -> Self {
        Self {
            name: name.clone(),
            description: String::new(),
            document: document.to_owned(),
            names: Names::new(),
            most: usize::MAX,
        }
    }
}

impl Approval {
    /// How many have approved it who are there.
    #[must_use]
    pub fn given(&self) -> usize {
        self.votes.values().filter(|cast| cast.vote == Vote::Approve).count()
    }

    /// Somebody who stands in its way.
    #[must_use]
    pub fn against(&self) -> Option<&PrincipalId> {
        self.votes.iter().find(|(_, cast)| cast.vote == Vote::Refuse).map(|(principal, _)| principal)
    }

    /// Whether it can be voted on or used at this time, in milliseconds since the Unix epoch.
    pub fn is_open(&self, now: i64) -> Result<(), AccessError> {
        match self.state {
            ApprovalState::Waiting if now < self.expires_at && !self.is_ahead(now) => Ok(()),
            ApprovalState::Waiting => Err(AccessError::ApprovalExpired(self.id.clone())),
            over => Err(AccessError::ApprovalOver(self.id.clone(), over)),
        }
    }

    /// Whether the calendar was set back behind the moment in which it was asked for. Its time would be as much longer.
    fn is_ahead(&self, now: i64) -> bool {
        self.created_at > now.saturating_add(CLOCK_STEP_MILLIS)
    }

    /// Whether the call may be carried out at this time, if it is the one that was approved.
    pub fn permits(&self, request: &Request, now: i64) -> Result<(), AccessError> {
        if self.request != *request {
            return Err(AccessError::OtherRequest(self.id.clone()));
        }
        self.is_open(now)?;
        if let Some(against) = self.against() {
            return Err(AccessError::VotedDown(self.id.clone(), against.clone()));
        }
        let given = self.given();
        if given < usize::try_from(self.needed).unwrap_or(usize::MAX) {
            return Err(AccessError::NotApproved { approval: self.id.clone(), given, needed: self.needed });
        }
        Ok(())
    }
}

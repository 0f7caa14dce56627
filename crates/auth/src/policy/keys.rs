//! The table of condition keys: what each is called, what its values are, and on what they depend.
//!
//! A key that is in neither list is refused when a policy is put: it would be a condition that says nothing.

use std::fmt;

use crate::fold::fold;

/// What the values of a key are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// Anything that callers choose: operators of all kinds may make sense of it.
    Free,
    /// Text.
    Text,
    /// An ARN.
    Arn,
    /// A number.
    Number,
    /// A moment.
    Moment,
    /// A moment as a number of seconds.
    Epoch,
    /// `true` or `false`.
    Flag,
    /// An IP address.
    Address,
}

/// On what the values of a key depend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// On the caller alone.
    Caller,
    /// On the target alone, as it is now.
    Target,
    /// On the single request.
    Request,
}

/// A condition key, as a policy names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Key {
    /// One with a name of its own.
    Named(Named),
    /// One of a family, with the rest of its name, folded.
    Of(Family, Box<str>),
    /// One of AWS's that is never there, by its name: the sentence says why.
    Never(&'static str, &'static str),
}

/// Keys whose names end with a name that somebody chose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    /// `kms:EncryptionContext:`
    EncryptionContext,
    /// `aws:PrincipalTag/`
    PrincipalTag,
    /// `aws:ResourceTag/`
    ResourceTag,
    /// `aws:RequestTag/`
    RequestTag,
}

const FAMILIES: &[(&str, Family, Source)] = &[
    ("kms:EncryptionContext:", Family::EncryptionContext, Source::Request),
    ("aws:PrincipalTag/", Family::PrincipalTag, Source::Caller),
    ("aws:ResourceTag/", Family::ResourceTag, Source::Target),
    ("aws:RequestTag/", Family::RequestTag, Source::Request),
];

/// What is specified of a key.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spec {
    /// What its values are.
    pub(super) class: Class,
    /// Whether it has several, so that `ForAllValues` and `ForAnyValue` are for it.
    pub(super) many: bool,
    /// On what they depend.
    pub(super) source: Source,
}

macro_rules! named {
    ($($text:literal $name:ident: $class:ident $many:ident of $source:ident;)+) => {
        /// Keys with names of their own.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Named {
            $(#[doc = $text] $name,)+
        }

        const NAMED: &[(&str, Named, Spec)] =
            &[$(($text, Named::$name, Spec { class: Class::$class, many: $many, source: Source::$source }),)+];
    };
}

const ONE: bool = false;
const MANY: bool = true;

named! {
    "kms:EncryptionContextKeys" EncryptionContextKeys: Text MANY of Request;
    "kms:EncryptionAlgorithm" EncryptionAlgorithm: Text ONE of Request;
    "kms:CallerAccount" CallerAccount: Text ONE of Caller;
    "kms:GrantOperations" GrantOperations: Text MANY of Request;
    "kms:GrantIsForAWSResource" GrantIsForAwsResource: Flag ONE of Request;
    "kms:GrantConstraintType" GrantConstraintType: Text ONE of Request;
    "kms:GranteePrincipal" GranteePrincipal: Arn ONE of Request;
    "kms:RetiringPrincipal" RetiringPrincipal: Arn ONE of Request;
    // Those of a key that is to be made are the request's; nobody caches whether keys may be made.
    "kms:KeySpec" KeySpec: Text ONE of Target;
    "kms:CustomerMasterKeySpec" CustomerMasterKeySpec: Text ONE of Target;
    "kms:KeyUsage" KeyUsage: Text ONE of Target;
    "kms:CustomerMasterKeyUsage" CustomerMasterKeyUsage: Text ONE of Target;
    "kms:KeyOrigin" KeyOrigin: Text ONE of Target;
    "kms:MultiRegion" MultiRegion: Flag ONE of Target;
    "kms:RequestAlias" RequestAlias: Text ONE of Request;
    "kms:ResourceAliases" ResourceAliases: Text MANY of Target;
    "kms:ScheduleKeyDeletionPendingWindowInDays" PendingWindow: Number ONE of Request;
    "kms:RotationPeriodInDays" RotationPeriod: Number ONE of Request;
    "kms:BypassPolicyLockoutSafetyCheck" BypassLockoutCheck: Flag ONE of Request;
    "kms:PolicyName" PolicyName: Text ONE of Request;
    "kms:ReEncryptOnSameKey" ReEncryptOnSameKey: Flag ONE of Request;
    "aws:PrincipalArn" PrincipalArn: Arn ONE of Caller;
    "aws:PrincipalAccount" PrincipalAccount: Text ONE of Caller;
    "aws:PrincipalType" PrincipalType: Text ONE of Caller;
    "aws:userid" UserId: Text ONE of Caller;
    "aws:username" UserName: Text ONE of Caller;
    // No service of AWS's calls, nor does one pass a call on: AWS says so with `false`, and a Deny may be about that.
    "aws:PrincipalIsAWSService" PrincipalIsAwsService: Flag ONE of Caller;
    "aws:ViaAWSService" ViaAwsService: Flag ONE of Caller;
    "aws:ResourceAccount" ResourceAccount: Text ONE of Target;
    "aws:RequestedRegion" RequestedRegion: Text ONE of Target;
    "aws:TagKeys" TagKeys: Text MANY of Request;
    "aws:SourceIp" SourceIp: Address ONE of Request;
    "aws:SecureTransport" SecureTransport: Flag ONE of Request;
    "aws:CurrentTime" CurrentTime: Moment ONE of Request;
    "aws:EpochTime" EpochTime: Epoch ONE of Request;
    "aws:UserAgent" UserAgent: Text ONE of Request;
    "keystored:Interface" Interface: Text ONE of Request;
}

/// Actions that bring an encryption context.
const WITH_CONTEXT: &[&str] = &[
    "kms:Decrypt",
    "kms:Encrypt",
    "kms:GenerateDataKey",
    "kms:GenerateDataKeyWithoutPlaintext",
    "kms:ReEncryptFrom",
    "kms:ReEncryptTo",
];
/// Actions that are about a grant.
const WITH_GRANT: &[&str] = &["kms:CreateGrant", "kms:ListGrants", "kms:RevokeGrant"];
/// Actions that bring tags, or keys of tags.
const WITH_TAGS: &[&str] = &["kms:CreateKey", "kms:TagResource", "kms:UntagResource"];

const VPC: &str = "there are no VPCs here";
const ORGANIZATION: &str = "accounts are in no organization here";
const SESSION: &str = "callers have no session with AWS here";
const SERVICE: &str = "no AWS service calls on somebody's behalf here";
const IMPORT: &str = "key material is not imported here";
const ENCLAVE: &str = "there are no enclaves and attestations here";
const SYMMETRIC: &str = "keys are symmetric encryption keys here";
const REGIONS: &str = "keys are in one region here";

/// Keys of AWS's that are never there, and why. One that ends with `:` or `/` stands for a family.
const NEVER: &[(&str, &str)] = &[
    ("kms:DataKeyPairSpec", SYMMETRIC),
    ("kms:ExpirationModel", IMPORT),
    ("kms:GrantSourceArn", SERVICE),
    ("kms:GranteeServicePrincipal", SERVICE),
    ("kms:KeyAgreementAlgorithm", SYMMETRIC),
    ("kms:MacAlgorithm", SYMMETRIC),
    ("kms:MessageType", SYMMETRIC),
    ("kms:MultiRegionKeyType", REGIONS),
    ("kms:PrimaryRegion", REGIONS),
    ("kms:RecipientAttestation:", ENCLAVE),
    ("kms:ReplicaRegion", REGIONS),
    ("kms:RetiringServicePrincipal", SERVICE),
    ("kms:SigningAlgorithm", SYMMETRIC),
    ("kms:ValidTo", IMPORT),
    ("kms:ViaService", SERVICE),
    ("kms:WrappingAlgorithm", IMPORT),
    ("kms:WrappingKeySpec", IMPORT),
    ("aws:AssumedRoot", SESSION),
    ("aws:CalledVia", SERVICE),
    ("aws:CalledViaAWSMCP", SERVICE),
    ("aws:CalledViaFirst", SERVICE),
    ("aws:CalledViaLast", SERVICE),
    ("aws:ChatbotSourceArn", SESSION),
    ("aws:Ec2InstanceSourcePrivateIPv4", VPC),
    ("aws:Ec2InstanceSourceVpc", VPC),
    ("aws:FederatedProvider", SESSION),
    ("aws:MultiFactorAuthAge", SESSION),
    ("aws:MultiFactorAuthPresent", SESSION),
    ("aws:PrincipalOrgID", ORGANIZATION),
    ("aws:PrincipalOrgPaths", ORGANIZATION),
    ("aws:PrincipalServiceName", SERVICE),
    ("aws:PrincipalServiceNamesList", SERVICE),
    ("aws:ResourceOrgID", ORGANIZATION),
    ("aws:ResourceOrgPaths", ORGANIZATION),
    ("aws:SourceAccount", SERVICE),
    ("aws:SourceArn", SERVICE),
    ("aws:SourceIdentity", SESSION),
    ("aws:SourceOrgID", SERVICE),
    ("aws:SourceOrgPaths", SERVICE),
    ("aws:SourceVpc", VPC),
    ("aws:SourceVpcArn", VPC),
    ("aws:SourceVpce", VPC),
    ("aws:TokenIssueTime", SESSION),
    ("aws:ViaAWSMCPService", SERVICE),
    ("aws:VpceAccount", VPC),
    ("aws:VpceOrgID", VPC),
    ("aws:VpceOrgPaths", VPC),
    ("aws:VpcSourceIp", VPC),
    ("aws:referer", "calls come from no web page here"),
    ("codebuild:BuildArn", SESSION),
    ("codebuild:ProjectArn", SESSION),
    ("ec2:RoleDelivery", SESSION),
    ("ec2:SourceInstanceArn", SESSION),
    ("glue:CredentialIssuingService", SESSION),
    ("glue:RoleAssumedBy", SESSION),
    ("identitystore:UserId", SESSION),
    ("lambda:SourceFunctionArn", SESSION),
    ("ssm:SourceInstanceArn", SESSION),
];

impl Key {
    /// The key of this name. Case does not matter, in the part that somebody chose neither: AWS says so of encryption
    /// contexts and of tags.
    pub(super) fn find(name: &str) -> Option<Self> {
        let strip = |family: &str| {
            let (head, rest) = name.split_at_checked(family.len())?;
            (head.eq_ignore_ascii_case(family) && !rest.is_empty()).then_some(rest)
        };
        let family = |(text, family, _): &(&str, Family, Source)| Some(Self::Of(*family, fold(strip(text)?).into()));
        let never = |(text, why): &(&'static str, &'static str)| {
            let same = text.eq_ignore_ascii_case(name) || text.ends_with([':', '/']) && strip(text).is_some();
            same.then_some(Self::Never(text, why))
        };
        let named = NAMED.iter().find(|(text, ..)| text.eq_ignore_ascii_case(name));
        named
            .map(|(_, named, _)| Self::Named(*named))
            .or_else(|| FAMILIES.iter().find_map(family))
            .or_else(|| NEVER.iter().find_map(never))
    }

    /// What is specified of it; nothing of one that is never there.
    pub(super) fn spec(&self) -> Option<Spec> {
        match self {
            Self::Named(named) => NAMED.iter().find(|(_, one, _)| one == named).map(|(.., spec)| *spec),
            Self::Of(family, _) => {
                let source = FAMILIES.iter().find(|(_, one, _)| one == family).map(|(.., source)| *source)?;
                Some(Spec { class: Class::Free, many: false, source })
            }
            Self::Never(..) => None,
        }
    }

    /// The actions whose requests can have it, if that is not all of them.
    pub(super) fn actions(&self) -> Option<&'static [&'static str]> {
        Some(match self {
            Self::Of(Family::EncryptionContext, _)
            | Self::Named(Named::EncryptionContextKeys | Named::EncryptionAlgorithm) => WITH_CONTEXT,
            Self::Of(Family::RequestTag, _) | Self::Named(Named::TagKeys) => WITH_TAGS,
            Self::Named(
                Named::GrantOperations
                | Named::GrantIsForAwsResource
                | Named::GrantConstraintType
                | Named::GranteePrincipal
                | Named::RetiringPrincipal,
            ) => WITH_GRANT,
            Self::Named(Named::PendingWindow) => &["kms:ScheduleKeyDeletion"],
            Self::Named(Named::RotationPeriod) => &["kms:EnableKeyRotation"],
            Self::Named(Named::BypassLockoutCheck) => &["kms:CreateKey", "kms:PutKeyPolicy"],
            Self::Named(Named::PolicyName) => &["kms:PutKeyPolicy"],
            Self::Named(Named::ReEncryptOnSameKey) => &["kms:ReEncryptFrom", "kms:ReEncryptTo"],
            _ => return None,
        })
    }

    /// Whether callers choose how many values it has: hundreds, in one request.
    pub(super) fn has_callers_many(&self) -> bool {
        matches!(self, Self::Named(Named::EncryptionContextKeys | Named::TagKeys))
    }

    /// Whether callers choose its text: thousands of characters, in one request.
    pub(super) fn has_callers_text(&self) -> bool {
        matches!(self, Self::Of(Family::EncryptionContext, _))
    }

    /// Whether its values may be others at the next request of the same caller with the same target.
    pub(super) fn is_of_request(&self) -> bool {
        self.spec().is_some_and(|spec| spec.source == Source::Request)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(named) => {
                let text = NAMED.iter().find(|(_, one, _)| one == named).map(|(text, ..)| *text);
                f.write_str(text.unwrap_or_default())
            }
            Self::Of(family, name) => {
                let text = FAMILIES.iter().find(|(_, one, _)| one == family).map(|(text, ..)| *text);
                write!(f, "{}{name}", text.unwrap_or_default())
            }
            Self::Never(name, _) => f.write_str(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_found_in_any_case_and_stand_once() {
        assert_eq!(Key::find("KMS:CALLERaccount"), Some(Key::Named(Named::CallerAccount)));
        assert_eq!(
            Key::find("kms:encryptioncontext:Tenant"),
            Some(Key::Of(Family::EncryptionContext, "tenant".into())),
        );
        assert!(
            matches!(Key::find("aws:principaltag/Ünit"), Some(Key::Of(Family::PrincipalTag, name)) if &*name == "ünit")
        );
        assert!(matches!(Key::find("kms:recipientattestation:PCR0"), Some(Key::Never(..))));
        assert!(matches!(Key::find("AWS:sourcevpc"), Some(Key::Never(..))));
        for unknown in
            ["", "kms:", "kms:Foo", "kms:EncryptionContext:", "kms:EncryptionContext", "aws:PrincipalTag/", "é"]
        {
            assert_eq!(Key::find(unknown), None, "{unknown}");
        }
        let all = NAMED.iter().map(|(text, ..)| *text).chain(NEVER.iter().map(|(text, _)| *text));
        let mut seen = BTreeSet::new();
        all.for_each(|text| assert!(seen.insert(text.to_lowercase()), "{text}"));
    }
}

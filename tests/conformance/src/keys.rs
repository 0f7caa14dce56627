//! Which conditions are drawn: keys, what their values are, and what policies compare them with. The values are few, so
//! that they often fit what requests have.

use crate::world::{HERE, THERE};

/// What values are, and so which operators read them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    Text,
    Number,
    Moment,
    Flag,
    Bytes,
    Address,
    Arn,
    Presence,
}

impl Class {
    pub(crate) const ALL: &[Self] =
        &[Self::Text, Self::Number, Self::Moment, Self::Flag, Self::Bytes, Self::Address, Self::Arn, Self::Presence];

    /// The operators that read them.
    pub(crate) const fn operators(self) -> &'static [&'static str] {
        match self {
            Self::Text => &[
                "StringEquals",
                "StringLike",
                "StringNotEquals",
                "StringEqualsIgnoreCase",
                "StringNotLike",
                "StringNotEqualsIgnoreCase",
            ],
            Self::Number => &[
                "NumericEquals",
                "NumericNotEquals",
                "NumericLessThan",
                "NumericLessThanEquals",
                "NumericGreaterThan",
                "NumericGreaterThanEquals",
            ],
            Self::Moment => &[
                "DateEquals",
                "DateNotEquals",
                "DateLessThan",
                "DateLessThanEquals",
                "DateGreaterThan",
                "DateGreaterThanEquals",
            ],
            Self::Flag => &["Bool"],
            Self::Bytes => &["BinaryEquals"],
            Self::Address => &["IpAddress", "NotIpAddress"],
            Self::Arn => &["ArnEquals", "ArnLike", "ArnNotEquals", "ArnNotLike"],
            Self::Presence => &["Null"],
        }
    }

    /// The class whose operator this is.
    pub(crate) fn of(operator: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|class| class.operators().contains(&operator))
    }

    /// What an operator of the class is given where the key's own values are of another class.
    pub(crate) const fn values(self) -> &'static [&'static str] {
        match self {
            Self::Text => TEAMS,
            Self::Number => NUMBERS,
            Self::Moment => MOMENTS,
            Self::Flag | Self::Presence => FLAGS,
            Self::Bytes => BYTES,
            Self::Address => ADDRESSES,
            Self::Arn => ARNS,
        }
    }
}

/// A key and what it is compared with.
pub(crate) struct Row {
    pub(crate) key: &'static str,
    pub(crate) class: Class,
    pub(crate) values: &'static [&'static str],
    /// How often it is drawn, compared with the others.
    pub(crate) weight: usize,
}

const fn row(weight: usize, key: &'static str, class: Class, values: &'static [&'static str]) -> Row {
    Row { key, class, values, weight }
}

const TENANTS: &[&str] = &["7", "8", "Blue", "blue", "B*", "?", "*", "${aws:PrincipalTag/team}", "${*}", "te?m-*"];
const TEAMS: &[&str] = &[
    "red",
    "Red",
    "blue",
    "r*",
    "*e*",
    "???",
    "r${*}d",
    "${aws:PrincipalTag/team}",
    "${aws:PrincipalTag/team}*",
    "${aws:PrincipalTag/team, 'red'}",
    "${aws:PrincipalTag/cost}",
    "${aws:PrincipalTag/cost, ''}",
    "${aws:ResourceTag/team}",
    "${kms:EncryptionContext:tenant}",
    "*${aws:PrincipalTag/team}*",
    "${AWS:username}",
    "${aws:PrincipalAccount}",
    "$",
];
const USERS: &[&str] =
    &["anna", "bert", "carla", "a*", "*", "${kms:EncryptionContext:user}", "${aws:PrincipalTag/team}"];
const ACCOUNTS: &[&str] = &[HERE, THERE, "1111*", "${aws:ResourceAccount}"];
const NAMES: &[&str] = &["tenant", "Tenant", "app", "user", "level", "te*", "*a*", "${aws:PrincipalTag/team, 'app'}"];
const ALIASES: &[&str] = &["alias/app-1", "alias/app-*", "alias/other", "alias/*", "alias/${aws:PrincipalTag/team}"];
const OPERATIONS: &[&str] = &["Encrypt", "Decrypt", "DescribeKey", "CreateGrant", "*crypt", "Generate*"];
const TAGS: &[&str] = &["team", "stage", "Team", "cost-*", "s*"];
const NUMBERS: &[&str] = &["7", "12", "30", "30.5", "-3", "1e1", "0", "1795953600"];
pub(crate) const FLAGS: &[&str] = &["true", "false", "True"];
const BYTES: &[&str] = &["Nw==", "Qmx1ZQ==", "cmVk", "YW5uYQ=="];
/// Moments in several forms, each with its milliseconds since 1970.
pub(crate) const DATES: &[(&str, i64)] = &[
    ("2026-11-29T12:00:00Z", 1_795_953_600_000),
    ("2026-11-29T13:00:00+01:00", 1_795_953_600_000),
    ("2026-11-29", 1_795_910_400_000),
    ("2026-11-29T00:00:00Z", 1_795_910_400_000),
    ("2026-12-01T00:00:00Z", 1_796_083_200_000),
    ("2026-12", 1_796_083_200_000),
    ("2027", 1_798_761_600_000),
    ("2027-01-01T00:00:00Z", 1_798_761_600_000),
    ("2026-01-01T00:00Z", 1_767_225_600_000),
    ("2025-12-31T23:59:59Z", 1_767_225_599_000),
    ("2026-01-01T00:00:00Z", 1_767_225_600_000),
];
const MOMENTS: &[&str] = &[
    "2026-11-29T12:00:00Z",
    "2026-11-29T13:00:00+01:00",
    "2026-11-29",
    "2026-12-01T00:00:00Z",
    "2026-12",
    "2027",
    "2027-01-01T00:00:00Z",
    "2026-01-01T00:00Z",
    "1795953600",
    "1796083200",
];
const ADDRESSES: &[&str] = &[
    "10.0.0.0/8",
    "10.1.2.3",
    "10.1.2.3/32",
    "192.168.0.0/16",
    "0.0.0.0/0",
    "2001:db8::/32",
    "2001:db8::1",
    "2001:DB8::1",
    "::/0",
    "10.1.9.9/16",
];
const ARNS: &[&str] = &[
    "arn:aws:iam::111122223333:user/anna",
    "arn:aws:iam::111122223333:user/*",
    "arn:aws:iam::*:root",
    "arn:*:iam::1111*:user/team/bert",
    "arn:aws:iam::999900001111:user/carla",
    "arn:aws:iam::111122223333:user/${aws:username}",
    "arn:aws:iam::${aws:PrincipalAccount}:user/*",
    "arn:aws:iam::*:*/${aws:PrincipalTag/team}",
    "arn:aws:s3:::${aws:PrincipalTag/team}/*",
    "arn:aws:s3:::red/*",
    "arn:aws:iam::?????????????:user/*",
    "*",
];
const CLIENTS: &[&str] = &["keystorectl/1.0", "keystorectl/*", "aws-cli/*"];
const INTERFACES: &[&str] = &["grpc", "aws", "g*"];
const SPECS: &[&str] = &["SYMMETRIC_DEFAULT", "symmetric_default", "RSA_*", "SYMMETRIC_*"];

/// All of them.
pub(crate) const ROWS: &[Row] = &[
    row(14, "kms:EncryptionContext:tenant", Class::Text, TENANTS),
    row(3, "kms:EncryptionContext:user", Class::Text, USERS),
    row(3, "kms:EncryptionContext:app", Class::Text, TEAMS),
    row(12, "aws:ResourceTag/team", Class::Text, TEAMS),
    row(6, "aws:PrincipalTag/team", Class::Text, TEAMS),
    row(2, "aws:RequestTag/team", Class::Text, TEAMS),
    row(4, "aws:username", Class::Text, USERS),
    row(3, "kms:CallerAccount", Class::Text, ACCOUNTS),
    row(2, "aws:PrincipalAccount", Class::Text, ACCOUNTS),
    row(1, "aws:ResourceAccount", Class::Text, ACCOUNTS),
    row(1, "aws:PrincipalType", Class::Text, &["User", "Account", "*"]),
    row(1, "aws:userid", Class::Text, &["AIDAANNA", "AIDA*", HERE]),
    row(2, "kms:KeySpec", Class::Text, SPECS),
    row(1, "kms:EncryptionAlgorithm", Class::Text, SPECS),
    row(1, "kms:KeyOrigin", Class::Text, &["AWS_CLOUDHSM", "AWS_KMS"]),
    row(1, "kms:KeyUsage", Class::Text, &["ENCRYPT_DECRYPT", "SIGN_VERIFY"]),
    row(2, "kms:RequestAlias", Class::Text, ALIASES),
    row(1, "kms:GrantConstraintType", Class::Text, &["EncryptionContextSubset", "EncryptionContext*"]),
    row(1, "aws:UserAgent", Class::Text, CLIENTS),
    row(3, "keystored:Interface", Class::Text, INTERFACES),
    row(1, "aws:RequestedRegion", Class::Text, &["eu-central-1", "eu-*", "us-*"]),
    row(1, "kms:ViaService", Class::Text, &["s3.eu-central-1.amazonaws.com"]),
    row(8, "kms:EncryptionContextKeys", Class::Text, NAMES),
    row(4, "kms:ResourceAliases", Class::Text, ALIASES),
    row(3, "kms:GrantOperations", Class::Text, OPERATIONS),
    row(3, "aws:TagKeys", Class::Text, TAGS),
    row(20, "kms:EncryptionContext:level", Class::Number, NUMBERS),
    row(3, "kms:ScheduleKeyDeletionPendingWindowInDays", Class::Number, NUMBERS),
    row(3, "kms:RotationPeriodInDays", Class::Number, NUMBERS),
    row(12, "aws:EpochTime", Class::Number, &["1795953600", "1796083200", "30.5"]),
    row(14, "aws:CurrentTime", Class::Moment, MOMENTS),
    row(8, "aws:EpochTime", Class::Moment, MOMENTS),
    row(10, "aws:ResourceTag/until", Class::Moment, MOMENTS),
    row(5, "aws:SecureTransport", Class::Flag, FLAGS),
    row(1, "kms:BypassPolicyLockoutSafetyCheck", Class::Flag, FLAGS),
    row(1, "kms:ReEncryptOnSameKey", Class::Flag, FLAGS),
    row(1, "kms:GrantIsForAWSResource", Class::Flag, FLAGS),
    row(1, "aws:ViaAWSService", Class::Flag, FLAGS),
    row(1, "kms:MultiRegion", Class::Flag, FLAGS),
    row(2, "kms:EncryptionContext:flag", Class::Flag, FLAGS),
    row(4, "kms:EncryptionContext:tenant", Class::Bytes, BYTES),
    row(3, "aws:PrincipalTag/team", Class::Bytes, BYTES),
    row(14, "aws:SourceIp", Class::Address, ADDRESSES),
    row(2, "kms:EncryptionContext:host", Class::Address, ADDRESSES),
    row(14, "aws:PrincipalArn", Class::Arn, ARNS),
    row(3, "kms:GranteePrincipal", Class::Arn, ARNS),
    row(2, "kms:RetiringPrincipal", Class::Arn, ARNS),
    row(4, "kms:EncryptionContext:arn", Class::Arn, ARNS),
];

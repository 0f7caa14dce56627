//! Principals × operations × situations, as a table that a person can read: `golden/table.txt`.

use std::fmt::Write as _;

use super::world::{Case, Given, grant};

const PEOPLE: &[&str] = &["root", "anna", "bert", "carla", "other-root"];
const OPERATIONS: &[(&str, &str)] = &[
    ("kms:Encrypt", "key"),
    ("kms:Decrypt", "key"),
    ("kms:GenerateDataKey", "key"),
    ("kms:DescribeKey", "key"),
    ("kms:DisableKey", "key"),
    ("kms:ScheduleKeyDeletion", "key"),
    ("kms:PutKeyPolicy", "key"),
    ("kms:CreateGrant", "key grantops=Decrypt grantee=bert"),
    ("kms:RevokeGrant", "key"),
    ("keystored:DestroyKeyMaterial", "key"),
    ("kms:CreateKey", "*"),
    ("kms:CreateAlias", "alias/app"),
    ("kms:ConnectCustomKeyStore", "key-store/cks-1"),
    ("keystored:ListAuditRecords", "audit-log/kms.example/audit"),
];

const ROOT: &str = r#"{"Effect": "Allow", "Principal": {"AWS": "111122223333"}, "Action": "kms:*", "Resource": "*"}"#;
const ANNA_USES: &str = r#"{"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::111122223333:user/anna"}, "Action": ["kms:Encrypt", "kms:Decrypt", "kms:GenerateDataKey*", "kms:DescribeKey"], "Resource": "*"}"#;
const OTHER: &str = r#"{"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::999900001111:root"}, "Action": "kms:*", "Resource": "*"}"#;
const EVERYBODY: &str = r#"{"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*"}"#;
const NOT_ANNA: &str = r#"{"Effect": "Deny", "Principal": {"AWS": "arn:aws:iam::111122223333:user/anna"}, "Action": "kms:Decrypt", "Resource": "*"}"#;
const ADMIN: &str = r#"{"Effect": "Allow", "Action": "*", "Resource": "*"}"#;
const READER: &str = r#"{"Effect": "Allow", "Action": ["kms:Describe*", "kms:Get*", "kms:List*"], "Resource": "*"}"#;
const NO_DECRYPT: &str = r#"{"Effect": "Deny", "Action": "kms:Decrypt", "Resource": "*"}"#;

/// What the situation is, the key's policy, the identity policy of whoever asks, grants.
type Situation = (&'static str, &'static [&'static str], &'static [&'static str], &'static [&'static str]);

const SITUATIONS: &[Situation] = &[
    ("Nothing at all", &[], &[], &[]),
    ("The default key policy; nobody has an identity policy", &[ROOT], &[], &[]),
    ("The default key policy; everybody is an administrator", &[ROOT], &[ADMIN], &[]),
    ("The default key policy; everybody may look", &[ROOT], &[READER], &[]),
    ("No key policy; everybody is an administrator", &[], &[ADMIN], &[]),
    ("The key policy is anna's alone; everybody is an administrator", &[ANNA_USES], &[ADMIN], &[]),
    ("The account and anna; nobody has an identity policy", &[ROOT, ANNA_USES], &[], &[]),
    ("The other account too; nobody has an identity policy", &[ROOT, OTHER], &[], &[]),
    ("The other account too; everybody is an administrator", &[ROOT, OTHER], &[ADMIN], &[]),
    ("Everybody, whatever; nobody has an identity policy", &[EVERYBODY], &[], &[]),
    ("Everybody, whatever, but anna must not decrypt", &[EVERYBODY, NOT_ANNA], &[], &[]),
    ("Everybody, whatever, but identity policies deny to decrypt", &[EVERYBODY], &[NO_DECRYPT], &[]),
    (
        "A grant to bert, beside a key policy that is anna's",
        &[ANNA_USES],
        &[],
        &["g1 bert Encrypt,Decrypt,DescribeKey"],
    ),
    (
        "A grant to bert with CreateGrant; identity policies deny to decrypt",
        &[ROOT],
        &[NO_DECRYPT],
        &["g1 bert Decrypt,CreateGrant"],
    ),
    ("A grant to carla; everybody may look", &[ROOT], &[READER], &["g1 carla Decrypt,DescribeKey"]),
];

fn table() -> String {
    let mut out =
        "Who may do what: the decision and what it is by. key[0] is the key policy's first statement, own[0] that of \
        the identity policy\nof whoever asks, g1 a grant. \"no ...\" says where an Allow is missing.\n"
            .to_owned();
    for (title, key, own, grants) in SITUATIONS {
        let texts = |all: &[&str]| all.iter().map(|text| (*text).to_owned()).collect();
        let grants = grants.iter().map(|line| grant(line)).collect();
        let case = Case { key: texts(key), own: texts(own), grants };
        let _ = write!(out, "\n{title}\n{:29}", "");
        PEOPLE.iter().for_each(|who| out.push_str(&format!(" {who:20}")));
        trim(&mut out);
        for (operation, target) in OPERATIONS {
            let _ = write!(out, "{operation:29}");
            for who in PEOPLE {
                let verdict = case.decide(&Given::parse(&format!("{who} {operation} {target}")));
                let _ = write!(out, " {verdict:20}");
            }
            trim(&mut out);
        }
    }
    out
}

fn trim(out: &mut String) {
    out.truncate(out.trim_end_matches(' ').len());
    out.push('\n');
}

#[test]
fn the_table_is_what_the_file_says() {
    let (is, expected) = (table(), include_str!("../golden/table.txt"));
    let difference = is.lines().zip(expected.lines()).find(|(is, expected)| is != expected);
    assert!(is == expected, "the first line that differs: {difference:?}; the whole table is\n{is}");
}

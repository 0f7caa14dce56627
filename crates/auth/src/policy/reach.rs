//! Whether a Resource can be anything at all: the ARNs that there are in one installation, by what actions are done with.

use model::operation::{Operation, Resource as Of};

use super::actions::{Actions, Asked};
use super::compiled::Kind;
use super::finding::Problem;
use super::pattern::Piece;
use super::resource::{Part, Resource};
use super::variable::{self, Template};

/// Whose ARNs there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Home<'a> {
    /// Such as `aws`.
    pub partition: &'a str,
    /// The region that this installation calls its own.
    pub region: &'a str,
    /// Twelve digits.
    pub account: &'a str,
}

/// Characters of which any may stand somewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Any,
    /// All but a colon.
    Part,
    /// Of the id of a key.
    Id,
    Digit,
}

impl Class {
    fn has(self, c: char) -> bool {
        match self {
            Self::Any => true,
            Self::Part => c != ':',
            Self::Id => c == '-' || c.is_ascii_digit() || ('a'..='f').contains(&c),
            Self::Digit => c.is_ascii_digit(),
        }
    }
}

/// A step of a text of which not all is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Is(char),
    One(Class),
    Many(Class),
}

impl Step {
    /// Whether both can take the same character. Any two classes have one in common.
    fn meets(self, other: Self) -> bool {
        match (self, other) {
            (Self::Is(one), Self::Is(other)) => one == other,
            (Self::Is(c), Self::One(class) | Self::Many(class))
            | (Self::One(class) | Self::Many(class), Self::Is(c)) => class.has(c),
            _ => true,
        }
    }

    fn is_many(self) -> bool {
        matches!(self, Self::Many(_))
    }
}

/// Things that actions are done with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Thing {
    Key,
    Alias,
    KeyStore,
    Cluster,
    User,
    Role,
    Group,
    Policy,
    AuditLog,
}

const THINGS: &[Thing] = &[
    Thing::Key,
    Thing::Alias,
    Thing::KeyStore,
    Thing::Cluster,
    Thing::User,
    Thing::Role,
    Thing::Group,
    Thing::Policy,
    Thing::AuditLog,
];

impl Thing {
    /// The ARNs of all that there may be.
    fn arns(self, home: Home<'_>) -> Vec<Step> {
        let Home { partition, region, account } = home;
        let of_kms = |name: &str| text(&format!("arn:{partition}:kms:{region}:{account}:{name}"));
        let of_iam = |name: &str| text(&format!("arn:{partition}:iam::{account}:{name}"));
        // Principals may be of other accounts.
        let of_any = |name: &str| {
            let mut all = text(&format!("arn:{partition}:iam::"));
            all.extend([Step::One(Class::Digit); 12]);
            all.extend(text(&format!(":{name}")));
            all
        };
        let (mut begin, rest) = match self {
            Self::Key => (of_kms("key/"), Class::Id),
            Self::Alias => (of_kms("alias/"), Class::Part),
            Self::KeyStore => (of_kms("key-store/"), Class::Part),
            Self::Cluster => (of_kms("cluster/"), Class::Part),
            Self::User => (of_any("user/"), Class::Part),
            Self::Role => (of_any("role/"), Class::Part),
            Self::Group => (of_iam("group/"), Class::Part),
            Self::Policy => (of_iam("policy/"), Class::Part),
            // Its name is up to the configuration, and has no colon in an ARN.
            Self::AuditLog => (of_kms("audit-log/"), Class::Part),
        };
        begin.push(Step::Many(rest));
        begin
    }
}

/// What an operation is done with. Whatever is done without naming anything is done with `*`, which no ARN is.
fn things_of(operation: Operation) -> &'static [Thing] {
    match operation.spec().resource {
        // Where a key lies is the cluster's affair, and the key's is asked about too.
        Of::Cluster if operation == Operation::ResyncKeys => &[Thing::Cluster, Thing::Key],
        Of::Cluster => &[Thing::Cluster],
        Of::Key | Of::KeyOrAlias => &[Thing::Key],
        // They need the permission on both.
        Of::Alias => &[Thing::Alias, Thing::Key],
        Of::KeyStore => &[Thing::KeyStore],
        Of::Principal => &[Thing::User, Thing::Role],
        Of::Group => &[Thing::Group],
        Of::Policy => &[Thing::Policy],
        // On what the call is about that waits.
        Of::Approval => THINGS,
        Of::AuditLog => &[Thing::AuditLog],
        Of::Account => &[],
    }
}

/// What is doubtful about a Resource, or NotResource (`all_but`), of a statement about these actions.
pub(super) fn doubt(
    resource: &Resource,
    said: &str,
    all_but: bool,
    kind: Kind<'_>,
    home: Option<Home<'_>>,
    actions: Option<&Actions>,
) -> Option<Problem> {
    let problem = match (kind, home) {
        _ if matches!(resource, Resource::Any) => None,
        (Kind::Key { arn: Some(arn) }, _) => {
            if all_but && resource.always_fits(arn) == Some(true) {
                return Some(Problem::NothingLeft);
            }
            (!meet(&steps(resource), &text(arn))).then(|| Problem::NotThisKey(said.to_owned()))
        }
        (Kind::Key { arn: None }, Some(home)) => {
            (!meet(&steps(resource), &Thing::Key.arns(home))).then(|| Problem::NotThisKey(said.to_owned()))
        }
        (Kind::Identity, Some(home)) => elsewhere(resource, said, home, actions?),
        (_, None) => None,
    };
    problem.map(|problem| if all_but { Problem::LeavesOutNothing(said.to_owned()) } else { problem })
}

fn elsewhere(resource: &Resource, said: &str, home: Home<'_>, actions: &Actions) -> Option<Problem> {
    let has = |permission: &&str| actions.have(&Asked::of(permission));
    let meant = Operation::ALL.iter().copied().filter(|operation| {
        let spec = operation.spec();
        [Some(spec.permission), spec.source_permission].iter().flatten().any(has)
    });
    let meant: Vec<Operation> = meant.collect();
    // That its actions are none is said of these.
    if meant.is_empty() {
        return None;
    }
    let steps = steps(resource);
    let fitting: Vec<Thing> = THINGS.iter().copied().filter(|thing| meet(&steps, &thing.arns(home))).collect();
    if fitting.is_empty() {
        return Some(Problem::NothingHere(said.to_owned()));
    }
    let with: Vec<Thing> = meant.iter().flat_map(|operation| things_of(*operation)).copied().collect();
    match with.iter().any(|thing| fitting.contains(thing)) {
        true => None,
        false if with.is_empty() => Some(Problem::OfNothing(said.to_owned())),
        false => Some(Problem::OtherThings(said.to_owned())),
    }
}

fn text(text: &str) -> Vec<Step> {
    text.chars().map(Step::Is).collect()
}

/// A Resource, in which a variable may have any value.
fn steps(resource: &Resource) -> Vec<Step> {
    let parts: &[Part] = match resource {
        Resource::Any => return vec![Step::Many(Class::Any)],
        Resource::Exact(exact) => return text(exact),
        Resource::Parts(parts) => parts,
    };
    let mut all = Vec::new();
    for (at, part) in parts.iter().enumerate() {
        if at > 0 {
            all.push(Step::Is(':'));
        }
        let class = if at == super::resource::PARTS - 1 { Class::Any } else { Class::Part };
        match &part.template {
            Template::Literal(literal) => all.extend(literal.chars().map(Step::Is)),
            Template::Pattern(pieces) => pieces.iter().for_each(|piece| step(piece, class, &mut all)),
            Template::Variable(parts) => parts.iter().for_each(|part| match part {
                variable::Part::Piece(piece) => step(piece, class, &mut all),
                variable::Part::Value(..) => all.push(Step::Many(Class::Any)),
            }),
        }
        if let (true, Some(last)) = (part.reaches_over, all.last_mut()) {
            *last = Step::Many(Class::Any);
        }
    }
    // Several `*` are one.
    all.dedup_by(|next, before| next.is_many() && next == before);
    all
}

fn step(piece: &Piece<'_>, class: Class, all: &mut Vec<Step>) {
    match piece {
        Piece::Text(text) => all.extend(text.chars().map(Step::Is)),
        Piece::One => all.push(Step::One(class)),
        Piece::Many => all.push(Step::Many(class)),
    }
}

/// Whether there is a text that both can be. Costs the product of their lengths at most.
fn meet(one: &[Step], other: &[Step]) -> bool {
    // Up to where `other` may have come when `one` has come to some step.
    let mut open = vec![false; other.len() + 1];
    open[0] = true;
    for at in 0..=one.len() {
        let step = one.get(at).copied();
        let mut next = vec![false; other.len() + 1];
        for to in 0..=other.len() {
            if !open[to] {
                continue;
            }
            let with = other.get(to).copied();
            if with.is_some_and(Step::is_many) {
                open[to + 1] = true;
            }
            let Some(step) = step else { continue };
            if step.is_many() {
                next[to] = true;
            }
            let Some(with) = with.filter(|with| step.meets(*with)) else { continue };
            match (step.is_many(), with.is_many()) {
                (true, true) => {}
                (true, false) => open[to + 1] = true,
                (false, true) => next[to] = true,
                (false, false) => next[to + 1] = true,
            }
        }
        if step.is_none() {
            return open[other.len()];
        }
        if !next.contains(&true) {
            return false;
        }
        open = next;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: Home<'static> = Home { partition: "aws", region: "eu-central-1", account: "111122223333" };

    fn fitting(text: &str) -> Vec<Thing> {
        let steps = steps(&Resource::parse(text, true).unwrap());
        THINGS.iter().copied().filter(|thing| meet(&steps, &thing.arns(HOME))).collect()
    }

    #[test]
    fn what_a_resource_can_be() {
        use Thing::{Alias, AuditLog, Cluster, Group, Key, KeyStore, Policy, Role, User};
        for (text, things) in [
            ("arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab", &[Key][..]),
            ("arn:aws:kms:eu-central-1:111122223333:key/*", &[Key]),
            ("arn:aws:kms:*:111122223333:alias/*", &[Alias]),
            ("arn:aws:kms:*", &[Key, Alias, KeyStore, Cluster, AuditLog]),
            ("arn:aws:kms:*:*:audit-log/*", &[AuditLog]),
            ("arn:aws:kms:eu-central-1:111122223333:audit-log/keystored/111122223333/eu-central-1", &[AuditLog]),
            ("arn:aws:kms:us-east-1:*:audit-log/*", &[]),
            ("arn:*", THINGS),
            ("arn:aws:kms:*:*:key*", &[Key, KeyStore]),
            ("arn:aws:kms:*:*:k??/*", &[Key]),
            ("arn:aws:kms:eu-*-1:1111*:${aws:username}", &[Key, Alias, KeyStore, Cluster, AuditLog]),
            ("arn:aws:iam::999900001111:user/anna", &[User]),
            ("arn:aws:iam::*:*", &[User, Role, Group, Policy]),
            ("arn:aws:iam::111122223333:group/red", &[Group]),
            ("arn:aws:iam::999900001111:group/red", &[]),
            ("arn:aws:kms:eu-central-1:999900001111:key/*", &[]),
            ("arn:aws:kms:us-east-1:*:key/*", &[]),
            ("arn:aws-cn:kms:*:*:key/*", &[]),
            ("arn:aws:s3:::bucket/*", &[]),
            ("arn:aws:kms:*:*:key/mrk-*", &[]),
            ("arn:aws:kms:*:*:key/1234ABCD*", &[]),
            ("arn:aws:kms:*:999900001111:key/${aws:username}", &[]),
            ("arn:aws:kms:eu-central-1:111122223333:key", &[]),
            ("arn:aws:iam::11112222333:user/anna", &[]),
        ] {
            assert_eq!(fitting(text), things, "{text}");
        }
    }

    #[test]
    fn it_agrees_with_what_fits() {
        let arn = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";
        for text in
            ["arn:*:key/*", "arn:aws:k?s:*:*:key/*ab", "arn:*", "arn:aws:kms:*:key/1*", "arn:aws:*:*:*:*", "arn:a*"]
        {
            let resource = Resource::parse(text, true).unwrap();
            assert_eq!(resource.always_fits(arn), Some(true), "{text}");
            assert!(meet(&steps(&resource), &super::text(arn)), "{text}");
        }
        assert!(!meet(&super::text("ab"), &super::text("a")) && !meet(&super::text("a"), &super::text("ab")));
        assert!(meet(&[], &[]) && meet(&[], &[Step::Many(Class::Any)]));
    }
}

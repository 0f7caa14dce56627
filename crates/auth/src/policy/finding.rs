//! What is wrong or doubtful about a policy, with its place.

use std::fmt;

use super::json::{Node, line};

/// Most findings of one policy. More help nobody.
const MOST: usize = 100;
/// So many characters of a name are shown in a place.
const NAME_CHARS: usize = 200;

/// Whether a policy with the finding can be put.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// It cannot.
    Error,
    /// It can, but probably does not do what it was written for.
    Warning,
}

/// One thing that is wrong or doubtful.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Whether the policy can be put.
    pub severity: Severity,
    /// Such as `Statement[2].Condition.StringEquals."kms:Foo"`, counted from 0; empty for the whole.
    pub place: String,
    /// The line in the text, from 1.
    pub line: usize,
    /// What is wrong or doubtful there.
    pub problem: Problem,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.place {
            "" => write!(f, "line {}: {}", self.line, self.problem),
            place => write!(f, "{place} (line {}): {}", self.line, self.problem),
        }
    }
}

/// What is wrong or doubtful.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "each says in its sentence what it is")]
pub enum Problem {
    #[error("not JSON that can be read: {0}")]
    Json(String),
    #[error("the policy has {bytes} bytes, at most {most} are allowed")]
    TooLong { bytes: usize, most: usize },
    #[error("the character {0:?} is not allowed in a policy; allowed are tab, line ends and U+0020 to U+00FF")]
    Character(char),
    #[error("must be {0}")]
    Expected(&'static str),
    #[error("there is no such element; allowed here are {0}")]
    UnknownElement(&'static str),
    #[error("{0} is missing")]
    Missing(&'static str),
    #[error("has both {0} and {1}; one of them has to go")]
    Both(&'static str, &'static str),
    #[error("an empty list says nothing; leave the element out or name something")]
    EmptyList,
    #[error("must be 2012-10-17, or 2008-10-17 for a policy without variables")]
    Version,
    #[error("must be Allow or Deny, written like this")]
    Effect,
    #[error("a key policy says in each statement whom it is about: add Principal")]
    NoPrincipal,
    #[error("an identity policy is about whom it is attached to: take Principal out")]
    PrincipalOfIdentity,
    #[error(
        "{0:?} is no principal; write an ARN without wildcards, an account's number, \"*\", or {{\"AWS\": …}} with one or \
         a list of them"
    )]
    PrincipalForm(String),
    #[error("{0:?} names no principal that there is")]
    UnknownPrincipal(String),
    #[error("there are principals of the kinds AWS, Service, Federated and CanonicalUser")]
    PrincipalKind,
    #[error("leaves out everybody, and so is about nobody")]
    NobodyLeft,
    #[error("{0:?} is no action; write VENDOR:ACTION, with * and ? in the action alone, or \"*\"")]
    ActionForm(String),
    #[error("{0:?} is no resource; write an ARN, with * and ? where you like, or \"*\"")]
    ResourceForm(String),
    #[error("there is no such condition operator")]
    UnknownOperator,
    #[error("there is no such condition key")]
    UnknownKey,
    #[error("{value:?} is not {expected}")]
    Value { value: String, expected: &'static str },
    #[error("the variable that begins with {0:?} is not well-formed; write ${{key}} or ${{key, 'default'}}")]
    VariableForm(String),
    #[error(
        "{0:?} has a variable before the fifth colon of the ARN; only what names the resource behind it may have one"
    )]
    VariablePlace(String),
    #[error("there is no condition key {0:?}, and so no such variable")]
    UnknownVariable(String),
    #[error("{0:?} has several values and cannot be a variable")]
    VariableOfMany(String),
    #[error("too many ? between two * in this policy: to look for them takes too long")]
    TooSlow,
    #[error(
        "too many conditions, wildcards, variables and IP networks on kms:EncryptionContextKeys and aws:TagKeys, values with \
         text between two * on kms:EncryptionContext:…, and variables of that to compare without case, in this policy: to look at what \
         callers send for each takes too long"
    )]
    TooManyPasses,
    #[error("the Sid {0:?} stands twice")]
    SidTwice(String),
    #[error("the Sid of an identity policy is made of letters and digits")]
    SidForm,

    #[error("has no {0}, and so has no effect")]
    WithoutEffect(&'static str),
    #[error("is never there, because {0}")]
    NeverThere(&'static str),
    #[error("has a variable that never has a value, because {0}: nothing fits it")]
    NoValue(&'static str),
    #[error("is never met: the statement has no effect")]
    NeverMet,
    #[error("{0} principals never call here")]
    NobodyCalls(String),
    #[error("leaves out everything, so the statement has no effect")]
    NothingLeft,
    #[error("{0:?} fits no operation")]
    NoOperation(String),
    #[error("{0:?} cannot be this key; write \"*\", which is this key in its policy")]
    NotThisKey(String),
    #[error(
        "{0:?} fits nothing that there is here: it is of another partition, service, region or account, or of another form"
    )]
    NothingHere(String),
    #[error("{0:?} is nothing that an action of this statement is done with, so it never fits")]
    OtherThings(String),
    #[error("{0:?} never fits: the actions of this statement are done with nothing that has an ARN; write \"*\"")]
    OfNothing(String),
    #[error("{0:?} fits nothing that this statement could be about, so that nothing is left out by it")]
    LeavesOutNothing(String),
    #[error("no action of this statement has such a key, so it is never met")]
    OtherActions,
    #[error("has one value at most; ForAllValues and ForAnyValue are for keys with several")]
    SetForOne,
    #[error("may have several values; say with ForAllValues or ForAnyValue what is meant")]
    OneForMany,
    #[error("ForAllValues is also met where the key is absent; add a Null condition if that is not meant")]
    MetWhereAbsent,
    #[error(
        "its values are {0}, which this operator does not read: where it cannot read one, an Allow is not met, and a Deny only if \
         the operator is negated"
    )]
    OtherClass(&'static str),
    #[error("${{…}} is a variable only under Version 2012-10-17; here it is plain text")]
    PlainVariable,
    #[error("an Allow for all but some is for everybody else in every account; name who is meant")]
    AllowAllBut,
    #[error("leaves nobody out unless the account is named too: add arn:…:iam::ACCOUNT:root of each")]
    AllButWithoutAccount,
    #[error("is a condition that restricts nothing")]
    EmptyCondition,
    #[error(
        "no statement lets anybody call kms:PutKeyPolicy: nobody but an administrator of the configuration could change the \
         policy again"
    )]
    LockOut,
    #[error(
        "a statement denies kms:PutKeyPolicy to everybody: nobody but an administrator of the configuration could change the \
         policy again"
    )]
    AllLockedOut,
}

impl Problem {
    /// Whether a policy may have it that was put before, when such was taken. In one that is put today it is an error.
    #[must_use]
    pub fn is_of_today(&self) -> bool {
        matches!(self, Self::TooSlow | Self::TooManyPasses | Self::Value { .. })
    }
}

/// Where in a policy: built on the stack, and written out only when there is something to say.
#[derive(Clone, Copy)]
pub(super) struct Place<'p> {
    parent: Option<&'p Place<'p>>,
    step: Step<'p>,
}

#[derive(Clone, Copy)]
enum Step<'p> {
    Whole,
    Member(&'p str),
    Item(usize),
}

impl<'p> Place<'p> {
    pub(super) const WHOLE: Place<'static> = Place { parent: None, step: Step::Whole };

    pub(super) fn member(&'p self, name: &'p str) -> Self {
        Self { parent: Some(self), step: Step::Member(name) }
    }

    pub(super) fn item(&'p self, index: usize) -> Self {
        Self { parent: Some(self), step: Step::Item(index) }
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            write!(f, "{parent}")?;
        }
        let first = self.parent.is_none_or(|parent| matches!(parent.step, Step::Whole));
        match self.step {
            Step::Whole => Ok(()),
            Step::Item(index) => write!(f, "[{index}]"),
            Step::Member(name) => {
                let plain = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric());
                f.write_str(if first { "" } else { "." })?;
                // A name may be as long as a policy, and stand in as many places as there are findings.
                match name.char_indices().nth(NAME_CHARS) {
                    Some((at, _)) => write!(f, "{:?}…", &name[..at]),
                    None if plain => f.write_str(name),
                    None => write!(f, "{name:?}"),
                }
            }
        }
    }
}

/// Findings while a policy is read.
pub(super) struct Findings<'t> {
    text: &'t str,
    all: Vec<Finding>,
    errors: bool,
}

impl<'t> Findings<'t> {
    pub(super) fn of(text: &'t str) -> Self {
        Self { text, all: Vec::new(), errors: false }
    }

    pub(super) fn error(&mut self, place: &Place<'_>, node: &Node, problem: Problem) {
        self.add(Severity::Error, place, node.span.start, problem);
    }

    pub(super) fn warning(&mut self, place: &Place<'_>, node: &Node, problem: Problem) {
        self.add(Severity::Warning, place, node.span.start, problem);
    }

    pub(super) fn add(&mut self, severity: Severity, place: &Place<'_>, at: usize, problem: Problem) {
        self.errors |= severity == Severity::Error;
        if self.all.len() < MOST {
            let (place, line) = (place.to_string(), line(self.text, at));
            self.all.push(Finding { severity, place, line, problem });
        } else if severity == Severity::Error
            && let Some(warning) = self.all.iter().position(|finding| finding.severity == Severity::Warning)
        {
            // What keeps the policy from being put is said before what is doubtful.
            self.all.remove(warning);
            self.add(severity, place, at, problem);
        }
    }

    pub(super) fn has_errors(&self) -> bool {
        self.errors
    }

    pub(super) fn into_all(self) -> Vec<Finding> {
        self.all
    }
}

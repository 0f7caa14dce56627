//! Condition operators by their names.

use std::fmt;

use super::keys::Class;

/// How a condition looks at several values of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Quantifier {
    /// Not at all: for keys with one value.
    Single,
    /// `ForAllValues`: each of them; met where there is none.
    ForAll,
    /// `ForAnyValue`: one of them; not met where there is none.
    ForAny,
}

/// How numbers and dates are compared: the request's with the policy's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    /// The same.
    Equal,
    /// Less.
    Less,
    /// Less or the same.
    LessOrEqual,
    /// Greater.
    Greater,
    /// Greater or the same.
    GreaterOrEqual,
}

impl Comparison {
    /// Whether the request's value stands so to the policy's.
    pub(super) fn holds<T: PartialOrd>(self, given: &T, wanted: &T) -> bool {
        match self {
            Self::Equal => given == wanted,
            Self::Less => given < wanted,
            Self::LessOrEqual => given <= wanted,
            Self::Greater => given > wanted,
            Self::GreaterOrEqual => given >= wanted,
        }
    }
}

/// What an operator compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Test {
    /// Text, exactly.
    Text,
    /// Text, case aside.
    FoldedText,
    /// Text with wildcards.
    TextPattern,
    /// Numbers.
    Number(Comparison),
    /// Moments.
    Moment(Comparison),
    /// `true` or `false`.
    Flag,
    /// Bytes.
    Bytes,
    /// IP addresses.
    Address,
    /// ARNs, part by part with wildcards. AWS: ArnEquals and ArnLike are the same.
    Arn,
    /// Whether the key is absent.
    Null,
}

/// An operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Operator {
    /// How it looks at several values.
    pub(super) quantifier: Quantifier,
    /// What it compares.
    pub(super) test: Test,
    /// Whether it is met where none of the policy's values fits.
    pub(super) negated: bool,
    /// Whether it is met where the key is absent.
    pub(super) if_exists: bool,
}

const OPERATORS: &[(&str, Test, bool)] = &[
    ("StringEquals", Test::Text, false),
    ("StringNotEquals", Test::Text, true),
    ("StringEqualsIgnoreCase", Test::FoldedText, false),
    ("StringNotEqualsIgnoreCase", Test::FoldedText, true),
    ("StringLike", Test::TextPattern, false),
    ("StringNotLike", Test::TextPattern, true),
    ("NumericEquals", Test::Number(Comparison::Equal), false),
    ("NumericNotEquals", Test::Number(Comparison::Equal), true),
    ("NumericLessThan", Test::Number(Comparison::Less), false),
    ("NumericLessThanEquals", Test::Number(Comparison::LessOrEqual), false),
    ("NumericGreaterThan", Test::Number(Comparison::Greater), false),
    ("NumericGreaterThanEquals", Test::Number(Comparison::GreaterOrEqual), false),
    ("DateEquals", Test::Moment(Comparison::Equal), false),
    ("DateNotEquals", Test::Moment(Comparison::Equal), true),
    ("DateLessThan", Test::Moment(Comparison::Less), false),
    ("DateLessThanEquals", Test::Moment(Comparison::LessOrEqual), false),
    ("DateGreaterThan", Test::Moment(Comparison::Greater), false),
    ("DateGreaterThanEquals", Test::Moment(Comparison::GreaterOrEqual), false),
    ("Bool", Test::Flag, false),
    ("BinaryEquals", Test::Bytes, false),
    ("IpAddress", Test::Address, false),
    ("NotIpAddress", Test::Address, true),
    ("ArnEquals", Test::Arn, false),
    ("ArnLike", Test::Arn, false),
    ("ArnNotEquals", Test::Arn, true),
    ("ArnNotLike", Test::Arn, true),
    ("Null", Test::Null, false),
];

impl Operator {
    /// The operator of this name, in any case.
    pub(super) fn find(name: &str) -> Option<Self> {
        let (quantifier, rest) = match name.split_once(':') {
            None => (Quantifier::Single, name),
            Some((set, rest)) if set.eq_ignore_ascii_case("ForAllValues") => (Quantifier::ForAll, rest),
            Some((set, rest)) if set.eq_ignore_ascii_case("ForAnyValue") => (Quantifier::ForAny, rest),
            Some(_) => return None,
        };
        let cut = rest.len().checked_sub("IfExists".len()).and_then(|at| rest.split_at_checked(at));
        let (base, if_exists) = match cut {
            Some((base, end)) if end.eq_ignore_ascii_case("IfExists") => (base, true),
            _ => (rest, false),
        };
        let (_, test, negated) = OPERATORS.iter().find(|(text, ..)| text.eq_ignore_ascii_case(base))?;
        // Null is about being there at all.
        let plain = !if_exists && quantifier == Quantifier::Single;
        (*test != Test::Null || plain).then_some(Self { quantifier, test: *test, negated: *negated, if_exists })
    }

    /// Whether it reads values of a class. What it cannot read never fits.
    pub(super) fn reads(&self, class: Class) -> bool {
        match self.test {
            Test::Text | Test::FoldedText | Test::TextPattern | Test::Bytes | Test::Null => true,
            Test::Number(_) => matches!(class, Class::Free | Class::Number | Class::Epoch),
            Test::Moment(_) => matches!(class, Class::Free | Class::Moment | Class::Epoch),
            Test::Flag => matches!(class, Class::Free | Class::Flag),
            Test::Address => matches!(class, Class::Free | Class::Address),
            Test::Arn => matches!(class, Class::Free | Class::Arn),
        }
    }
}

impl fmt::Display for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.quantifier {
            Quantifier::Single => "",
            Quantifier::ForAll => "ForAllValues:",
            Quantifier::ForAny => "ForAnyValue:",
        })?;
        let same = |(_, test, negated): &&(&str, Test, bool)| *test == self.test && *negated == self.negated;
        f.write_str(OPERATORS.iter().find(same).map(|(text, ..)| *text).unwrap_or_default())?;
        f.write_str(if self.if_exists { "IfExists" } else { "" })
    }
}

impl Class {
    /// What values of the class are called.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Free | Self::Text => "text",
            Self::Arn => "ARNs",
            Self::Number => "numbers",
            Self::Moment | Self::Epoch => "moments",
            Self::Flag => "true or false",
            Self::Address => "IP addresses",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_any_case_with_their_ends() {
        for (text, ..) in OPERATORS {
            let plain = Operator::find(text).unwrap();
            assert_eq!(Operator::find(&text.to_uppercase()), Some(plain));
            let more = Operator::find(&format!("forallvalues:{text}ifexists"));
            let set = Operator { quantifier: Quantifier::ForAll, if_exists: true, ..plain };
            assert_eq!(more, (plain.test != Test::Null).then_some(set), "{text}");
        }
        for unknown in [
            "",
            "IfExists",
            "StringEqual",
            "StringEqualsIfExistsIfExists",
            "ForSomeValues:Bool",
            "ForAnyValue:",
            "NullIfExists",
            "ForAnyValue:Null",
            "BinaryNotEquals",
            "StringEquals:ForAnyValue",
            "éIfExist",
        ] {
            assert_eq!(Operator::find(unknown), None, "{unknown}");
        }
    }
}

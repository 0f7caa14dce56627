//! What a request has against the model's constraints, in AWS's words.

use std::fmt::{self, Write as _};

use super::facts::{Bounds, TextShape};

/// Violations that a message describes. All are counted.
const DESCRIBED: usize = 16;

/// Characters of a value that a message repeats; the longest names that the model knows fit with one too many.
pub(super) const SHOWN: usize = 512;

/// Where a value stands in a request, as AWS writes it: `tags.1.member.tagKey`.
#[derive(Clone, Copy)]
pub(super) enum Path<'a> {
    /// The request itself.
    Request,
    /// A member of what is there.
    Member(&'a Path<'a>, &'a str),
    /// An element of the list that is there, from 1.
    Element(&'a Path<'a>, usize),
}

/// A value as a message repeats it.
#[derive(Clone, Copy)]
pub(super) enum Shown<'a> {
    /// There is none.
    Null,
    /// It is not shown: bytes, and what the model marks as a secret.
    Withheld,
    /// A text, a number as it is written, or what stands for a list.
    Text(&'a str),
}

/// All that was found.
#[derive(Default)]
pub(super) struct Violations {
    count: usize,
    text: String,
}

impl Violations {
    /// Notes that a value does not satisfy a constraint.
    pub(super) fn note(&mut self, at: Path<'_>, value: Shown<'_>, constraint: &dyn fmt::Display) {
        self.count += 1;
        if self.count > DESCRIBED {
            return;
        }
        let separator = if self.count == 1 { "" } else { "; " };
        let written = write!(self.text, "{separator}Value{value} at '{at}' failed to satisfy constraint: {constraint}");
        debug_assert!(written.is_ok(), "a String takes everything");
    }

    /// The message of the exception, if there is anything to say.
    pub(super) fn message(&self) -> Option<String> {
        let errors = if self.count == 1 { "error" } else { "errors" };
        (self.count > 0).then(|| format!("{} validation {errors} detected: {}", self.count, self.text))
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Request => Ok(()),
            Self::Member(Self::Request, name) => f.write_str(name),
            Self::Member(of, name) => write!(f, "{of}.{name}"),
            Self::Element(of, number) => write!(f, "{of}.{number}.member"),
        }
    }
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str(" null"),
            Self::Withheld => Ok(()),
            Self::Text(text) => match text.char_indices().nth(SHOWN) {
                Some((end, _)) => write!(f, " '{}…'", text.get(..end).unwrap_or_default()),
                None => write!(f, " '{text}'"),
            },
        }
    }
}

/// A constraint, as AWS says it.
pub(super) enum Constraint<'a> {
    NotNull,
    LengthAtLeast(i64),
    LengthAtMost(i64),
    AtLeast(i64),
    AtMost(i64),
    Matches(&'a str),
    OneOf(&'a [&'static str]),
}

impl fmt::Display for Constraint<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotNull => f.write_str("Member must not be null"),
            Self::LengthAtLeast(least) => write!(f, "Member must have length greater than or equal to {least}"),
            Self::LengthAtMost(most) => write!(f, "Member must have length less than or equal to {most}"),
            Self::AtLeast(least) => write!(f, "Member must have value greater than or equal to {least}"),
            Self::AtMost(most) => write!(f, "Member must have value less than or equal to {most}"),
            Self::Matches(pattern) => write!(f, "Member must satisfy regular expression pattern: {pattern}"),
            Self::OneOf(values) => write!(f, "Member must satisfy enum value set: [{}]", values.join(", ")),
        }
    }
}

/// What the elements of a list, or the values of a map, have to be: AWS names all of it once, whichever they break.
pub(super) struct Within<'a> {
    /// "Member" for elements, "Map value" for values.
    pub(super) of: &'static str,
    pub(super) constraints: Vec<Constraint<'a>>,
}

impl fmt::Display for Within<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} must satisfy constraint: [", self.of)?;
        for (i, constraint) in self.constraints.iter().enumerate() {
            let separator = if i == 0 { "" } else { ", " };
            write!(f, "{separator}{constraint}")?;
        }
        f.write_char(']')
    }
}

impl Bounds {
    /// The bound that a length is beyond.
    pub(super) fn against_length(self, length: usize) -> Option<Constraint<'static>> {
        let length = i64::try_from(length).unwrap_or(i64::MAX);
        match self {
            Self { max: Some(max), .. } if length > max => Some(Constraint::LengthAtMost(max)),
            Self { min: Some(min), .. } if length < min => Some(Constraint::LengthAtLeast(min)),
            _ => None,
        }
    }

    /// The bound that a number is beyond.
    pub(super) fn against(self, number: i64) -> Option<Constraint<'static>> {
        match self {
            Self { max: Some(max), .. } if number > max => Some(Constraint::AtMost(max)),
            Self { min: Some(min), .. } if number < min => Some(Constraint::AtLeast(min)),
            _ => None,
        }
    }
}

impl TextShape {
    /// All that a text does not satisfy, in the order of the texts that AWS was seen to answer with.
    pub(super) fn against(&self, text: &str) -> impl Iterator<Item = Constraint<'_>> {
        let pattern = self.pattern.as_ref().filter(|pattern| !pattern.matches(text));
        let length = self.length.against_length(text.chars().count());
        let others = !self.values.is_empty() && !self.values.contains(&text);
        let values = others.then_some(Constraint::OneOf(&self.values));
        pattern.map(|pattern| Constraint::Matches(&pattern.source)).into_iter().chain(length).chain(values)
    }

    /// All that a text has to satisfy.
    pub(super) fn constraints(&self) -> Vec<Constraint<'_>> {
        let most = self.length.max.map(Constraint::LengthAtMost);
        let least = self.length.min.map(Constraint::LengthAtLeast);
        let pattern = self.pattern.as_ref().map(|pattern| Constraint::Matches(&pattern.source));
        let values = (!self.values.is_empty()).then_some(Constraint::OneOf(&self.values));
        most.into_iter().chain(least).chain(pattern).chain(values).collect()
    }
}

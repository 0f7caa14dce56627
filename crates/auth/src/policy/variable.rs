//! Text of a policy that may have wildcards and variables in it.
//!
//! A variable is replaced by a value of the request, and the value is text: `*`, `?` and `${…}` in it mean nothing.

use std::borrow::Cow;

use super::finding::Problem;
use super::keys::Key;
use super::pattern::{Piece, fits};
use super::scene::{Only, Scene};

/// What a variable counts among the characters that are looked for: longer than a tag's value.
const VARIABLE_CHARS: usize = 512;
/// So many characters of a problem's text are shown.
const SHOWN_CHARS: usize = 40;

/// What means something in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Syntax {
    /// `*` and `?`.
    pub(super) wildcards: bool,
    /// `${…}`.
    pub(super) variables: bool,
}

/// Text, read once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Template {
    /// Just this.
    Literal(Box<str>),
    /// With wildcards.
    Pattern(Box<[Piece<'static>]>),
    /// With variables.
    Variable(Box<[Part]>),
}

/// A part of a text with variables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// One that is the same for each request.
    Piece(Piece<'static>),
    /// The value of a key, or what stands for it where it is absent.
    Value(Key, Option<Box<str>>),
}

impl Template {
    /// Reads a text.
    pub(super) fn parse(text: &str, syntax: Syntax) -> Result<Self, Problem> {
        let (mut parts, mut rest, mut run) = (Vec::new(), text, String::new());
        while let Some(c) = rest.chars().next() {
            if syntax.variables && rest.starts_with("${") {
                let (variable, behind) = variable(rest)?;
                rest = behind;
                match variable {
                    Variable::Sign(sign) => run.push(sign),
                    Variable::Value(key, default) => {
                        flush(&mut run, &mut parts);
                        parts.push(Part::Value(key, default));
                    }
                }
                continue;
            }
            rest = &rest[c.len_utf8()..];
            let wildcard = match c {
                '*' => Piece::Many,
                '?' => Piece::One,
                _ => Piece::Text("".into()),
            };
            if syntax.wildcards && !matches!(wildcard, Piece::Text(_)) {
                flush(&mut run, &mut parts);
                parts.push(Part::Piece(wildcard));
            } else {
                run.push(c);
            }
        }
        if parts.is_empty() {
            return Ok(Self::Literal(run.into()));
        }
        flush(&mut run, &mut parts);
        let piece = |part: &Part| match part {
            Part::Piece(piece) => Some(piece.clone()),
            Part::Value(..) => None,
        };
        let pieces: Option<Box<[_]>> = parts.iter().map(piece).collect();
        Ok(pieces.map_or_else(|| Self::Variable(parts.into()), Self::Pattern))
    }

    /// Whether it ends with `*`.
    pub(super) fn ends_with_many(&self) -> bool {
        match self {
            Self::Literal(_) => false,
            Self::Pattern(pieces) => pieces.last() == Some(&Piece::Many),
            Self::Variable(parts) => parts.last() == Some(&Part::Piece(Piece::Many)),
        }
    }

    /// Whether text fits; nothing where a variable of it has no value.
    pub(super) fn fits(&self, text: &str, scene: &Scene<'_>) -> Option<bool> {
        match self {
            Self::Literal(literal) => Some(**literal == *text),
            Self::Pattern(pieces) => Some(fits(pieces, text)),
            Self::Variable(parts) => Some(fits(&pieces(parts, scene)?, text)),
        }
    }

    /// Whether text fits whatever the request is; nothing where that depends on it.
    pub(super) fn always_fits(&self, text: &str) -> Option<bool> {
        match self {
            Self::Literal(literal) => Some(**literal == *text),
            Self::Pattern(pieces) => Some(fits(pieces, text)),
            Self::Variable(_) => None,
        }
    }

    /// The text where wildcards mean nothing; nothing where a variable of it has no value.
    pub(super) fn text(&self, scene: &Scene<'_>) -> Option<Cow<'_, str>> {
        match self {
            Self::Literal(literal) => Some((&**literal).into()),
            Self::Pattern(_) => None,
            Self::Variable(parts) => {
                let text =
                    |piece: Piece<'_>| if let Piece::Text(text) = piece { text.into_owned() } else { String::new() };
                Some(pieces(parts, scene)?.into_iter().map(text).collect::<String>().into())
            }
        }
    }

    /// Whether a variable of it has values that differ, so that it has none. Whoever sends them knows which it means.
    pub(super) fn has_several_values(&self, scene: &Scene<'_>) -> bool {
        let Self::Variable(parts) = self else { return false };
        parts.iter().any(|part| matches!(part, Part::Value(key, _) if scene.only(key) == Only::Several))
    }

    /// Why a variable of it never has a value, if one has none.
    pub(super) fn without_value(&self) -> Option<&'static str> {
        let Self::Variable(parts) = self else { return None };
        parts.iter().find_map(|part| if let Part::Value(Key::Never(_, why), None) = part { Some(*why) } else { None })
    }

    /// Whether it may be another text at the next request of the same caller with the same target.
    pub(super) fn is_of_request(&self) -> bool {
        let Self::Variable(parts) = self else { return false };
        parts.iter().any(|part| matches!(part, Part::Value(key, _) if key.is_of_request()))
    }

    /// How many characters are tried at each place of a text: those of segments between two `*` that have a `?`.
    pub(super) fn tried_chars(&self) -> usize {
        let slow = self.searched().into_iter().filter(|segment| segment.contains(&Part::Piece(Piece::One)));
        slow.map(|segment| chars(&segment)).sum()
    }

    /// Whether a text is gone through for it, since more than one character may stand anywhere in that. For a single one
    /// that costs next to nothing.
    pub(super) fn is_searched(&self) -> bool {
        self.searched().iter().any(|segment| chars(segment) > 1)
    }

    /// How many variables it has. They are looked up for each value.
    pub(super) fn variables(&self) -> usize {
        let Self::Variable(parts) = self else { return 0 };
        parts.iter().filter(|part| matches!(part, Part::Value(..))).count()
    }

    /// How many of them are a text that callers choose.
    pub(super) fn variables_of_callers_text(&self) -> usize {
        let Self::Variable(parts) = self else { return 0 };
        parts.iter().filter(|part| matches!(part, Part::Value(key, _) if key.has_callers_text())).count()
    }

    /// What stands between two `*`, and so may stand anywhere.
    fn searched(&self) -> Vec<Vec<Part>> {
        let whole: Vec<Part> = match self {
            Self::Literal(_) => return Vec::new(),
            Self::Pattern(pieces) => pieces.iter().cloned().map(Part::Piece).collect(),
            Self::Variable(parts) => parts.to_vec(),
        };
        let segments: Vec<_> = whole.split(|part| *part == Part::Piece(Piece::Many)).collect();
        let between = segments.get(1..segments.len().saturating_sub(1)).unwrap_or_default();
        between.iter().map(|segment| segment.to_vec()).collect()
    }
}

/// How many characters parts take, at most as far as that is known.
fn chars(parts: &[Part]) -> usize {
    let each = parts.iter().map(|part| match part {
        Part::Piece(Piece::Text(text)) => text.chars().count(),
        Part::Piece(_) => 1,
        Part::Value(_, default) => VARIABLE_CHARS.max(default.as_ref().map_or(0, |text| text.len())),
    });
    each.sum()
}

/// The first colon that is not inside a variable.
pub(super) fn colon(text: &str, variables: bool) -> Option<usize> {
    let mut at = 0;
    loop {
        let rest = &text[at..];
        let colon = rest.find(':')?;
        match rest.find("${").filter(|variable| variables && *variable < colon) {
            None => return Some(at + colon),
            Some(variable) => at += variable + rest[variable..].find('}')? + 1,
        }
    }
}

/// The parts with their values. What is text becomes one piece, which is found fastest.
fn pieces<'p, 'a: 'p>(parts: &'p [Part], scene: &Scene<'a>) -> Option<Vec<Piece<'p>>> {
    let mut out: Vec<Piece<'p>> = Vec::with_capacity(parts.len());
    for part in parts {
        let text: Cow<'p, str> = match part {
            Part::Piece(Piece::Text(text)) => (&**text).into(),
            Part::Piece(Piece::One) => {
                out.push(Piece::One);
                continue;
            }
            Part::Piece(Piece::Many) => {
                out.push(Piece::Many);
                continue;
            }
            Part::Value(key, default) => match (scene.only(key), default) {
                (Only::Value(value), _) => value.text(),
                (Only::Nothing, Some(default)) => (&**default).into(),
                (Only::Nothing, None) | (Only::Several, _) => return None,
            },
        };
        match out.last_mut() {
            Some(Piece::Text(before)) => before.to_mut().push_str(&text),
            _ => out.push(Piece::Text(text)),
        }
    }
    Some(out)
}

fn flush(run: &mut String, parts: &mut Vec<Part>) {
    if !run.is_empty() {
        parts.push(Part::Piece(Piece::Text(std::mem::take(run).into())));
    }
}

enum Variable {
    /// `${*}`, `${?}` and `${$}`: the sign itself.
    Sign(char),
    Value(Key, Option<Box<str>>),
}

/// The variable that a text begins with, and what follows it.
fn variable(text: &str) -> Result<(Variable, &str), Problem> {
    let malformed = || Problem::VariableForm(text.chars().take(SHOWN_CHARS).collect());
    let inside = text.get(2..).ok_or_else(malformed)?;
    for sign in ['*', '?', '$'] {
        if let Some(behind) = inside.strip_prefix(sign).and_then(|rest| rest.strip_prefix('}')) {
            return Ok((Variable::Sign(sign), behind));
        }
    }
    let end = inside.find(['}', ',']).ok_or_else(malformed)?;
    let (name, rest) = inside.split_at(end);
    let (default, behind) = match rest.strip_prefix(',') {
        None => (None, rest.strip_prefix('}').ok_or_else(malformed)?),
        Some(rest) => {
            let quoted = rest.trim_start_matches(' ').strip_prefix('\'').ok_or_else(malformed)?;
            let (default, rest) = quoted.split_once('\'').ok_or_else(malformed)?;
            (Some(default.into()), rest.trim_start_matches(' ').strip_prefix('}').ok_or_else(malformed)?)
        }
    };
    let name = name.trim_matches(' ');
    if name.is_empty() || name.contains(['$', '{', '*', '?']) {
        return Err(malformed());
    }
    let key = Key::find(name).ok_or_else(|| Problem::UnknownVariable(name.to_owned()))?;
    if key.spec().is_some_and(|spec| spec.many) {
        return Err(Problem::VariableOfMany(name.to_owned()));
    }
    Ok((Variable::Value(key, default), behind))
}

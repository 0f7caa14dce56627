//! The elements Resource and NotResource.
//!
//! AWS: `*` and `?` are of one part of an ARN, which colons end, but a `*` that is the last of its part reaches over them.
//! Variables stand behind the fifth colon, in the part that names the resource, and nowhere before it.

use super::condition::Effect;
use super::finding::Problem;
use super::scene::Scene;
use super::variable::{Syntax, Template, colon};

/// Parts of an ARN. What follows the fifth colon is one of them.
pub(super) const PARTS: usize = 6;

/// The element Resource or NotResource.
#[derive(Clone, Debug)]
pub(super) struct Resources {
    all: Box<[Resource]>,
    /// Whether all others are meant.
    all_but: bool,
}

/// One resource of an element.
#[derive(Clone, Debug)]
pub(super) enum Resource {
    /// `*`
    Any,
    /// An ARN without wildcards and variables.
    Exact(Box<str>),
    /// The parts of an ARN with wildcards; six at most, and fewer where the last one reaches over colons.
    Parts(Box<[Part]>),
}

/// A part of an ARN.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) template: Template,
    /// Whether it ends with `*`.
    pub(super) reaches_over: bool,
}

impl Resource {
    /// Reads a resource: `*`, or what begins like an ARN.
    pub(super) fn parse(text: &str, variables: bool) -> Result<Self, Problem> {
        if text == "*" {
            return Ok(Self::Any);
        }
        if !text.starts_with("arn:") {
            return Err(Problem::ResourceForm(text.to_owned()));
        }
        let (mut parts, mut rest) = (Vec::with_capacity(PARTS), Some(text));
        while let Some(from) = rest {
            let last = parts.len() + 1 == PARTS;
            let end = if last { None } else { colon(from, variables) };
            let (part, behind) = end.map_or((from, None), |at| (&from[..at], Some(&from[at + 1..])));
            let template = Template::parse(part, Syntax { wildcards: true, variables })?;
            if !last && matches!(template, Template::Variable(_)) {
                return Err(Problem::VariablePlace(text.to_owned()));
            }
            let reaches_over = template.ends_with_many();
            parts.push(Part { template, reaches_over });
            rest = behind;
        }
        let literal =
            |part: &Part| if let Template::Literal(text) = &part.template { Some(text.clone()) } else { None };
        let literals: Option<Vec<_>> = parts.iter().map(literal).collect();
        Ok(literals.map_or_else(|| Self::Parts(parts.into()), |texts| Self::Exact(texts.join(":").into())))
    }

    /// Whether it is `*`.
    pub(super) fn is_any(&self) -> bool {
        matches!(self, Self::Any)
    }

    /// Whether an ARN fits whatever the request is; nothing where that depends on it.
    pub(super) fn always_fits(&self, arn: &str) -> Option<bool> {
        self.fits_by(arn, &|template, part| template.always_fits(part))
    }

    /// Whether an ARN fits; nothing where that depends on a variable that has no value.
    fn fits(&self, arn: &str, scene: &Scene<'_>) -> Option<bool> {
        self.fits_by(arn, &|template, part| template.fits(part, scene))
    }

    fn fits_by(&self, arn: &str, fits: &dyn Fn(&Template, &str) -> Option<bool>) -> Option<bool> {
        let pattern = match self {
            Self::Any => return Some(true),
            Self::Exact(text) => return Some(**text == *arn),
            Self::Parts(parts) => parts,
        };
        let mut given = [""; PARTS];
        let mut count = 0;
        for (part, text) in given.iter_mut().zip(arn.splitn(PARTS, ':')) {
            (*part, count) = (text, count + 1);
        }
        // How many parts of the ARN may have been taken so far, one bit for each number: for sure, and perhaps.
        let (mut sure, mut perhaps) = (1_u32, 1_u32);
        for Part { template, reaches_over } in pattern {
            let (mut sure_after, mut perhaps_after) = (0, 0);
            for (taken, text) in given[..count].iter().enumerate() {
                let fits = if perhaps >> taken & 1 == 1 { fits(template, text) } else { Some(false) };
                if fits == Some(false) {
                    continue;
                }
                let next = 1 << (taken + 1);
                let after: u32 = if *reaches_over { !(next - 1) } else { next };
                perhaps_after |= after;
                if fits == Some(true) && sure >> taken & 1 == 1 {
                    sure_after |= after;
                }
            }
            (sure, perhaps) = (sure_after, perhaps_after);
        }
        match (sure >> count & 1 == 1, perhaps >> count & 1 == 1) {
            (true, _) => Some(true),
            (false, true) => None,
            (false, false) => Some(false),
        }
    }

    /// Its parts that are no plain text.
    pub(super) fn templates(&self) -> impl Iterator<Item = &Template> {
        let parts: &[Part] = if let Self::Parts(parts) = self { parts } else { &[] };
        parts.iter().map(|part| &part.template)
    }
}

impl Resources {
    pub(super) fn new(all: Vec<Resource>, all_but: bool) -> Self {
        Self { all: all.into(), all_but }
    }

    /// Whether it leaves out everything.
    pub(super) fn leave_nothing(&self) -> bool {
        self.all_but && self.all.iter().any(Resource::is_any)
    }

    /// Whether those that it names are left out.
    pub(super) fn leave_out(&self) -> bool {
        self.all_but
    }

    /// Those that it names.
    pub(super) fn each(&self) -> impl Iterator<Item = &Resource> {
        self.all.iter()
    }

    /// What has variables or wildcards in it.
    pub(super) fn templates(&self) -> impl Iterator<Item = &Template> {
        self.all.iter().flat_map(Resource::templates)
    }

    /// Whether the target of a request is meant, for a statement of this effect.
    pub(super) fn fit(&self, scene: &Scene<'_>, effect: Effect) -> bool {
        let (mut named, mut told) = (false, true);
        for one in &self.all {
            let fits = one.fits(scene.request.target.arn, scene);
            named |= fits == Some(true);
            told &= fits.is_some();
        }
        match (named, told) {
            (true, _) => !self.all_but,
            (false, true) => self.all_but,
            // A variable has no value. AWS says that it matches nothing then. With NotResource that is a reason to deny;
            // that it be one to allow as well is left out here on purpose. One that has several may be any of them.
            (false, false) => {
                let several = || self.templates().any(|template| template.has_several_values(scene));
                effect == Effect::Deny && (self.all_but || several())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";

    fn fits(pattern: &str, arn: &str) -> Option<bool> {
        Resource::parse(pattern, true).unwrap().always_fits(arn)
    }

    #[test]
    fn a_star_at_the_end_of_a_part_reaches_over_colons_and_nothing_else_does() {
        for pattern in [
            "*",
            KEY,
            "arn:*",
            "arn:aws*",
            "arn:aws:kms:*",
            "arn:aws:kms:*:key/*",
            "arn:*:key/1234*",
            "arn:*:1111*:key/????abcd-*",
            "arn:aws:*:*:*:*",
            "arn:aws:kms:eu*:key/*",
            "arn:aws:kms:e?-c*l-1:*:key/*",
            "arn:aws:kms:*:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab",
        ] {
            assert_eq!(fits(pattern, KEY), Some(true), "{pattern}");
        }
        for pattern in [
            "arn:aws:kms",
            "arn:aws:kms:eu-central-1:111122223333:key/",
            "arn:aws:k*1:111122223333:key/*",
            "arn:aws:kms?eu-central-1:111122223333:key/*",
            "arn:*3:key/*",
            "arn:aws:kms:*:*:*:*",
            "arn:aws:kms:*:key/9*",
            "arn:aws:kms:eu-central-1:*:111122223333:key/*",
            "arn:",
        ] {
            assert_eq!(fits(pattern, KEY), Some(false), "{pattern}");
        }
        // What names no resource is no ARN.
        assert_eq!((fits("arn:*", "*"), fits("*", "*")), (Some(false), Some(true)));
        // Behind the fifth colon there are no parts.
        assert_eq!(fits("arn:aws:x:::a*c?d", "arn:aws:x:::a:b:c:d"), Some(true));
    }

    #[test]
    fn a_variable_counts_only_where_the_rest_fits() {
        assert_eq!(fits("arn:aws:kms:*:*:key/${aws:username}", KEY), None);
        assert_eq!(fits("arn:aws:kms:us-*:*:key/${aws:username}", KEY), Some(false));
        for early in ["arn:aws:kms:*:${aws:PrincipalAccount}:key/*", "arn:aws:kms:*:key/${aws:username}"] {
            assert!(matches!(Resource::parse(early, true), Err(Problem::VariablePlace(_))), "{early}");
            assert!(Resource::parse(early, false).is_ok(), "{early}");
        }
        assert!(Resource::parse("arn:aws:kms:*${$}:*:key/${*}", true).is_ok());
        assert!(matches!(Resource::parse("arn:aws:kms:${aws:x", true), Err(Problem::VariableForm(_))));
    }
}

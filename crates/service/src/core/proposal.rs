//! What a call asks for, said once, for two who want to know: others who are to approve it, and the record.
//!
//! Others are told a digest of all of its parameters, and words. Nothing of it can be turned back into a secret: secrets go
//! into the digest alone, which is keyed before it is kept. What names mean at that moment is part of it: they approve it for
//! that alone. The record has the parameters as they were given, by AWS's names, policies whole and secrets not at all; what
//! names mean is not looked at for it.

use std::fmt::{self, Write as _};

use aws_lc_rs::digest::{Context, SHA256, digest};

use audit::event::{Fields, Value};
use model::text;
use store::access::Names;

use super::Core;
use super::meant::Whom;

/// Characters of one value that are shown; of a longer one the beginning, with a digest of the whole.
const SHOWN_CHARS: usize = 200;
/// Bytes of all words. What needs more cannot be shown, and so cannot be approved: nothing is left out where somebody
/// might look for it in vain. Fifty tags of the longest names and values fit in any of today's alphabets.
const MOST_BYTES: usize = 64 << 10;

/// What a call asks for beside its operation and the ARN of what it is about.
#[derive(Clone)]
pub(crate) struct Proposal {
    digest: Context,
    words: String,
    /// There is more to be said than [`MOST_BYTES`].
    is_too_long: bool,
    needs_none: bool,
    /// What the record has; absent where it is said to others.
    recorded: Option<Fields>,
}

impl fmt::Debug for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proposal").field("words", &self.words).finish_non_exhaustive()
    }
}

impl Proposal {
    /// Without parameters, to be said to others.
    pub(crate) fn for_others() -> Self {
        let (digest, words) = (Context::new(&SHA256), String::new());
        Self { digest, words, is_too_long: false, needs_none: false, recorded: None }
    }

    /// To be recorded, behind these parameters.
    pub(crate) fn for_record(named: Fields) -> Self {
        Self { recorded: Some(named), ..Self::for_others() }
    }

    /// What the record has.
    pub(crate) fn into_recorded(self) -> Fields {
        self.recorded.unwrap_or_default()
    }

    /// What is said to others alone: what names mean, and what the call's resource says already.
    pub(crate) fn others_alone(self, say: impl FnOnce(Self) -> Self) -> Self {
        if self.recorded.is_some() { self } else { say(self) }
    }

    /// What stands in the record alone.
    pub(crate) fn in_record(mut self, say: impl FnOnce(Fields) -> Fields) -> Self {
        self.recorded = self.recorded.map(say);
        self
    }

    /// What needs nobody's approval: a dry run, say.
    pub(crate) fn free_if(self, needs_none: bool) -> Self {
        Self { needs_none, ..self }
    }

    pub(crate) fn is_free(&self) -> bool {
        self.needs_none
    }

    /// Whether it has more parameters than can be shown to somebody.
    pub(crate) fn is_too_long(&self) -> bool {
        self.is_too_long
    }

    /// A parameter that is shown.
    pub(crate) fn text(self, name: &'static str, value: &str) -> Self {
        match self.recorded.is_some() {
            true => self.in_record(|fields| fields.given(name, value)),
            false => self.said(name, vec![value]),
        }
    }

    /// The same of one that has another name in the record: AWS has several for some.
    pub(crate) fn text_as(self, name: &'static str, recorded_as: &'static str, value: &str) -> Self {
        let name = if self.recorded.is_some() { recorded_as } else { name };
        self.text(name, value)
    }

    /// One that may be absent, which is not the same as empty.
    pub(crate) fn maybe(self, name: &'static str, value: Option<&str>) -> Self {
        match (self.recorded.is_some(), value) {
            (true, None) => self,
            (true, Some(value)) => self.in_record(|fields| fields.text(name, value)),
            (false, value) => self.said(name, value.into_iter().collect()),
        }
    }

    pub(crate) fn number(self, name: &'static str, value: Option<u32>) -> Self {
        match (self.recorded.is_some(), value) {
            (true, None) => self,
            (true, Some(value)) => self.in_record(|fields| fields.number(name, value.into())),
            (false, value) => self.maybe(name, value.map(|value| value.to_string()).as_deref()),
        }
    }

    /// It stands in the record whatever it is.
    pub(crate) fn flag(self, name: &'static str, value: bool) -> Self {
        match self.recorded.is_some() {
            true => self.in_record(|fields| fields.flag(name, value)),
            false => self.maybe(name, value.then_some("true")),
        }
    }

    /// Nothing is to be done, or it is. The record says the former.
    pub(crate) fn dry_run(self, dry_run: bool) -> Self {
        self.free_if(dry_run).in_record(|fields| if dry_run { fields.flag("dryRun", true) } else { fields })
    }

    /// Which part of a list is to be shown.
    pub(crate) fn page(self, limit: Option<u32>, marker: &str) -> Self {
        self.number("limit", limit).text("marker", marker)
    }

    /// Several, in their order.
    pub(crate) fn texts<'a>(self, name: &'static str, values: impl IntoIterator<Item = &'a str>) -> Self {
        let values: Vec<&str> = values.into_iter().collect();
        match self.recorded.is_some() {
            true if values.is_empty() => self,
            true => {
                let values = values.into_iter().map(Value::from).collect();
                self.in_record(|fields| fields.with(name, Value::List(values)))
            }
            false => self.said(name, values),
        }
    }

    fn said(mut self, name: &str, values: Vec<&str>) -> Self {
        self.take(name, values.iter().map(|value| value.as_bytes()));
        if values.iter().any(|value| !value.is_empty()) {
            self.show(name, values.iter().map(|value| quoted(value)));
        }
        self
    }

    /// Names with values, in their order; an object in the record.
    pub(crate) fn pairs<'a>(mut self, name: &'static str, pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let pairs: Vec<(&str, &str)> = pairs.into_iter().collect();
        if self.recorded.is_some() {
            return if pairs.is_empty() {
                self
            } else {
                self.in_record(|fields| fields.with(name, Value::pairs(pairs)))
            };
        }
        self.take(name, pairs.iter().flat_map(|(name, value)| [name.as_bytes(), value.as_bytes()]));
        if !pairs.is_empty() {
            self.show(name, pairs.iter().map(|(name, value)| format!("{}={}", quoted(name), quoted(value))));
        }
        self
    }

    /// Tags as requests have them.
    pub(crate) fn tags(self, tags: &[(String, String)]) -> Self {
        if self.recorded.is_some() {
            let tag = |(name, value): &(String, String)| {
                Value::Object(Fields::new().text("tagKey", name).text("tagValue", value))
            };
            let tags: Vec<Value> = tags.iter().map(tag).collect();
            return if tags.is_empty() {
                self
            } else {
                self.in_record(|fields| fields.with("tags", Value::List(tags)))
            };
        }
        self.pairs("tags", tags.iter().map(|(name, value)| (name.as_str(), value.as_str())))
    }

    /// A principal by its ARN, and whoever has that now: one that is made anew under it is somebody else.
    pub(crate) fn principal(self, core: &Core, name: &'static str, whom: &Whom) -> Self {
        self.text(name, whom.arn()).others_alone(|mut named| {
            named.take("its id", whom.id(core).map(|id| id.as_str().as_bytes()).into_iter());
            named
        })
    }

    /// A policy, and whoever has the ARNs now that it names. In the record it stands whole, by this name.
    pub(crate) fn policy<'n>(
        self,
        recorded_as: &'static str,
        document: &str,
        names: impl FnOnce() -> Option<&'n Names>,
    ) -> Self {
        if self.recorded.is_some() {
            return self.in_record(|fields| fields.given(recorded_as, document));
        }
        let mut named = self.document("policy", document);
        let pairs = names().into_iter().flatten();
        named.take("its names", pairs.flat_map(|(arn, id)| [arn.as_bytes(), id.as_str().as_bytes()]));
        named
    }

    /// What a name that is shown means beside: not for people, who could not tell it from another, and not recorded.
    pub(crate) fn identity(mut self, what: &str, identity: Option<&[u8]>) -> Self {
        self.take(what, identity.into_iter());
        self
    }

    /// A text that is too long to be shown whole: by its SHA-256, which others can compute. Not recorded, as AWS has it.
    pub(crate) fn document(mut self, name: &str, document: &str) -> Self {
        if self.recorded.is_some() {
            return self;
        }
        self.take(name, [document.as_bytes()].into_iter());
        if !document.is_empty() {
            self.word(name, &format!("{} bytes with SHA-256 {}", document.len(), sha256(document)));
        }
        self
    }

    /// What is neither shown nor recorded.
    pub(crate) fn secret(mut self, name: &str, secret: Option<&[u8]>) -> Self {
        if self.recorded.is_some() {
            return self;
        }
        self.take(name, secret.into_iter());
        if secret.is_some_and(|secret| !secret.is_empty()) {
            self.word(name, "given, not shown");
        }
        self
    }

    /// SHA-256 of all parameters. It is not to be kept: whoever guesses a PIN sees by it that it is the one.
    pub(crate) fn digest(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(self.digest.clone().finish().as_ref());
        bytes
    }

    /// For those who are to approve it.
    pub(crate) fn words(&self) -> &str {
        if self.words.is_empty() { "without parameters" } else { &self.words }
    }

    /// Names, counts and lengths keep parameters apart whatever they hold.
    fn take<'a>(&mut self, name: &str, values: impl Iterator<Item = &'a [u8]>) {
        let number = |number: usize| u64::try_from(number).unwrap_or(u64::MAX).to_be_bytes();
        let values: Vec<&[u8]> = values.collect();
        self.digest.update(&number(name.len()));
        self.digest.update(name.as_bytes());
        self.digest.update(&number(values.len()));
        for value in values {
            self.digest.update(&number(value.len()));
            self.digest.update(value);
        }
    }

    fn show(&mut self, name: &str, mut values: impl Iterator<Item = String>) {
        let mut shown = values.next().unwrap_or_default();
        for value in values {
            shown.push_str(", ");
            shown.push_str(&value);
            // What is too long to be shown is not made longer.
            if shown.len() > MOST_BYTES {
                break;
            }
        }
        self.word(name, &shown);
    }

    fn word(&mut self, name: &str, shown: &str) {
        self.is_too_long |= self.words.len() + name.len() + shown.len() > MOST_BYTES;
        if self.is_too_long {
            return;
        }
        let between = if self.words.is_empty() { "" } else { "; " };
        // A String takes everything.
        let _ = write!(self.words, "{between}{name}: {shown}");
    }
}

/// A value in quotes, so that none looks like two of them, or like a further parameter.
fn quoted(value: &str) -> String {
    let cut: String = value.chars().take(SHOWN_CHARS).collect();
    let quoted = format!("\"{}\"", text::shown(&cut.replace('\\', "\\\\").replace('"', "\\\"")));
    match cut.len() == value.len() {
        true => quoted,
        false => format!("{quoted}… ({} bytes with SHA-256 {})", value.len(), sha256(value)),
    }
}

fn sha256(text: &str) -> String {
    digest(&SHA256, text.as_bytes()).as_ref().iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_differs_has_another_digest() {
        let of = Proposal::for_others;
        let all = [
            of(),
            of().text("a", ""),
            of().maybe("a", None),
            of().text("a", "b"),
            of().text("ab", ""),
            of().text("b", "a"),
            of().texts("a", ["b", "c"]),
            of().texts("a", ["bc"]),
            of().text("a", "b").text("c", ""),
            of().pairs("a", [("b", "cd")]),
            of().pairs("a", [("bc", "d")]),
            of().secret("a", Some(b"1234")),
            of().secret("a", Some(b"1235")),
            of().flag("a", true),
            of().number("a", Some(7)),
        ];
        for (at, one) in all.iter().enumerate() {
            for other in &all[..at] {
                assert_ne!(one.digest(), other.digest(), "{one:?} {other:?}");
            }
        }
        assert_eq!(of().text("a", "b").digest(), of().text("a", "b").digest());
    }

    #[test]
    fn words_show_what_is_no_secret_and_are_bounded() {
        let proposal = Proposal::for_others()
            .text("newName", "red\"; password: \"\u{1b}[2J")
            .maybe("clusterId", None)
            .text("description", "")
            .flag("pinWasReset", true)
            .number("days", Some(7))
            .texts("hsmIds", ["hsm-a", "hsm-b"])
            .pairs("tags", [("team", "red")])
            .document("policy", "{}")
            .secret("password", Some(b"135790"));
        let words = proposal.words();
        let start = "newName: \"red\\\"; password: \\\"\\u{1b}[2J\"; ";
        assert!(words.starts_with(start) && !words.contains('\u{1b}'), "{words}");
        let end = "; pinWasReset: \"true\"; days: \"7\"; hsmIds: \"hsm-a\", \"hsm-b\"; tags: \"team\"=\"red\"; \
                   policy: 2 bytes with SHA-256 44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a; password: given, not \
                   shown";
        assert!(words.ends_with(end), "{words}");
        assert!(!format!("{proposal:?}").contains("135790"));
        let long = Proposal::for_others().text("description", &"x".repeat(9_000));
        assert!(long.words().len() < 400 && long.words().contains("9000 bytes with SHA-256"), "{}", long.words());
        assert_eq!(Proposal::for_others().words(), "without parameters");
    }

    #[test]
    fn words_tell_apart_what_differs() {
        let of = Proposal::for_others;
        let all = [
            of().texts("a", ["b, c"]),
            of().texts("a", ["b", "c"]),
            of().texts("a", ["b\", \"c"]),
            of().texts("a", ["b\\\", \"c"]),
            of().texts("a", ["b', 'c"]),
            of().pairs("a", [("b", "c=d")]),
            of().pairs("a", [("b=c", "d")]),
            of().text("a", "b\n"),
            of().text("a", "b\\n"),
            of().text("a", "b\u{202e}"),
            of().text("a", "b\\u{202e}"),
            of().text("a", "b\u{200f}"),
        ];
        let words: std::collections::BTreeSet<&str> = all.iter().map(Proposal::words).collect();
        assert_eq!(words.len(), all.len(), "{words:?}");
        // What sets the direction of writing, or breaks a line, is shown and not done.
        assert!(words.iter().all(|words| words.chars().all(|c| ('\u{20}'..'\u{7f}').contains(&c))), "{words:?}");
    }

    #[test]
    fn no_value_is_hidden_behind_others() {
        let long: Vec<String> = (0..20).map(|at| format!("cn:{at}{}", "x".repeat(500))).collect();
        let identities = || long.iter().map(String::as_str).chain(["cn:mallory"]);
        let proposal = Proposal::for_others().texts("identities", identities());
        assert!(proposal.words().ends_with("\"cn:mallory\"") && !proposal.is_too_long(), "{}", proposal.words());
        assert!(long.iter().all(|one| proposal.words().contains(&one[..100])));
        // As many tags as there can be, in letters of three bytes.
        let tags: Vec<_> = (0..50).map(|at| (format!("{at:02}{}", "語".repeat(126)), "語".repeat(256))).collect();
        let proposal = Proposal::for_others().tags(&tags).text("description", &"語".repeat(8_192));
        assert!(!proposal.is_too_long(), "{}", proposal.words().len());
        // What cannot be shown is not shown in part.
        let many = Proposal::for_others().texts("identities", (0..100).flat_map(|_| identities())).text("b", "c");
        assert!(many.is_too_long() && many.words().len() <= MOST_BYTES, "{}", many.words().len());
        assert!(Proposal::for_others().tags(&tags).tags(&tags).is_too_long());
    }
}

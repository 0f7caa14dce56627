//! The items of a call that uses keys: what each asked for, with what it was done, and what it came to. One item stands in
//! the record as CloudTrail has it; several stand in compact rows, those that are alike and follow each other in one.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::contexts::Contexts;
use super::json::{Container, Line, Out, named};
use model::id::{HsmId, KeyStoreId, Zone};

/// In a place for an index: there is none.
pub const NONE: u32 = u32::MAX;
/// The encryption algorithm of every key.
const ALGORITHM: &str = "SYMMETRIC_DEFAULT";
/// So many names or contexts before the last one are looked at for one that is the same.
pub(super) const LOOK_BACK: usize = 4;

/// What items of one operation look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One key, and an algorithm: Encrypt, Decrypt.
    Cipher,
    /// One key, and how long a data key is.
    DataKey,
    /// A key that opens and one that encrypts.
    ReEncrypt,
}

/// Which data key was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Length {
    /// That is no matter here, or it was not said.
    #[default]
    Unsaid,
    /// By its name.
    Spec(&'static str),
    /// In bytes.
    Bytes(u32),
}

/// What an item says.
#[derive(Clone, Copy, Debug)]
pub struct Says<'i> {
    /// The key as the caller names it; empty where it does not.
    pub key: &'i str,
    /// The encryption context.
    pub context: &'i BTreeMap<String, String>,
    /// The key that opens something, where there are two, and the context with that.
    pub source: Option<(&'i str, &'i BTreeMap<String, String>)>,
    /// Which data key is asked for.
    pub length: Length,
    /// Nothing is to be done.
    pub dry_run: bool,
}

/// What an item asked for: places in the tables of [`Asked`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    key: u32,
    context: u32,
    source_key: u32,
    source_context: u32,
    length: Length,
    dry_run: bool,
}

/// What the items of one call asked for.
#[derive(Debug)]
pub struct Asked {
    shape: Shape,
    names: Vec<Box<str>>,
    contexts: Contexts,
    items: Vec<Ask>,
}

/// A key version that items were done with.
#[derive(Clone, Debug)]
pub struct Key {
    /// The key's ARN.
    pub arn: Arc<str>,
    /// The version's number.
    pub version: u32,
    /// The name of its material.
    pub material: Arc<str>,
    /// The key store that holds it.
    pub key_store: KeyStoreId,
}

/// An HSM that carried something out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    /// Its id.
    pub hsm: HsmId,
    /// Its zone.
    pub zone: Zone,
}

/// What became of an item, by places in the tables of [`Items`]; [`NONE`] where that does not apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Done {
    /// The key version that it was done with.
    pub key: u32,
    /// That which opened something, where there are two.
    pub source_key: u32,
    /// The HSM that did it.
    pub served: u32,
    /// That which opened something, where it is one of another cluster.
    pub source_served: u32,
    /// Why it failed.
    pub failure: u32,
}

/// Items that are alike, one behind the other.
#[derive(Clone, Copy, Debug)]
struct Run {
    first: usize,
    count: usize,
    ask: Ask,
    done: Done,
}

/// The items of a call.
#[derive(Clone, Debug)]
pub struct Items {
    asked: Arc<Asked>,
    /// Key versions that they were done with.
    pub keys: Arc<[Key]>,
    /// Who did it.
    pub served: Arc<[Served]>,
    /// Why some failed: the exception's name, and the message.
    pub failures: Vec<(&'static str, String)>,
    runs: Vec<Run>,
}

impl Asked {
    /// Nothing yet; there will be so many items.
    #[must_use]
    pub fn new(shape: Shape, count: usize) -> Self {
        Self { shape, names: Vec::with_capacity(1), contexts: Contexts::default(), items: Vec::with_capacity(count) }
    }

    /// Takes note of the next item.
    pub fn note(&mut self, says: Says<'_>) {
        let Says { key, context, source, length, dry_run } = says;
        let (key, context) = (self.name(key), self.contexts.pairs(context));
        let (source_key, source_context) =
            source.map_or((NONE, NONE), |(key, context)| (self.name(key), self.contexts.pairs(context)));
        self.items.push(Ask { key, context, source_key, source_context, length, dry_run });
    }

    /// How many items were noted.
    #[must_use]
    pub fn count(&self) -> usize {
        self.items.len()
    }

    /// Has there be so many: of those that nobody came to nothing is known.
    pub fn fill(&mut self, count: usize) {
        let unknown = Ask {
            key: NONE,
            context: NONE,
            source_key: NONE,
            source_context: NONE,
            length: Length::Unsaid,
            dry_run: false,
        };
        self.items.resize(count.max(self.items.len()), unknown);
    }

    fn name(&mut self, name: &str) -> u32 {
        if name.is_empty() {
            return NONE;
        }
        let name = named(name);
        let before = (0..self.names.len()).rev().take(LOOK_BACK).find(|at| *self.names[*at] == *name);
        index(before.unwrap_or_else(|| {
            self.names.push(name.into_owned().into());
            self.names.len() - 1
        }))
    }
}

pub(super) fn index(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(NONE)
}

impl Items {
    /// Items with what became of each, in their order.
    #[must_use]
    pub fn new(
        asked: Arc<Asked>,
        keys: Arc<[Key]>,
        served: Arc<[Served]>,
        failures: Vec<(&'static str, String)>,
        done: impl Iterator<Item = Done>,
    ) -> Self {
        let mut runs: Vec<Run> = Vec::with_capacity(1);
        for (place, (ask, done)) in asked.items.iter().zip(done).enumerate() {
            match runs.last_mut() {
                Some(run) if run.ask == *ask && run.done == done => run.count += 1,
                _ => runs.push(Run { first: place, count: 1, ask: *ask, done }),
            }
        }
        Self { asked, keys, served, failures, runs }
    }

    /// How many they are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.runs.iter().map(|run| run.count).sum()
    }

    /// In how many rows they stand.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.runs.len()
    }

    /// What went wrong, where nothing went well.
    #[must_use]
    pub fn failure(&self) -> Option<(&'static str, &str)> {
        let failed = self.runs.iter().all(|run| run.done.failure != NONE);
        let first = self.runs.first().filter(|_| failed)?;
        self.failures.get(usize::try_from(first.done.failure).ok()?).map(|(name, message)| (*name, message.as_str()))
    }

    fn key(&self, at: u32) -> Option<&Key> {
        self.keys.get(usize::try_from(at).ok()?)
    }

    fn name(&self, out: &mut impl Out, name: &'static str, at: u32) {
        if let Some(text) = usize::try_from(at).ok().and_then(|at| self.asked.names.get(at)) {
            out.named_text(name, text);
        }
    }

    fn context(&self, out: &mut impl Out, name: &'static str, at: u32) {
        if let Some(at) = usize::try_from(at).ok().filter(|at| *at < self.asked.contexts.len()) {
            out.name(name);
            out.raw(self.asked.contexts.get(at));
        }
    }

    /// The parameters that all items have in common, by CloudTrail's names.
    pub(super) fn write_request(&self, out: &mut impl Out) {
        let Some(first) = self.runs.first().map(|run| run.ask) else {
            out.raw(b"null");
            return;
        };
        let common = |of: fn(&Ask) -> u32| {
            let same = self.runs.iter().all(|run| of(&run.ask) == of(&first));
            if same { of(&first) } else { NONE }
        };
        let [key, context] = [common(|ask| ask.key), common(|ask| ask.context)];
        out.open(Container::Object);
        match self.asked.shape {
            Shape::Cipher => {
                self.name(out, "keyId", key);
                self.context(out, "encryptionContext", context);
                out.named_text("encryptionAlgorithm", ALGORITHM);
            }
            Shape::DataKey => {
                self.name(out, "keyId", key);
                let same = self.runs.iter().all(|run| run.ask.length == first.length);
                match first.length {
                    Length::Spec(spec) if same => out.named_text("keySpec", spec),
                    Length::Bytes(bytes) if same => out.named_number("numberOfBytes", bytes.into()),
                    _ => {}
                }
                self.context(out, "encryptionContext", context);
            }
            Shape::ReEncrypt => {
                self.name(out, "sourceKeyId", common(|ask| ask.source_key));
                self.context(out, "sourceEncryptionContext", common(|ask| ask.source_context));
                out.named_text("sourceEncryptionAlgorithm", ALGORITHM);
                self.name(out, "destinationKeyId", key);
                self.context(out, "destinationEncryptionContext", context);
                out.named_text("destinationEncryptionAlgorithm", ALGORITHM);
            }
        }
        if self.runs.iter().all(|run| run.ask.dry_run) {
            out.name("dryRun");
            out.flag(true);
        }
        out.close(Container::Object);
    }

    /// What else is to be said of them: of one item in words, of several in rows.
    pub(super) fn write_additional(&self, out: &mut impl Out) {
        match &self.runs[..] {
            [] => {}
            [Run { count: 1, done, .. }] => self.write_one(out, *done),
            _ => self.write_rows(out),
        }
    }

    fn write_one(&self, out: &mut impl Out, done: Done) {
        let named: [(u32, [&'static str; 3]); 2] = match self.asked.shape {
            Shape::ReEncrypt => [
                (done.source_key, ["sourceCustomKeyStoreId", "sourceKeyMaterialId", "sourceKeyVersion"]),
                (done.key, ["destinationCustomKeyStoreId", "destinationKeyMaterialId", "destinationKeyVersion"]),
            ],
            _ => [(done.key, ["customKeyStoreId", "keyMaterialId", "keyVersion"]), (NONE, [""; 3])],
        };
        for (at, [store, material, version]) in named {
            if let Some(key) = self.key(at) {
                out.named_text(store, key.key_store.as_str());
                out.named_text(material, &key.material);
                out.named_number(version, key.version.into());
            }
        }
        for (name, at) in [("servedBy", done.served), ("sourceServedBy", done.source_served)] {
            if let Some(served) = usize::try_from(at).ok().and_then(|at| self.served.get(at)) {
                out.name(name);
                served.write(out);
            }
        }
    }

    /// Tables, and rows of places in them.
    fn write_rows(&self, out: &mut impl Out) {
        let two = self.asked.shape == Shape::ReEncrypt;
        out.name("items");
        out.open(Container::Object);
        out.named_number("count", i64::try_from(self.count()).unwrap_or(i64::MAX));
        out.name("columns");
        out.raw(if two {
            br#"["first","count","keyId","key","encryptionContext","servedBy","failure","dryRun","length","sourceKeyId","sourceKey","sourceEncryptionContext","sourceServedBy"]"#
        } else {
            br#"["first","count","keyId","key","encryptionContext","servedBy","failure","dryRun","length"]"#
        });
        table(out, "keyIds", self.asked.names.iter(), |out, name| out.text(name));
        table(out, "keys", self.keys.iter(), |out, key| {
            out.open(Container::Object);
            out.named_text("arn", &key.arn);
            out.named_text("customKeyStoreId", key.key_store.as_str());
            out.named_text("keyMaterialId", &key.material);
            out.named_number("keyVersion", key.version.into());
            out.close(Container::Object);
        });
        let contexts = &self.asked.contexts;
        table(out, "encryptionContexts", 0..contexts.len(), |out, at| out.raw(contexts.get(at)));
        table(out, "servedBy", self.served.iter(), |out, served| served.write(out));
        table(out, "failures", self.failures.iter(), |out, (code, message)| {
            out.open(Container::Object);
            out.named_text("errorCode", code);
            out.named_text("errorMessage", message);
            out.close(Container::Object);
        });
        out.name("rows");
        out.open(Container::Array);
        let mut row = Line(Vec::with_capacity(48));
        for Run { first, count, ask, done } in &self.runs {
            row.0.clear();
            row.open(Container::Array);
            row.number(i64::try_from(*first).unwrap_or(i64::MAX));
            row.number(i64::try_from(*count).unwrap_or(i64::MAX));
            for at in [ask.key, done.key, ask.context, done.served, done.failure] {
                place(&mut row, at);
            }
            row.flag(ask.dry_run);
            match ask.length {
                Length::Unsaid => row.raw(b"null"),
                Length::Spec(spec) => row.text(spec),
                Length::Bytes(bytes) => row.number(bytes.into()),
            }
            if two {
                let source = [ask.source_key, done.source_key, ask.source_context, done.source_served];
                source.into_iter().for_each(|at| place(&mut row, at));
            }
            row.close(Container::Array);
            out.raw(&row.0);
        }
        out.close(Container::Array);
        out.close(Container::Object);
    }
}

impl Served {
    pub(super) fn write(&self, out: &mut impl Out) {
        out.open(Container::Object);
        out.named_text("hsm", self.hsm.as_str());
        out.named_text("zone", self.zone.as_str());
        out.close(Container::Object);
    }
}

fn place(row: &mut Line, at: u32) {
    if at == NONE { row.raw(b"null") } else { row.number(at.into()) }
}

fn table<O: Out, T>(
    out: &mut O,
    name: &'static str,
    rows: impl ExactSizeIterator<Item = T>,
    write: impl Fn(&mut O, T),
) {
    if rows.len() > 0 {
        out.name(name);
        out.open(Container::Array);
        rows.for_each(|row| write(out, row));
        out.close(Container::Array);
    }
}

//! An event that is too long for one leaf, over several, and how they are put together again.
//!
//! Each leaf is a record by itself: what all of them need (id, time, name, caller …) stands in each. What goes on in a
//! further leaf stands there at the place where it broke off: objects of one name are one object, an array goes on behind
//! what it held before, and so does a string. `additionalEventData` says which `part` of how many `parts` a leaf is, and how
//! many levels of the record `continues`, from the outermost object on: an element of an array that is one of them goes on
//! where the last one broke off, and is none of its own.

use serde_json::{Map, Value};

use super::json::{Container, Out, escaped_len, push_number, push_text};

/// What tells the part is written in it.
pub(super) const ADDITIONAL: &str = "additionalEventData";
/// What all leaves of an event have in common, and what goes on from one to the next.
const GOES_ON: [&str; 5] = ["errorMessage", "requestParameters", "responseElements", "resources", ADDITIONAL];
/// Room for what tells the part.
const TELLS: usize = 120;
/// Digits of the number of parts, which is known at the end.
const DIGITS: usize = 6;
/// A string that is broken off leaves so much behind, if not all: a few bytes are not worth a further break.
const CRUMB: usize = 64;

/// Writes a record over several leaves.
pub(super) struct Split<'h> {
    /// Members that each leaf has, without the brace before them.
    head: &'h [u8],
    most: usize,
    done: Vec<Part>,
    now: Part,
    open: Vec<Level>,
    /// The name of the next value, with colon; empty in an array. Its memory is kept from one to the next, as that of `value`
    /// is: a record of many keys has thousands of both.
    name: Vec<u8>,
    /// A string on its way.
    value: Vec<u8>,
}

#[derive(Default)]
struct Part {
    text: Vec<u8>,
    /// Where the number of parts belongs.
    parts_at: Option<usize>,
    continues: usize,
    /// There is more in it than what each has.
    has_more: bool,
}

struct Level {
    what: Container,
    /// Its name with colon; empty in an array.
    name: Vec<u8>,
    is_additional: bool,
}

impl<'h> Split<'h> {
    pub(super) fn new(head: &'h [u8], most: usize) -> Self {
        let top = Level { what: Container::Object, name: Vec::new(), is_additional: false };
        let (done, now, open) = (Vec::new(), Part::default(), vec![top]);
        let mut split = Self { head, most, done, now, open, name: Vec::new(), value: Vec::new() };
        split.begin(0);
        split
    }

    /// All leaves.
    pub(super) fn finish(mut self) -> Vec<Vec<u8>> {
        self.end();
        let parts = self.done.len();
        let fill = |part: Part| {
            let mut text = part.text;
            let mut digits = Vec::new();
            push_number(&mut digits, i64::try_from(parts).unwrap_or(i64::MAX));
            if let Some(place) = part.parts_at.and_then(|at| text.get_mut(at..at + digits.len())) {
                place.copy_from_slice(&digits);
            }
            text
        };
        self.done.into_iter().map(fill).collect()
    }

    /// A new part with what is open in it.
    fn begin(&mut self, continues: usize) {
        self.now = Part { continues, ..Part::default() };
        self.now.text.push(b'{');
        self.now.text.extend_from_slice(self.head);
        let open = std::mem::take(&mut self.open);
        for level in open.iter().skip(1) {
            self.enter(level);
        }
        self.open = open;
        self.now.has_more = false;
    }

    fn enter(&mut self, level: &Level) {
        self.comma();
        self.now.text.extend_from_slice(&level.name);
        self.now.text.push(level.what.first());
        if level.is_additional {
            self.tell();
        }
    }

    /// Which part of how many it is.
    fn tell(&mut self) {
        let number = i64::try_from(self.done.len() + 1).unwrap_or(i64::MAX);
        let text = &mut self.now.text;
        text.extend_from_slice(b"\"part\":");
        push_number(text, number);
        if self.now.continues > 0 {
            text.extend_from_slice(b",\"continues\":");
            push_number(text, i64::try_from(self.now.continues).unwrap_or(i64::MAX));
        }
        text.extend_from_slice(b",\"parts\":");
        self.now.parts_at = Some(text.len());
        text.extend_from_slice(&[b' '; DIGITS]);
    }

    /// Ends the part as it is.
    fn end(&mut self) {
        for level in self.open.iter().skip(1).rev() {
            self.now.text.push(level.what.last());
        }
        if self.now.parts_at.is_none() {
            self.comma();
            push_text(&mut self.now.text, ADDITIONAL);
            self.now.text.extend_from_slice(b":{");
            self.tell();
            self.now.text.push(b'}');
        }
        self.now.text.push(b'}');
        self.done.push(std::mem::take(&mut self.now));
    }

    /// Goes on in a further part; `within` a string, too.
    fn next(&mut self, within: bool) {
        let levels = self.open.len() + usize::from(within);
        self.end();
        // What stands at the outermost level alone goes on nowhere.
        self.begin(if levels > 1 { levels } else { 0 });
    }

    /// Bytes that still fit.
    fn room(&self) -> usize {
        let tells = if self.now.parts_at.is_none() { TELLS } else { 0 };
        self.most.saturating_sub(self.now.text.len() + self.open.len() + tells + 1)
    }

    fn comma(&mut self) {
        // The number of parts, still blank, is a value as well.
        if !matches!(self.now.text.last(), None | Some(b'{' | b'[' | b':')) {
            self.now.text.push(b',');
        }
    }

    fn place(&mut self, name: &[u8], value: &[u8]) {
        self.comma();
        self.now.text.extend_from_slice(name);
        self.now.text.extend_from_slice(value);
        self.now.has_more = true;
    }

    /// A value in one piece, in a further part where it does not fit any more. False where no part has room for it.
    fn whole(&mut self, name: &[u8], value: &[u8]) -> bool {
        if name.len() + value.len() > self.room() && self.now.has_more {
            self.next(false);
        }
        let fits = name.len() + value.len() <= self.room();
        if fits {
            self.place(name, value);
        }
        fits
    }

    /// A string that fits into no part, piece by piece.
    fn pieces(&mut self, name: &[u8], mut text: &str) {
        loop {
            let most = self.room().saturating_sub(name.len() + 2);
            let piece = fitting(text, most);
            if piece.len() < text.len() && piece.len() < CRUMB && self.now.has_more {
                self.next(false);
                continue;
            }
            // Names are far shorter than a part, so that one character fits at least.
            let piece =
                if piece.is_empty() { text.chars().next().map_or(text, |one| &text[..one.len_utf8()]) } else { piece };
            let mut value = Vec::with_capacity(piece.len() + 2);
            push_text(&mut value, piece);
            self.place(name, &value);
            text = &text[piece.len()..];
            if text.is_empty() {
                return;
            }
            self.next(true);
        }
    }
}

/// As many characters from the beginning as make at most so many bytes of JSON.
fn fitting(text: &str, most: usize) -> &str {
    let mut left = most;
    for (at, character) in text.char_indices() {
        match left.checked_sub(escaped_len(character)) {
            Some(less) => left = less,
            None => return &text[..at],
        }
    }
    text
}

impl Out for Split<'_> {
    fn any_name(&mut self, name: &str) {
        self.name.clear();
        push_text(&mut self.name, name);
        self.name.push(b':');
    }

    fn text(&mut self, text: &str) {
        let (mut name, mut value) = (std::mem::take(&mut self.name), std::mem::take(&mut self.value));
        // What takes up most of a part begins in what is left of this one.
        let fits = text.len() <= self.most / 2 && {
            push_text(&mut value, text);
            self.whole(&name, &value)
        };
        if !fits {
            self.pieces(&name, text);
        }
        name.clear();
        value.clear();
        (self.name, self.value) = (name, value);
    }

    fn raw(&mut self, json: &[u8]) {
        let mut name = std::mem::take(&mut self.name);
        let fits = self.whole(&name, json);
        if fits {
            name.clear();
        }
        self.name = name;
        if !fits {
            write(self, &serde_json::from_slice(json).unwrap_or(Value::Null));
        }
    }

    fn open(&mut self, what: Container) {
        // What has none leaves the memory for the next one.
        let name = if self.name.is_empty() { Vec::new() } else { std::mem::take(&mut self.name) };
        // With some room for what is in it.
        if self.room() < name.len() + TELLS + CRUMB && self.now.has_more {
            self.next(false);
        }
        let is_additional = self.open.len() == 1 && name.starts_with(b"\"additionalEventData\"");
        let level = Level { what, name, is_additional };
        self.enter(&level);
        self.open.push(level);
        self.now.has_more = true;
    }

    fn close(&mut self, what: Container) {
        self.open.pop();
        self.now.text.push(what.last());
    }
}

fn write(out: &mut impl Out, value: &Value) {
    match value {
        Value::Array(values) => {
            out.open(Container::Array);
            values.iter().for_each(|value| write(out, value));
            out.close(Container::Array);
        }
        Value::Object(members) => {
            out.open(Container::Object);
            for (name, value) in members {
                out.any_name(name);
                write(out, value);
            }
            out.close(Container::Object);
        }
        Value::String(text) => out.text(text),
        short => out.raw(short.to_string().as_bytes()),
    }
}

/// Puts the leaves of one event together, in their order. `None` where they are not those of one event, or not all.
#[must_use]
pub fn whole<'l>(leaves: impl IntoIterator<Item = &'l [u8]>) -> Option<Value> {
    let mut whole: Option<Map<String, Value>> = None;
    let (mut read, mut parts) = (0, 1);
    for leaf in leaves {
        let Value::Object(mut part) = serde_json::from_slice(leaf).ok()? else { return None };
        read += 1;
        let told = part.get_mut(ADDITIONAL).and_then(Value::as_object_mut);
        let number = |name: &str| told.as_ref().and_then(|told| told.get(name)?.as_u64());
        let (at, of, continues) = (number("part").unwrap_or(1), number("parts").unwrap_or(1), number("continues"));
        if let Some(told) = part.get_mut(ADDITIONAL).and_then(Value::as_object_mut) {
            ["part", "parts", "continues"].iter().for_each(|name| drop(told.remove(*name)));
        }
        parts = of;
        if at != read {
            return None;
        }
        match &mut whole {
            None => whole = Some(part),
            Some(whole) if whole.get("eventID") == part.get("eventID") => {
                for (name, value) in part {
                    if GOES_ON.contains(&name.as_str()) {
                        let levels = continues.unwrap_or(0);
                        merge(whole.entry(name).or_insert(Value::Null), value, 2, levels);
                    }
                }
            }
            Some(_) => return None,
        }
    }
    (read == parts).then_some(whole).flatten().map(Value::Object)
}

/// `level` is that of the value; the outermost object is the first.
fn merge(whole: &mut Value, part: Value, level: u64, continues: u64) {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => {
            for (name, value) in part {
                match whole.get_mut(&name) {
                    Some(known) => merge(known, value, level + 1, continues),
                    None => drop(whole.insert(name, value)),
                }
            }
        }
        (Value::Array(whole), Value::Array(part)) => {
            let mut part = part.into_iter();
            if continues > level
                && let (Some(last), Some(first)) = (whole.last_mut(), part.next())
            {
                merge(last, first, level + 1, continues);
            }
            whole.extend(part);
        }
        (Value::String(whole), Value::String(part)) => whole.push_str(&part),
        (whole, part) => *whole = part,
    }
}

#[cfg(test)]
mod tests {
    use super::super::json::Line;
    use super::*;
    use proptest::prelude::*;

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
            ("[a-z\"\\\\\u{1}é]{0,4}", 0_usize..300).prop_map(|(text, times)| Value::from(text.repeat(times))),
        ];
        leaf.prop_recursive(4, 60, 8, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
                prop::collection::vec(("[a-z\"é]{0,8}", inner), 0..8)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    fn members(out: &mut impl Out, record: &Map<String, Value>) {
        for name in GOES_ON {
            if let Some(value) = record.get(name) {
                out.name(name);
                write(out, value);
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_split_is_whole_again(
            message in any::<String>(), asked in value(), resources in prop::collection::vec(value(), 0..20),
            more in prop::collection::btree_map("[b-z]{1,4}x", value(), 0..6), most in 700_usize..2_000,
        ) {
            let mut record = Map::new();
            record.insert("errorMessage".into(), message.into());
            record.insert("requestParameters".into(), asked);
            record.insert("resources".into(), resources.into());
            record.insert(ADDITIONAL.into(), Value::Object(more.into_iter().collect()));
            let head = br#""eventID":"1""#;
            let mut split = Split::new(head, most);
            members(&mut split, &record);
            let leaves = split.finish();
            prop_assert!(leaves.iter().all(|leaf| leaf.len() <= most), "{:?}", leaves.iter().map(Vec::len).collect::<Vec<_>>());
            let read = whole(leaves.iter().map(Vec::as_slice)).unwrap();
            record.insert("eventID".into(), "1".into());
            prop_assert_eq!(read, Value::Object(record));
        }

        #[test]
        fn a_leaf_by_itself_is_as_it_is(asked in value()) {
            let mut line = Line(Vec::new());
            write(&mut line, &serde_json::json!({ "eventID": "1", "requestParameters": asked.clone() }));
            prop_assert_eq!(&whole([line.0.as_slice()]).unwrap()["requestParameters"], &asked);
        }
    }

    #[test]
    fn what_is_not_one_event_is_none() {
        let mut split = Split::new(br#""eventID":"1""#, 700);
        split.named_text("errorMessage", &"x".repeat(2_000));
        let leaves = split.finish();
        let of = |places: &[usize]| whole(places.iter().map(|place| leaves[*place].as_slice()));
        assert!(leaves.len() > 3, "{}", leaves.len());
        let all: Vec<usize> = (0..leaves.len()).collect();
        assert_eq!(of(&all).unwrap()["errorMessage"].as_str().map(str::len), Some(2_000));
        assert!(of(&all[1..]).is_none() && of(&all[..2]).is_none() && of(&[1, 0]).is_none() && of(&[]).is_none());
        let other = String::from_utf8(leaves[1].clone()).unwrap().replace("\"eventID\":\"1\"", "\"eventID\":\"2\"");
        let mixed = leaves.iter().enumerate().map(|(at, leaf)| if at == 1 { other.as_bytes() } else { leaf });
        assert!(whole(mixed).is_none());
    }
}

//! Records as a reader of JSON reads them that is not the one of the program: each value by its path.

use std::collections::BTreeMap;

use super::bench::Bench;
use crate::core::audit_recorder::event_of;
use crate::core::recorder::{CallRecord, Phase};
use audit::event::whole;

/// A record as the log has it.
pub(super) struct Read {
    pub(super) text: String,
    json: Plain,
}

/// Values by their paths: members of objects and places in arrays, with a dot between.
type Plain = BTreeMap<String, String>;

/// Every value that is no container, by its path, as it is written; an empty container stands for itself.
fn flat(text: &str) -> Plain {
    let mut found = Plain::new();
    let mut parser = Parser { text: text.as_bytes(), at: 0 };
    parser.value("", &mut found);
    assert_eq!(parser.at, text.len(), "{text}");
    found
}

struct Parser<'t> {
    text: &'t [u8],
    at: usize,
}

impl Parser<'_> {
    fn peek(&self) -> u8 {
        self.text[self.at]
    }

    fn string(&mut self) -> String {
        assert_eq!(self.peek(), b'"');
        let start = self.at;
        self.at += 1;
        while self.peek() != b'"' {
            self.at += if self.peek() == b'\\' { 2 } else { 1 };
        }
        self.at += 1;
        String::from_utf8(self.text[start + 1..self.at - 1].to_vec()).unwrap()
    }

    fn value(&mut self, path: &str, found: &mut Plain) {
        match self.peek() {
            open @ (b'{' | b'[') => {
                self.at += 1;
                let mut count = 0;
                while !matches!(self.peek(), b'}' | b']') {
                    let name = if open == b'{' { self.string() } else { count.to_string() };
                    self.at += usize::from(open == b'{');
                    let path = if path.is_empty() { name } else { format!("{path}.{name}") };
                    self.value(&path, found);
                    count += 1;
                    self.at += usize::from(self.peek() == b',');
                }
                self.at += 1;
                if count == 0 {
                    found.insert(path.to_owned(), if open == b'{' { "{}" } else { "[]" }.to_owned());
                }
            }
            b'"' => drop(found.insert(path.to_owned(), self.string())),
            _ => {
                let start = self.at;
                while !matches!(self.peek(), b',' | b'}' | b']') {
                    self.at += 1;
                }
                found.insert(path.to_owned(), String::from_utf8(self.text[start..self.at].to_vec()).unwrap());
            }
        }
    }
}

impl Read {
    pub(super) fn get(&self, path: &str) -> Option<&str> {
        self.json.get(path).map(String::as_str)
    }

    pub(super) fn has(&self, path: &str) -> bool {
        self.json.keys().any(|known| known == path || known.starts_with(&format!("{path}.")))
    }
}

pub(super) fn read(bench: &Bench, record: &CallRecord) -> Read {
    let records = event_of(record, bench.service.core.scope(), |event| event.records());
    assert_eq!(records.len(), 1, "it fits");
    assert!(whole(records.iter().map(Vec::as_slice)).is_some(), "another reader takes it");
    let text = String::from_utf8(records[0].clone()).unwrap();
    Read { json: flat(&text), text }
}

pub(super) fn taken(bench: &Bench) -> Vec<(Phase, Read)> {
    bench.recorder.taken().iter().map(|record| (record.phase, read(bench, record))).collect()
}

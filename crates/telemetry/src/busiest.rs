//! Who did most of something that nobody is to keep a full list of.

use std::fmt::{Display, Write as _};

/// Names that are kept. Whoever has more than an eighth of all is among them.
const KEPT: usize = 8;
/// Bytes of a name that are kept.
const NAME_BYTES: usize = 128;

/// Counts by name in bounded memory: the space-saving algorithm of Metwally, Agrawal and El Abbadi. A count is never
/// too small, and too large by at most an eighth of all.
#[derive(Debug, Default)]
pub struct Busiest {
    kept: Vec<(String, u64)>,
    all: u64,
    /// For the name that comes next, so that none is allocated for one that is kept already.
    name: String,
}

impl Busiest {
    /// Nobody yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { kept: Vec::new(), all: 0, name: String::new() }
    }

    /// One more by this name; about how many it has now.
    pub fn note(&mut self, name: &dyn Display) -> u64 {
        self.all += 1;
        self.name.clear();
        // A String takes everything.
        let _ = write!(self.name, "{name}");
        let end = self.name.floor_char_boundary(NAME_BYTES);
        self.name.truncate(end);
        let full = self.kept.len() >= KEPT;
        if let Some((_, count)) = self.kept.iter_mut().find(|(kept, _)| *kept == self.name) {
            *count += 1;
            *count
        } else if let Some((kept, count)) = self.kept.iter_mut().min_by_key(|(_, count)| *count).filter(|_| full) {
            kept.clone_from(&self.name);
            *count += 1;
            *count
        } else {
            self.kept.push((self.name.clone(), 1));
            1
        }
    }

    /// The name with most, and about how many.
    #[must_use]
    pub fn first(&self) -> Option<(&str, u64)> {
        let most = self.kept.iter().max_by_key(|(_, count)| *count);
        most.map(|(name, count)| (name.as_str(), *count))
    }

    /// The name that surely has more than half of all, where there is one.
    #[must_use]
    pub fn majority(&self) -> Option<&str> {
        let (name, count) = self.first()?;
        let too_many = if self.kept.len() < KEPT { 0 } else { self.all.div_ceil(KEPT as u64) };
        (count.saturating_sub(too_many) > self.all / 2).then_some(name)
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.kept.clear();
        self.all = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_busiest_is_found_among_thousands_of_others() {
        let mut busiest = Busiest::default();
        assert_eq!(busiest.first(), None);
        for other in 0..10_000 {
            busiest.note(&format!("10.0.{}.{}", other / 250, other % 250));
            if other % 4 == 0 {
                busiest.note(&"192.0.2.7");
            }
        }
        let (name, count) = busiest.first().unwrap();
        assert_eq!(name, "192.0.2.7");
        assert!((2_500..2_500 + 12_500 / 8 + 1).contains(&count), "{count}");
        assert_eq!(busiest.kept.len(), KEPT);
        assert_eq!(busiest.majority(), None, "a fifth");
    }

    #[test]
    fn a_majority_is_one_for_sure() {
        let mut busiest = Busiest::default();
        busiest.note(&"10.0.0.1");
        assert_eq!(busiest.majority(), Some("10.0.0.1"));
        busiest.note(&"10.0.0.2");
        assert_eq!(busiest.majority(), None);
        for other in 0..100 {
            busiest.note(&other);
            assert!((0..3).all(|_| busiest.note(&"10.0.0.1") > 1));
        }
        assert_eq!(busiest.majority(), Some("10.0.0.1"));
        busiest.clear();
        assert_eq!(busiest.majority(), None);
    }

    #[test]
    fn a_long_name_is_cut_between_characters() {
        let mut busiest = Busiest::default();
        busiest.note(&"ü".repeat(1_000));
        assert_eq!(busiest.first().unwrap().0, "ü".repeat(NAME_BYTES / 2));
    }
}

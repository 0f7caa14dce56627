//! The log's files as sinks read them.

use std::path::Path;
use std::sync::Arc;

use super::Opened;
use audit::files::Place;
use audit::layout::FULL;
use audit::read::Records;
use audit::sink::{CHUNK_BYTES, Chunk, Source};

/// So many bundles are looked for at once: others have their turn in between.
const LOOKED_FOR: u64 = 4_096;

/// Says why what lies at the log's path is not to be read as the log.
type InPlace = Box<dyn Fn() -> Result<(), String> + Send>;

/// Reads a log beside the one who writes it.
pub(super) struct Files {
    place: Place,
    in_place: InPlace,
    records: Option<Records>,
    /// Where the bundles behind a record that is not there are looked for.
    search: Option<Search>,
}

/// What is known of the bundles behind a record that is not there.
#[derive(Clone, Copy)]
struct Search {
    /// That record.
    from: u64,
    /// None of the bundles before this one is there.
    next: u64,
}

impl Files {
    /// Those of a log that is open.
    pub(super) fn of(directory: &Path, opened: &Arc<Opened>) -> Self {
        let (path, opened) = (directory.to_owned(), Arc::clone(opened));
        Self::new(directory, Box::new(move || opened.is_in_place(&path)))
    }

    fn new(directory: &Path, in_place: InPlace) -> Self {
        Self { place: Place::new(directory), in_place, records: None, search: None }
    }

    /// Reads on, or from there; after an error everything is opened anew.
    fn records(&mut self, from: u64) -> Result<&mut Records, String> {
        let mut records = match self.records.take() {
            Some(records) => records,
            None => Records::from(&self.place, from).map_err(|error| error.to_string())?,
        };
        records.seek(from);
        Ok(self.records.insert(records))
    }

    fn chunk(&mut self, from: u64, end: u64) -> Result<Chunk, String> {
        let before = self.search.take().filter(|search| search.from == from);
        let records = self.records(from)?;
        if let Some(chunk) = records_from(records, from, end)? {
            return Ok(chunk);
        }
        // Whole bundles are moved away, the oldest first. Where the newest record is not there either, the log is away: nothing of it
        // is looked for then.
        let lost = || format!("record {from} cannot be found in the audit log");
        if end <= from || records_from(records, end - 1, end)?.is_none() {
            return Err(lost());
        }
        let (first, last) = (before.map_or(from / FULL + 1, |search| search.next), (end - 1) / FULL);
        let stop = last.min(first.saturating_add(LOOKED_FOR));
        for index in first..stop {
            if self.place.has_bundle(index).map_err(|error| error.to_string())? {
                return self.found(from, index * FULL, end);
            }
        }
        if stop < last {
            self.search = Some(Search { from, next: stop });
            return Ok(Chunk { first: from, records: Vec::new() });
        }
        let later = last * FULL;
        // It begins before the gap: what is there of it was given out already, and would be again and again.
        if later <= from {
            return Err(lost());
        }
        self.found(from, later, end)
    }

    /// What is behind the gap; as long as what is before it is not there: a directory that was away and is back has all of them.
    fn found(&mut self, from: u64, later: u64, end: u64) -> Result<Chunk, String> {
        let records = self.records(later)?;
        let chunk = records_from(records, later, end)?;
        match records_from(records, from, end)? {
            Some(all) => Ok(all),
            None => chunk.ok_or_else(|| format!("record {later} cannot be found in the audit log")),
        }
    }
}

impl Source for Files {
    fn read(&mut self, from: u64, end: u64) -> Result<Chunk, String> {
        // Before and behind: what was read of another directory is not passed on.
        let place = (self.in_place)();
        let read = place.and_then(|()| self.chunk(from, end)).and_then(|chunk| (self.in_place)().map(|()| chunk));
        if read.is_err() {
            (self.records, self.search) = (None, None);
        }
        read
    }
}

/// Those from this one on, if it is there.
fn records_from(records: &mut Records, from: u64, end: u64) -> Result<Option<Chunk>, String> {
    let (mut chunk, mut bytes) = (Chunk { first: from, records: Vec::new() }, 0);
    records.seek(from);
    while from + (chunk.records.len() as u64) < end && bytes < CHUNK_BYTES {
        let Some(record) = records.next().map_err(|error| error.to_string())? else { break };
        bytes += record.bytes.len();
        chunk.records.push(record.bytes.to_vec());
    }
    Ok(Some(chunk).filter(|chunk| !chunk.records.is_empty()))
}

impl Opened {
    /// Whether the log that is open is what lies at this path, or why not.
    pub(super) fn is_in_place(&self, path: &Path) -> Result<(), String> {
        match self.log.directory().is_at(path) {
            Ok(true) => Ok(()),
            Ok(false) => Err(away(path)),
            Err(error) => Err(format!("the directory of the audit log cannot be looked at ({error})")),
        }
    }
}

/// What is at the path of a log that is not there.
pub(super) fn away(path: &Path) -> String {
    let what = match std::fs::symlink_metadata(path) {
        Ok(_) => "another directory is where the audit log was",
        Err(_) => "the directory of the audit log is gone",
    };
    what.to_owned()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::*;
    use audit::layout;
    use audit::log::{Class, Leaves, Log, Settings};
    use audit::note::LogKey;
    use model::clock::Clock;

    fn files(directory: &Path) -> Files {
        Files::new(directory, Box::new(|| Ok(())))
    }

    fn bundle(directory: &Path, index: u64) -> PathBuf {
        directory.join(layout::bundle(index, FULL as u32))
    }

    /// Bundles without a head, of records that are their numbers.
    fn put(directory: &Path, index: u64) {
        let record = |number: u64| [&8_u16.to_be_bytes()[..], &number.to_be_bytes()].concat();
        let bytes: Vec<u8> = (index * FULL..(index + 1) * FULL).flat_map(record).collect();
        let path = bundle(directory, index);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    #[test]
    fn what_was_moved_away_is_left_out_and_what_is_only_away_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("audit");
        (2..4).for_each(|index| put(&directory, index));
        let mut files = files(&directory);
        let chunk = files.read(5, 4 * FULL).unwrap();
        assert_eq!((chunk.first, chunk.records.len() as u64), (2 * FULL, 2 * FULL));
        assert_eq!(chunk.records[3], (2 * FULL + 3).to_be_bytes());
        // There is nothing at all: that is no reason to leave something out.
        let away = folder.path().join("away");
        fs::rename(&directory, &away).unwrap();
        assert!(files.read(5, 4 * FULL).unwrap_err().contains("record 5"));
        fs::rename(&away, &directory).unwrap();
        put(&directory, 0);
        let chunk = files.read(5, 4 * FULL).unwrap();
        assert_eq!((chunk.first, chunk.records.len() as u64), (5, FULL - 5));
    }

    /// A gap of many bundles is looked through bit by bit, each once; nothing that is there is left out.
    #[test]
    fn a_long_gap_is_looked_through_a_bounded_piece_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let (far, last) = (3 * LOOKED_FOR - 7, 3 * LOOKED_FOR);
        [far, last].into_iter().for_each(|index| put(folder.path(), index));
        let mut files = files(folder.path());
        let end = (last + 1) * FULL;
        for piece in 1..3 {
            let chunk = files.read(5, end).unwrap();
            assert_eq!((chunk.first, chunk.records.len()), (5, 0));
            assert_eq!(files.search.unwrap().next, 1 + piece * LOOKED_FOR);
        }
        assert_eq!(files.read(5, end).unwrap().first, far * FULL);
        // The newest is away as well: then nothing is looked for, however long the log is.
        fs::remove_file(bundle(folder.path(), last)).unwrap();
        assert!(files.read(5, end).unwrap_err().contains("record 5"));
        assert!(files.search.is_none());
    }

    /// A gap within the newest bundle is an error, and no reason to give out what is before it once more.
    #[test]
    fn a_gap_in_the_newest_bundle_is_told() {
        let folder = tempfile::tempdir().unwrap();
        put(folder.path(), 0);
        let whole = bundle(folder.path(), 0);
        let bytes = fs::read(&whole).unwrap();
        let narrow = folder.path().join(layout::bundle(0, 5));
        fs::create_dir_all(narrow.parent().unwrap()).unwrap();
        fs::write(narrow, &bytes[..50]).unwrap();
        fs::remove_file(whole).unwrap();
        let log = LogKey::generate("o").unwrap();
        let journal = folder.path().join("of-another");
        let opened =
            Log::open(Settings::new(journal.clone(), "o".to_owned(), Clock::system()), log, Arc::new(()), None);
        let opened = opened.unwrap();
        opened.append(Leaves::one(b"a record").unwrap(), Class::Data).wait().unwrap();
        opened.close();
        fs::create_dir_all(folder.path().join(layout::JOURNAL)).unwrap();
        fs::copy(journal.join(layout::journal(0)), folder.path().join(layout::journal(10))).unwrap();
        let mut files = files(folder.path());
        assert_eq!(files.read(0, 11).unwrap().records.len(), 5);
        assert_eq!(files.read(10, 11).unwrap().records, [b"a record".to_vec()]);
        assert!(files.read(5, 11).unwrap_err().contains("record 5"));
    }

    /// While the log is somewhere else, nothing is read of what has its place.
    #[test]
    fn another_directory_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        put(folder.path(), 0);
        let away = || Err("another directory is where the audit log was".to_owned());
        let mut files = Files::new(folder.path(), Box::new(away));
        assert!(files.read(0, FULL).unwrap_err().contains("another directory"));
        assert!(files.records.is_none());
    }
}

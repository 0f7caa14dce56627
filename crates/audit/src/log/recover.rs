//! What is found when a log is opened, checked against what was signed, and put in order.
//!
//! First all is read and compared, and nothing is changed: what contradicts a signed head is not written to. Then what a crash
//! has left unfinished is cut or taken away.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::bundles::{self, put_record, read_bundle};
use super::disk::Disk;
use super::earlier;
use super::error::OpenError;
use super::journal::{Entry, NEW, Reader, Segment};
use super::leaves::{Leaves, record_hash};
use super::tree::Edge;
use crate::layout::{self, CHECKPOINT, FULL, HEADS, JOURNAL};
use crate::note::{Checkpoint, Head, Heads, NOTE_BYTES, Signed, VerifierKey};

/// What a log goes on from.
pub(crate) struct Found {
    /// The edge at the newest head, and the bundle that is not full with it.
    pub(crate) edge: Edge,
    pub(crate) bundle: Vec<u8>,
    pub(crate) newest: Option<Checkpoint>,
    /// Bytes of whole heads in their file, and the last of them.
    pub(crate) heads: Kept,
    /// The journal's files, in order: at least one.
    pub(crate) segments: Vec<Arc<Segment>>,
    /// Where the last of them ends.
    pub(crate) offset: u64,
    /// The number of the next record.
    pub(crate) end: u64,
    /// Records that are in no closed bundle below the newest head, as many as are kept in memory.
    pub(crate) recent: VecDeque<(u64, Arc<Leaves>)>,
}

/// Reads, checks, and puts in order.
pub(crate) fn recover(
    disk: &Disk,
    key: &VerifierKey,
    known: Option<Head>,
    most_bytes: usize,
) -> Result<Found, OpenError> {
    let (newest, heads) = newest(disk, key)?;
    let signed = newest.as_ref().map_or(Head::EMPTY, Checkpoint::head);
    let floor = signed.size / FULL * FULL;
    let mut walk = Walk {
        edge: bundles::edge(disk, floor)?,
        bundle: Vec::new(),
        floor,
        at_newest: None,
        recent: VecDeque::new(),
        room: most_bytes,
        signed,
        known: known.filter(|known| known.size >= floor),
    };
    if let Some(known) = known.filter(|known| known.size < floor)
        && bundles::edge(disk, known.size)?.head() != known
    {
        return Err(OpenError::Contradicts { size: known.size });
    }
    walk.look()?;
    let segments = segments(disk)?;
    let read = walk.read(disk, &segments)?;
    let end = walk.edge.size();
    let least = signed.size.max(known.map_or(0, |known| known.size));
    let Some((edge, bundle)) = walk.at_newest.filter(|_| end >= least) else {
        return Err(OpenError::Behind { found: end, known: least });
    };
    let (segments, offset) = put_in_order(disk, segments, read, (floor, end))?;
    clean(disk, &edge).map_err(failed(disk, "tidied", Path::new("tile")))?;
    Ok(Found { edge, bundle, newest, heads, segments, offset, end, recent: walk.recent })
}

/// How many bytes of the heads that were signed before are whole, and the last of these.
type Kept = (u64, Option<Checkpoint>);

/// The newest head that this log has signed, and those before it.
fn newest(disk: &Disk, key: &VerifierKey) -> Result<(Option<Checkpoint>, Kept), OpenError> {
    let path = Path::new(CHECKPOINT);
    let foreign = |path: &Path, why: String| OpenError::Foreign { path: disk.path().join(path), why };
    let ours = |path: &Path, checkpoint: Checkpoint| {
        if checkpoint.origin() != key.name() {
            return Err(foreign(path, format!("it is the head of {}, not of {}", checkpoint.origin(), key.name())));
        }
        match checkpoint.signed_by(key) {
            Signed::Well => Ok(checkpoint),
            Signed::Not => Err(foreign(path, "it is not signed with the log's key".to_owned())),
            Signed::Wrongly => Err(foreign(path, "its signature is wrong".to_owned())),
        }
    };
    let checkpoint = match disk.read(path, NOTE_BYTES).map_err(failed(disk, "read", path))? {
        None => None,
        Some(bytes) => {
            let read = Checkpoint::from_bytes(&bytes).map_err(|error| foreign(path, error.to_string()))?;
            Some(ours(path, read)?)
        }
    };
    let path = Path::new(HEADS);
    let (last, length) = last_head(disk).map_err(failed(disk, "read", path))?;
    let last = last.map(|last| ours(path, last)).transpose()?;
    let newest = match (checkpoint, last.clone()) {
        (Some(checkpoint), Some(last)) if last.head().size > checkpoint.head().size => Some(last),
        (Some(checkpoint), Some(last)) => {
            if last.head().size == checkpoint.head().size && last.head() != checkpoint.head() {
                return Err(OpenError::Contradicts { size: last.head().size });
            }
            Some(checkpoint)
        }
        (checkpoint, last) => checkpoint.or(last),
    };
    Ok((newest, (length, last)))
}

/// The last whole head of those that were signed before, and where it ends. The file is long: its end is read.
fn last_head(disk: &Disk) -> io::Result<(Option<Checkpoint>, u64)> {
    let path = Path::new(HEADS);
    let file = match disk.open_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((None, 0)),
        other => other?,
    };
    let length = disk.look_at(&file)?.length;
    let from = length.saturating_sub(2 * NOTE_BYTES as u64);
    let bytes = disk.read_at(&file, path, 2 * NOTE_BYTES, from)?;
    let begin = if from == 0 { Some(0) } else { begin_of_note(&bytes) };
    let Some(tail) = begin.and_then(|begin| bytes.get(begin..)) else { return Ok((None, length)) };
    let mut heads = Heads::new(tail);
    let last = heads.by_ref().map_while(Result::ok).last();
    Ok((last, length - (tail.len() - heads.position()) as u64))
}

/// Where in the midst of a file of notes the first one begins: behind lines with signatures.
fn begin_of_note(bytes: &[u8]) -> Option<usize> {
    const SIGNATURE: &[u8] = "\n\u{2014} ".as_bytes();
    let mut at = bytes.windows(SIGNATURE.len()).position(|window| window == SIGNATURE)?;
    while bytes.get(at..)?.starts_with(SIGNATURE) {
        at += 1 + bytes.get(at + 1..)?.iter().position(|byte| *byte == b'\n')?;
    }
    Some(at + 1)
}

/// What is read of the journal, and compared.
struct Walk {
    edge: Edge,
    bundle: Vec<u8>,
    floor: u64,
    signed: Head,
    known: Option<Head>,
    at_newest: Option<(Edge, Vec<u8>)>,
    recent: VecDeque<(u64, Arc<Leaves>)>,
    /// Bytes that there still is room for in memory.
    room: usize,
}

impl Walk {
    fn push(&mut self, entry: &Entry) -> Result<(), OpenError> {
        self.keep(entry);
        put_record(&mut self.bundle, &entry.record);
        self.edge.push(entry.hash, |_| {});
        if self.edge.size().is_multiple_of(FULL) {
            self.bundle.clear();
        }
        self.look()
    }

    /// Keeps it in memory, instead of older ones where there is no room.
    fn keep(&mut self, entry: &Entry) {
        let Ok(leaves) = Leaves::one(&entry.record) else { return };
        let length = leaves.framed().len();
        while self.room < length
            && let Some((_, oldest)) = self.recent.pop_front()
        {
            self.room += oldest.framed().len();
        }
        self.room = self.room.saturating_sub(length);
        self.recent.push_back((self.edge.size(), Arc::new(leaves)));
    }

    /// Compares where a head was signed.
    fn look(&mut self) -> Result<(), OpenError> {
        let size = self.edge.size();
        let due = [Some(self.signed), self.known].into_iter().flatten().filter(|head| head.size == size);
        for head in due {
            if self.edge.head() != head {
                return Err(OpenError::Contradicts { size });
            }
        }
        if size == self.signed.size {
            self.at_newest = Some((self.edge.clone(), self.bundle.clone()));
        }
        Ok(())
    }

    /// Reads the files as far as they follow each other.
    fn read(&mut self, disk: &Disk, segments: &[Arc<Segment>]) -> Result<Read, OpenError> {
        let mut read = Read::default();
        for (number, segment) in segments.iter().enumerate() {
            if segment.first > self.edge.size() {
                self.fill(disk, &mut read)?;
            }
            if segment.first > self.edge.size() {
                self.resume(disk, segments.get(..number).unwrap_or_default(), segment.first, &mut read)?;
            }
            // What is missing between two files was not synced, so what is behind it was not either; or it is missing.
            if segment.first > self.edge.size() {
                break;
            }
            let later = segments.get(number + 1).map_or(u64::MAX, |later| later.first);
            let mut reader = Reader::new(disk, segment);
            while reader.next() < later {
                let next = reader.next();
                let entry = reader.record().map_err(failed(disk, "read", &segment.path))?;
                let Some(entry) = entry else { break };
                if next >= self.floor && next == self.edge.size() {
                    self.push(&entry)?;
                }
            }
            (read.files, read.offset, read.reached) = (number + 1, reader.offset(), reader.next());
            if reader.next() == later && reader.record().map_err(failed(disk, "read", &segment.path))?.is_some() {
                read.overlapping.push(number);
            }
        }
        if self.edge.size() < self.signed.size {
            self.fill(disk, &mut read)?;
        }
        self.resume(disk, segments.get(..read.files).unwrap_or_default(), u64::MAX, &mut read)?;
        Ok(read)
    }

    /// Goes on, up to that number, with what an earlier file has where a later one ended.
    ///
    /// When the journal was made anew, the new file had all that those behind it had, and they were taken away one by one. What
    /// a loss of power brings back of them is read, but may end, or be damaged, before the new one does.
    fn resume(&mut self, disk: &Disk, files: &[Arc<Segment>], until: u64, read: &mut Read) -> Result<(), OpenError> {
        for number in read.overlapping.clone().into_iter().rev() {
            let (Some(segment), Some(later)) = (files.get(number), files.get(number + 1..)) else { continue };
            let from = self.edge.size();
            if from < until
                && earlier::goes_on(disk, segment, later, from).map_err(failed(disk, "read", &segment.path))?
            {
                let mut reader = Reader::new(disk, segment);
                while reader.next() < until {
                    let next = reader.next();
                    let Some(entry) = reader.record().map_err(failed(disk, "read", &segment.path))? else { break };
                    if next == self.edge.size() {
                        self.push(&entry)?;
                    }
                }
                read.resumed.push((Arc::clone(segment), from..self.edge.size()));
            }
        }
        Ok(())
    }

    /// Takes records that the newest head covers and the journal does not have from the last bundle.
    fn fill(&mut self, disk: &Disk, read: &mut Read) -> Result<(), OpenError> {
        let (index, width) = (self.signed.size / FULL, self.signed.size % FULL);
        let from = self.edge.size();
        if from >= self.signed.size {
            return Ok(());
        }
        let path = layout::bundle(index, width as u32);
        let bundle = read_bundle(disk, index, width).map_err(failed(disk, "read", &path))?;
        let records = bundle.as_deref().and_then(|bundle| bundles::records(bundle, width)).unwrap_or_default();
        let mut filled = Vec::new();
        for record in records.into_iter().skip((from - self.floor) as usize) {
            let entry = Entry { hash: record_hash(record), record: record.to_vec() };
            self.push(&entry)?;
            filled.push(entry);
        }
        if !filled.is_empty() {
            read.filled = Some((from, filled));
        }
        Ok(())
    }
}

/// What was read of the journal.
#[derive(Default)]
struct Read {
    /// How many files, from the first on.
    files: usize,
    /// Where the last of these ends, and the number of the record behind it.
    offset: u64,
    reached: u64,
    /// What it did not have, and from which number on.
    filled: Option<(u64, Vec<Entry>)>,
    /// Files that go on where the next one begins.
    overlapping: Vec<usize>,
    /// What it has in an earlier file than where it belongs.
    resumed: Vec<(Arc<Segment>, Range<u64>)>,
}

/// The journal's files, in order.
fn segments(disk: &Disk) -> Result<Vec<Arc<Segment>>, OpenError> {
    let journal = Path::new(JOURNAL);
    let mut numbers: Vec<u64> = Vec::new();
    for name in disk.list(journal).map_err(failed(disk, "read", journal))? {
        // A number may be written in more than one way; ours are in one.
        if let Ok(number) = name.parse::<u64>()
            && layout::journal(number).file_name().is_some_and(|ours| ours == name.as_str())
        {
            numbers.push(number);
        }
    }
    numbers.sort_unstable();
    let open = |first: u64| {
        let path = layout::journal(first);
        let file = disk.open_file(&path).and_then(|file| Segment::new(disk, file, first, 0));
        Ok(Arc::new(file.map_err(failed(disk, "opened", &path))?))
    };
    numbers.into_iter().map(open).collect()
}

/// Cuts what is torn, puts aside what does not follow, takes away what closed bundles have, and has all that stays on the disk.
/// Says where the last file ends.
fn put_in_order(
    disk: &Disk,
    mut segments: Vec<Arc<Segment>>,
    read: Read,
    (floor, end): (u64, u64),
) -> Result<(Vec<Arc<Segment>>, u64), OpenError> {
    for apart in segments.drain(read.files..) {
        tracing::warn!(
            file = %disk.path().join(&apart.path).display(),
            "records of the audit log that do not follow those before were put aside: they were not on the disk when power was lost"
        );
        disk.set_aside(&apart.path).map_err(failed(disk, "put aside", &apart.path))?;
    }
    if let Some(last) = segments.last() {
        let length = disk.look_at(&last.file).map_err(failed(disk, "read", &last.path))?.length;
        if length > read.offset {
            tracing::warn!(
                bytes = length - read.offset,
                end,
                "the unfinished end of the audit log's journal was cut off"
            );
            disk.truncate(&last.file, &last.path, read.offset).map_err(failed(disk, "cut", &last.path))?;
            last.length.store(read.offset, Ordering::Release);
        }
    }
    if let Some((from, entries)) = &read.filled {
        segments.retain(|segment| segment.first != *from);
        let at = segments.partition_point(|segment| segment.first < *from);
        segments.insert(at, made(disk, *from, entries)?);
    }
    let mut reached = read.reached.max(read.filled.as_ref().map_or(0, |(from, entries)| from + entries.len() as u64));
    for (source, numbers) in &read.resumed {
        let copied = earlier::copy(disk, source, numbers.clone());
        let copied = copied.map_err(failed(disk, "made", &layout::journal(numbers.start)))?;
        segments.retain(|segment| segment.first != numbers.start);
        let at = segments.partition_point(|segment| segment.first < numbers.start);
        segments.insert(at, Arc::new(copied));
        reached = reached.max(numbers.end);
    }
    if segments.is_empty() || reached != end {
        segments.push(made(disk, end, &[])?);
    }
    while let Some(first) = segments.first().filter(|_| segments.get(1).is_some_and(|second| second.first <= floor)) {
        disk.remove(&first.path).map_err(failed(disk, "removed", &first.path))?;
        segments.remove(0);
    }
    for segment in &segments {
        disk.sync_data(&segment.file, &segment.path).map_err(failed(disk, "synced", &segment.path))?;
    }
    for directory in [JOURNAL, ""].map(Path::new) {
        disk.sync_directory(directory).map_err(failed(disk, "synced", directory))?;
    }
    let last = segments.last().map(|last| disk.look_at(&last.file)).transpose();
    let offset = last.map_err(failed(disk, "read", Path::new(JOURNAL)))?.map_or(0, |look| look.length);
    Ok((segments, offset))
}

/// A file of the journal with these records.
fn made(disk: &Disk, first: u64, entries: &[Entry]) -> Result<Arc<Segment>, OpenError> {
    let path = layout::journal(first);
    let make = || -> io::Result<Segment> {
        let file = disk.create(Path::new(NEW))?;
        let mut bytes = Vec::new();
        for entry in entries {
            let leaves =
                Leaves::one(&entry.record).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            bytes.extend_from_slice(leaves.framed());
        }
        disk.write(&file, Path::new(NEW), &mut [IoSlice::new(&bytes)], 0)?;
        disk.sync_data(&file, Path::new(NEW))?;
        disk.rename(Path::new(NEW), &path)?;
        Segment::new(disk, file, first, 0)
    };
    Ok(Arc::new(make().map_err(failed(disk, "made", &path))?))
}

/// Takes away partial bundles and tiles of heads before the newest, which a crash has left.
fn clean(disk: &Disk, edge: &Edge) -> io::Result<()> {
    let kept = super::tiles::partial_paths(edge);
    let before = |path: &PathBuf| path.parent().map(Path::to_owned);
    let mut directories: Vec<PathBuf> = kept.iter().filter_map(before).collect();
    // Those of tiles that became full with the newest head.
    let index = edge.size().saturating_sub(1) / FULL;
    directories.extend([layout::tile(0, index, 1), layout::bundle(index, 1)].iter().filter_map(before));
    for directory in directories {
        for name in disk.list(&directory)? {
            let path = directory.join(name);
            if !kept.contains(&path) {
                disk.remove(&path)?;
            }
        }
        // Not empty, or not there.
        let _kept = disk.remove_directory(&directory);
    }
    Ok(())
}

fn failed(disk: &Disk, done: &'static str, path: &Path) -> impl Fn(io::Error) -> OpenError {
    let path = disk.path().join(path);
    move |cause| OpenError::Failed { done, path: path.clone(), cause }
}

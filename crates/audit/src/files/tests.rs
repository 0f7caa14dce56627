use std::fs;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::read::Records;
use crate::test_support::{Writer, records};

#[test]
fn a_tile_is_read_out_of_a_wider_one_and_never_out_of_one_of_another_length() {
    let directory = TempDir::new().unwrap();
    let key = crate::note::LogKey::from_seed("keys.example/audit", &[1; 32]).unwrap();
    let writer = Writer { directory: directory.path().to_owned(), key: &key, cosigner: &() };
    let place = Place::new(directory.path());
    assert!(place.tile(0, 0, 5).unwrap().is_none());
    writer.tiles(&records(40), 0..1);
    let forty = place.tile(0, 0, 40).unwrap().unwrap();
    assert_eq!(place.tile(0, 0, 5).unwrap().unwrap(), forty[..5]);
    assert!(place.tile(0, 0, 41).unwrap().is_none());
    assert_eq!(place.tile_as_wide(0, 0, 41).unwrap().unwrap(), forty);
    writer.tiles(&records(256), 0..1);
    assert_eq!(place.tile(0, 0, 41).unwrap().unwrap()[..40], forty);
    for width in [0, 257] {
        assert!(place.tile(0, 0, width).unwrap().is_none());
    }
    fs::write(directory.path().join(layout::tile(0, 0, 256)), [0; 256 * 32 - 1]).unwrap();
    assert!(place.tile(0, 0, 256).unwrap().is_none());
}

#[test]
fn files_that_are_too_long_or_no_files_are_errors() {
    let directory = TempDir::new().unwrap();
    fs::write(directory.path().join("long"), [0; 101]).unwrap();
    fs::create_dir(directory.path().join("folder")).unwrap();
    let mut bytes = Vec::new();
    let mut read = |path: &str, limit| read_into(directory.path(), Path::new(path), limit, &mut bytes);
    assert!(read("long", 100).is_err());
    assert!(read("long", 101).unwrap());
    assert!(read("folder", 100).is_err());
    assert!(!read("long/below", 100).unwrap());
    assert!(!read_into(&directory.path().join("none"), Path::new("long"), 101, &mut bytes).unwrap());
}

proptest! {
    #[test]
    fn foreign_bundles_and_journals_are_read_without_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..2_000),
        broken in 0..300_usize,
        width in 0..300_usize,
    ) {
        let mut bundle = Bundle::from_bytes(bytes.clone());
        bundle.find_rest(broken, width);
        prop_assert_eq!(bundle.leaves().count(), bundle.len());
        let directory = TempDir::new().unwrap();
        let place = Place::new(directory.path());
        for path in [layout::journal(0), layout::bundle(0, 256), layout::bundle(1, 7), layout::tile(0, 0, 3)] {
            let path = directory.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, &bytes).unwrap();
        }
        fs::write(directory.path().join("tile/entries/002.zst"), &bytes).unwrap();
        for from in [0, 256, 512] {
            let mut records = Records::from(&place, from).unwrap();
            while records.next().unwrap().is_some() {}
        }
        let _ = place.tile(0, 0, 3).unwrap();
    }
}

/// Where the rest of a bundle begins, found in the plainest way.
fn rest_of(bytes: &[u8], broken: usize, width: usize) -> Vec<Vec<u8>> {
    let records = |from: usize| {
        let (mut found, mut at) = (Vec::new(), from);
        while let Some([high, low]) = bytes.get(at..at + 2) {
            let end = at + 2 + usize::from(u16::from_be_bytes([*high, *low]));
            let Some(record) = bytes.get(at + 2..end) else { break };
            found.push(record.to_vec());
            at = end;
        }
        (found, at)
    };
    let (whole, end) = records(0);
    let start = whole.get(..broken).map_or(end, |before| before.iter().map(|record| record.len() + 2).sum());
    let wanted = width.saturating_sub(broken + 1);
    for at in start + 2..=bytes.len() {
        let at = if wanted == 0 { bytes.len() } else { at };
        let (rest, end) = records(at);
        if end == bytes.len() && rest.len() == wanted {
            return [&whole[..broken.min(whole.len())], &[bytes[start + 2..at].to_vec()], &rest].concat();
        }
    }
    whole
}

proptest! {
    #[test]
    fn the_rest_of_a_broken_bundle_is_the_first_that_fits(
        lengths in proptest::collection::vec(0..4_usize, 0..12),
        broken in 0..14_usize,
        width in 0..14_usize,
        changed in 0..60_usize,
    ) {
        let mut bytes: Vec<u8> = lengths.iter().flat_map(|length| {
            [&[0, u8::try_from(*length).unwrap()][..], &vec![1; *length]].concat()
        }).collect();
        if let Some(byte) = bytes.get_mut(changed) {
            *byte ^= 1;
        }
        let mut bundle = Bundle::from_bytes(bytes.clone());
        bundle.find_rest(broken, width);
        let found: Vec<Vec<u8>> = (0..bundle.len()).map(|at| bundle.record(at).unwrap().to_vec()).collect();
        prop_assert_eq!(found, rest_of(&bytes, broken, width));
    }
}

/// Whoever looks for a bundle while somebody writes finds one of its forms, whatever takes the place of which.
#[test]
fn a_bundle_that_is_being_replaced_is_found() {
    let directory = TempDir::new().unwrap();
    let key = crate::note::LogKey::from_seed("keys.example/audit", &[1; 32]).unwrap();
    let writer = Writer { directory: directory.path().to_owned(), key: &key, cosigner: &() };
    let all = records(256);
    writer.bundles(&all[..200], false);
    let at = |width| directory.path().join(layout::bundle(0, width));
    let narrow = fs::read(at(200)).unwrap();
    let (done, begun) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            writer.bundles(&all, false);
            let whole = fs::read(at(256)).unwrap();
            let mut last = 0;
            while !done.load(Ordering::Relaxed) {
                // There and back while it is looked for: nobody replaces it far more often than that.
                let now = begun.load(Ordering::Relaxed);
                if std::mem::replace(&mut last, now) == now {
                    std::thread::yield_now();
                    continue;
                }
                for (there, gone, bytes) in [(256, 200, &whole), (200, 256, &narrow)] {
                    let new = directory.path().join("new");
                    fs::write(&new, bytes).unwrap();
                    fs::rename(&new, at(there)).unwrap();
                    fs::remove_file(at(gone)).unwrap();
                }
            }
        });
        let mut bundles = Bundles::new(&Place::new(directory.path())).unwrap();
        let look = |_: &usize| {
            begun.fetch_add(1, Ordering::Relaxed);
            bundles.load_file(0, 200).unwrap()
        };
        let found = (0..3_000).filter(look).count();
        done.store(true, Ordering::Relaxed);
        assert_eq!(found, 3_000);
    });
}

/// Somebody changes the journal's folder all the time: its files are listed anew a few times, and not as often as that.
#[test]
fn a_folder_that_is_changed_all_the_time_is_listed_a_few_times() {
    let directory = TempDir::new().unwrap();
    let key = crate::note::LogKey::from_seed("keys.example/audit", &[1; 32]).unwrap();
    let writer = Writer { directory: directory.path().to_owned(), key: &key, cosigner: &() };
    writer.journal(0, &records(5_000));
    let [folder, other, aside] = ["journal", "other", "aside"].map(|name| directory.path().join(name));
    let file = layout::journal(0);
    let name = file.file_name().unwrap();
    fs::create_dir(&other).unwrap();
    let length = fs::copy(folder.join(name), other.join(name)).unwrap();
    let place = Place::new(directory.path());
    let mut listed = Listed::now(&place).unwrap();
    READ.set(0);
    for _ in 0..100 {
        for (from, to) in [(&folder, &aside), (&other, &folder), (&aside, &other)] {
            fs::rename(from, to).unwrap();
        }
        assert!(listed.take(&place, 6_000).unwrap().is_none());
    }
    let (times, most) = (READ.replace(0) / length, super::listed::LISTINGS as u64);
    assert!((most..=most + 3).contains(&times), "{times}");
}

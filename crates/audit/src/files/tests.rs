use std::fs;

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
    let path = directory.path().join("long");
    fs::write(&path, [0; 101]).unwrap();
    let mut bytes = Vec::new();
    assert!(read_into(&path, 100, &mut bytes).is_err());
    assert!(read_into(&path, 101, &mut bytes).unwrap());
    assert!(read_into(directory.path(), 100, &mut bytes).is_err());
    assert!(!read_into(&path.join("below"), 100, &mut bytes).unwrap());
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
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            writer.bundles(&all, false);
            let whole = fs::read(at(256)).unwrap();
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                for (there, gone, bytes) in [(256, 200, &whole), (200, 256, &narrow)] {
                    let new = directory.path().join("new");
                    fs::write(&new, bytes).unwrap();
                    fs::rename(&new, at(there)).unwrap();
                    fs::remove_file(at(gone)).unwrap();
                }
            }
        });
        let mut bundles = Bundles::new(&Place::new(directory.path())).unwrap();
        let found = (0..3_000).filter(|_| bundles.load_file(0, 200).unwrap()).count();
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(found, 3_000);
    });
}

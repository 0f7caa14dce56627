//! Closed bundles in another directory.

use super::*;

/// Closed bundles go to another directory, once, and the log goes on without them.
#[test]
fn closed_bundles_are_moved_away() {
    let setup = Setup::new();
    let log = setup.open();
    fill(&log, 0..2_000);
    until("a head is over it", || log.head().size == 2_000);
    until("it is compressed", || setup.directory().join(bundles::compressed(6)).exists());
    until("the plain ones are gone", || !setup.directory().join(layout::bundle(6, 256)).exists());
    let to = tempfile::tempdir().expect("a directory");
    let moved = archive(setup.directory(), to.path(), 700).expect("moved");
    assert_eq!((moved.bundles, moved.first_left), (5, 1_280));
    assert!(moved.bytes > 0);
    let again = archive(setup.directory(), to.path(), 700).expect("nothing to move");
    assert_eq!((again.bundles, again.bytes, again.first_left), (0, 0, 1_280));
    for index in 0..7 {
        let path = bundles::compressed(index);
        assert_eq!(setup.directory().join(&path).exists(), index >= 5);
        assert_eq!(to.path().join(&path).exists(), index < 5);
    }
    fill(&log, 2_000..2_100);
    log.close();
    drop(log);
    let log = setup.open();
    fill(&log, 2_100..2_200);
    log.close();
    drop(log);
    archive(setup.directory(), to.path(), 0).expect("moved");
    copied(to.path(), setup.directory());
    assert_eq!(contents(setup.directory()), records_of(0..2_200));
    // What is there already and is something else is not written over.
    let path = bundles::compressed(3);
    std::fs::write(to.path().join(&path), b"something else").expect("written");
    assert!(archive(setup.directory(), to.path(), 0).is_err());
    assert_eq!(std::fs::read(to.path().join(&path)).expect("read"), b"something else");
    assert!(setup.directory().join(&path).exists());
}

/// What a loss of power has left of a copy, when copies got their names first, is the copy's beginning: it is replaced. What is
/// anything else is not.
#[test]
fn a_copy_that_was_cut_short_is_made_again() {
    let (setup, to) = (Setup::new(), tempfile::tempdir().expect("a directory"));
    let log = setup.open();
    fill(&log, 0..600);
    until("a head is over it", || log.head().size == 600);
    until("it is compressed", || !setup.directory().join(layout::bundle(1, 256)).exists());
    log.close();
    let path = bundles::compressed(0);
    let (here, there) = (setup.directory().join(&path), to.path().join(&path));
    let bundle = std::fs::read(&here).expect("a bundle");
    std::fs::create_dir_all(there.parent().expect("a folder")).expect("a folder");
    let move_it = || archive::move_file(&raw(setup.directory()), &raw(to.path()), &path);
    for kept in [0, 1, bundle.len() / 2, bundle.len() - 1, bundle.len()] {
        std::fs::write(&here, &bundle).expect("written");
        std::fs::write(&there, &bundle[..kept]).expect("written");
        assert_eq!(move_it().ok(), Some(bundle.len() as u64), "{kept}");
        assert!(!here.exists() && std::fs::read(&there).expect("a copy") == bundle, "{kept}");
    }
    // Another one; one in whose place that in the log's directory has grown by something; one that is longer.
    let other = std::fs::read(setup.directory().join(bundles::compressed(1))).expect("another");
    let longer = [&bundle[..], b"something"].concat();
    for (ours, theirs) in [(&bundle, &other), (&longer, &bundle), (&bundle, &longer)] {
        std::fs::write(&here, ours).expect("written");
        std::fs::write(&there, theirs).expect("written");
        let refused = move_it().expect_err("another bundle").to_string();
        assert!(refused.contains(&format!("{} is another bundle", there.display())), "{refused}");
        assert!(std::fs::read(&here).expect("kept") == *ours && std::fs::read(&there).expect("kept") == *theirs);
    }
}

/// A copy is on the disk before it gets its name, and its name, with those of the folders above, before the bundle goes.
#[test]
fn a_copy_is_on_the_disk_before_it_bears_its_name() {
    let (home, to, script) = (quick_directory(), quick_directory(), Arc::new(Script::default()));
    let path = bundles::compressed(0);
    let here = home.path().join(&path);
    std::fs::create_dir_all(here.parent().expect("a folder")).expect("a folder");
    std::fs::write(&here, b"a bundle").expect("written");
    let acts = || Arc::clone(&script) as Arc<dyn Acts>;
    let [home, to] = [home.path(), to.path()].map(|at| Disk::open(at, acts()).expect("a directory"));
    assert_eq!(archive::move_file(&home, &to, &path).expect("moved"), 8);
    let done = locked(&script.acts).clone();
    let at = |act, path: &Path| {
        let found = done.iter().position(|(done, at)| *done == act && at == path);
        found.unwrap_or_else(|| panic!("no {act:?} of {} in {done:?}", path.display()))
    };
    let named = at(Act::Rename, &path);
    let new = Path::new("new-archived");
    assert!(at(Act::Write, new) < at(Act::Sync, new) && at(Act::Sync, new) < named, "{done:?}");
    let gone = at(Act::Remove, &path);
    for folder in path.ancestors().skip(1) {
        assert!((named..gone).contains(&at(Act::Sync, folder)), "{}: {done:?}", folder.display());
    }
    // Where the disk does not take it, it stays where it was, and has no name there.
    std::fs::write(&here, b"a bundle").expect("written");
    std::fs::remove_file(to.path().join(&path)).expect("removed");
    script.fail(|act, _| (act == Act::Sync).then(|| os_error(rustix::io::Errno::IO)).flatten());
    assert!(archive::move_file(&home, &to, &path).is_err());
    assert!(here.exists() && !to.path().join(&path).exists());
}

//! The directory of login locks: one that strangers can write to, or that is not there, is said at once and never used.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::PathBuf;

use crate::harness::daemon::Site;
use crate::harness::tool;

/// A directory with this mode, whatever the umask.
fn directory(site: &Site, name: &str, mode: u32) -> PathBuf {
    let path = site.path().join(name);
    fs::create_dir(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    path
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_of_locks_that_is_not_there_or_open_to_all_is_refused() {
    let site = Site::prepare().await;
    directory(&site, "open", 0o777);
    directory(&site, "sticky", 0o1777);
    symlink("open", site.path().join("link")).unwrap();
    fs::write(site.path().join("file"), "").unwrap();
    for (name, says) in [
        ("nowhere", "it is not there"),
        ("file", "it is no directory"),
        ("open", "everybody may write to it (mode 0777)"),
        ("sticky", "everybody may write to it (mode 1777)"),
        ("link", "everybody may write to it (mode 0777)"),
    ] {
        site.configure(|config| drop(config.insert("lock_dir".to_owned(), name.into())));
        let config = site.config_file().as_os_str();
        for verb in ["check", "serve"] {
            let ran = tool::keystored(&[verb.as_ref(), "--config".as_ref(), config]);
            assert_ne!(ran.code, Some(0), "{name}, {verb}: {ran:?}");
            let said = format!("{}{}", ran.out, ran.err);
            assert!(said.contains("lock_dir") && said.contains(says), "{name}, {verb}: {said}");
            assert!(said.contains("tmpfiles"), "there is a remedy: {said}");
        }
        // Before anything is begun, PINs included.
        let folder = site.path().join("another-ceremony");
        let folder = folder.to_str().unwrap();
        let ran = tool::keystorectl(
            Default::default(),
            &["cluster", "init", "--config", config.to_str().unwrap(), "--folder", folder, "--pin-file", "nowhere.pin"],
        );
        assert_eq!(ran.code, Some(5), "{ran:?}");
        assert!(ran.err.contains(says), "{ran:?}");
        assert!(!PathBuf::from(folder).exists(), "nothing was begun");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn locks_are_open_to_the_users_of_keystored_alone() {
    let site = Site::prepare().await;
    let locks = directory(&site, "locks", 0o755);
    site.configure(|config| drop(config.insert("lock_dir".to_owned(), "locks".into())));
    let daemon = site.start().await;
    let names: Vec<_> = fs::read_dir(&locks).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(names.len(), 2, "one for each token: {names:?}");
    for path in &names {
        assert_eq!(fs::metadata(path).unwrap().mode() & 0o777, 0o600, "{path:?}");
    }
    // A check beside the daemon finds nothing to mend.
    let config = daemon.site().config_file().as_os_str().to_owned();
    let ran = tool::keystored(&["check".as_ref(), "--config".as_ref(), &config]).ok();
    assert!(ran.contains("locks can be used"), "{ran}");
}

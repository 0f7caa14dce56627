//! File systems of their own for tests: small ones, that can be filled.

use std::process::Command;

/// Runs this test of the program once more, with a small file system, whose path the variable then has. Where none can be
/// mounted, it says so.
pub(crate) fn again(test: &str, variable: &str) {
    let disk = tempfile::tempdir().expect("a directory");
    let script = "mount -t tmpfs -o size=4m keystored-test \"$1\" || exit 77; shift; exec \"$@\"";
    let ran = Command::new("unshare")
        .args(["--map-root-user", "--mount", "sh", "-c", script, "sh"])
        .arg(disk.path())
        .arg(std::env::current_exe().expect("this program"))
        .args(["--exact", test, "--nocapture"])
        .env(variable, disk.path())
        .output();
    match ran {
        Ok(ran) if ran.status.success() => {
            assert!(String::from_utf8_lossy(&ran.stdout).contains("1 passed"), "there is a test {test}");
        }
        Ok(ran) if ran.status.code() == Some(77) || ran.stderr.starts_with(b"unshare:") => {
            println!("skipped: no file system can be mounted here ({})", String::from_utf8_lossy(&ran.stderr));
        }
        Err(error) => println!("skipped: there is no unshare here ({error})"),
        Ok(ran) => panic!("{}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr)),
    }
}

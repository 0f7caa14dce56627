//! Breaking off on purpose, so that a test can see what a crash at a named point leaves behind. Only in debug builds.

/// Runs the work of a named step between its two points, `name.before` and `name.after`.
pub async fn around<T>(name: &str, work: impl Future<Output = T>) -> T {
    point(&format!("{name}.before"));
    let done = work.await;
    point(&format!("{name}.after"));
    done
}

/// Ends the process at once, as a crash would, when the environment variable `KEYSTORED_ABORT_AT` is `name`, or
/// `name@N` for the N-th time that this is passed. Does nothing in a release build.
#[cfg(debug_assertions)]
fn point(name: &str) {
    use std::collections::BTreeMap;
    use std::sync::{Mutex, OnceLock};

    use model::lock::MutexExt as _;

    static WANTED: OnceLock<Option<(String, u64)>> = OnceLock::new();
    static PASSED: Mutex<BTreeMap<String, u64>> = Mutex::new(BTreeMap::new());
    let wanted = WANTED.get_or_init(|| {
        let text = std::env::var("KEYSTORED_ABORT_AT").ok()?;
        let (name, count) = text.split_once('@').unwrap_or((&text, "1"));
        Some((name.to_owned(), count.parse().ok()?))
    });
    let Some((wanted, count)) = wanted.as_ref().filter(|(wanted, _)| wanted == name) else { return };
    let mut passed = PASSED.lock_anyway();
    let times = passed.entry(wanted.clone()).or_default();
    *times += 1;
    if *times == *count {
        // Tests read why it came here.
        super::log::flush(super::log::LAST_LINES);
        std::process::abort();
    }
}

/// Does nothing in a release build.
#[cfg(not(debug_assertions))]
fn point(_name: &str) {}

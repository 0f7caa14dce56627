//! Readers of argument values that clap does not know.

use std::time::Duration;

use model::id::{ClusterId, HsmId};
use model::text;

/// `500ms`, `5s`, `1.5s`, `2m`: above zero, at most a day.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "write it like 500ms, 5s or 2m: more than nothing, at most a day".to_owned();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(wrong()),
    };
    let count: f64 = digits.parse().map_err(|_| wrong())?;
    let seconds = count * unit;
    if !(seconds > 0.0 && seconds <= 86_400.0) {
        return Err(wrong());
    }
    Duration::try_from_secs_f64(seconds).map_err(|_| wrong())
}

/// `NAME=VALUE` of an encryption context. The value may be empty and may hold further `=`.
pub(super) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write it as NAME=VALUE".to_owned()),
    }
}

/// The name of a key store.
pub(super) fn key_store_name(name: &str) -> Result<String, String> {
    text::key_store_name(name).map(|()| name.to_owned()).map_err(|wrong| wrong.to_string())
}

/// The description of a key.
pub(super) fn description(description: &str) -> Result<String, String> {
    text::description(description).map(|()| description.to_owned()).map_err(|wrong| wrong.to_string())
}

/// The name of a certificate.
pub(super) fn identity(identity: &str) -> Result<String, String> {
    text::identity(identity).map(|()| identity.to_owned()).map_err(|wrong| wrong.to_string())
}

/// The id of a cluster.
pub(super) fn cluster_id(id: &str) -> Result<String, String> {
    let wrong = "a cluster id is cluster- and 11 to 16 characters of a-z, A-Z, 2-7";
    ClusterId::parse(id).map(|id| id.to_string()).ok_or_else(|| wrong.to_owned())
}

/// The id of an HSM.
pub(super) fn hsm_id(id: &str) -> Result<String, String> {
    let wrong = "the id of an HSM is 1 to 64 letters, digits, '-', '_', '.', the first no '.'";
    HsmId::parse(id).map(|id| id.to_string()).ok_or_else(|| wrong.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        for wrong in ["", "5", "s", "0s", "-1s", "25h", "1e999s", "5 s", "nans"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn pairs() {
        assert_eq!(pair("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert_eq!(pair("a="), Ok(("a".to_owned(), String::new())));
        assert!(pair("a").is_err());
        assert!(pair("=b").is_err());
    }
}

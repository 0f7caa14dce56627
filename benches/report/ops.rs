//! The daemon's ops port: what its gRPC interface does not say.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

use super::daemon::Environment;
use super::{Outcome, said};

const PATIENCE: Duration = Duration::from_secs(5);

/// Whether the control worker of each HSM is ready, by the HSM's name.
pub(super) fn control_worker(environment: &Environment, hsm: &str) -> Outcome<bool> {
    let report: Value = serde_json::from_str(&get(environment, "/readyz")?).map_err(said("reading /readyz"))?;
    let hsms = report["hsms"].as_array().ok_or("/readyz shows no HSMs")?;
    Ok(hsms.iter().any(|one| one["hsm"] == hsm && one["control_worker"] == true))
}

/// How often the health of any HSM has changed since the daemon was started.
pub(super) fn health_changes(environment: &Environment) -> Outcome<f64> {
    let metrics = get(environment, "/metrics")?;
    let lines = metrics.lines().filter(|line| line.starts_with("keystored_hsm_health_changes_total{"));
    let counts: Result<Vec<f64>, _> = lines.map(|line| line.rsplit(' ').next().unwrap_or_default().parse()).collect();
    match counts.map_err(said("reading /metrics"))? {
        none if none.is_empty() => Err("/metrics says nothing of changes of health".to_owned()),
        counts => Ok(counts.iter().sum()),
    }
}

/// What counters have come to by now; absent where one is not there.
pub(super) fn counters<const N: usize>(environment: &Environment, names: [&str; N]) -> Outcome<Option<[f64; N]>> {
    let metrics = get(environment, "/metrics")?;
    let mut figures = [0.0; N];
    for (name, figure) in names.into_iter().zip(&mut figures) {
        let found = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
        let Some(found) = found else { return Ok(None) };
        *figure = found;
    }
    Ok(Some(figures))
}

fn get(environment: &Environment, path: &str) -> Outcome<String> {
    let address = environment.get("KEYSTORED_OPS").ok_or("dev.env says nothing of the ops port")?;
    let address = address.trim_start_matches("http://").trim_end_matches('/');
    let mut stream = TcpStream::connect(address).map_err(said("connecting to the ops port"))?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(said("asking the ops port"))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")
        .map_err(said("asking the ops port"))?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(said("reading from the ops port"))?;
    let (_, body) = answer.split_once("\r\n\r\n").ok_or("the ops port answered nonsense")?;
    Ok(body.to_owned())
}

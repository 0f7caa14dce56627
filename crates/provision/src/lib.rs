//! SoftHSM zones and certificates for development and tests. Never for production.
//!
//! Everything lies under one directory and is made once; a later start finds it. The tokens come to their cluster by
//! the same ceremony that production uses, from blank ones on. A step that was interrupted is done again: the ceremony
//! counts as carried out when the file `prepared` is there.

#![forbid(unsafe_code)]

mod access_keys;
mod certificates;
mod config;
mod files;
pub mod key_store;
pub mod principal;
mod zone;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use files::write;
use model::clock::Clock;
use model::id::{ClusterId, Scope};
use model::secret::Secret;
use pki::seal;
use zeroize::Zeroizing;
use zone::Zone;

/// What [`prepare`] makes or finds.
#[derive(Clone, Debug)]
pub struct Layout {
    /// The directory that holds everything.
    pub dir: PathBuf,
    /// The daemon's configuration.
    pub config: PathBuf,
    /// Variables for keystorectl and any gRPC client; written by `serve` once the port is known.
    pub env: PathBuf,
    /// The same for who may use keys and nothing else.
    pub app_env: PathBuf,
    /// CA certificate, client certificate, client key: of who may do everything.
    pub client: [PathBuf; 3],
    /// The same of who may use keys and nothing else.
    pub app: [PathBuf; 3],
    /// One directory for each zone, with softhsm2.conf and tokens/.
    pub zones: Vec<PathBuf>,
    /// The cluster over all zones.
    pub cluster: ClusterId,
    /// customerCA.crt of the ceremony.
    pub trust_anchor: PathBuf,
    /// kmsuser's PIN in all tokens until the first connect.
    pub pin: PathBuf,
}

/// Where a daemon listens.
#[derive(Clone, Copy, Debug)]
pub struct Listening {
    /// The gRPC port.
    pub grpc: SocketAddr,
    /// For clients of AWS KMS, where it does.
    pub aws: Option<SocketAddr>,
    /// The ops port.
    pub ops: SocketAddr,
}

/// Why it did not work, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something has to be changed.
    #[error("{0}")]
    Wrong(String),
    /// The machine lets it down for the moment; the same works when that has passed.
    #[error("{0}")]
    Passing(String),
}

/// What to make.
#[derive(Clone, Debug)]
pub struct Options {
    /// The directory of the site, made if it is not there.
    pub dir: PathBuf,
    /// Names of the zones, one SoftHSM token each; empty: those that are there, or `a` and `b`.
    pub zones: Vec<String>,
    /// gRPC, AWS and ops address.
    pub listen: [String; 3],
    /// The program that is started as worker.
    pub worker: PathBuf,
    /// SoftHSM's module, where it is not in a usual place.
    pub module: Option<PathBuf>,
}

/// Where distributions put SoftHSM's module.
const MODULES: [&str; 8] = [
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib64/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
    "/usr/lib64/libsofthsm2.so",
    "/usr/local/lib/softhsm/libsofthsm2.so",
    "/opt/homebrew/lib/softhsm/libsofthsm2.so",
];

/// Makes SoftHSM zones, certificates and a configuration under one directory and carries the ceremony out, or finds
/// them there from an earlier time. `progress` is told each step in plain words.
pub async fn prepare(
    options: &Options,
    clock: &Clock,
    progress: &mut (dyn FnMut(&str) + Send),
) -> Result<Layout, Error> {
    let dir = std::path::absolute(&options.dir).map_err(|error| files::error(&options.dir, &error))?;
    let Some(module) = options.module.clone().or_else(find_module) else {
        return Err(Error::Wrong(
            "SoftHSM's module libsofthsm2.so is not in any usual place; install SoftHSM 2 (Debian: apt-get install \
             softhsm2), or name the module in SOFTHSM2_MODULE"
                .to_owned(),
        ));
    };
    for made in ["", "zones", "credentials", "pki", "state"] {
        let made = dir.join(made);
        files::make_dir(&made)?;
        files::is_own(&made)?;
    }
    let seal_key = dir.join("credentials").join("seal.key");
    if !seal_key.exists() {
        let key = seal::new_key().map_err(|error| Error::Wrong(error.to_string()))?;
        write(&seal_key, key.expose())?;
    }
    let names = names(&dir, &options.zones)?;
    let mut zones = Vec::with_capacity(names.len());
    // The same in all tokens, since it is given to the key store once; one that was chosen before an interruption
    // stays.
    let first = dir.join("credentials").join(format!("{}.pin", names.first().map_or("a", String::as_str)));
    let pin = match std::fs::read(first) {
        Ok(pin) => Secret::new(pin),
        Err(_) => zone::random_pin()?,
    };
    for name in &names {
        zones.push(Zone::prepare(&dir, name, options, &module, &pin, clock, progress).await?);
    }
    let [client, app] = certificates::prepare(&dir.join("pki"), clock, progress)?;
    let layout = Layout {
        config: dir.join("keystored.toml"),
        env: dir.join("dev.env"),
        app_env: dir.join("app.env"),
        client,
        app,
        zones: zones.iter().map(|zone| zone.dir.clone()).collect(),
        cluster: config::CLUSTER.into(),
        trust_anchor: ceremony::trust_anchor(&dir.join("ceremony")),
        pin: dir.join("credentials").join(format!("{}.pin", names.first().map_or("a", String::as_str))),
        dir,
    };
    carry_out_ceremony(&layout, &mut zones, clock, progress).await?;
    // Written once: whoever tries settings out in it keeps them.
    if !layout.config.exists() {
        write(&layout.config, config::text(options, &module, &zones).as_bytes())?;
    }
    Ok(layout)
}

/// The ceremony, unless it was carried out over these very tokens before.
async fn carry_out_ceremony(
    layout: &Layout,
    zones: &mut [Zone],
    clock: &Clock,
    progress: &mut (dyn FnMut(&str) + Send),
) -> Result<(), Error> {
    let prepared = layout.dir.join("prepared");
    let tokens =
        |zones: &[Zone]| zones.iter().map(|zone| format!("{} {}\n", zone.name, zone.serial)).collect::<String>();
    if std::fs::read_to_string(&prepared).is_ok_and(|before| before == tokens(zones)) {
        progress("tokens, certificates and cluster are there from an earlier start");
        return Ok(());
    }
    progress("carrying the key ceremony out over all tokens");
    let participants: Result<Vec<_>, Error> = zones.iter().map(Zone::participant).collect();
    let folder = layout.dir.join("ceremony");
    files::make_dir(&folder)?;
    let carried_out = ceremony::run(&layout.cluster, &participants?, &folder, clock, progress).await;
    let serials = carried_out.map_err(|error| {
        Error::Wrong(format!(
            "the ceremony stopped: {error}; start again, or delete {} to begin anew",
            layout.dir.display()
        ))
    })?;
    for (zone, serial) in zones.iter_mut().zip(serials) {
        zone.made(&serial, progress)?;
    }
    write(&prepared, tokens(zones).as_bytes())
}

/// The zones' names. A cluster cannot gain or lose a zone here: the ceremony was carried out for those of the first
/// start.
fn names(dir: &Path, wanted: &[String]) -> Result<Vec<String>, Error> {
    let zones = dir.join("zones");
    let entries = std::fs::read_dir(&zones).map_err(|error| files::error(&zones, &error))?;
    let mut there: Vec<String> =
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    there.sort();
    let mut wanted = wanted.to_vec();
    wanted.sort();
    if wanted.is_empty() {
        return Ok(if there.len() < 2 { vec!["a".to_owned(), "b".to_owned()] } else { there });
    }
    let begun = !dir.join("prepared").exists() && there.iter().all(|zone| wanted.contains(zone));
    if there == wanted || begun {
        return Ok(wanted);
    }
    Err(Error::Wrong(format!(
        "{} was made with the zones {}, not {}; ask for {} zones, or name another directory",
        dir.display(),
        there.join(", "),
        wanted.join(", "),
        there.len()
    )))
}

/// SoftHSM's module in the places where distributions put it.
#[must_use]
pub fn find_module() -> Option<PathBuf> {
    MODULES.iter().map(PathBuf::from).find(|path| path.exists())
}

fn write_variables(
    file: &Path,
    client: &[PathBuf; 3],
    listening: Listening,
    scope: &Scope,
    pair: Option<&access_keys::Pair>,
) -> Result<(), Error> {
    let [ca, certificate, key] = client;
    let mut text = Zeroizing::new(addresses(listening));
    for (name, path) in [("CA", ca), ("CERT", certificate), ("KEY", key)] {
        text.push_str(&format!("KEYSTORED_{name}={}\n", quoted(&path.to_string_lossy())));
    }
    if listening.aws.is_some() {
        text.push_str(&format!("AWS_CA_BUNDLE={}\n", quoted(&ca.to_string_lossy())));
        for name in ["AWS_REGION", "AWS_DEFAULT_REGION"] {
            text.push_str(&format!("{name}={}\n", scope.region));
        }
        match pair {
            Some(pair) => text.push_str(&pair.lines()),
            None => text.push_str("# the principal has two access keys already: take one of them, or delete one\n"),
        }
    }
    write(file, text.as_bytes())
}

/// By which name of its certificate the administrator of a development daemon is known.
#[must_use]
pub fn administrator() -> String {
    format!("cn:{}", certificates::ADMINISTRATOR)
}

/// Writes the addresses alone, in the form of `dev.env`.
pub fn write_addresses(file: &Path, listening: Listening) -> Result<(), Error> {
    write(file, addresses(listening).as_bytes())
}

fn addresses(Listening { grpc, aws, ops }: Listening) -> String {
    let mut text = format!("KEYSTORED_ADDRESS=https://{}\nKEYSTORED_OPS=http://{}\n", reachable(grpc), reachable(ops));
    for service in ["KMS", "STS"] {
        if let Some(aws) = aws {
            text.push_str(&format!("AWS_ENDPOINT_URL_{service}=https://{}\n", reachable(aws)));
        }
    }
    text
}

/// Who listens on every address can be reached on loopback.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// For a shell; unchanged where a shell would leave it as it is, so that simpler readers understand it too.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "/._-+:@%,".contains(c);
    if text.chars().all(plain) { text.to_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_can_be_read_by_a_shell() {
        assert_eq!(quoted("/tmp/a-b_c.pem"), "/tmp/a-b_c.pem");
        assert_eq!(quoted("/tmp/a b"), "'/tmp/a b'");
        assert_eq!(quoted("/it's"), r"'/it'\''s'");
    }

    #[test]
    fn addresses_can_be_reached() {
        let (grpc, ops) = (SocketAddr::from(([0, 0, 0, 0], 1)), "[::]:2".parse().expect("an address"));
        let text = addresses(Listening { grpc, aws: None, ops });
        assert_eq!(text, "KEYSTORED_ADDRESS=https://127.0.0.1:1\nKEYSTORED_OPS=http://[::1]:2\n");
        let text = addresses(Listening { grpc, aws: Some(SocketAddr::from(([0, 0, 0, 0], 3))), ops });
        let lines = "AWS_ENDPOINT_URL_KMS=https://127.0.0.1:3\nAWS_ENDPOINT_URL_STS=https://127.0.0.1:3\n";
        assert!(text.ends_with(lines), "{text}");
    }

    #[test]
    fn a_directory_keeps_its_zones() {
        let dir = tempfile::tempdir().expect("a directory");
        let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        files::make_dir(&dir.path().join("zones")).expect("made");
        assert_eq!(names(dir.path(), &[]).expect("the usual ones"), list(&["a", "b"]));
        for zone in ["c", "b", "a"] {
            files::make_dir(&dir.path().join("zones").join(zone)).expect("made");
        }
        assert_eq!(names(dir.path(), &[]).expect("those there"), list(&["a", "b", "c"]));
        assert!(names(dir.path(), &list(&["a", "b", "c", "d"])).is_ok(), "the first start was interrupted");
        files::write(&dir.path().join("prepared"), b"").expect("written");
        let error = names(dir.path(), &list(&["a", "b"])).expect_err("one fewer").to_string();
        assert!(error.contains("was made with the zones a, b, c, not a, b; ask for 3 zones"), "{error}");
    }
}

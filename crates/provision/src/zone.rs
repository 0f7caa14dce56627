//! One zone: a SoftHSM of its own with one token.
//!
//! SoftHSM writes `token.object` in place at each login; a process killed in that moment leaves it empty, and the token
//! is gone. So a copy is kept beside the tokens before anybody logs in, and put back when the original is found empty.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use super::files::{error, make_dir, unwritten, write};
use super::{Error, Options};
use ceremony::Participant;
use model::clock::Clock;
use model::profile::Profile;
use model::sandbox::{Sandbox, Tokens};
use model::secret::Secret;
use protocol::Token;
use supervisor::{KillLimits, Settings};
use telemetry::WORKER_LOG;

const TEMPLATE: &str = include_str!("../../../softhsm-config/softhsm2.conf.in");
/// The copy of a zone's `token.object`.
const SAVED: &str = "token.object.saved";
/// How long an earlier daemon's workers may take to leave.
const EARLIER_DAEMON: Duration = Duration::from_secs(10);
/// How long a worker tries while SoftHSM gives transient errors.
const START: Duration = Duration::from_secs(10);
/// Random bytes of a PIN, two hexadecimal digits each.
const PIN_BYTES: usize = 12;

/// A zone that is ready.
pub(super) struct Zone {
    pub(super) name: String,
    pub(super) dir: PathBuf,
    pub(super) serial: String,
    settings: Settings,
    pin_file: PathBuf,
    so_pin_file: PathBuf,
}

impl Zone {
    /// Makes the zone's directories and PINs, or finds them. `pin` is what kmsuser begins with in a new token; the
    /// first connect replaces it.
    pub(super) async fn prepare(
        dir: &Path,
        name: &str,
        options: &Options,
        module: &Path,
        pin: &Secret,
        clock: &Clock,
        progress: &mut (dyn FnMut(&str) + Send),
    ) -> Result<Self, Error> {
        let zone_dir = dir.join("zones").join(name);
        make_dir(&zone_dir.join("tokens"))?;
        let mut zone = Self {
            name: name.to_owned(),
            serial: String::new(),
            settings: settings(dir, name, &zone_dir, options, module)?,
            pin_file: dir.join("credentials").join(format!("{name}.pin")),
            so_pin_file: dir.join("credentials").join(format!("{name}.so-pin")),
            dir: zone_dir,
        };
        let tokens = zone.dir.join("tokens");
        let conf = TEMPLATE.replace("@ZONE@", name).replace("@TOKENS@", &tokens.to_string_lossy());
        write(&zone.conf(), conf.as_bytes())?;
        // Nobody may be logging in while token files are looked at.
        let _lock = lock(&zone.settings.lock_file, clock).await?;
        if let Ok(serial) = std::fs::read_to_string(zone.serial_file()) {
            zone.serial = serial.trim().to_owned();
            zone.guard_token(progress)?;
            return Ok(zone);
        }
        // On disk before the token knows them: a token whose PIN nobody has is lost.
        for (file, pin) in [(&zone.so_pin_file, random_pin()?), (&zone.pin_file, pin.clone())] {
            if !file.exists() {
                write(file, pin.expose())?;
            }
        }
        Ok(zone)
    }

    /// The ceremony has made the token, with this serial number.
    pub(super) fn made(&mut self, serial: &str, progress: &mut (dyn FnMut(&str) + Send)) -> Result<(), Error> {
        serial.clone_into(&mut self.serial);
        write(&self.serial_file(), serial.as_bytes())?;
        self.guard_token(progress)
    }

    fn serial_file(&self) -> PathBuf {
        self.dir.join("serial")
    }

    /// The HSM's name in the configuration.
    pub(super) fn id(&self) -> String {
        self.settings.hsm.to_string()
    }

    /// The token's label.
    pub(super) fn label(&self) -> String {
        self.settings.token.label.clone()
    }

    /// softhsm2.conf.
    pub(super) fn conf(&self) -> PathBuf {
        self.dir.join("softhsm2.conf")
    }

    /// The token as the ceremony wants it.
    pub(super) fn participant(&self) -> Result<Participant, Error> {
        let read = |file: &Path| std::fs::read(file).map(Secret::new).map_err(|cause| error(file, &cause));
        let mut settings = self.settings.clone();
        if !self.serial.is_empty() {
            settings.token.serials = vec![self.serial.clone()];
        }
        Ok(Participant { settings, pin: read(&self.pin_file)?, so_pin: Some(read(&self.so_pin_file)?) })
    }

    /// Keeps a copy of `token.object`, or puts it back.
    fn guard_token(&self, progress: &mut (dyn FnMut(&str) + Send)) -> Result<(), Error> {
        let tokens = self.dir.join("tokens");
        let saved = self.dir.join(SAVED);
        let mut found = false;
        for entry in std::fs::read_dir(&tokens).map_err(|cause| error(&tokens, &cause))?.flatten() {
            if !entry.path().is_dir() {
                continue;
            }
            found = true;
            let original = entry.path().join("token.object");
            let contents = std::fs::read(&original).unwrap_or_default();
            if !contents.is_empty() {
                write(&saved, &contents)?;
                continue;
            }
            let copy = std::fs::read(&saved).unwrap_or_default();
            if copy.is_empty() {
                progress(&format!(
                    "WARNING: zone {}: {} is empty and there is no copy of it",
                    self.name,
                    original.display()
                ));
                continue;
            }
            write(&original, &copy)?;
            progress(&format!(
                "WARNING: zone {}: token.object was EMPTY (a process died inside a login); it was put back from its copy",
                self.name
            ));
        }
        if !found {
            progress(&format!(
                "WARNING: zone {}: its token is gone from {}; the others serve without it",
                self.name,
                tokens.display()
            ));
        }
        Ok(())
    }
}

/// Keeps a copy of each zone's `token.object`. Nobody may be logging in.
pub(super) fn keep_copies(zones: &[PathBuf]) -> Result<(), Error> {
    for zone in zones {
        let tokens = zone.join("tokens");
        for entry in std::fs::read_dir(&tokens).map_err(|cause| error(&tokens, &cause))?.flatten() {
            match std::fs::read(entry.path().join("token.object")) {
                Ok(contents) if !contents.is_empty() => write(&zone.join(SAVED), &contents)?,
                _ => {}
            }
        }
    }
    Ok(())
}

fn settings(dir: &Path, name: &str, zone: &Path, options: &Options, module: &Path) -> Result<Settings, Error> {
    let conf = zone.join("softhsm2.conf").to_string_lossy().into_owned();
    let kill = KillLimits::default();
    let capabilities = config::capabilities(Profile::SoftHsm).map_err(|wrong| Error::Wrong(wrong.to_string()))?;
    Ok(Settings {
        hsm: format!("hsm-{name}").as_str().into(),
        zone: name.into(),
        worker: options.worker.clone(),
        module: module.to_owned(),
        token: Token { label: format!("keystored-dev-{name}"), serials: Vec::new() },
        certificate: None,
        profile: Profile::SoftHsm,
        capabilities,
        // What these workers do is told by `progress`; their log is for trouble.
        environment: [("SOFTHSM2_CONF".to_owned(), conf), (WORKER_LOG[1].to_owned(), "error".to_owned())].into(),
        data_workers: 1,
        sessions: 1,
        hot_copies: false,
        require_mlock: false,
        sandbox: Some(Sandbox { tokens: Tokens::SoftHsm, ..Sandbox::default() }),
        queue_items: 64,
        queue_bytes: 1 << 20,
        kill,
        restart: (Duration::from_millis(200), Duration::from_secs(10)),
        start_timeout: START,
        probe_every: Duration::from_secs(1),
        lock_file: dir.join("state").join(format!("hsm-hsm-{name}.lock")),
        lock_dir: dir.join("state"),
    })
}

/// Takes the lock that a daemon and its workers hold on this HSM; theirs is waited for as long as workers need to
/// leave after their daemon has died.
async fn lock(path: &Path, clock: &Clock) -> Result<File, Error> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(|cause| unwritten(path, &cause))?;
    let until = clock.now() + EARLIER_DAEMON;
    while let Err(cause) = flock(&file, FlockOperation::NonBlockingLockExclusive) {
        if cause != rustix::io::Errno::WOULDBLOCK {
            return Err(error(path, &cause));
        }
        if clock.now() >= until {
            return Err(error(
                path,
                &"another keystored works with this directory; stop it, or name another directory",
            ));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(file)
}

pub(super) fn random_pin() -> Result<Secret, Error> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut bytes = zeroize::Zeroizing::new([0; PIN_BYTES]);
    aws_lc_rs::rand::fill(&mut bytes[..])
        .map_err(|_| Error::Wrong("the operating system gives no random bytes".to_owned()))?;
    let digits = bytes.iter().flat_map(|byte| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    let mut pin = Vec::with_capacity(2 * PIN_BYTES);
    pin.extend(digits);
    Ok(Secret::new(pin))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(dir: &Path) -> Zone {
        let options = Options {
            dir: dir.to_owned(),
            zones: vec!["a".to_owned()],
            listen: Default::default(),
            worker: PathBuf::new(),
            module: None,
        };
        let zone_dir = dir.join("zones/a");
        make_dir(&zone_dir.join("tokens/one")).expect("made");
        let settings = settings(dir, "a", &zone_dir, &options, Path::new("module.so")).expect("known");
        let [pin_file, so_pin_file] = ["a.pin", "a.so-pin"].map(|file| dir.join(file));
        Zone { name: "a".to_owned(), serial: "1".to_owned(), settings, pin_file, so_pin_file, dir: zone_dir }
    }

    #[test]
    fn an_emptied_token_is_put_back_loudly() {
        let dir = tempfile::tempdir().expect("a directory");
        let zone = zone(dir.path());
        let object = zone.dir.join("tokens/one/token.object");
        let mut said = Vec::new();
        std::fs::write(&object, b"token").expect("written");
        zone.guard_token(&mut |step| said.push(step.to_owned())).expect("kept");
        assert!(said.is_empty(), "{said:?}");
        std::fs::write(&object, b"").expect("written");
        zone.guard_token(&mut |step| said.push(step.to_owned())).expect("put back");
        assert_eq!(std::fs::read(&object).expect("there"), b"token");
        assert!(said.concat().contains("WARNING: zone a: token.object was EMPTY"), "{said:?}");
        std::fs::remove_dir_all(zone.dir.join("tokens/one")).expect("removed");
        zone.guard_token(&mut |step| said.push(step.to_owned())).expect("only said");
        assert!(said.concat().contains("its token is gone"), "{said:?}");
    }

    #[test]
    fn pins_differ_and_fit() {
        let (one, other) = (random_pin().expect("made"), random_pin().expect("made"));
        assert_eq!(one.len(), 24);
        assert_ne!(one, other);
    }

    #[tokio::test]
    async fn the_configuration_written_is_one_that_is_read() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut other = zone(dir.path());
        other.name = "b".to_owned();
        other.settings.hsm = "hsm-b".into();
        other.dir = dir.path().join("zones/b");
        other.settings.environment.clear();
        let options = Options {
            dir: dir.path().to_owned(),
            zones: Vec::new(),
            listen: ["127.0.0.1:0", "127.0.0.1:7413", "[::1]:0"].map(str::to_owned),
            worker: PathBuf::new(),
            module: None,
        };
        let text = super::super::config::text(&options, Path::new("/odd \"name\"/m.so"), &[zone(dir.path()), other]);
        let file = dir.path().join("keystored.toml");
        write(&file, text.as_bytes()).expect("written");
        let config = ::config::load(&file).unwrap_or_else(|error| panic!("{error}\n{text}"));
        let hsms = &config.clusters[0].hsms;
        assert_eq!(hsms[0].module, Path::new("/odd \"name\"/m.so"));
        assert_eq!(config.aws.as_ref().map(|aws| aws.listen.port()), Some(7413));
        assert_eq!(hsms[1].token_serials, ["1"]);
        assert_eq!(config.seal.key, dir.path().join("credentials/seal.key"));
        assert_eq!(hsms[0].environment["SOFTHSM2_CONF"], dir.path().join("zones/a/softhsm2.conf").to_string_lossy());
    }
}

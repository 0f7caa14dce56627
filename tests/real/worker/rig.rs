//! A token directory, worker processes on it, and pkcs11-tool beside them.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use bytes::Bytes;
use chaos_hsm::Control;
use model::id::{KeyId, KeyVersionId};
use model::profile::{LeftOut, Objects, Optional, Profile};
use model::sandbox::Sandbox;
use model::secret::Secret;
use protocol::{
    CeremonyOp, DecryptItem, EncryptItem, Fault, FromWorker, LoggedIn, Op, Ready, Reply, Role, Sealed, Start, ToWorker,
    Token, TokenSeen, decode_frame, encode_frame,
};
use tempfile::TempDir;

use crate::harness::chaos;

pub(super) const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";
pub(super) const LABEL: &str = "worker-test";
pub(super) const PIN: &str = "planted-user-pin";
/// What a worker logs when it has made a hot copy.
pub(super) const MADE: &str = "hot copy made";
pub(super) const SO_PIN: &str = "planted-so-pin";
/// Nothing here takes longer on a healthy machine, however busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// A directory with SoftHSM tokens.
pub(super) struct Tokens {
    pub(super) dir: TempDir,
    /// Whether workers use the module by way of chaos-hsm, which counts its calls.
    counted: bool,
    /// Variables of the workers, beside the usual ones.
    pub(super) environment: BTreeMap<String, String>,
}

/// One worker process.
pub(super) struct Worker {
    child: Child,
    socket: UnixStream,
    received: Vec<u8>,
    next_id: u64,
    /// Requests for which it said that it searches the token.
    pub(super) searched: Vec<u64>,
    /// Versions of which it wanted to make hot copies.
    pub(super) wanted: Vec<KeyVersionId>,
    log: PathBuf,
}

impl Tokens {
    pub(super) fn empty() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("tokens")).unwrap();
        let tokens = dir.path().join("tokens");
        let configuration = format!("directories.tokendir = {}\nobjectstore.backend = file\n", tokens.display());
        fs::write(dir.path().join("softhsm2.conf"), configuration).unwrap();
        Self { dir, counted: false, environment: BTreeMap::new() }
    }

    /// With one initialised token in it.
    pub(super) fn new() -> Self {
        let tokens = Self::empty();
        tokens.init_token(LABEL);
        tokens
    }

    /// With a token that has been through the ceremony.
    pub(super) fn after_ceremony() -> Self {
        let tokens = Self::new();
        let mut worker = tokens.ceremony();
        let Reply::TransportKey(transport) = worker.ceremony(CeremonyOp::MakeTransportPair) else { panic!() };
        assert!(matches!(worker.ceremony(CeremonyOp::MakeCanary), Reply::Done));
        let Reply::Blobs(blobs) = worker.ceremony(CeremonyOp::MakeWrappingKey { transports: vec![transport] }) else {
            panic!()
        };
        assert!(matches!(worker.ceremony(CeremonyOp::PlaceWrappingKey { blob: blobs[0].clone() }), Reply::Done));
        assert!(worker.stop().success());
        tokens
    }

    /// Has the workers that are started from now on count their calls of the module.
    pub(super) fn count_calls(&mut self) -> Control {
        self.counted = true;
        let dir = self.dir.path().join("chaos");
        fs::create_dir(&dir).unwrap();
        Control::open(&dir).unwrap()
    }

    /// Makes a token with this label; its serial number.
    pub(super) fn init_token(&self, label: &str) -> String {
        let mut worker = self.bare();
        let token = Token { label: label.into(), serials: Vec::new() };
        let (so_pin, user_pin) = (secret(SO_PIN), secret(PIN));
        let init = CeremonyOp::InitToken { token: token.clone(), so_pin: so_pin.clone() };
        assert!(matches!(worker.ceremony(init), Reply::Done));
        let serial = worker.discover().into_iter().find(|seen| seen.label == label).unwrap().serial;
        // By its serial number: another token may carry the label.
        let token = Token { serials: vec![serial.clone()], ..token };
        assert!(matches!(worker.ceremony(CeremonyOp::InitUserPin { token, so_pin, user_pin }), Reply::Done));
        assert!(worker.stop().success());
        serial
    }

    /// A ceremony worker without a token.
    pub(super) fn bare(&self) -> Worker {
        let mut start = self.start(Role::Ceremony);
        start.token = None;
        self.found(start).unwrap().0
    }

    pub(super) fn start(&self, role: Role) -> Start {
        Start {
            hsm: "hsm-t".into(),
            role,
            index: 0,
            incarnation: 1,
            module: if self.counted { chaos::module() } else { MODULE.into() },
            token: Some(Token { label: LABEL.into(), serials: Vec::new() }),
            capabilities: config::capabilities(Profile::SoftHsm).unwrap(),
            sessions: 1,
            hot_copies: true,
            require_mlock: false,
            // Where it counts, it writes to more than its tokens.
            sandbox: Some(Sandbox {
                write: self.counted.then(|| self.dir.path().join("chaos")).into_iter().collect(),
                ..Sandbox::of_profile("softhsm", &BTreeMap::new())
            }),
            start_timeout_ms: 20_000,
            login_limit_ms: 60_000,
        }
    }

    /// A worker that is logged in.
    pub(super) fn worker(&self, start: Start) -> Result<Worker, Fault> {
        self.worker_with(start, PIN)
    }

    /// A worker that logs in with this PIN.
    pub(super) fn worker_with(&self, start: Start, pin: &str) -> Result<Worker, Fault> {
        let (mut worker, _) = self.found(start)?;
        worker.login(pin).map(|_| worker)
    }

    /// A worker that is logged in, with what it found before and after.
    pub(super) fn ready(&self, start: Start) -> (Worker, Ready, LoggedIn) {
        let (mut worker, ready) = self.found(start).unwrap();
        let found = worker.login(PIN).unwrap();
        (worker, ready, found)
    }

    /// A worker that has found its token, if it is to.
    pub(super) fn found(&self, start: Start) -> Result<(Worker, Ready), Fault> {
        let mut worker = Worker::spawn(self.dir.path(), &self.environment);
        worker.send(&ToWorker::Start(Box::new(start)));
        match worker.receive() {
            FromWorker::Ready(ready) => Ok((worker, *ready)),
            FromWorker::Failed(fault) => {
                worker.child.wait().unwrap();
                Err(fault)
            }
            FromWorker::Reply { .. }
            | FromWorker::Searching { .. }
            | FromWorker::PinTaken
            | FromWorker::Wants { .. } => {
                panic!("a reply before Ready")
            }
        }
    }

    pub(super) fn data(&self) -> Worker {
        self.worker(self.start(Role::Data)).unwrap()
    }

    pub(super) fn control(&self) -> Worker {
        self.worker(self.start(Role::Control)).unwrap()
    }

    /// One that places keys as an earlier version did: they can be copied and changed.
    pub(super) fn control_as_before(&self) -> Worker {
        let mut start = self.start(Role::Control);
        let (functions, objects) = (vec!["C_UnwrapKey".to_owned()], vec![Objects::SecretKey]);
        let names = vec![Optional::Copyable, Optional::Modifiable];
        start.capabilities.attributes.left_out.push(LeftOut { functions, objects, names });
        self.worker(start).unwrap()
    }

    pub(super) fn ceremony(&self) -> Worker {
        self.worker(self.start(Role::Ceremony)).unwrap()
    }

    /// The directory of the only token.
    pub(super) fn token_dir(&self) -> PathBuf {
        let mut entries = fs::read_dir(self.dir.path().join("tokens")).unwrap();
        entries.next().unwrap().unwrap().path()
    }

    /// Runs pkcs11-tool, logged in as kmsuser; its output, and whether it succeeded.
    pub(super) fn pkcs11_tool(&self, arguments: &[&str]) -> (String, bool) {
        let output = Command::new("pkcs11-tool")
            .env("SOFTHSM2_CONF", self.dir.path().join("softhsm2.conf"))
            .args(["--module", MODULE, "--token-label", LABEL, "--login", "--pin", PIN])
            .args(arguments)
            .output()
            .unwrap();
        let text = [output.stdout, output.stderr].concat();
        (String::from_utf8_lossy(&text).into_owned(), output.status.success())
    }
}

impl Worker {
    fn spawn(dir: &Path, environment: &BTreeMap<String, String>) -> Self {
        let (socket, child) = UnixStream::pair().unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let log = dir.join(format!("worker-{}.log", uuid::Uuid::new_v4()));
        let child = Command::new(env!("CARGO_BIN_EXE_keystored"))
            .arg("hsm-worker")
            .env_clear()
            .env("SOFTHSM2_CONF", dir.join("softhsm2.conf"))
            .env("CHAOS_HSM_MODULE", MODULE)
            .env("CHAOS_HSM_DIR", dir.join("chaos"))
            .env("KEYSTORED_LOG_FILTER", "trace")
            .envs(environment)
            .stdin(Stdio::from(OwnedFd::from(child)))
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        Self { child, socket, received: Vec::new(), next_id: 0, searched: Vec::new(), wanted: Vec::new(), log }
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    pub(super) fn send(&mut self, message: &ToWorker) {
        let mut frame = Vec::new();
        encode_frame(message, &mut frame).unwrap();
        self.socket.write_all(&frame).unwrap();
    }

    pub(super) fn receive(&mut self) -> FromWorker {
        loop {
            if let Some((message, taken)) = decode_frame(&self.received).unwrap() {
                self.received.drain(..taken);
                match message {
                    FromWorker::Searching { id } => self.searched.push(id),
                    // Before the answer to the login that it is about.
                    FromWorker::PinTaken => {}
                    FromWorker::Wants { keys } => self.wanted.extend(keys),
                    message => return message,
                }
                continue;
            }
            let mut chunk = vec![0; 64 << 10];
            let read = match self.socket.read(&mut chunk) {
                // A child of another test in this process may have ended.
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                read => read.unwrap(),
            };
            assert!(read > 0, "the worker closed its socket; its log:\n{}", self.log());
            self.received.extend_from_slice(&chunk[..read]);
        }
    }

    /// Sends a request without waiting for its answer.
    pub(super) fn request(&mut self, op: Op) -> u64 {
        self.next_id += 1;
        let id = self.next_id;
        self.send(&ToWorker::Request { id, op });
        id
    }

    pub(super) fn call(&mut self, op: Op) -> Reply {
        let id = self.request(op);
        let FromWorker::Reply { id: answered, reply } = self.receive() else { panic!("no reply") };
        assert_eq!(id, answered);
        reply
    }

    /// Uses a key until the worker wants to make a copy of it, and has it make one of this; what the log says since.
    pub(super) fn copy(&mut self, key: KeyVersionId, blob: Option<Bytes>) -> String {
        self.wanted.clear();
        wait_for("a copy is wanted", || {
            self.encrypt(key, b"plaintext", b"").unwrap();
            self.wanted.contains(&key)
        });
        let before = self.log().len();
        let reply = self.call(Op::Copy { key, blob });
        assert!(matches!(reply, Reply::Done), "{reply:?}");
        self.log().split_off(before)
    }

    pub(super) fn login(&mut self, pin: &str) -> Result<LoggedIn, Fault> {
        match self.call(Op::Login(secret(pin))) {
            Reply::LoggedIn(found) => Ok(*found),
            Reply::Failed(fault) => Err(fault),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn discover(&mut self) -> Vec<TokenSeen> {
        match self.ceremony(CeremonyOp::Discover) {
            Reply::Tokens(seen) => seen,
            other => panic!("{other:?}"),
        }
    }

    /// Which objects of the ceremony the token holds.
    pub(super) fn inspect(&mut self) -> protocol::CeremonyObjects {
        match self.ceremony(CeremonyOp::Inspect) {
            Reply::Inspected(found) => found.objects,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn ceremony(&mut self, step: CeremonyOp) -> Reply {
        self.call(Op::Ceremony(step))
    }

    pub(super) fn fault(&mut self, op: Op) -> Fault {
        match self.call(op) {
            Reply::Failed(fault) => fault,
            other => panic!("a fault was expected, not {other:?}"),
        }
    }

    /// Makes a key and places it.
    pub(super) fn make_key(&mut self) -> (KeyVersionId, Bytes) {
        let key = KeyVersionId { key: KeyId::random(), version: 1 };
        let Reply::Blob(blob) = self.call(Op::MakeKey) else { panic!("no blob") };
        self.place(key, &blob);
        (key, blob)
    }

    pub(super) fn place(&mut self, key: KeyVersionId, blob: &Bytes) {
        let reply = self.call(Op::Place { key, label: format!("arn:{key}"), blob: blob.clone() });
        assert!(matches!(reply, Reply::Done), "{reply:?}");
    }

    pub(super) fn encrypt(&mut self, key: KeyVersionId, plaintext: &[u8], aad: &[u8]) -> Result<Sealed, Fault> {
        let item = EncryptItem { key, aad: Bytes::copy_from_slice(aad), plaintext: plaintext.to_vec().into() };
        let Reply::Encrypted(mut results) = self.call(Op::Encrypt(vec![item])) else { panic!("no ciphertext") };
        results.remove(0)
    }

    pub(super) fn decrypt(&mut self, key: KeyVersionId, sealed: &Sealed, aad: &[u8]) -> Result<Secret, Fault> {
        let item = DecryptItem { key, aad: Bytes::copy_from_slice(aad), iv: sealed.iv, sealed: sealed.sealed.clone() };
        let Reply::Decrypted(mut results) = self.call(Op::Decrypt(vec![item])) else { panic!("no plaintext") };
        results.remove(0)
    }

    /// Closes the socket and waits until the process has left.
    pub(super) fn stop(mut self) -> ExitStatus {
        self.socket.shutdown(std::net::Shutdown::Both).unwrap();
        let status = self.child.wait().unwrap();
        let log = self.log();
        for planted in [PIN, SO_PIN] {
            assert!(!log.contains(planted), "a PIN is in the log");
        }
        status
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Closing the socket has it leave by itself; killing could hit a login.
        drop(self.socket.shutdown(std::net::Shutdown::Both));
        drop(self.child.wait());
    }
}

pub(super) fn secret(text: &str) -> Secret {
    Secret::new(text.as_bytes().to_vec())
}

/// Waits for a condition; fails when it does not come.
pub(super) fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = model::clock::Clock::system();
    let end = deadline.now() + PATIENCE;
    while !condition() {
        assert!(deadline.now() < end, "waited in vain: {what}");
        std::thread::yield_now();
    }
}

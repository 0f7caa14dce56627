//! What is around the HSMs fails as well, while the zones do (`make soak`): nobody reads the log, or nobody is there to;
//! the disk is full; certificates change, calendars are set, SIGHUPs come, connections come and go, and strangers say
//! nothing. Callers meet no more than with the zones' troubles alone.

mod clock;
mod listener;
mod strangers;

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use model::clock::Clock;
use pki::Authority;
use rustix::process::Signal;

use self::clock::SteppedClock;
use self::listener::{Listener, Listening};
use self::strangers::{Strangers, must};
use super::rng::Rng;
use super::run::{Run, Surroundings, run_in};
use super::schedule::Schedule;
use crate::harness::daemon::Site;
use crate::harness::load::Load;
use crate::harness::stream::Pipe;
use crate::harness::{Daemon, process, wait};

/// Of the disk that the daemon's state has for itself.
const DISK: u64 = 32 << 20;
/// How far the calendar is set forward at most; certificates of development last a year.
const FORWARD: u64 = 20 * 86_400;
const DAY: Duration = Duration::from_secs(86_400);
/// Everything that is done around the HSMs, each in turn; then the order is drawn anew.
const KINDS: [Kind; 7] = [
    Kind::LogStalled,
    Kind::LogGone,
    Kind::Certificates,
    Kind::WrongCertificates,
    Kind::Clock,
    Kind::HangUps,
    Kind::DiskFull,
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    LogStalled,
    LogGone,
    /// A new pair.
    Certificates,
    /// A certificate that does not fit its key, and then a new pair.
    WrongCertificates,
    Clock,
    HangUps,
    DiskFull,
}

struct Wanted {
    seed: u64,
    length: Duration,
}

impl Wanted {
    /// What `make soak` asks for; without it, a rehearsal.
    fn read() -> Self {
        let number = |name: &str, otherwise| match std::env::var(name).ok().filter(|text| !text.is_empty()) {
            Some(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")),
            None => otherwise,
        };
        Self { seed: number("SOAK_SEED", 1), length: Duration::from_secs(number("SOAK_SECONDS", 20)) }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_around_the_hsms_fails_as_well() {
    let Wanted { seed, length } = Wanted::read();
    let (schedule, reached) = (Schedule::draw(seed, length), AtomicUsize::new(0));
    let mut around = Around::new(seed);
    let outcome = run_in(&schedule, length, &reached, &mut around).await;
    println!("seed {seed}, {length:?}: {} zones, {outcome}", schedule.zones);
    println!("around them: {}", around.told());
    for (kind, times) in KINDS.iter().zip(around.done) {
        assert!(times > 0 || length < Duration::from_secs(120), "{kind:?} never came");
    }
}

/// See the module.
struct Around {
    rng: Rng,
    /// What comes next, from the end.
    next: Vec<Kind>,
    now: Option<Kind>,
    /// How often each kind came.
    done: [usize; KINDS.len()],
    listener: Option<Listener>,
    clock: Option<SteppedClock>,
    strangers: Option<Strangers>,
    /// What the strangers came to.
    came: (usize, usize),
    /// Is switched, and encrypts nothing.
    spare: String,
}

impl Around {
    fn new(seed: u64) -> Self {
        Self {
            rng: Rng::new(seed ^ 0x5eed),
            next: Vec::new(),
            now: None,
            done: [0; KINDS.len()],
            listener: None,
            clock: None,
            strangers: None,
            came: (0, 0),
            spare: String::new(),
        }
    }

    fn draw(&mut self) -> Kind {
        if self.next.is_empty() {
            self.next = KINDS.to_vec();
            for at in (1..KINDS.len()).rev() {
                self.next.swap(at, self.rng.below(at + 1));
            }
        }
        let kind = self.next.pop().unwrap();
        self.done[KINDS.iter().position(|known| *known == kind).unwrap()] += 1;
        kind
    }

    fn told(&self) -> String {
        let kinds = KINDS.iter().zip(self.done).map(|(kind, times)| format!("{kind:?} {times} times"));
        let kinds: Vec<String> = kinds.collect();
        format!(
            "{}; {} connections made for one call, {} silent sockets ended",
            kinds.join(", "),
            self.came.0,
            self.came.1
        )
    }

    fn listen(&self, listening: Listening) {
        self.listener.as_ref().unwrap().set(listening);
    }

    fn set_clock(&mut self) {
        let seconds = self.rng.between(0, FORWARD);
        self.clock.as_ref().unwrap().set(i64::try_from(seconds).unwrap());
    }

    /// With the zones sound: who needs no record goes on, what needs one is refused in a way that a caller can act on, the
    /// kill switch works, and all of it ends with the trouble.
    async fn fill_the_disk(&self, run: &Run<'_>) {
        let disk = run.daemon.site().disk();
        disk.fill();
        // What is allocated already takes a few more changes.
        let refused = wait::until_async("a key is refused on a full disk", wait::LONG, async || {
            match run.caller.try_create_key("on a full disk", "").await {
                Ok(key) => {
                    run.made(key.key_id);
                    None
                }
                Err(failure) => Some(failure),
            }
        });
        let refused = refused.await;
        let state = run.daemon.site().path().join("state").display().to_string();
        assert!(refused.retryable && refused.message.contains(&state), "{refused:?}");
        must("DisableKey on a full disk", run.caller.switch_key(&self.spare, false).await);
        wait::pass(Duration::from_secs(1)).await;
        run.journal.check();
        disk.free();
        wait::until_async("the disk is no trouble any more", wait::LONG, async || {
            let (_, metrics) = run.daemon.ops("/metrics")?;
            metrics.contains("keystored_degraded{reason=\"disk\"} 0").then_some(())
        })
        .await;
        must("EnableKey after that", run.caller.switch_key(&self.spare, true).await);
    }
}

impl Surroundings for Around {
    fn launch(&mut self, site: Site) -> Daemon {
        let site = site.with_disk(DISK);
        let clock = SteppedClock::build(site.path());
        let listener = Listener::start(site.path(), &site.path().join("daemon.log"));
        let daemon = site.launch_around(&clock.environment(), listener.end());
        (self.clock, self.listener) = (Some(clock), Some(listener));
        daemon
    }

    async fn before_the_callers(&mut self, run: &Run<'_>) {
        self.spare = run.caller.create_key("to be switched").await;
        run.made_apart(&self.spare);
        self.strangers =
            Some(Strangers::start(&run.daemon.address(), &self.spare_for_strangers(run).await, run.journal));
    }

    async fn begin(&mut self, run: &Run<'_>) {
        let kind = self.draw();
        self.now = Some(kind);
        match kind {
            Kind::LogStalled => self.listen(Listening::Stalled),
            Kind::LogGone => self.listen(Listening::Gone),
            Kind::Certificates => Certificates::of(run.daemon).renew(true),
            Kind::WrongCertificates => Certificates::of(run.daemon).renew(false),
            Kind::Clock => self.set_clock(),
            Kind::HangUps => process::signal(run.daemon.pid(), Signal::HUP),
            Kind::DiskFull => self.fill_the_disk(run).await,
        }
    }

    async fn end(&mut self, run: &Run<'_>) {
        match self.now.take() {
            Some(Kind::LogStalled | Kind::LogGone) => self.listen(Listening::Yes),
            Some(Kind::WrongCertificates) => Certificates::of(run.daemon).renew(true),
            Some(Kind::Clock) => self.set_clock(),
            Some(Kind::HangUps) => process::signal(run.daemon.pid(), Signal::HUP),
            Some(Kind::Certificates | Kind::DiskFull) | None => {}
        }
    }

    fn over(&mut self) {
        self.listen(Listening::Yes);
        if let Some(Strangers { churned, silent, .. }) = self.strangers.take() {
            self.came = (churned.load(Ordering::Relaxed), silent.load(Ordering::Relaxed));
        }
    }
}

impl Around {
    /// A key that nobody switches.
    async fn spare_for_strangers(&self, run: &Run<'_>) -> String {
        let key = run.caller.create_key("for those who come and go").await;
        run.made(key.clone());
        key
    }
}

/// The log in trouble from the start to the end, idle and under load: nothing else is.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_in_trouble_from_start_to_end_troubles_nobody() {
    for trouble in ["full", "broken", "/dev/full"] {
        let site = Site::prepare().await;
        let pipe = match trouble {
            "full" => Some(Pipe::full()),
            "broken" => Some(Pipe::broken()),
            _ => None,
        };
        let log = match &pipe {
            Some(pipe) => Stdio::from(pipe.end()),
            None => Stdio::from(fs::File::options().write(true).open(trouble).unwrap()),
        };
        let daemon = site.launch_into(Stdio::null(), log);
        daemon.wait_until_ready();
        let caller = daemon.caller().await;
        daemon.connect_key_store(&caller).await;
        let key = caller.create_key(trouble).await;
        let load = Load::start(&caller, &key, 4);
        load.passes(200).await;
        let (calls, failures) = load.stop().await;
        assert!(failures.is_empty(), "{trouble}: {} of {calls} failed: {:?}", failures.len(), failures.first());
        let (code, body) = daemon.ops("/readyz").unwrap();
        assert_eq!(code, 200, "{trouble}: {body}");
        let (status, _site) = daemon.terminate();
        assert!(status.success(), "{trouble}: {status}");
    }
}

/// The files of the gRPC listener, and the authority that makes new ones.
struct Certificates {
    certificate: PathBuf,
    key: PathBuf,
    authority: Authority,
}

impl Certificates {
    fn of(daemon: &Daemon) -> Self {
        let config = daemon.site().config();
        let file = |name: &str| daemon.site().path().join(config["grpc"][name].as_str().unwrap());
        let ca = daemon.environment().unwrap()["KEYSTORED_CA"].clone();
        let [ca, ca_key] =
            [PathBuf::from(ca), daemon.client_authority_key()].map(|file| fs::read_to_string(file).unwrap());
        let authority = Authority::load(&ca, &ca_key).unwrap();
        Self { certificate: file("certificate"), key: file("key"), authority }
    }

    /// Writes a new certificate, and the key that fits it unless it is not to.
    fn renew(&self, fits: bool) {
        let names = ["localhost", "127.0.0.1", "::1"];
        let issued = self.authority.server(&names, Clock::system().calendar(), 365 * DAY).unwrap();
        if fits {
            replace(&self.key, issued.key.expose());
        }
        replace(&self.certificate, issued.certificate.as_bytes());
    }
}

/// Atomically, as whatever renews certificates does.
fn replace(path: &std::path::Path, content: &[u8]) {
    let new = path.with_extension("new");
    fs::write(&new, content).unwrap();
    fs::set_permissions(&new, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    fs::rename(new, path).unwrap();
}

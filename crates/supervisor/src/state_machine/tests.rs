use super::probed::BUSY_FOR;
use super::*;
use model::clock::Clock;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);
const START: Duration = Duration::from_secs(10);
const LOGIN: Duration = Duration::from_secs(70);
const LEAVE: Duration = Duration::from_secs(2);

struct Run {
    clock: Clock,
    machine: StateMachine,
}

impl Run {
    fn new() -> Self {
        let policy = Policy { restart: (FIRST, LONGEST), find: START, enter: LOGIN, leave: LEAVE };
        Self { clock: Clock::manual(), machine: StateMachine::new(policy) }
    }

    fn ready() -> Self {
        let mut run = Self::new();
        assert_eq!(run.tell(Event::Turn), [Action::Spawn]);
        assert_eq!(run.tell(Event::Found), [Action::Enter]);
        assert_eq!(run.tell(Event::Ready), [Action::Serve]);
        run
    }

    fn tell(&mut self, event: Event) -> &'static [Action] {
        self.machine.next(event, self.clock.now(), u8::MAX)
    }

    fn exit(&mut self) -> Duration {
        self.tell(Event::Exited("signal: 9".into()));
        let State::Backoff { until } = self.machine.state() else { panic!("{:?}", self.machine) };
        until - self.clock.now()
    }
}

fn fault(class: Class) -> Fault {
    Fault { class, function: "C_Login".into(), code: 0xa0, detail: None, at_source: false }
}

#[test]
fn a_dead_worker_is_started_again_later_each_time() {
    let mut run = Run::ready();
    let mut pauses = Vec::new();
    for _ in 0..8 {
        pauses.push(run.exit().as_millis());
        assert_eq!(run.tell(Event::Due), []);
        assert_eq!(run.tell(Event::Turn), [Action::Spawn]);
    }
    assert_eq!(pauses, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
    assert!(run.machine.trouble().unwrap().contains("signal: 9"));
}

#[test]
fn jitter_takes_at_most_half_of_the_pause() {
    let mut run = Run::ready();
    run.machine.next(Event::Exited(String::new()), run.clock.now(), 0);
    assert_eq!(run.machine.until(), Some(run.clock.now() + FIRST / 2));
}

#[test]
fn having_been_ready_for_long_forgets_the_deaths() {
    let mut run = Run::ready();
    run.exit();
    run.tell(Event::Due);
    run.tell(Event::Turn);
    run.tell(Event::Found);
    run.tell(Event::Ready);
    assert_eq!(run.exit(), FIRST * 2);
    run.tell(Event::Due);
    run.tell(Event::Turn);
    run.tell(Event::Found);
    run.tell(Event::Ready);
    run.clock.advance(LONGEST);
    assert_eq!(run.exit(), FIRST);
}

fn refusal(permanent: bool) -> AdmissionError {
    AdmissionError { code: Code::InvalidCredentials, permanent, reason: "HSM a: refused".into(), after: None }
}

#[test]
fn what_is_refused_for_good_is_not_tried_again() {
    let mut run = Run::new();
    run.tell(Event::Turn);
    run.tell(Event::Found);
    assert_eq!(run.tell(Event::Refused(refusal(true))), [Action::Close]);
    run.tell(Event::Exited("exit status: 0".into()));
    assert_eq!(run.machine.state(), State::Refused);
    assert_eq!(run.machine.until(), None);
    assert_eq!((run.machine.trouble(), run.machine.code()), (Some("HSM a: refused"), Some(Code::InvalidCredentials)));
    assert_eq!(run.tell(Event::Turn), []);
    assert_eq!(run.tell(Event::Due), []);

    let mut other = Run::new();
    assert_eq!(other.tell(Event::Refused(refusal(true))), []);
    assert_eq!(other.machine.state(), State::Refused);
}

#[test]
fn what_is_refused_for_now_is_tried_again() {
    let mut run = Run::new();
    run.tell(Event::Turn);
    run.tell(Event::Found);
    assert_eq!(run.tell(Event::Refused(refusal(false))), [Action::Close]);
    assert_eq!(run.exit(), FIRST);
}

/// As where another look has found that the token contradicts its profile.
#[test]
fn one_that_may_serve_no_more_leaves_and_says_why() {
    let mut run = Run::ready();
    let why = refusal(false).reason;
    assert_eq!(run.tell(Event::Refused(refusal(false))), [Action::Withdraw, Action::Close]);
    assert_eq!(run.exit(), FIRST);
    assert_eq!((run.machine.trouble(), run.machine.is_trouble_of_hsm()), (Some(&why[..]), true));
}

#[test]
fn what_is_refused_for_longer_is_left_alone_for_as_long_once() {
    let mut run = Run::new();
    run.tell(Event::Turn);
    run.tell(Event::Found);
    assert_eq!(run.tell(Event::Refused(refusal(false).not_before(LONGEST * 10))), [Action::Close]);
    assert_eq!(run.exit(), LONGEST * 10);
    run.tell(Event::Due);
    run.tell(Event::Turn);
    assert_eq!(run.exit(), FIRST * 2, "what comes then is another thing");
}

#[test]
fn a_worker_at_the_gate_is_killed_only_past_the_limit_of_what_it_does() {
    let mut run = Run::new();
    run.tell(Event::Turn);
    run.tell(Event::Found);
    assert_eq!(run.tell(Event::Overdue { kind: Kind::Login, limit: LOGIN }), [Action::Kill]);
}

#[test]
fn other_start_failures_are_tried_again() {
    let mut run = Run::new();
    run.tell(Event::Turn);
    run.tell(Event::Failed(fault(Class::Token)));
    assert_eq!(run.exit(), FIRST);
    run.tell(Event::Due);
    run.tell(Event::Turn);
    run.tell(Event::Unspawned("cannot start".into()));
    assert!(matches!(run.machine.state(), State::Backoff { .. }));
    assert_eq!(run.machine.trouble(), Some("cannot start"));
    assert!(!run.machine.is_trouble_of_hsm());
    // It may be put there at any time.
    run.tell(Event::Due);
    run.tell(Event::Turn);
    assert_eq!(run.tell(Event::NoCertificate("HSM a: it is not there".into())), []);
    assert!(matches!(run.machine.state(), State::Backoff { .. }) && run.machine.is_trouble_of_hsm());
    assert_eq!(run.machine.code(), Some(Code::InsufficientCloudHsmHsms));
}

#[test]
fn a_worker_that_looks_for_its_token_is_killed_when_it_is_to_stop() {
    let mut run = Run::new();
    run.tell(Event::Turn);
    assert_eq!(run.machine.until(), Some(run.clock.now() + START));
    let kill_at = run.clock.now() + Duration::from_millis(1);
    assert_eq!(run.tell(Event::Stop { kill_at }), [Action::Close]);
    assert_eq!(run.machine.until(), Some(kill_at), "no login has begun");
    run.clock.advance(START);
    assert_eq!(run.tell(Event::Due), [Action::Kill]);
    run.tell(Event::Exited(String::new()));
    assert_eq!(run.machine.state(), State::Stopped);
}

/// A login may have begun the moment before: it has its whole limit, whatever time went by in admission.
#[test]
fn a_worker_at_the_gate_is_given_the_time_of_a_login() {
    let ends: [fn(Instant) -> Event; 4] = [
        |kill_at| Event::Stop { kill_at },
        |_| Event::Closed,
        |_| Event::Garbled("nonsense".into()),
        |_| Event::Failed(fault(Class::Token)),
    ];
    for end in ends {
        let mut run = Run::new();
        run.tell(Event::Turn);
        run.tell(Event::Found);
        run.clock.advance(LOGIN - Duration::from_millis(1));
        let event = end(run.clock.now());
        assert_eq!(run.tell(event), [Action::Close]);
        assert_eq!(run.machine.until(), Some(run.clock.now() + LOGIN));
        run.clock.advance(LOGIN);
        assert_eq!(run.tell(Event::Due), [Action::Kill]);
    }
}

#[test]
fn two_failed_probes_in_a_row_start_it_again_in_order() {
    let mut run = Run::ready();
    assert_eq!(run.tell(Event::Probed(Err(fault(Class::Token)))), []);
    assert_eq!(run.tell(Event::Probed(Ok(()))), []);
    assert_eq!(run.tell(Event::Probed(Err(fault(Class::Token)))), []);
    assert_eq!(run.tell(Event::Probed(Err(fault(Class::Token)))), [Action::Withdraw, Action::Close]);
    run.clock.advance(LEAVE);
    assert_eq!(run.tell(Event::Due), [Action::Kill]);
    assert_eq!(run.exit(), FIRST);
    assert!(run.machine.trouble().unwrap().contains("probe failed 2 times"));
}

fn busy(run: &mut Run, served: bool) -> &'static [Action] {
    run.clock.advance(Duration::from_secs(1));
    run.tell(Event::Busy { fault: fault(Class::Busy), served })
}

#[test]
fn one_that_says_for_a_minute_that_it_has_too_much_to_do_is_taken_out_and_comes_back() {
    let mut run = Run::ready();
    for _ in 0..BUSY_FOR.as_secs() {
        assert_eq!(busy(&mut run, false), []);
        assert!(matches!(run.machine.state(), State::Ready { misses: 0, .. }) && run.machine.trouble().is_none());
    }
    assert_eq!(busy(&mut run, false), [Action::Withdraw, Action::Close]);
    assert!(run.machine.trouble().unwrap().contains("for 60s the HSM has said nothing but"), "{:?}", run.machine);
    assert_eq!(run.exit(), FIRST);
    // Where admission meets the same, it is tried again; where not, it serves, and the minute begins anew.
    run.tell(Event::Due);
    run.tell(Event::Turn);
    run.tell(Event::Found);
    assert_eq!(run.tell(Event::Ready), [Action::Serve]);
    assert!(run.machine.trouble().is_none());
    assert_eq!(busy(&mut run, false), []);
}

#[test]
fn a_word_or_a_deed_in_between_begins_the_minute_anew() {
    let mut run = Run::ready();
    let almost = |run: &mut Run| {
        for _ in 0..BUSY_FOR.as_secs() {
            assert_eq!(busy(run, false), []);
        }
    };
    almost(&mut run);
    assert_eq!(busy(&mut run, true), [], "callers were served");
    for _ in 1..BUSY_FOR.as_secs() {
        assert_eq!(busy(&mut run, false), []);
    }
    assert_eq!(run.tell(Event::Probed(Ok(()))), []);
    almost(&mut run);
    assert_eq!(run.tell(Event::Probed(Err(fault(Class::Token)))), [], "one failed probe is forgiven");
    almost(&mut run);
    assert_eq!(busy(&mut run, false), [Action::Withdraw, Action::Close]);
}

#[test]
fn a_token_that_does_otherwise_than_it_must_is_taken_out_at_once() {
    let mut run = Run::ready();
    assert_eq!(run.tell(Event::Probed(Err(fault(Class::Incompatible)))), [Action::Withdraw, Action::Close]);
    assert_eq!(run.machine.code(), Some(Code::InsufficientCloudHsmHsms));
}

#[test]
fn a_canary_that_is_not_used_is_reported_but_does_not_restart() {
    let mut run = Run::ready();
    for _ in 0..5 {
        assert_eq!(run.tell(Event::Probed(Err(fault(Class::Refused)))), []);
    }
    assert!(run.machine.trouble().is_some());
    run.tell(Event::Probed(Ok(())));
    assert!(run.machine.trouble().is_none());
}

#[test]
fn a_hanging_worker_is_killed_at_once() {
    let mut run = Run::ready();
    let event = Event::Overdue { kind: Kind::Crypto, limit: Duration::from_millis(250) };
    assert_eq!(run.tell(event), [Action::Withdraw, Action::Kill]);
    assert_eq!(run.tell(Event::Closed), []);
    run.exit();
    assert!(run.machine.trouble().unwrap().contains("250ms"));
}

#[test]
fn stopping_a_ready_worker_lets_it_leave_until_the_time_given() {
    let mut run = Run::ready();
    let kill_at = run.clock.now() + Duration::from_secs(3);
    assert_eq!(run.tell(Event::Stop { kill_at }), [Action::Withdraw, Action::Close]);
    assert_eq!(run.machine.until(), Some(kill_at));
    run.tell(Event::Exited("exit status: 0".into()));
    assert_eq!(run.machine.state(), State::Stopped);
    assert!(run.machine.trouble().is_none());
}

//! What the self-test at the gate could not judge is looked at again: of a token that was throttled then nothing would be known
//! before another control worker comes, which may be in weeks.
//!
//! Rarely, since a look is some hundred calls, and what some tokens say of a wrong tag can never be told from throttling. By the
//! control worker, so that callers keep their sessions. What contradicts keeps the HSM out, as it does at the gate; but this one
//! serves, and what another HSM behind its slot has lost in the middle of a look may read as a contradiction. So two looks in a row
//! have to find the same one, so far apart that one trouble does not last for both.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::sleep;

use super::dispatch::Dispatcher;
use super::examination::judged;
use super::member::Member;
use super::port::Port;
use model::clock::Clock;
use model::profile::judgement::{Finding, Judgement, Verdict};
use protocol::{Op, Reply};
use supervisor::Status;
use telemetry::watchdog::{Heartbeat, Task, Watchdog};

/// Before it is looked at again: the first and the longest pause.
pub(super) const PAUSES: (Duration, Duration) = (Duration::from_secs(300), Duration::from_secs(6 * 3_600));
/// For one look; past it, nothing is known of it.
const PATIENCE: Duration = Duration::from_secs(120);

/// Starts the tasks of all members. They end when the set is dropped or the supervisors are gone.
pub(super) fn keep<P: Port>(
    dispatcher: &Arc<Dispatcher<P>>,
    watchdog: &Watchdog,
    tasks: &mut JoinSet<()>,
    pauses: (Duration, Duration),
) {
    for member in &dispatcher.members {
        let (member, clock, hsm) = (Arc::clone(member), dispatcher.clock.clone(), member.hsm.to_string());
        // On panic: started again, with the first pause.
        tasks.spawn(watchdog.clone().restarted(
            Task::Examination,
            hsm,
            || (),
            move |heartbeat| look_again(Arc::clone(&member), clock.clone(), heartbeat, pauses),
        ));
    }
}

async fn look_again<P: Port>(
    member: Arc<Member<P>>,
    clock: Clock,
    heartbeat: Heartbeat,
    (first, longest): (Duration, Duration),
) {
    let mut status = member.port.watch();
    let (mut pause, mut suspected) = (first, None::<Judgement>);
    loop {
        if heartbeat.idle(status.wait_for(|status| is_open(status))).await.is_err() {
            return;
        }
        heartbeat.idle(sleep(if suspected.is_some() { first } else { pause })).await;
        // Another control worker may have judged it meanwhile.
        if !is_open(&member.port.status()) {
            (pause, suspected) = (first, None);
            continue;
        }
        match (suspected.take(), heartbeat.idle(look(&member, &clock)).await) {
            (None, Some(found)) if contradicts(&found) => suspected = Some(found),
            (suspected, Some(found)) => take_over(&member, suspected.as_ref(), found),
            (_, None) => {}
        }
        pause = (pause * 2).min(longest);
    }
}

/// What is found by one look, where that is something.
async fn look<P: Port>(member: &Member<P>, clock: &Clock) -> Option<Judgement> {
    let settings = member.port.settings();
    let op = Arc::new(Op::Examine { sessions: settings.sessions });
    let Ok(Reply::Examined(found)) = member.port.call(op, (clock.now() + PATIENCE).into()).await else { return None };
    // Its data workers have sessions, too.
    judged(&settings.capabilities, *found, false)
}

fn contradicts(found: &Judgement) -> bool {
    found.contradiction().is_some()
}

/// Something is not judged, and there is who can look again.
fn is_open(status: &Status) -> bool {
    let open = |known: &Judgement| !known.not_judged().is_empty() && !contradicts(known);
    status.control_ready && status.examined.as_deref().is_some_and(open)
}

/// What is found now, but for contradictions that the look before, which suspected some, has not found: they are as they were known.
fn confirmed(known: &Judgement, suspected: Option<&Judgement>, found: Judgement) -> Judgement {
    let of = |judgement: &Judgement, name| judgement.findings.iter().find(|finding| finding.name == name).cloned();
    let is_against = |finding: &Finding| finding.verdict == Verdict::Contradicts;
    let confirm = |finding: Finding| {
        let before = suspected.and_then(|suspected| of(suspected, finding.name));
        match is_against(&finding) && !before.is_some_and(|before| is_against(&before)) {
            false => Some(finding),
            true => of(known, finding.name),
        }
    };
    Judgement { findings: found.findings.into_iter().filter_map(confirm).collect() }
}

fn take_over<P: Port>(member: &Member<P>, suspected: Option<&Judgement>, found: Judgement) {
    let Some(known) = member.port.status().examined.clone() else { return };
    let judgement = known.renewed(confirmed(&known, suspected, found));
    if judgement == *known {
        return;
    }
    let (hsm, zone, open) = (&member.hsm, &member.zone, judgement.not_judged());
    match judgement.contradiction() {
        Some(why) => tracing::error!(%hsm, %zone, %why,
            "the token contradicts the HSM's profile, as another look has found; the HSM is not used"),
        None if open.is_empty() => {
            tracing::info!(%hsm, %zone, "all that could not be judged of the token is judged now")
        }
        None => tracing::info!(%hsm, %zone, what = open.join(", "), "still not judged of the token"),
    }
    member.port.examined(judgement);
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::fake::{Act, Bench};
    use model::profile::Capabilities;
    use model::profile::examination::{Count, Examined, WrongTag};
    use model::profile::judgement::judge;
    use protocol::{Class, Fault};

    const NO_HEDGE: Duration = Duration::from_secs(60);
    const SOON: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(2));

    fn of_tag(wrong_tag: WrongTag) -> Examined {
        let random = Count { wanted: 4_096, found: 4_096, ..Count::default() };
        Examined { random, wrong_tag, ..Examined::default() }
    }

    fn refused(understood: bool) -> WrongTag {
        let said = "C_Decrypt: CKR_FUNCTION_FAILED".to_owned();
        WrongTag::Refused { function: "C_Decrypt".to_owned(), code: 6, said, understood }
    }

    fn verdict(bench: &Bench) -> Verdict {
        let status = bench.members[0].status();
        let findings = &status.examined.as_ref().unwrap().findings;
        findings.iter().find(|finding| finding.name == "codes.meaning").unwrap().verdict
    }

    /// One member of which the wrong tag was not judged, looked at again until there is another verdict; what the fourth look says,
    /// and what each says after it.
    async fn looked_at_again(fourth: WrongTag, then: WrongTag) -> (Bench, Arc<AtomicUsize>, JoinSet<()>) {
        looks_say(vec![of_tag(fourth), of_tag(then)]).await
    }

    /// What the fourth look finds, and those after it; the last of these is what all others find.
    async fn looks_say(from_fourth: Vec<Examined>) -> (Bench, Arc<AtomicUsize>, JoinSet<()>) {
        let bench = Bench::new(1, None, NO_HEDGE);
        let member = &bench.members[0];
        let open = WrongTag::NotJudged("C_Decrypt: CKR_FUNCTION_FAILED".to_owned());
        member.examined(judge(&member.settings().capabilities, &of_tag(open.clone())));
        assert_eq!(verdict(&bench), Verdict::NotJudged);
        let looks = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&looks);
        member.script(move |op| match op {
            Op::Examine { .. } => match counted.fetch_add(1, Ordering::Relaxed) {
                0 => Act::Say(Reply::Failed(Fault::own(Class::Busy, "C_Login", "throttled"))),
                1 => Act::Fail(supervisor::CallError::WorkerLost),
                2 => Act::Say(Reply::Examined(Box::new(of_tag(open.clone())))),
                look => {
                    let found = from_fourth.get(look - 3).or(from_fourth.last()).unwrap();
                    Act::Say(Reply::Examined(Box::new(found.clone())))
                }
            },
            _ => Act::Well,
        });
        let mut tasks = JoinSet::new();
        keep(&bench.dispatcher, &Watchdog::new(bench.clock.clone()), &mut tasks, SOON);
        bench.until("another verdict", || verdict(&bench) != Verdict::NotJudged).await;
        (bench, looks, tasks)
    }

    #[tokio::test]
    async fn what_was_not_judged_is_judged_without_another_worker() {
        let (bench, looks, _tasks) = looked_at_again(refused(true), refused(false)).await;
        assert_eq!(verdict(&bench), Verdict::Holds);
        assert_eq!(looks.load(Ordering::Relaxed), 4, "and no further look, since nothing is open");
        assert_eq!(bench.members[0].status().examined.as_ref().unwrap().contradiction(), None);
    }

    #[tokio::test]
    async fn what_contradicts_is_told_to_who_keeps_the_workers() {
        let (bench, looks, _tasks) = looked_at_again(refused(false), refused(false)).await;
        assert_eq!((verdict(&bench), looks.load(Ordering::Relaxed)), (Verdict::Contradicts, 5));
        let why = bench.members[0].status().examined.as_ref().unwrap().contradiction();
        assert!(why.unwrap().contains("capabilities.codes.meaning"));
    }

    /// A key of the examination that was lost in its middle reads as one that the token does not use.
    #[tokio::test]
    async fn one_look_alone_takes_no_hsm_out() {
        let (bench, looks, _tasks) = looked_at_again(refused(false), refused(true)).await;
        assert_eq!((verdict(&bench), looks.load(Ordering::Relaxed)), (Verdict::Holds, 5));
    }

    /// Troubles of two moments are no habit.
    #[tokio::test]
    async fn what_each_of_two_looks_finds_alone_takes_no_hsm_out() {
        let few = Count {
            wanted: 4_096,
            found: 32,
            said: Some("C_GenerateRandom: CKR_ARGUMENTS_BAD".to_owned()),
            unjudged: None,
        };
        let other =
            Examined { random: few, ..of_tag(WrongTag::NotJudged("C_Decrypt: CKR_FUNCTION_FAILED".to_owned())) };
        assert!(contradicts(&judge(&Capabilities::standard(), &other)));
        let (bench, looks, _tasks) = looks_say(vec![of_tag(refused(false)), other, of_tag(refused(true))]).await;
        assert_eq!((verdict(&bench), looks.load(Ordering::Relaxed)), (Verdict::Holds, 6));
        let judgement = bench.members[0].status().examined.clone().unwrap();
        assert_eq!(judgement.contradiction(), None);
    }

    /// The one that both have found counts, and no other.
    #[test]
    fn a_contradiction_counts_by_its_name() {
        let of = Capabilities::standard();
        let known = judge(&of, &of_tag(refused(true)));
        let few = Count {
            wanted: 4_096,
            found: 32,
            said: Some("C_GenerateRandom: CKR_ARGUMENTS_BAD".to_owned()),
            unjudged: None,
        };
        let both = judge(&of, &Examined { random: few, ..of_tag(refused(false)) });
        let tag = judge(&of, &of_tag(refused(false)));
        let against = |judgement: &Judgement| {
            let found = judgement.findings.iter().filter(|finding| finding.verdict == Verdict::Contradicts);
            found.map(|finding| finding.name).collect::<Vec<_>>()
        };
        assert_eq!(against(&both).len(), 2);
        assert_eq!(against(&confirmed(&known, Some(&tag), both.clone())), ["codes.meaning"]);
        assert_eq!(against(&confirmed(&known, Some(&both), tag)), ["codes.meaning"]);
        assert_eq!(against(&confirmed(&known, None, both.clone())), [""; 0]);
        assert_eq!(confirmed(&known, Some(&both), both.clone()), both);
    }

    #[tokio::test]
    async fn where_nothing_is_open_nothing_is_asked() {
        let bench = Bench::new(2, None, NO_HEDGE);
        let [judged, unknown] = &bench.members[..] else { panic!() };
        judged.examined(judge(&judged.settings().capabilities, &of_tag(refused(true))));
        let mut tasks = JoinSet::new();
        keep(&bench.dispatcher, &Watchdog::new(bench.clock.clone()), &mut tasks, SOON);
        // Another one, which has something open, is looked at meanwhile.
        let (other, looks, _tasks) = looked_at_again(refused(true), refused(true)).await;
        assert_eq!((looks.load(Ordering::Relaxed), judged.calls(), unknown.calls()), (4, 0, 0));
        drop(other);
    }
}

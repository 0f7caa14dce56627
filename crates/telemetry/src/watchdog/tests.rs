use std::sync::atomic::AtomicUsize;

use tokio::sync::oneshot;

use super::pulse::STUCK;
use super::*;

fn watchdog() -> Watchdog {
    Watchdog::new(Clock::manual())
}

fn reading(watchdog: &Watchdog, task: Task) -> Reading {
    watchdog.readings().into_iter().find(|reading| reading.task == task).unwrap()
}

/// Polls others until it is so.
async fn until(what: &str, mut so: impl FnMut() -> bool) {
    for _ in 0..6_000 {
        if so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("waited in vain: {what}");
}

#[tokio::test]
async fn what_panics_is_started_again_and_what_it_showed_is_taken_back() {
    let (watchdog, lapses) = (watchdog(), Arc::new(AtomicUsize::new(0)));
    let (runs, counted) = (Arc::new(AtomicUsize::new(0)), Arc::clone(&lapses));
    let ran = Arc::clone(&runs);
    let task = watchdog.clone().restarted(
        Task::Follow,
        "hsm-a",
        move || {
            counted.fetch_add(1, Ordering::Relaxed);
        },
        move |heartbeat| {
            let run = ran.fetch_add(1, Ordering::Relaxed);
            async move {
                heartbeat.turn().await;
                assert!(run == 2, "twice it panics, and then it is done");
            }
        },
    );
    let task = tokio::spawn(task);
    until("it broke", || !watchdog.troubles().is_empty()).await;
    assert!(watchdog.troubles()[0].starts_with("the task follow of hsm-a broke off (it panicked"));
    task.await.unwrap();
    assert_eq!((runs.load(Ordering::Relaxed), lapses.load(Ordering::Relaxed)), (3, 2));
    assert_eq!(reading(&watchdog, Task::Follow), Reading { task: Task::Follow, running: 0, silent: 0, restarts: 2 });
    assert!(watchdog.troubles().is_empty(), "what has ended is no trouble");
}

#[tokio::test]
async fn what_is_silent_is_dropped_and_started_again() {
    let watchdog = watchdog();
    let runs = Arc::new(AtomicUsize::new(0));
    let ran = Arc::clone(&runs);
    let task = watchdog.clone().restarted(
        Task::Doubts,
        "hsm-a",
        || (),
        move |heartbeat| {
            let run = ran.fetch_add(1, Ordering::Relaxed);
            async move {
                if run == 0 {
                    std::future::pending::<()>().await;
                }
                heartbeat.idle(std::future::pending()).await
            }
        },
    );
    let task = tokio::spawn(task);
    until("it runs", || runs.load(Ordering::Relaxed) == 1).await;
    (0..SILENT).for_each(|_| watchdog.turn());
    assert_eq!(reading(&watchdog, Task::Doubts).silent, 1);
    assert!(watchdog.troubles()[0].contains("has not turned for 30 s"), "{:?}", watchdog.troubles());
    assert!(watchdog.stuck().is_empty(), "it is started again, which needs no restart of the daemon");
    until("it runs again", || runs.load(Ordering::Relaxed) == 2).await;
    assert_eq!(reading(&watchdog, Task::Doubts), Reading { task: Task::Doubts, running: 1, silent: 0, restarts: 1 });
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    assert_eq!(reading(&watchdog, Task::Doubts).running, 0);
}

#[tokio::test]
async fn a_vital_task_that_is_silent_needs_a_restart_and_another_only_when_it_does_not_let_go() {
    let watchdog = watchdog();
    let vital = tokio::spawn(watchdog.clone().vital(Task::Accept, |_| std::future::pending()));
    until("it runs", || reading(&watchdog, Task::Accept).running == 1).await;
    // Enrolled without anybody who would start it again.
    let other = watchdog.enrol(Task::WorkerDriver, "hsm-a", false, || ());
    (0..SILENT).for_each(|_| watchdog.turn());
    assert_eq!(watchdog.stuck(), ["the task accept has not turned for 30 s"]);
    (SILENT..STUCK).for_each(|_| watchdog.turn());
    let stuck = watchdog.stuck();
    assert_eq!(stuck[1], "the task worker-driver of hsm-a has not turned for 60 s", "{stuck:?}");
    other.beats.fetch_add(1, Ordering::Relaxed);
    watchdog.turn();
    assert_eq!(watchdog.stuck().len(), 1);
    vital.abort();
}

#[tokio::test]
async fn a_vital_task_may_end_when_all_do() {
    let watchdog = watchdog();
    let (tell, told) = oneshot::channel::<()>();
    let task = tokio::spawn(watchdog.clone().vital(Task::Ops, |heartbeat| async move {
        let _ = heartbeat.idle(told).await;
    }));
    watchdog.stopping();
    drop(tell);
    task.await.unwrap();
}

#[tokio::test]
async fn a_watchdog_that_does_not_turn_knows_nothing() {
    let clock = Clock::manual();
    let watchdog = Watchdog::new(clock.clone());
    assert!(watchdog.late().is_none() && watchdog.stuck().is_empty());
    clock.advance(Duration::from_secs(31));
    assert_eq!(watchdog.late(), Some(Duration::from_secs(31)));
    assert_eq!(watchdog.stuck(), ["the watchdog has not turned for 31 s"]);
    // A process that was stopped for a while goes on with a turn, which is waited for.
    let turning = watchdog.clone();
    let turn = async {
        tokio::task::yield_now().await;
        turning.turn();
    };
    tokio::join!(watchdog.caught_up(), turn);
    assert!(watchdog.late().is_none() && watchdog.stuck().is_empty());
    // One that does not come is not waited for.
    clock.advance(Duration::from_secs(31));
    watchdog.caught_up().await;
    assert!(watchdog.late().is_some());
}

#[test]
fn a_thread_is_counted_and_not_called_silent() {
    let watchdog = watchdog();
    let (seen, turning) = (watchdog.clone(), watchdog.clone());
    watchdog.vital_thread(Task::Systemd, move || {
        (0..=STUCK).for_each(|_| turning.turn());
        assert_eq!(reading(&seen, Task::Systemd), Reading { task: Task::Systemd, running: 1, silent: 0, restarts: 0 });
        seen.stopping();
    });
}

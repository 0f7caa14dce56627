//! A thread of the log that panics: nothing is given out without the log, until it was opened anew, and nothing is lost.

use telemetry::watchdog::{Rule, Task};

use crate::harness::audit::{Witnesses, request_ids};
use crate::harness::daemon::Site;
use crate::harness::faults::Faults;
use crate::harness::wait;

#[tokio::test(flavor = "multi_thread")]
async fn with_a_thread_that_panics_the_log_is_opened_anew() {
    let site = Site::prepare().await;
    let faults = Faults::of(&site);
    let daemon = site.launch_with(&[(Faults::VARIABLE, faults.path())]);
    daemon.wait_until_ready();
    let caller = daemon.caller().await;
    daemon.connect_key_store(&caller).await;
    let key = caller.create_key("while the log breaks").await;
    let opened = || daemon.log().matches("the audit log is open").count();
    let witnesses = Witnesses::start(&caller, &key, "while-it-breaks", 2);
    let threads = Task::ALL.iter().filter(|task| task.rule() == Rule::Log);
    let mut broken = 0;
    for task in threads {
        let before = opened();
        faults.order(&format!("panic {}", task.name()));
        faults.taken();
        daemon.wait_until_logged("a fault of this program ended a thread of the audit log; it is opened anew");
        wait::until("it is open again", wait::LONG, || (opened() > before).then_some(()));
        witnesses.answered(20).await;
        broken += 1;
    }
    assert!(broken > 0);
    let (answered, _) = witnesses.stop().await;
    let known = request_ids(&daemon.site().audit_dir());
    assert_eq!(answered.difference(&known).next(), None, "every result has its record");
    daemon.audit_settled();
    let checked = daemon.audit_verify();
    assert_eq!(checked.code, Some(0), "{checked:?}");
}

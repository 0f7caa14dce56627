//! What is wrong with an HSM at start is said, with its name; with one zone left the daemon serves.

use std::fs;

use proto::v1::{HsmHealth, HsmStatus};

use crate::harness::daemon::{Daemon, Site};
use crate::harness::{Caller, context, tool, wait};

/// A way to break zone `a`, and what the reason must then speak of.
struct Fault {
    what: &'static str,
    says: &'static [&'static str],
    change: fn(&mut toml::Table),
}

const FAULTS: &[Fault] = &[
    Fault {
        what: "a module that is not there",
        says: &["/nowhere/libnone.so"],
        change: |hsm| {
            hsm.insert("module".to_owned(), "/nowhere/libnone.so".into());
        },
    },
    Fault {
        what: "a token that is not there",
        says: &["another token"],
        change: |hsm| {
            hsm.insert("token_label".to_owned(), "another token".into());
        },
    },
    Fault {
        what: "a serial number that is another token's",
        says: &["0000111122223333"],
        change: |hsm| {
            hsm.insert("token_serials".to_owned(), vec!["0000111122223333"].into());
        },
    },
];

#[tokio::test(flavor = "multi_thread")]
async fn one_broken_zone_is_named_and_the_other_serves() {
    let mut site = Site::prepare().await;
    let daemon = site.start().await;
    let key = daemon.caller().await.create_key("before").await;
    let broken = daemon.zones[0].hsm.clone();
    site = daemon.terminate().1;
    let sound = fs::read_to_string(site.config_file()).unwrap();

    for fault in FAULTS {
        site.configure_hsms(|index, hsm| {
            if index == 0 {
                (fault.change)(hsm);
            }
        });
        let checked = check(&site);
        assert_ne!(checked.code, Some(0), "{}: {checked:?}", fault.what);
        for word in fault.says.iter().chain([&broken.as_str()]) {
            assert!(checked.out.contains(word) || checked.err.contains(word), "{}: {checked:?}", fault.what);
        }

        let daemon = site.launch();
        daemon.wait_until_ready();
        let caller = daemon.caller().await;
        let status = wait::until_async(fault.what, wait::LONG, async || why_down(&caller, &broken).await).await;
        for word in fault.says {
            assert!(status.reason.contains(word), "{}: {status:?}", fault.what);
        }
        let ciphertext = caller.encrypt(&key, b"one zone is enough", &context(&[])).await.unwrap();
        assert_eq!(caller.decrypt(&ciphertext, &context(&[])).await.unwrap(), b"one zone is enough");
        let refused = caller.try_create_key("needs two", "").await.unwrap_err();
        assert_eq!(refused.reason, "CloudHsmClusterInvalidConfigurationException", "{refused:?}");
        assert!(refused.message.contains(&broken), "{refused:?}");
        daemon.wait_until_logged(&broken);
        let (code, site_again) = daemon.terminate();
        assert_eq!(code.code(), Some(0));
        site = site_again;
        fs::write(site.config_file(), &sound).unwrap();
    }

    let checked = check(&site);
    assert_eq!(checked.code, Some(0), "{checked:?}");
    let daemon: Daemon = site.start().await;
    daemon.caller().await.create_key("mended").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zone_that_is_absent_at_start_joins_when_it_comes() {
    let site = Daemon::start().await.terminate().1;
    let absent = site.zones(0)[1].clone();
    let taken = absent.take_away();
    let daemon = site.launch();
    daemon.wait_until_ready();
    let caller = daemon.caller().await;
    wait::until_async("the absent zone is named", wait::LONG, async || why_down(&caller, &absent.hsm).await).await;
    taken.put_back();
    daemon.wait_until_healthy_for(&caller).await;
    caller.create_key("with both").await;
}

#[test]
fn a_configuration_with_a_mistake_is_refused_with_its_line() {
    let dir = tempfile::TempDir::new().unwrap();
    let file = dir.path().join("keystored.toml");
    fs::write(&file, "state_dir = \"state\"\nno_such_setting = 1\n").unwrap();
    for verb in ["serve", "check"] {
        let ran = tool::keystored(&[verb.as_ref(), "--config".as_ref(), file.as_os_str()]);
        assert!(ran.code.is_some_and(|code| code != 0), "{ran:?}");
        assert!(ran.err.contains("keystored.toml:2") && ran.err.contains("no_such_setting"), "{ran:?}");
    }
}

fn check(site: &Site) -> tool::Ran {
    tool::keystored(&["check".as_ref(), "--config".as_ref(), site.config_file().as_os_str()])
}

async fn why_down(caller: &Caller, hsm: &str) -> Option<HsmStatus> {
    let hsms = caller.hsms().await.ok()?;
    let status = hsms.into_iter().find(|status| status.hsm_id == hsm)?;
    (status.health() != HsmHealth::Healthy && !status.reason.is_empty()).then_some(status)
}

use std::path::{Path, PathBuf};

use super::super::check::{Context, check};
use super::*;
use model::sandbox::Tokens;

const SAMPLE: &str = include_str!("../../../deploy/keystored.toml");
const CREDENTIALS: &str = "/run/credentials/keystored";

/// The sample with another setting in the place of its first HSM's.
fn judge(setting: &str) -> Result<Config, Error> {
    judge_both(setting, "")
}

/// The same, with one for its second HSM.
fn judge_both(setting: &str, second: &str) -> Result<Config, Error> {
    let (head, rest) = SAMPLE.split_once("\nsandbox = ").expect("the sample has it");
    let (_, tail) = rest.split_once('\n').expect("and more lines");
    let text = format!("{head}\n{setting}\n{tail}\n{second}\n");
    let file = Path::new("/etc/keystored/keystored.toml");
    check(&Context { file, text: &text, credentials: Some(Path::new(CREDENTIALS)) })
}

/// What the guard says of it. SoftHSM's tokens are where its configuration says, if it can be read.
fn guarded(setting: &str) -> Result<Config, String> {
    guarded_both(setting, "")
}

fn guarded_both(setting: &str, second: &str) -> Result<Config, String> {
    let mut config = judge_both(setting, second).map_err(|error| error.to_string())?;
    let text = |file: &Path| {
        let softhsm = file == Path::new("/etc/keystored/softhsm-b/softhsm2.conf");
        softhsm.then(|| "directories.tokendir = /var/lib/softhsm/b\n".to_owned())
    };
    let canonical = |path: &Path| match path.strip_prefix("/link") {
        Ok(rest) => Some(Path::new("/var/lib").join(rest)),
        Err(_) => Some(path.to_owned()),
    };
    let program = Some(Path::new("/opt/keystored/bin/keystored"));
    let disk = Disk { canonical: &canonical, text: &text, program };
    guard(&mut config, Some(Path::new(CREDENTIALS)), &disk).map(|()| config)
}

fn first(config: &Config) -> &Sandbox {
    config.clusters[0].hsms[0].sandbox.as_ref().expect("confined")
}

#[test]
fn it_is_on_by_default_and_can_be_switched() {
    for setting in ["", "sandbox = true"] {
        let config = judge(setting).expect("good");
        assert!(config.clusters[0].hsms.iter().all(|hsm| hsm.sandbox.is_some()), "{setting}");
        assert_eq!(first(&config), &Sandbox::default(), "a profile without a name needs nothing");
        assert_eq!(config.clusters[0].hsms[1].sandbox.as_ref().map(|one| one.tokens), Some(Tokens::SoftHsm));
    }
    assert!(judge("sandbox = false").expect("good").clusters[0].hsms[0].sandbox.is_none());
}

#[test]
fn it_is_widened_by_what_is_written() {
    let setting = "sandbox = { read = [\"/opt/vendor\", \"vendor\"], write = [\"/var/log/vendor\"], connect = [1792, \"/run/v.sock\"] }";
    let config = guarded(setting).expect("good");
    let sandbox = first(&config);
    let paths = |of: &[&str]| of.iter().map(PathBuf::from).collect::<Vec<_>>();
    assert_eq!(sandbox.read, paths(&["/opt/vendor", "/etc/keystored/vendor"]), "relative to the configuration");
    assert_eq!((&sandbox.write, &sandbox.ports[..]), (&paths(&["/var/log/vendor"]), &[1792][..]));
    assert_eq!(sandbox.sockets, paths(&["/run/v.sock"]));
    let softhsm = sandbox.protected.iter().find(|one| one.path == Path::new("/var/lib/softhsm/b"));
    assert_eq!(softhsm.map(|one| one.what.as_str()), Some("what HSM hsm-b writes to"));
}

#[test]
fn what_makes_no_sense_is_refused_with_its_line() {
    for (setting, says) in [
        ("sandbox = \"yes\"", "true, false or { read"),
        ("sandbox = { reed = [] }", "unknown field `reed`"),
        ("sandbox = { connect = [0] }", "0 is outside 1 to 65535"),
        ("sandbox = { connect = [65536] }", "65536 is outside 1 to 65535"),
        ("sandbox = { connect = [\"host:1792\"] }", "\"host:1792\" is nothing to connect to"),
        ("sandbox = { read = [\"\"] }", "an empty path"),
        (&format!("sandbox = {{ write = [{}] }}", "\"/a\", ".repeat(65)), "more than 64"),
    ] {
        let error = judge(setting).expect_err(setting);
        assert!(error.message.contains(says) && error.line.is_some(), "{setting}: {error}");
    }
}

#[test]
fn nothing_protected_can_be_opened() {
    for (path, what) in [
        ("/", "the daemon's state_dir"),
        ("/var/lib", "the daemon's state_dir"),
        ("/var/lib/keystored", "the daemon's state_dir"),
        ("/var/lib/keystored/hsm-a", "the daemon's state_dir"),
        ("/var/lib/keystored/audit/tile", "the daemon's state_dir"),
        ("/link/keystored", "the daemon's state_dir"),
        ("/run/keystored", "the lock_dir"),
        ("/run", "the lock_dir"),
        ("/run/credentials/keystored", "the seal key"),
        ("credential:seal-key", "the seal key"),
        ("credential:vendor", "the credentials of the service"),
        ("/etc/keystored", "the daemon's configuration"),
        ("/etc/keystored/keystored.toml", "the daemon's configuration"),
        ("/var/lib/softhsm", "what HSM hsm-b writes to"),
        ("/var/lib/softhsm/b", "what HSM hsm-b writes to"),
        ("/var/lib/softhsm/b/token", "what HSM hsm-b writes to"),
    ] {
        for list in ["read", "write"] {
            let said = guarded(&format!("sandbox = {{ {list} = [\"{path}\"] }}")).expect_err(path);
            assert!(
                said.starts_with("HSM hsm-a: the module may reach ") && said.contains(what),
                "{list} {path}: {said}"
            );
        }
    }
    let said = guarded("sandbox = { write = [\"/etc/keystored/tls\"] }").expect_err("certificates");
    assert!(said.contains("the certificate of [grpc]"), "{said}");
    guarded("sandbox = { read = [\"/etc/keystored/tls\"] }").expect("they may be read");
    // Workers of all HSMs are this program, and so is the daemon after its next start.
    for path in ["/opt", "/opt/keystored/bin/keystored"] {
        let said = guarded(&format!("sandbox = {{ write = [\"{path}\"] }}")).expect_err("the program");
        assert!(said.contains("the program that runs (/opt/keystored/bin/keystored)"), "{said}");
        guarded(&format!("sandbox = {{ read = [\"{path}\"] }}")).expect("it may be read");
    }
    guarded("sandbox = { read = [\"/etc/keystored/vendor\"], write = [\"/var/lib/softhsm/a\"] }").expect("beside them");
}

#[test]
fn two_hsms_that_are_given_one_directory_share_it() {
    let setting = "sandbox = { write = [\"/opt/vendor/run\"] }";
    let config = guarded_both(setting, setting).expect("both were told so");
    assert!(first(&config).protected.iter().all(|one| one.path != Path::new("/opt/vendor/run")));
    let narrower = "sandbox = { write = [\"/opt/vendor/run/b\"] }";
    let said = guarded_both(setting, narrower).expect_err("one lies in the other");
    assert!(said.contains("what HSM hsm-b writes to (/opt/vendor/run/b)"), "{said}");
}

#[test]
fn what_runs_without_a_sandbox_is_not_written_to_by_others() {
    let without = |setting: &str| guarded_both(setting, "sandbox = false");
    for path in ["/etc/keystored/softhsm-b", "/etc/keystored/softhsm-b/softhsm2.conf"] {
        let said = without(&format!("sandbox = {{ write = [\"{path}\"] }}")).expect_err(path);
        assert!(said.contains("what HSM hsm-b runs, which is not confined"), "{said}");
        without(&format!("sandbox = {{ read = [\"{path}\"] }}")).expect("nothing in it is secret");
    }
    let module = without("").expect("good").clusters[0].hsms[1].module.clone();
    let said = without(&format!("sandbox = {{ write = [\"{}\"] }}", module.display())).expect_err("its module");
    assert!(said.contains("what HSM hsm-b runs, which is not confined"), "{said}");
}

#[test]
fn the_daemons_own_ports_are_not_for_modules() {
    for (port, section) in [(7411, "[grpc]"), (7412, "[ops]")] {
        let said = guarded(&format!("sandbox = {{ connect = [{port}] }}")).expect_err("its own port");
        assert!(said.contains(&format!("port {port}, on which {section} of this daemon listens")), "{said}");
    }
}

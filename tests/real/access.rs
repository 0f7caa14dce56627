//! Who may do what, over the wire: nothing without a principal, administrators of the configuration, and what is taken
//! away while calls are under way.

mod at_once;
pub(crate) mod every_method;
mod five_steps;
mod names;

use std::time::Duration;

use proto::v1::{
    AttachPolicyRequest, CreatePrincipalRequest, DeletePrincipalRequest, RemovePrincipalIdentityRequest, WhoAmIRequest,
    WhoAmIResponse, attach_policy_request,
};

use crate::harness::clients::{address_of, guest_of};
use crate::harness::daemon::Site;
use crate::harness::stream_load::OneStream;
use crate::harness::tool::{self, Ran};
use crate::harness::{Caller, Daemon, Failure, context};

/// Before and after now, for certificates.
const HOUR: Duration = Duration::from_secs(3_600);

/// What the log says when SIGHUP has been followed.
const READ: &str = "the configuration was read again";

/// The ARN of a user of the daemon's account.
pub(crate) fn user(name: &str) -> String {
    format!("arn:aws:iam::000000000000:user/{name}")
}

/// Makes a user who is known by a common name of the same text, with this policy where one is named.
pub(crate) async fn make_user(admin: &Caller, name: &str, policy: Option<&str>) {
    let request =
        CreatePrincipalRequest { arn: user(name), identities: vec![format!("cn:{name}")], ..Default::default() };
    admin.access.clone().create_principal(admin.request(request)).await.unwrap();
    if let Some(policy) = policy {
        let to = Some(attach_policy_request::To::Principal(user(name)));
        let request = AttachPolicyRequest { policy: policy.to_owned(), to };
        admin.access.clone().attach_policy(admin.request(request)).await.unwrap();
    }
}

/// Takes a user away.
pub(crate) async fn delete_user(admin: &Caller, name: &str) {
    admin.access.clone().delete_principal(admin.request(DeletePrincipalRequest { arn: user(name) })).await.unwrap();
}

pub(crate) async fn who_am_i(caller: &Caller) -> WhoAmIResponse {
    caller.access.clone().who_am_i(caller.request(WhoAmIRequest {})).await.unwrap().into_inner()
}

#[track_caller]
fn denied<T: std::fmt::Debug>(answer: Result<T, Failure>, says: &str) {
    let failure = answer.expect_err("it is allowed");
    assert_eq!(failure.reason, "AccessDeniedException", "{failure:?}");
    assert!(failure.message.contains(says), "{says}: {failure:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn administrators_come_and_go_with_sighup_on_open_connections() {
    let site = Site::prepare().await;
    site.administrators(&["dev-client"]);
    let daemon = site.start().await;
    let (admin, guest) = (daemon.caller().await, guest_of(&daemon).await);
    let key = admin.create_key("of administrators").await;
    let encrypt = async || guest.encrypt(&key, b"x", &context(&[])).await;
    denied(encrypt().await, "cn:guest is mapped to no principal");
    assert!(who_am_i(&admin).await.administrator && !who_am_i(&guest).await.administrator);

    daemon.site().administrators(&["dev-client", "guest"]);
    daemon.hang_up(READ);
    encrypt().await.unwrap();
    assert!(who_am_i(&guest).await.administrator);
    daemon.wait_until_logged("cn:guest");

    // What cannot be read changes nothing.
    daemon.site().configure(|config| drop(config.insert("administrators".to_owned(), vec!["guest"].into())));
    daemon.hang_up("the configuration cannot be used");
    encrypt().await.unwrap();

    daemon.site().administrators(&["dev-client"]);
    daemon.hang_up(READ);
    denied(encrypt().await, "cn:guest is mapped to no principal");
    admin.encrypt(&key, b"x", &context(&[])).await.unwrap();
    let log = daemon.log();
    let told = |words: &str| log.lines().any(|line| line.contains("administrators of") && line.contains(words));
    assert!(told(r#"added="cn:guest""#) && told(r#"removed="cn:guest""#), "{}", daemon.log_tail());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_installation_that_lets_nobody_do_anything_says_so() {
    const NOBODY: &str = "nobody may do anything but ask who they are";
    fn check(site: &Site) -> Ran {
        tool::keystored(&["check".as_ref(), "--config".as_ref(), site.config_file().as_os_str()])
    }
    let site = Site::prepare().await;
    assert!(check(&site).ok().contains("administrators: cn:attacker, cn:dev-client"), "whoever they are is said");
    site.configure(|config| drop(config.remove("administrators")));
    let ran = check(&site);
    assert!(ran.code == Some(1) && ran.out.contains(NOBODY), "{ran:?}");

    let daemon = site.launch();
    daemon.wait_until_ready();
    daemon.wait_until_logged(NOBODY);
    let caller = daemon.caller().await;
    denied(caller.try_create_key("nobody's", "").await, "is mapped to no principal");
    assert_eq!(who_am_i(&caller).await.identity, "cn:dev-client");

    daemon.site().administrators(&["dev-client"]);
    daemon.hang_up(READ);
    make_user(&caller, "anna", Some("Administrator")).await;
    daemon.site().configure(|config| drop(config.remove("administrators")));
    let told = daemon.log().matches(NOBODY).count();
    daemon.hang_up(READ);
    assert_eq!(daemon.log().matches(NOBODY).count(), told, "there is a principal");
    let anna = address_of(&daemon, "anna").connect().await.unwrap();
    make_user(&anna, "bert", None).await;
    let (_, site) = daemon.terminate();
    let ran = check(&site);
    assert!(ran.code == Some(0) && ran.out.contains("note: only principals"), "{ran:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_taken_from_a_principal_is_taken_on_its_open_connections() {
    let daemon = Daemon::start().await;
    let admin = daemon.caller().await;
    let key = admin.create_key("of anna").await;
    make_user(&admin, "anna", Some("KeyUser")).await;
    let anna = address_of(&daemon, "anna").connect().await.unwrap();
    let mut stream = OneStream::open(&anna).await;
    let pairs = context(&[]);
    anna.encrypt(&key, b"x", &pairs).await.unwrap();
    stream.round_trip(&key, b"x", &pairs).await.unwrap();
    let me = who_am_i(&anna).await;
    let first = me.principal.expect("she is mapped");
    assert_eq!((first.arn.as_str(), me.administrator), (&*user("anna"), false));
    denied(anna.begin_disconnect("cks-0123456789abcdef0").await, "kms:DisconnectCustomKeyStore");

    let identity = RemovePrincipalIdentityRequest { arn: user("anna"), identity: "cn:anna".to_owned() };
    admin.access.clone().remove_principal_identity(admin.request(identity)).await.unwrap();
    denied(anna.encrypt(&key, b"x", &pairs).await, "cn:anna is mapped to no principal");
    denied(stream.round_trip(&key, b"x", &pairs).await, "cn:anna is mapped to no principal");
    assert_eq!(who_am_i(&anna).await.principal, None);

    // Another one of the same name has nothing of hers.
    delete_user(&admin, "anna").await;
    make_user(&admin, "anna", None).await;
    denied(anna.encrypt(&key, b"x", &pairs).await, "because nothing allows it");
    denied(stream.round_trip(&key, b"x", &pairs).await, "because nothing allows it");
    let second = who_am_i(&anna).await.principal.expect("she is mapped");
    assert_eq!(second.arn, first.arn);
    assert_ne!(second.principal_id, first.principal_id);
}

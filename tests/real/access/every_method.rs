//! No method of the interface is forgotten: each of them is called, with a message that says what it is about, by those
//! to whom nothing is allowed.

use proto::v1::{AccessKeyStatus, CreateAccessKeyRequest, CreateGrantRequest, ListAccessKeysRequest};
use tonic::Code;

use super::{make_user, user};
use crate::harness::clients::address_of;
use crate::harness::wire::{FOREIGN, Interface};
use crate::harness::{Caller, Daemon, Failure, context, shared};

/// What everybody may ask whose certificate is of the client CA: who they are, whether the daemon serves (load balancers
/// do, and have no principal), and what the published interface is.
const OPEN: [&str; 4] = ["/keystored.v1.AccessService/WhoAmI", FOREIGN[0], FOREIGN[1], FOREIGN[2]];

const DENIED: &str = "AccessDeniedException";

const POLICY: &str = r#"{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": "*", "Action": "kms:*", "Resource": "*"}]}"#;

/// What there is in a daemon, for messages that name it.
pub(crate) struct Named {
    pub(crate) arn: String,
    pub(crate) id: String,
    ciphertext: Vec<u8>,
    store: String,
    cluster: String,
    access_key_id: String,
    grant: String,
}

impl Named {
    /// Makes what there has to be, the users "bare" and "granted" among it.
    pub(crate) async fn make(daemon: &Daemon, admin: &Caller) -> Self {
        let key = admin.describe_key(&admin.create_key("of every method").await).await.unwrap();
        let (arn, id) = (key.arn.clone(), key.key_id.clone());
        let ciphertext = admin.encrypt(&arn, b"x", &context(&[])).await.unwrap();
        let store = admin.key_stores().await.remove(0).key_store_id;
        let cluster = daemon.site().cluster().to_owned();
        make_user(admin, "bare", None).await;
        let request = CreateAccessKeyRequest { principal: user("bare") };
        let access_key =
            admin.access.clone().create_access_key(admin.request(request)).await.unwrap().into_inner().access_key;
        let access_key_id = access_key.unwrap().access_key_id;
        // Of somebody else: who may retire it is said by itself.
        make_user(admin, "granted", None).await;
        let request = CreateGrantRequest {
            key_id: arn.clone(),
            grantee_principal: user("granted"),
            operations: vec!["Encrypt".to_owned()],
            ..Default::default()
        };
        let grant = admin.keys.clone().create_grant(admin.request(request)).await.unwrap().into_inner().grant_id;
        Self { arn, id, ciphertext, store, cluster, access_key_id, grant }
    }

    /// What stands in a field of a message.
    pub(crate) fn value(&self, message: &str, field: &str) -> Vec<u8> {
        let Self { arn, id, ciphertext, store, cluster, access_key_id, grant } = self;
        let text = match (message, field) {
            // Where they are met before anything is decided.
            (_, "grant_tokens" | "grant_token" | "marker" | "policy_name" | "client_token") => "",
            ("ExplainAccessRequest", "resource") | ("RecipientInfo" | "KeyFilter", _) => "",
            ("DescribeKeyStoresRequest", "key_store_name") => "",
            ("DestroyKeyMaterialRequest", "confirm_key_arn") => arn,
            (_, "ciphertext_blob") => return ciphertext.clone(),
            ("RetireGrantRequest", "key_id") => arn,
            (_, "key_id" | "source_key_id" | "destination_key_id" | "target_key_id") => id,
            (_, "key_store_id") => store,
            (_, "cluster_id") => cluster,
            (_, "arn" | "principal" | "grantee_principal" | "retiring_principal") => return user("bare").into_bytes(),
            (_, "identity" | "identities") => "cn:somebody",
            (_, "alias_name") => "alias/somebody-s",
            (_, "grant_id") => grant,
            (_, "access_key_id") => access_key_id,
            (_, "action") => "kms:Decrypt",
            (_, "operations") => "Decrypt",
            ("PutPolicyRequest" | "CheckPolicyRequest", "document") => POLICY,
            ("PutKeyPolicyRequest" | "CreateKeyRequest", "policy") => POLICY,
            (_, "hsm_id" | "hsm_ids" | "member_hsm_id") => "hsm-a",
            (_, "plaintext") => "x",
            (_, "key_store_password") => "1234567",
            (_, "trust_anchor_certificate") => "-----BEGIN CERTIFICATE-----",
            _ => "somebody-s",
        };
        text.as_bytes().to_vec()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_method_is_reachable_without_authorization() {
    let daemon = shared().await;
    let admin = daemon.caller().await;
    let named = Named::make(&daemon, &admin).await;
    let (value, id, arn) = (|message: &str, field: &str| named.value(message, field), &named.id, &named.arn);

    let interface = Interface::read();
    assert!(interface.methods.len() > 60, "{} methods", interface.methods.len());
    for name in ["nobody", "bare"] {
        let caller = address_of(&daemon, name).connect().await.unwrap();
        let mut wrong = Vec::new();
        for method in &interface.methods {
            for request in interface.requests(method, &value) {
                let outcome = outcome(caller.raw_with(&method.path, request).await);
                let expected = if OPEN.contains(&&*method.path) { Outcome::Given } else { Outcome::Denied };
                if outcome != expected {
                    wrong.push((&method.path, outcome));
                }
            }
        }
        assert!(wrong.is_empty(), "{name}: {wrong:#?}");
        for path in FOREIGN {
            let answer = caller.raw_with(path, Vec::new()).await;
            assert!(!matches!(&answer, Err(status) if status.code() == Code::PermissionDenied), "{path}: {answer:?}");
        }
    }
    // Nothing of that has done anything.
    assert_eq!(admin.describe_key(id).await.unwrap(), admin.describe_key(arn).await.unwrap());
    still_there(&admin, id).await;
    let request = ListAccessKeysRequest { principal: user("bare"), ..Default::default() };
    let left = admin.access.clone().list_access_keys(admin.request(request)).await.unwrap().into_inner().access_keys;
    let left: Vec<_> = left.into_iter().map(|key| (key.status(), key.access_key_id)).collect();
    assert_eq!(left, [(AccessKeyStatus::Active, named.access_key_id)]);
}

async fn still_there(admin: &Caller, key: &str) {
    let ciphertext = admin.encrypt(key, b"as before", &context(&[])).await.unwrap();
    assert_eq!(admin.decrypt(&ciphertext, &context(&[])).await.unwrap(), b"as before");
}

/// What a method came to.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Given,
    Denied,
    /// Something else was wrong before anything was decided, so that nothing is proven: the message has to be a better one.
    Undecided(Failure),
}

fn outcome(answer: Result<Vec<u8>, tonic::Status>) -> Outcome {
    match answer {
        // Items have errors of their own: one was asked for, and the answer is about that one.
        Ok(bytes) if String::from_utf8_lossy(&bytes).contains(DENIED) => Outcome::Denied,
        Ok(_) => Outcome::Given,
        Err(status) => match Failure::from(status) {
            failure if failure.reason == DENIED => Outcome::Denied,
            failure => Outcome::Undecided(failure),
        },
    }
}

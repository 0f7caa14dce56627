//! Requests from their head to their record.

use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4::SigningParams;
use bytes::Bytes;
use futures_util::future::{BoxFuture, ready};
use http::{Request, Response};
use serde_json::{Value, json};
use service::recorder::{Accepted, CallRecord, Recorder, ServiceEvent};

use super::operations::tests::{ANNA, Bench};
use super::*;
use ::model::exception::Exception;
use ::model::operation::Operation;
use tonic::codegen::Service as HttpService;

const REGION: &str = "eu-central-1";

/// Keeps records for who looks at them.
#[derive(Default)]
struct Kept(Mutex<Vec<CallRecord>>);

impl Recorder for Kept {
    fn record(self: Arc<Self>, record: CallRecord) -> BoxFuture<'static, Accepted> {
        self.0.lock().unwrap().push(record);
        Box::pin(ready(Ok(None)))
    }

    fn happened(self: Arc<Self>, _: ServiceEvent) -> BoxFuture<'static, Accepted> {
        Box::pin(ready(Ok(None)))
    }
}

/// The interface, with an access key of Anna's.
struct Asking {
    bench: Bench,
    kept: Arc<Kept>,
    routes: Recorded<Calls, AwsRefusals>,
    key: (String, String),
}

/// What a request was answered, and how it is on record: AWS's name, operation, error.
struct Came {
    status: u16,
    text: String,
    records: Vec<CallRecord>,
}

impl Asking {
    async fn new() -> Self {
        Self::called(&[]).await
    }

    /// The same, called by these names alone.
    async fn called(hosts: &[&str]) -> Self {
        let kept = Arc::new(Kept::default());
        let bench = Bench::with(Arc::<Kept>::clone(&kept)).await;
        let made = bench.service.create_access_key(&bench.call_of("cn:anna"), ANNA).await.unwrap();
        let key = (made.key.id.to_string(), (*made.secret).clone());
        bench.service.set_administrators([made.key.id.identity().to_string()].into());
        let second = Duration::from_secs(1);
        let settings = Settings {
            region: REGION.into(),
            hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
            default_deadline: second,
            default_control_deadline: second,
        };
        let calls = Calls::new(bench.service.clone(), settings, Clock::system());
        let routes = Recorded::new(calls, AwsRefusals, Some((bench.service.clone(), Clock::system())));
        Self { bench, kept, routes, key }
    }

    async fn ask(&self, request: Request<Whole>) -> Came {
        self.kept.0.lock().unwrap().clear();
        let answer: Response<Whole> = self.routes.clone().call(request).await.unwrap();
        let status = answer.status().as_u16();
        let text = String::from_utf8(answer.into_body().bytes().to_vec()).unwrap();
        // Those who proved to be nobody share a record, which is made when its minute is over.
        self.bench.service.return_budgets().await;
        Came { status, text, records: std::mem::take(&mut *self.kept.0.lock().unwrap()) }
    }

    /// Asks for an operation with a signature by this secret.
    async fn signed(&self, secret: &str, operation: &str, body: Value) -> Came {
        self.ask(request(&self.key.0, secret, &format!("TrentService.{operation}"), body.to_string().into())).await
    }

    async fn asked(&self, operation: &str, body: Value) -> Came {
        self.signed(&self.key.1, operation, body).await
    }
}

fn request(id: &str, secret: &str, target: &str, body: Bytes) -> Request<Whole> {
    let headers = [("host", "kms.test"), ("content-type", "application/x-amz-json-1.1"), ("x-amz-target", target)];
    let identity = Credentials::new(id, secret, None, None, "test").into();
    let params = SigningParams::builder().identity(&identity).region(REGION).name("kms").time(now());
    let params = params.settings(SigningSettings::default()).build().unwrap().into();
    let signable = SignableRequest::new("POST", "/", headers.into_iter(), SignableBody::Bytes(&body)).unwrap();
    let (instructions, _) = sign(signable, &params).unwrap().into_parts();
    let mut request = Request::post("/");
    for (name, value) in headers.into_iter().chain(instructions.headers()) {
        request = request.header(name, value);
    }
    request.header("content-length", body.len()).body(Whole::from(body)).unwrap()
}

fn now() -> SystemTime {
    Clock::system().calendar()
}

impl Came {
    /// How the only record names what was asked for, and with what it failed.
    fn record(&self) -> (Option<Operation>, Option<&'static str>, Option<Exception>) {
        let [record] = &self.records[..] else { panic!("{}: {:?}", self.text, self.records) };
        (record.operation, record.event, record.outcomes[0].0)
    }

    /// The same of somebody who proved to be nobody: what was asked for is one of what the record counts.
    fn stranger(&self, event: &str) -> Option<Exception> {
        let [record] = &self.records[..] else { panic!("{}: {:?}", self.text, self.records) };
        assert_eq!((record.name, &record.principal), (Some("UnauthenticatedRefusals"), &None));
        let counted = format!("{:?}", record.additional);
        assert!(counted.contains(&format!("\"{event}\"")), "{counted}");
        record.outcomes[0].0
    }

    fn why(&self) -> &str {
        &self.records[0].failure.as_ref().unwrap().message
    }
}

#[tokio::test]
async fn what_only_aws_can_do_is_on_record_under_its_own_name_and_as_refused() {
    let asking = Asking::new().await;
    let key = asking.bench.keys[0].clone();
    let sign = json!({ "KeyId": key, "Message": "AA==", "SigningAlgorithm": "ECDSA_SHA_256" });
    let public = json!({ "KeyId": key });
    let import = json!({ "KeyId": key, "WrappingAlgorithm": "RSAES_OAEP_SHA_256", "WrappingKeySpec": "RSA_2048" });
    for (operation, body, exception) in [
        ("Sign", sign, Exception::InvalidKeyUsage),
        ("GetPublicKey", public, Exception::UnsupportedOperation),
        ("GetParametersForImport", import, Exception::UnsupportedOperation),
        ("GetPublicKey", json!({ "KeyId": "00000000-0000-4000-8000-000000000000" }), Exception::NotFound),
        ("GetPublicKey", json!({ "KeyId": 1 }), Exception::Validation),
    ] {
        let came = asking.asked(operation, body).await;
        assert_eq!(came.status, 400, "{}", came.text);
        assert_eq!(came.record(), (None, Some(operation), Some(exception)), "{}", came.text);
        assert_eq!(came.records[0].principal.as_ref().unwrap().as_str(), format!("access-key:{}", asking.key.0));
    }
    let known = asking.asked("DescribeKey", json!({ "KeyId": key })).await;
    assert_eq!(known.record(), (Some(Operation::DescribeKey), None, None), "{}", known.text);

    // Whoever may not see the key is refused under the same name.
    asking.bench.service.set_administrators(std::collections::BTreeSet::new());
    let denied = asking.asked("GetPublicKey", json!({ "KeyId": key })).await;
    assert_eq!(denied.record(), (None, Some("GetPublicKey"), Some(Exception::AccessDenied)), "{}", denied.text);
}

#[tokio::test]
async fn what_nobody_can_do_is_on_record_and_what_is_no_call_is_not() {
    let asking = Asking::new().await;
    let unknown = asking.asked("Encryp", json!({})).await;
    assert!(unknown.text.contains("UnknownOperationException"), "{}", unknown.text);
    assert_eq!(unknown.stranger("other"), Some(Exception::Validation));
    for operation in ["Encrypt", "Sign"] {
        let mut long = request(&asking.key.0, &asking.key.1, &format!("TrentService.{operation}"), Bytes::new());
        long.headers_mut().insert("content-length", 600_000.into());
        let long = asking.ask(long).await;
        assert_eq!((long.status, long.stranger(operation)), (413, Some(Exception::Validation)));
    }
    let probe = asking.ask(Request::get("/").body(Whole::default()).unwrap()).await;
    assert_eq!((probe.status, probe.records.len()), (405, 0));
}

#[tokio::test]
async fn the_record_of_a_refused_signature_names_the_access_key() {
    let asking = Asking::new().await;
    let wrong = asking.signed("another secret", "Encrypt", json!({})).await;
    assert_eq!(wrong.stranger("Encrypt"), Some(Exception::AccessDenied));
    assert!(wrong.why().contains(&asking.key.0) && wrong.records[0].principal.is_none(), "{}", wrong.why());
    assert!(!wrong.text.contains(&asking.key.0), "{}", wrong.text);

    let target = "TrentService.Encrypt";
    let nobody = asking.ask(request("AKKSNOBODY", "a secret", target, Bytes::from_static(b"{}"))).await;
    assert!(nobody.text.contains("UnrecognizedClientException") && nobody.why().contains("AKKSNOBODY"));
    // What is no name of a key is not repeated.
    let odd = asking.ask(request("no key", "a secret", target, Bytes::from_static(b"{}"))).await;
    assert!(!odd.why().contains("no key"), "{}", odd.why());
}

#[tokio::test]
async fn what_is_signed_for_another_host_is_refused_and_on_record() {
    for (host, status) in [("kms.test", 200), ("kms.example.com", 400)] {
        let asking = Asking::called(&[host]).await;
        let came = asking.asked("DescribeKey", json!({ "KeyId": asking.bench.keys[0] })).await;
        assert_eq!(came.status, status, "{}", came.text);
        let refused = came.text.contains("InvalidSignatureException") && came.text.contains("the host 'kms.test'");
        assert_eq!(refused, status != 200, "{}", came.text);
        match refused {
            true => assert_eq!(came.stranger("DescribeKey"), Some(Exception::AccessDenied)),
            false => assert_eq!(came.record(), (Some(Operation::DescribeKey), None, None)),
        }
    }
}

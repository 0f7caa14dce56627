//! The end of every call is on record once, also of those that no use case has seen.

use proto::v1::{DescribeKeyRequest, EncryptRequest};
use tonic::Request;
use tonic::metadata::MetadataValue;

use crate::harness::Daemon;
use crate::harness::audit::records;
use crate::harness::wait::{LONG, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_call_is_on_record_once_wherever_it_was_refused() {
    let daemon = Daemon::start().await;
    let caller = daemon.caller().await;
    let describe = async |id: &'static str, timeout: &'static str, key: &str| {
        let mut request = Request::new(DescribeKeyRequest { key_id: key.to_owned(), ..Default::default() });
        request.metadata_mut().insert("x-request-id", MetadataValue::from_static(id));
        request.metadata_mut().insert("grpc-timeout", MetadataValue::from_static(timeout));
        caller.keys.clone().describe_key(request).await.unwrap_err();
    };
    describe("refused-by-the-entry", "soon", "any").await;
    let nobody = "11111111-1111-4111-8111-111111111111";
    describe("refused-by-the-service", "10S", nobody).await;
    let long = EncryptRequest { plaintext: vec![1; 8 << 20], ..Default::default() };
    caller.crypto.clone().encrypt(caller.request(long)).await.unwrap_err();
    caller.encrypt("no key", b"x", &std::collections::BTreeMap::new()).await.unwrap_err();

    for (id, exception) in
        [("refused-by-the-entry", "ValidationException"), ("refused-by-the-service", "NotFoundException")]
    {
        let found = until("the record of the call", LONG, || {
            let all = records(&daemon.site().audit_dir());
            let found: Vec<_> = all.into_iter().filter(|record| record["requestID"] == id).collect();
            (!found.is_empty()).then_some(found)
        });
        let [record] = &found[..] else { panic!("{id}: {found:#?}") };
        assert_eq!(
            (&record["eventName"], &record["errorCode"], &record["sourceIPAddress"]),
            (&"DescribeKey".into(), &exception.into(), &"127.0.0.1".into()),
            "{record:#}"
        );
    }
    // Each is counted when its answer has left.
    let calls = |outcome: &str| {
        let series = format!("keystored_calls_total{{operation=\"encrypt\",outcome=\"{outcome}\"}} ");
        until(&series, LONG, || {
            let (_, metrics) = daemon.ops("/metrics")?;
            metrics.lines().find_map(|line| line.strip_prefix(&series)?.parse::<u64>().ok())
        })
    };
    assert_eq!((calls("ValidationException"), calls("NotFoundException")), (1, 1));
}

//! What it costs to judge a signed request: SigV4, both steps, in this process alone.

use std::hint::black_box;
use std::time::{Duration, SystemTime};

use api::sigv4::{Expected, Refusal, claim};
use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4::SigningParams;
use http::Request;
use http::request::Parts;
use model::clock::Clock;

use super::table::{self, Must, Row, extremes, median};
use super::{Options, Outcome, Part, said};

/// Judged in one go, so that reading the clock counts for nothing.
const BATCH: u32 = 100;
const REGION: &str = "eu-central-1";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
/// Bytes of a call's body, of most and of an Encrypt of 4096 bytes, and what judging it takes at most, in µs.
const BODIES: [(usize, f64); 2] = [(1_024, 15.0), (5_600, 20.0)];

/// Measures and prints the table.
pub(super) fn report(options: &Options, clock: &Clock) -> Outcome<Part> {
    let now = clock.calendar();
    let mut rows = Vec::new();
    for (bytes, most_micros) in BODIES {
        let body = vec![b'a'; bytes];
        let head = signed(&body, now).map_err(said("signing a request"))?;
        let mut figures = Vec::new();
        for _ in 0..options.rounds {
            figures.push(round(&head, &body, now, options.length, clock).map_err(said("judging a request"))?);
        }
        let (least, most) = extremes(&figures);
        let what = format!("a signed request with a body of {bytes} bytes: both steps");
        let made_of = format!("{least:.1} to {most:.1} µs");
        rows.push(Row::new(what, median(&figures), Must::StayUnder(most_micros, "µs"), made_of));
    }
    println!("\nWhat signatures cost, medians of {} rounds of {:?} each\n", options.rounds, options.length);
    println!("{}", table::show(&rows, false));
    Ok(Part { passed: rows.iter().all(Row::passed), module: "none".to_owned() })
}

/// Microseconds for each request, in one thread.
fn round(head: &Parts, body: &[u8], now: SystemTime, length: Duration, clock: &Clock) -> Result<f64, Refusal> {
    let expected = Expected { region: REGION, services: &["kms", "sts"] };
    let (start, mut judged) = (clock.now(), 0);
    loop {
        for _ in 0..BATCH {
            black_box(claim(head, &expected, now)?.verify(SECRET, head, body))?;
        }
        judged += BATCH;
        let taken = clock.now() - start;
        if taken >= length {
            return Ok(taken.as_secs_f64() * 1e6 / f64::from(judged));
        }
    }
}

/// A call as the SDKs make and sign it.
fn signed(body: &[u8], now: SystemTime) -> Result<Parts, Box<dyn std::error::Error>> {
    let request = Request::post("https://kms.test:8443/")
        .header("host", "kms.test:8443")
        .header("content-type", "application/x-amz-json-1.1")
        .header("x-amz-target", "TrentService.Encrypt")
        .header("amz-sdk-invocation-id", "5ea4754a-8661-4e81-ab4d-56068134d511")
        .header("amz-sdk-request", "attempt=1; max=3");
    let mut request = request.body(())?;
    let identity = Credentials::new("AKIDEXAMPLE", SECRET, None, None, "bench").into();
    let params = SigningParams::builder().identity(&identity).region(REGION).name("kms").time(now);
    let params = params.settings(SigningSettings::default()).build()?.into();
    let headers: Vec<(&str, &str)> =
        request.headers().iter().filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?))).collect();
    let signable =
        SignableRequest::new("POST", request.uri().to_string(), headers.into_iter(), SignableBody::Bytes(body))?;
    sign(signable, &params)?.into_parts().0.apply_to_request_http1x(&mut request);
    Ok(request.into_parts().0)
}

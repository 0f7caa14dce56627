//! What holds for any request.

use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

/// Where a request is for, who signs it, and the request.
#[derive(Debug, Clone)]
struct Drawn {
    secret: String,
    region: String,
    service: String,
    path: String,
    values: Vec<String>,
    body: Vec<u8>,
    seconds: u64,
}

impl Drawn {
    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(self.seconds)
    }

    fn whole(&self) -> Whole {
        let mut text = format!("POST {} HTTP/1.1\nHost: kms.test\nX-Amz-Target: TrentService.Encrypt\n", self.path);
        for (index, value) in self.values.iter().enumerate() {
            text += &format!("X-Drawn-{index}: {value}\n");
        }
        let (parts, _) = read(&text).unwrap();
        (parts, self.body.clone())
    }

    fn signed(&self) -> Whole {
        signed(self.whole(), &self.secret, &self.region, &self.service, self.now())
    }

    fn judged(&self, whole: &Whole) -> Result<(), Refusal> {
        let expected = Expected { region: &self.region, services: &[&self.service] };
        judged(whole, &self.secret, &expected, self.now())
    }
}

fn drawn() -> impl Strategy<Value = Drawn> {
    let who = ("[A-Za-z0-9/+]{1,64}", "[a-z]{2}-[a-z]{4,9}-[1-9]", "[a-z][-a-z]{0,12}");
    // Printable ASCII, with blanks wherever they are.
    let values = vec("[ -~]{0,40}", 0..4);
    let path = "(/[a-zA-Z0-9_~%-]{1,8}){1,4}/?|/";
    (who, path, values, vec(any::<u8>(), 0..200), 0u64..4_000_000_000).prop_map(
        |((secret, region, service), path, values, body, seconds)| Drawn {
            secret,
            region,
            service,
            path,
            values,
            body,
            seconds,
        },
    )
}

/// Another printable character, and none that a signature does not count.
fn other(byte: u8, by: u8) -> char {
    let shown = b'!' + by % 94;
    char::from(if shown == byte { b'!' + (by + 1) % 94 } else { shown })
}

/// A text with another character at one place.
fn changed(text: &str, place: Index, by: u8) -> String {
    let place = place.index(text.len());
    let other = other(text.as_bytes()[place], by);
    format!("{}{other}{}", &text[..place], &text[place + 1..])
}

proptest! {
    #[test]
    fn whatever_is_signed_is_taken(drawn in drawn()) {
        prop_assert_eq!(drawn.judged(&drawn.signed()), Ok(()));
    }

    #[test]
    fn a_changed_header_is_refused(drawn in drawn(), which: Index, place: Index, by: u8) {
        let mut whole = drawn.signed();
        let names: Vec<HeaderName> =
            whole.0.headers.iter().filter(|(_, value)| !value.is_empty()).map(|(name, _)| name.clone()).collect();
        let name = which.get(&names);
        let value = whole.0.headers[name].to_str().unwrap().to_owned();
        let altered = changed(&value, place, by);
        // The name of the key is the one thing that the signature itself does not cover: see `refused`.
        prop_assume!(name.as_str() != "authorization" || !renamed(&value, &altered));
        whole.0.headers.insert(name, HeaderValue::from_str(&altered).unwrap());
        prop_assert!(drawn.judged(&whole).is_err(), "{}: {:?} for {:?}", name, altered, value);
    }

    #[test]
    fn a_changed_path_is_refused(drawn in drawn(), place: Index, by in "[a-zA-Z0-9_~%./-]") {
        let mut whole = drawn.signed();
        let (path, place) = (whole.0.uri.path().to_owned(), place.index(drawn.path.len()));
        let altered = format!("{}{by}{}", &path[..place], &path[place + 1..]);
        prop_assume!(altered != path);
        if let Ok(target) = altered.parse() {
            whole.0.uri = target;
            prop_assert!(drawn.judged(&whole).is_err(), "{} for {}", altered, path);
        }
    }

    #[test]
    fn a_changed_body_is_refused(drawn in drawn(), place: Index, by in 1u8..) {
        let mut whole = drawn.signed();
        whole.1.push(0);
        prop_assert!(drawn.judged(&whole).is_err());
        whole.1.pop();
        prop_assume!(!whole.1.is_empty());
        let place = place.index(whole.1.len());
        whole.1[place] ^= by;
        prop_assert!(drawn.judged(&whole).is_err());
    }

    #[test]
    fn a_changed_secret_is_refused(drawn in drawn(), place: Index, by: u8) {
        let whole = drawn.signed();
        let other = Drawn { secret: changed(&drawn.secret, place, by), ..drawn };
        prop_assert_eq!(other.judged(&whole), Err(Refusal::mismatch()));
    }

    #[test]
    fn another_method_is_refused(drawn in drawn(), method in "GET|PUT|HEAD|DELETE|OPTIONS|PATCH|post|POSTS") {
        let mut whole = drawn.signed();
        whole.0.method = method.parse().unwrap();
        prop_assert_eq!(drawn.judged(&whole), Err(Refusal::mismatch()));
    }

    /// A header more, of whatever name, is refused or changes nothing that is signed.
    #[test]
    fn a_header_more_says_nothing_in_the_signers_name(
        drawn in drawn(),
        name in "(x-)?(amz-)?(amzn-)?[a-z0-9]{1,6}|host",
    ) {
        let mut whole = drawn.signed();
        whole.0.headers.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_static("more"));
        let refused = drawn.judged(&whole).is_err();
        prop_assert_eq!(refused, name.starts_with("x-amz-") || name == "host", "{}", name);
    }

    #[test]
    fn any_request_is_survived(
        target in "/?[ -~]{0,20}",
        headers in vec(("host|date|x-amz-[a-z]{1,4}|authorization|[a-z]{1,4}", vec(any::<u8>(), 0..60)), 0..8),
    ) {
        let Ok(request) = Request::builder().uri(target).body(()) else { return Ok(()) };
        let (mut parts, ()) = request.into_parts();
        for (name, value) in headers {
            if let Ok(value) = HeaderValue::from_bytes(&value) {
                parts.headers.append(name.parse::<HeaderName>().unwrap(), value);
            }
        }
        prop_assert!(claim(&parts, &KMS, at(NOW)).is_err());
    }
}

/// Whether two Authorization headers differ in the name of the key alone.
fn renamed(one: &str, other: &str) -> bool {
    let rest = |header: &str| {
        let (_, rest) = header.split_once("Credential=")?;
        Some((header.find("Credential="), rest.split_once('/')?.1.to_owned()))
    };
    rest(one).is_some() && rest(one) == rest(other)
}

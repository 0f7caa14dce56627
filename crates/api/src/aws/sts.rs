//! `sts:GetCallerIdentity`, which scripts and Terraform ask before anything else: AWS's query protocol, a form that is
//! answered in XML.

use std::borrow::Cow;

use super::error::Failure;
use service::{Identified, RequestContext, Service};

const VERSION: &str = "2011-06-15";
const NAMESPACE: &str = "https://sts.amazonaws.com/doc/2011-06-15/";

/// Answers a form: with who the caller is, which everybody may ask.
pub(super) async fn answer(service: &Service, call: &RequestContext, body: &[u8]) -> Result<String, Failure> {
    check(body)?;
    let who = service.who_am_i(call).await.map_err(|error| in_query(error.into()))?;
    let Caller { account, arn, user_id } = caller(who)?;
    Ok(format!(
        "<GetCallerIdentityResponse xmlns=\"{NAMESPACE}\"><GetCallerIdentityResult><Arn>{}</Arn><UserId>{}</UserId>\
         <Account>{}</Account></GetCallerIdentityResult><ResponseMetadata><RequestId>{}</RequestId></ResponseMetadata>\
         </GetCallerIdentityResponse>",
        escaped(&arn),
        escaped(&user_id),
        escaped(&account),
        escaped(&call.request_id)
    ))
}

/// The XML of a failure.
pub(super) fn error(failure: &Failure, request_id: &str) -> String {
    let fault = if failure.status < 500 { "Sender" } else { "Receiver" };
    format!(
        "<ErrorResponse xmlns=\"{NAMESPACE}\"><Error><Type>{fault}</Type><Code>{}</Code><Message>{}</Message></Error>\
         <RequestId>{}</RequestId></ErrorResponse>",
        escaped(query_name(failure.name)),
        escaped(&failure.message),
        escaped(request_id)
    )
}

/// Whether the form asks for what there is.
fn check(body: &[u8]) -> Result<(), Failure> {
    let of = |name: &str| form_urlencoded::parse(body).find(|(key, _)| key == name).map(|(_, value)| value);
    let refused = |name: &'static str, message: String| Err(Failure { name, status: 400, message });
    let Some(action) = of("Action") else {
        return refused("MissingAction", "The request must contain the parameter Action.".to_owned());
    };
    let version = of("Version").unwrap_or(Cow::Borrowed(VERSION));
    if action == "GetCallerIdentity" && version == VERSION {
        return Ok(());
    }
    let cut = |text: &str| text.chars().take(64).collect::<String>();
    let what = format!("Could not find operation {} for version {}", cut(&action), cut(&version));
    refused("InvalidAction", what)
}

/// A caller as AWS shows it.
#[derive(Debug, PartialEq, Eq)]
struct Caller {
    account: String,
    arn: String,
    user_id: String,
}

fn caller(who: Identified) -> Result<Caller, Failure> {
    let Some(principal) = who.principal else {
        let message = "the caller is mapped to no principal of the access rules, so that it has no ARN".to_owned();
        return Err(Failure { name: "AccessDenied", status: 403, message });
    };
    // arn:PARTITION:iam::ACCOUNT:user/NAME
    let account = principal.arn.split(':').nth(4).unwrap_or_default().to_owned();
    Ok(Caller { account, user_id: principal.id.to_string(), arn: principal.arn })
}

/// What this protocol calls a failure, with its status.
pub(super) fn in_query(failure: Failure) -> Failure {
    let name = query_name(failure.name);
    let status = if name == "AccessDenied" { 403 } else { failure.status };
    Failure { name, status, ..failure }
}

/// What this protocol calls a failure; the names of signatures that do not fit are its own already.
fn query_name(name: &'static str) -> &'static str {
    match name {
        "AccessDeniedException" => "AccessDenied",
        "ThrottlingException" => "Throttling",
        "ValidationException" => "ValidationError",
        "SerializationException" => "MalformedInput",
        "DependencyTimeoutException" | "KMSInternalException" | "KeyUnavailableException" => "InternalFailure",
        other => other,
    }
}

/// Text in XML. What XML cannot have at all is shown as what it is not.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&apos;"),
            '\u{fffe}' | '\u{ffff}' => out.push(char::REPLACEMENT_CHARACTER),
            c if c.is_control() && !matches!(c, '\t' | '\n' | '\r') => out.push(char::REPLACEMENT_CHARACTER),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aws::operations::tests::{ANNA, Bench};
    use model::exception::Exception;
    use service::PrincipalView;

    fn view(arn: &str) -> PrincipalView {
        PrincipalView {
            id: "0123".into(),
            arn: arn.to_owned(),
            description: String::new(),
            created_at: 0,
            identities: Vec::new(),
            tags: Default::default(),
            groups: Vec::new(),
            policies: Vec::new(),
        }
    }

    #[test]
    fn one_action_is_known() {
        for good in ["Action=GetCallerIdentity&Version=2011-06-15", "Version=2011-06-15&Action=GetCaller%49dentity"] {
            assert_eq!(check(good.as_bytes()), Ok(()), "{good}");
        }
        let refused = |body: &str| check(body.as_bytes()).unwrap_err();
        let other = refused("Action=Get%3CSessionToken&Version=2011-06-15");
        assert_eq!((other.name, other.status), ("InvalidAction", 400));
        assert_eq!(other.message, "Could not find operation Get<SessionToken for version 2011-06-15");
        assert_eq!(refused("Action=GetCallerIdentity&Version=2010-01-01").name, "InvalidAction");
        assert!(refused(&format!("Action={}", "x".repeat(10_000))).message.len() < 200);
        for none in ["", "{\"a\":1}", "action=GetCallerIdentity"] {
            assert_eq!(refused(none).name, "MissingAction", "{none}");
        }
    }

    #[test]
    fn a_caller_has_the_account_of_its_arn() {
        let arn = "arn:aws:iam::111122223333:user/app";
        let who = |principal| Identified { identity: "access-key:A".to_owned(), principal, administrator: false };
        let expected = Caller { account: "111122223333".to_owned(), arn: arn.to_owned(), user_id: "0123".to_owned() };
        assert_eq!(caller(who(Some(view(arn)))), Ok(expected));
        let refused = caller(who(None)).unwrap_err();
        assert_eq!((refused.name, refused.status), ("AccessDenied", 403));
    }

    #[tokio::test]
    async fn whoever_calls_may_ask_who_that_is() {
        let bench = Bench::new().await;
        let form = b"Action=GetCallerIdentity&Version=2011-06-15";
        let answered = answer(&bench.service, &bench.call_of("cn:anna"), form).await.unwrap();
        let (before, after) = answered.split_once("<UserId>").unwrap();
        assert!(before.starts_with(&format!("<GetCallerIdentityResponse xmlns=\"{NAMESPACE}\">")), "{answered}");
        assert!(before.ends_with(&format!("<Arn>{ANNA}</Arn>")), "{answered}");
        assert!(after.contains("</UserId><Account>111122223333</Account></GetCallerIdentityResult>"), "{answered}");
        assert!(after.contains("<RequestId>r-1</RequestId>"), "{answered}");
        let nobody = answer(&bench.service, &bench.call_of("cn:nobody"), form).await.unwrap_err();
        assert_eq!((nobody.name, nobody.status), ("AccessDenied", 403));
    }

    #[test]
    fn failures_are_xml() {
        let failure = in_query(Failure::new(Exception::AccessDenied, "a <b> & 'c' \"d\"\u{1}"));
        assert_eq!((failure.name, failure.status), ("AccessDenied", 403));
        let expected = format!(
            "<ErrorResponse xmlns=\"{NAMESPACE}\"><Error><Type>Sender</Type><Code>AccessDenied</Code>\
             <Message>a &lt;b&gt; &amp; &apos;c&apos; &quot;d&quot;\u{fffd}</Message></Error>\
             <RequestId>r-1</RequestId></ErrorResponse>"
        );
        assert_eq!(error(&failure, "r-1"), expected);
        let ours = in_query(Failure::new(Exception::DependencyTimeout, "late"));
        assert_eq!((ours.name, ours.status), ("InternalFailure", 500));
        assert!(error(&ours, "r").contains("<Type>Receiver</Type>"));
        assert!(
            error(&Failure { name: "SignatureDoesNotMatch", status: 403, message: String::new() }, "r")
                .contains("<Code>SignatureDoesNotMatch</Code>")
        );
    }
}

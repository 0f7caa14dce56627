//! What is wrong with a server's certificates and the CAs of its clients, or soon will be, with the remedy: for the
//! log, /readyz and `keystored check`.
//!
//! Pure: certificates and a moment go in, findings come out. Only what can be seen offline is judged: which CAs clients
//! trust is known to nobody here. What a certificate says is said as plainly as rustls would refuse it.

use std::time::{Duration, SystemTime};

use super::facts::{Facts, moment};

const DAY: Duration = Duration::from_secs(86_400);
/// The end of a certificate is told so long before.
pub const SOON: Duration = Duration::from_secs(30 * 86_400);
/// With no more time left the service counts as degraded.
pub const VERY_SOON: Duration = Duration::from_secs(7 * 86_400);

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Urgency {
    /// Its end comes within [`SOON`].
    Soon,
    /// Its end comes within [`VERY_SOON`].
    VerySoon,
    /// It does not do what it is for.
    Wrong,
}

/// What is found, without the figures that change from day to day: the same finding a day later is equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// It has ended.
    Ended,
    /// It begins in the future.
    NotYet,
    /// It ends soon.
    Ends,
    /// It names no host.
    NoName,
    /// It may not be shown by a server.
    NoServer,
    /// Its key may not sign a handshake.
    NoSignature,
    /// An authority's, where a server's belongs.
    Authority,
    /// No authority's, where one belongs.
    NoAuthority,
    /// The certificate that leads on from it is not there.
    Gap,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Which certificate: what it is for, and its holder.
    pub certificate: String,
    /// What is wrong with it.
    pub kind: Kind,
    /// How bad.
    pub urgency: Urgency,
    /// What is wrong, behind the certificate's name: "ended on …".
    pub what: String,
    /// What to do.
    pub remedy: &'static str,
}

impl Finding {
    /// In one sentence, with the remedy.
    #[must_use]
    pub fn sentence(&self) -> String {
        format!("{} {}; {}", self.certificate, self.what, self.remedy)
    }
}

const RENEW: &str = "have its CA renew it, and put the new one, with its key, where grpc.certificate and grpc.key say: it is taken \
                     over within two seconds";
const REISSUE: &str = "have the CA issue one for a TLS server: with subjectAltName for each name or address by which clients \
                       reach it, extendedKeyUsage serverAuth, and CA:FALSE";
const CLOCK: &str = "see whether the clock of this host is right; if it is, put one in its place that is valid now";
const CHAIN: &str = "put into the file of grpc.certificate, in this order: the server's certificate, then each intermediate CA's \
                     that leads to the root";
const CHAIN_END: &str = "put the current certificate of this intermediate CA into the file of grpc.certificate";
const CA_END: &str = "put the CA's new certificate into the file of grpc.client_ca beside it, have clients' certificates renewed, \
                      and take this one out";
const CA_ENDED: &str = "take it out of the file of grpc.client_ca once no client needs it: this daemon goes on trusting what is \
                        in there, other programs do not";
const NO_CA: &str = "take it out of the file of grpc.client_ca, where CAs alone belong: whoever has its key could make \
                     certificates that this daemon trusts";

/// What is wrong with the chain that a server shows, its own certificate first.
#[must_use]
pub fn server(chain: &[Facts], now: SystemTime) -> Vec<Finding> {
    let mut found = Vec::new();
    let Some((own, above)) = chain.split_first() else { return found };
    let mut judge = Judge { found: &mut found, certificate: format!("the server certificate {}", own.subject) };
    judge.times(own, now, [RENEW, RENEW], "clients refuse it");
    if own.names.is_empty() {
        judge.wrong(
            Kind::NoName,
            "names no host (subjectAltName): keystorectl and most other clients refuse it",
            REISSUE,
        );
    }
    if !own.server {
        judge.wrong(
            Kind::NoServer,
            "is not for servers (extendedKeyUsage without serverAuth): clients refuse it",
            REISSUE,
        );
    }
    if !own.signs {
        judge.wrong(
            Kind::NoSignature,
            "forbids its key to sign handshakes (keyUsage), as TLS 1.3 does: some clients refuse it",
            REISSUE,
        );
    }
    if own.authority {
        judge.wrong(Kind::Authority, "is a CA's (basicConstraints CA:TRUE): keystorectl and others refuse it", REISSUE);
    }
    let mut below = own;
    for one in above {
        let mut judge =
            Judge { found: &mut found, certificate: format!("the intermediate certificate {}", one.subject) };
        if below.names_as_issuer(one) {
            judge.times(one, now, [CHAIN_END, CHAIN_END], "clients refuse what it has signed");
            if !(one.authority && one.certifies) {
                judge.wrong(Kind::NoAuthority, "is no CA's: clients refuse what it has signed", CHAIN);
            }
        } else {
            let what = format!(
                "does not follow from the one before it, {}, which {} has signed: where that is no CA that clients \
                 know, they refuse it",
                below.subject, below.issuer
            );
            judge.wrong(Kind::Gap, what, CHAIN);
        }
        below = one;
    }
    found
}

/// What is wrong with the CAs of clients.
#[must_use]
pub fn client_authorities(authorities: &[Facts], now: SystemTime) -> Vec<Finding> {
    let mut found = Vec::new();
    for one in authorities {
        let mut judge = Judge { found: &mut found, certificate: format!("the client CA {}", one.subject) };
        judge.times(one, now, [CA_END, CA_ENDED], "clients with its certificates should have others by now");
        if !(one.authority && one.certifies) {
            judge.wrong(Kind::NoAuthority, "is no CA's certificate", NO_CA);
        }
    }
    found
}

/// Writes findings about one certificate down.
struct Judge<'a> {
    found: &'a mut Vec<Finding>,
    certificate: String,
}

impl Judge<'_> {
    fn wrong(&mut self, kind: Kind, what: impl Into<String>, remedy: &'static str) {
        self.note(kind, Urgency::Wrong, what.into(), remedy);
    }

    fn note(&mut self, kind: Kind, urgency: Urgency, what: String, remedy: &'static str) {
        self.found.push(Finding { certificate: self.certificate.clone(), kind, urgency, what, remedy });
    }

    /// `remedies`: before its end, and after it. `consequence` is what follows from an end.
    fn times(&mut self, facts: &Facts, now: SystemTime, remedies: [&'static str; 2], consequence: &str) {
        let validity = facts.validity;
        if now < validity.from {
            self.wrong(Kind::NotYet, format!("is not valid before {}", moment(validity.from)), CLOCK);
        }
        match validity.until.duration_since(now) {
            Err(_) => {
                self.wrong(Kind::Ended, format!("ended on {}: {consequence}", moment(validity.until)), remedies[1])
            }
            Ok(left) if left < SOON => {
                let urgency = if left < VERY_SOON { Urgency::VerySoon } else { Urgency::Soon };
                let what = format!("ends on {}, in {}", moment(validity.until), span(left));
                self.note(Kind::Ends, urgency, what, remedies[0]);
            }
            Ok(_) => {}
        }
    }
}

/// `3 days`, `1 day`, `5 hours`, `less than an hour`.
fn span(left: Duration) -> String {
    let (days, hours) = (left.as_secs() / DAY.as_secs(), left.as_secs() / 3_600);
    match (days, hours) {
        (0, 0) => "less than an hour".to_owned(),
        (0, 1) => "1 hour".to_owned(),
        (0, hours) => format!("{hours} hours"),
        (1, _) => "1 day".to_owned(),
        (days, _) => format!("{days} days"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::{Authority, Issued, der_list};

    const LONG: Duration = Duration::from_secs(365 * 86_400);

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_800_000_000)
    }

    fn facts(pem: &str) -> Vec<Facts> {
        der_list(pem).iter().map(|der| Facts::of(der).unwrap()).collect()
    }

    fn of(issued: &Issued) -> Vec<Facts> {
        facts(&issued.certificate)
    }

    fn kinds(found: &[Finding]) -> Vec<(Kind, Urgency)> {
        found.iter().map(|finding| (finding.kind, finding.urgency)).collect()
    }

    fn authority() -> Authority {
        Authority::generate("test CA", now(), LONG).unwrap()
    }

    #[test]
    fn a_good_server_certificate_gives_no_finding() {
        let good = authority().server(&["keys.example"], now(), LONG).unwrap();
        assert_eq!(server(&of(&good), now()), []);
        let with_root = [of(&good), facts(authority().certificate())].concat();
        assert_eq!(server(&with_root, now()), []);
        assert_eq!(server(&[], now()), []);
    }

    #[test]
    fn the_end_is_told_thirty_and_seven_days_before_and_after_it() {
        let lasts = |days: u32| of(&authority().server(&["keys.example"], now(), days * DAY).unwrap());
        for (days, expected) in [
            (31, None),
            (29, Some((Kind::Ends, Urgency::Soon))),
            (8, Some((Kind::Ends, Urgency::Soon))),
            (6, Some((Kind::Ends, Urgency::VerySoon))),
            (0, Some((Kind::Ends, Urgency::VerySoon))),
        ] {
            assert_eq!(kinds(&server(&lasts(days), now())), Vec::from_iter(expected), "{days} days");
        }
        let ended = server(&lasts(1), now() + 2 * DAY);
        assert_eq!(kinds(&ended), [(Kind::Ended, Urgency::Wrong)]);
        let says = ended[0].sentence();
        assert!(says.starts_with("the server certificate CN=keys.example ended on 2027-01-16 08:00 UTC"), "{says}");
        assert!(says.contains("grpc.certificate"), "{says}");
        let early = server(&lasts(400), now() - 2 * DAY);
        assert_eq!(kinds(&early), [(Kind::NotYet, Urgency::Wrong)]);
        assert!(early[0].sentence().contains("clock"), "{early:?}");
        // What changes from day to day is not what tells two findings apart.
        let [today, tomorrow] = [now(), now() + DAY].map(|now| server(&lasts(5), now).remove(0));
        assert!(today.what.contains("in 5 days") && tomorrow.what.contains("in 4 days"), "{today:?} {tomorrow:?}");
        assert_eq!((today.kind, today.certificate), (tomorrow.kind, tomorrow.certificate));
    }

    #[test]
    fn a_server_certificate_that_clients_would_refuse_is_said() {
        let authority = authority();
        let nameless = authority.server(&[], now(), LONG).unwrap();
        assert_eq!(kinds(&server(&of(&nameless), now())), [(Kind::NoName, Urgency::Wrong)]);
        let client = authority.client("app", None, now(), LONG).unwrap();
        let found = server(&of(&client), now());
        assert_eq!(kinds(&found), [(Kind::NoName, Urgency::Wrong), (Kind::NoServer, Urgency::Wrong)]);
        let ca = server(&facts(authority.certificate()), now());
        let expected = [Kind::NoName, Kind::NoSignature, Kind::Authority].map(|kind| (kind, Urgency::Wrong));
        assert_eq!(kinds(&ca), expected);
    }

    #[test]
    fn a_chain_must_lead_from_one_to_the_next() {
        let (mine, other) = (authority(), Authority::generate("another CA", now(), 10 * DAY).unwrap());
        let leaf = of(&mine.server(&["keys.example"], now(), LONG).unwrap());
        let found = server(&[leaf.clone(), facts(other.certificate())].concat(), now());
        assert_eq!(kinds(&found), [(Kind::Gap, Urgency::Wrong)]);
        assert!(found[0].sentence().contains("CN=keys.example, which CN=test CA has signed"), "{found:?}");
        // An intermediate that ends before the certificate under it takes it along.
        let short = of(&other.server(&["keys.example"], now(), LONG).unwrap());
        let chain = [short, facts(other.certificate())].concat();
        assert_eq!(kinds(&server(&chain, now())), [(Kind::Ends, Urgency::Soon)]);
        assert_eq!(kinds(&server(&chain, now() + 20 * DAY)), [(Kind::Ended, Urgency::Wrong)]);
        // One that signs and is no CA.
        let twice = [leaf.clone(), of(&mine.client("test CA", None, now(), LONG).unwrap())].concat();
        assert_eq!(kinds(&server(&twice, now())), [(Kind::NoAuthority, Urgency::Wrong)]);
    }

    #[test]
    fn client_cas_must_be_cas_and_valid() {
        let authority = authority();
        let ca = facts(authority.certificate());
        assert_eq!(client_authorities(&ca, now()), []);
        let ended = client_authorities(&ca, now() + 2 * LONG);
        assert_eq!(kinds(&ended), [(Kind::Ended, Urgency::Wrong)]);
        assert!(ended[0].sentence().contains("goes on trusting"), "{ended:?}");
        assert_eq!(kinds(&client_authorities(&ca, now() - DAY)), [(Kind::NotYet, Urgency::Wrong)]);
        assert_eq!(kinds(&client_authorities(&ca, now() + LONG - 3 * DAY)), [(Kind::Ends, Urgency::VerySoon)]);
        let leaf = of(&authority.client("app", None, now(), LONG).unwrap());
        assert_eq!(kinds(&client_authorities(&leaf, now())), [(Kind::NoAuthority, Urgency::Wrong)]);
    }

    #[test]
    fn time_left_is_said_roughly() {
        for (hours, said) in [(0, "less than an hour"), (1, "1 hour"), (23, "23 hours"), (47, "1 day"), (48, "2 days")]
        {
            assert_eq!(span(Duration::from_secs(hours * 3_600 + 59)), said);
        }
    }
}

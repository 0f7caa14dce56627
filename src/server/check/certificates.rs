//! A look at the certificates: what the server shows, to whom, until when, and whose clients it trusts.

use std::io::{self, Write};
use std::time::SystemTime;

use crate::server::certificates::findings;
use crate::server::tls::{Shown, Tls};
use pki::judge::Urgency;
use pki::moment;

/// Prints what the certificates in the files say and what is wrong with them; false when something must be mended.
pub(super) fn look(tls: &Tls, now: SystemTime, out: &mut (dyn Write + Send)) -> io::Result<bool> {
    let material = tls.current();
    let Shown { server, client_authorities } = &material.shown;
    if let (Some(own), Some(last)) = (server.first(), server.last()) {
        let names = if own.names.is_empty() { "no name".to_owned() } else { own.names.join(", ") };
        writeln!(out, "  server: {} for {names}, until {}", own.subject, moment(own.validity.until))?;
        if !last.own_issuer {
            // Which CAs clients know cannot be seen from here.
            let below = if server.len() == 1 { "it" } else { "the last certificate of its chain" };
            writeln!(out, "    {below} is signed by {}: clients must know the certificate of that CA", last.issuer)?;
        }
    }
    for one in client_authorities {
        writeln!(out, "  client CA: {}, until {}", one.subject, moment(one.validity.until))?;
    }
    let mut good = true;
    for finding in findings(&material.shown, now) {
        let wrong = finding.urgency == Urgency::Wrong;
        good &= !wrong;
        let word = if wrong { "wrong" } else { "note" };
        writeln!(out, "    {word}: {} {}\n    to do: {}", finding.certificate, finding.what, finding.remedy)?;
    }
    Ok(good)
}

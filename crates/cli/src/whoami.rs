//! `keystorectl whoami`

use serde::Serialize;

use super::Context;
use super::failure::Failure;
use super::principal::Principal;
use super::printer::{Report, facts};
use super::status::yes_or_no;

#[derive(Serialize)]
struct Me {
    identity: String,
    administrator: bool,
    /// Absent where the certificate is mapped to nobody.
    principal: Option<Principal>,
}

impl Report for Me {
    fn text(&self) -> String {
        let own = facts([("Certificate", self.identity.clone()), ("Administrator", yes_or_no(self.administrator))]);
        match &self.principal {
            Some(principal) => format!("{own}\n\n{}", principal.text()),
            None if self.administrator => format!("{own}\n\nNo principal; the configuration names the certificate."),
            None => format!(
                "{own}\n\nNo principal, so nothing but this is allowed. An administrator makes one (`keystorectl principal \
                 create ARN --identity {}`), or gives this identity to one that there is (`keystorectl principal \
                 add-identity`).",
                self.identity
            ),
        }
    }
}

pub(super) async fn run(context: &Context) -> Result<(), Failure> {
    let me = context.connection.connect().await?.who_am_i().await?;
    let (identity, administrator) = (me.identity, me.administrator);
    context.printer.report(&Me { identity, administrator, principal: me.principal.map(Principal::from) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_nobody_is_told_what_to_ask_for() {
        let me = |administrator| Me { identity: "cn:eve".to_owned(), administrator, principal: None }.text();
        assert!(me(false).contains("--identity cn:eve"), "{}", me(false));
        assert!(!me(true).contains("--identity"), "{}", me(true));
    }
}

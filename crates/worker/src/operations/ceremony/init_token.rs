//! Initialise a blank token.

use crate::fault::Failure;
use crate::module::{Found, Module, describe};
use crate::operations::change_pin::text;
use model::secret::Secret;
use protocol::{Class, Reply, Token};

/// Gives a blank token its label and its security officer's PIN. Needs a worker without sessions. A token that has been
/// initialised before is never initialised again: that would destroy what it holds.
pub(super) fn run(module: &Module, token: &Token, so_pin: &Secret) -> Result<Reply, Failure> {
    let label = &token.label;
    if label.is_empty() || label.len() > 32 || label.trim_end() != label {
        let detail = format!("'{label}' is no token label: 1 to 32 bytes, no blank at the end");
        return Err(Failure::own(Class::Request, "C_InitToken", detail));
    }
    let so_pin = text(so_pin)?;
    let all = module.all_tokens()?;
    if all.iter().any(|found| found.info.token_initialized() && found.info.label().trim_end() == label) {
        let detail = format!("a token '{label}' is there already; choose another label or delete that token");
        return Err(Failure::own(Class::Refused, "C_InitToken", detail));
    }
    let blank = blank(all, token)?;
    module.pkcs11().init_token(blank.slot, &so_pin, label)?;
    // Some modules show a new token only after they were initialised again.
    if module.find(&Token { label: label.clone(), serials: Vec::new() }).is_err() {
        module.finalise()?;
        module.initialise()?;
    }
    Ok(Reply::Done)
}

/// The one blank token that can be meant.
fn blank(all: Vec<Found>, token: &Token) -> Result<Found, Failure> {
    let meant = |found: &Found| {
        let serial = found.info.serial_number().trim();
        !found.info.token_initialized()
            && (token.serials.is_empty() || token.serials.iter().any(|wanted| wanted.trim() == serial))
    };
    let mut blank: Vec<Found> = all.into_iter().filter(meant).collect();
    match (blank.pop(), blank.len()) {
        (Some(found), 0) => Ok(found),
        (Some(found), _) => {
            let listed: Vec<String> = blank.iter().chain([&found]).map(|found| describe(&found.info)).collect();
            let detail = format!(
                "several blank tokens could be meant: {}; name the serial number of the right one in token_serials",
                listed.join(", ")
            );
            Err(Failure::own(Class::Refused, "C_InitToken", detail))
        }
        (None, _) => {
            let named = match &token.serials[..] {
                [] => String::new(),
                serials => format!(" with the serial number {}", serials.join(" or ")),
            };
            Err(Failure::own(Class::Refused, "C_InitToken", format!("no slot holds a blank token{named}")))
        }
    }
}

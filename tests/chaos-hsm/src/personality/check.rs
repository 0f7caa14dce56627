//! Settings that contradict each other, or themselves.

use super::names::{Code, Function, Mechanism};
use super::settings::{AttributeRule, Gcm, Iv, Personality, PinForm, Topology, Written};

/// Most back ends behind a slot.
const BACK_ENDS: usize = 8;

impl Personality {
    /// What does not fit together; an error says where.
    pub(crate) fn check(&self) -> Result<(), String> {
        self.gcms().try_for_each(gcm)?;
        let numbers: Vec<_> = self.gcms().map(Gcm::number).collect();
        if (1..numbers.len()).any(|at| numbers[..at].contains(&numbers[at])) {
            return wrong("gcm", "also names a mechanism twice");
        }
        if numbers.iter().any(|number| self.mechanisms.hidden.contains(&Mechanism(*number))) {
            return wrong("gcm", "its mechanism is hidden");
        }
        for (vendors, standards) in &self.mechanisms.map {
            if vendors == standards || self.mechanisms.map.contains_key(standards) {
                return wrong("mechanisms", "map ends at a number that it maps");
            }
            if self.mechanisms.hidden.contains(vendors) || numbers.contains(&vendors.0) {
                return wrong("mechanisms", "a mapped number is hidden too, or is gcm's");
            }
        }
        for (name, rule) in &self.attributes {
            attributes(rule).map_err(|error| format!("attributes.{name}: {error}"))?;
        }
        self.login()?;
        self.calls()?;
        self.topology.as_ref().map_or(Ok(()), topology)
    }

    fn refuses(&self, function: &'static str) -> bool {
        self.calls.refused.get(&Function(function)).is_some_and(|code| *code != Code(0))
    }

    fn login(&self) -> Result<(), String> {
        let login = &self.login;
        if login.pin_form == PinForm::Pin && (login.user.is_some() || login.wrong_form.is_some()) {
            return wrong("login", "user and wrong_form are for the form {user}:{pin}");
        }
        if login.user.as_ref().is_some_and(|user| user.is_empty() || user.contains(':')) {
            return wrong("login", "a user's name has a character, and no colon");
        }
        if login.tries == Some(0) {
            return wrong("login", "tries is from 1");
        }
        if login.pin_length.is_some_and(|[least, most]| least > most) {
            return wrong("login", "pin_length is the least, then the most");
        }
        match login.must_change && self.refuses("C_SetPIN") {
            true => wrong("login", "must_change, and calls.refused has C_SetPIN: nobody could ever log in"),
            false => Ok(()),
        }
    }

    fn calls(&self) -> Result<(), String> {
        let calls = &self.calls;
        if calls.random.is_some_and(|[least, most]| least > most) {
            return wrong("calls", "random is the least, then the most");
        }
        if self.refuses("C_Initialize") || self.refuses("C_Finalize") {
            return wrong("calls", "refused cannot have C_Initialize and C_Finalize");
        }
        match &calls.rate {
            Some(rate) if !(rate.per_second > 0.0 && rate.per_second <= 1e9) || rate.burst == 0 => {
                wrong("calls.rate", "per_second is more than 0, and burst from 1")
            }
            _ => Ok(()),
        }
    }
}

fn wrong(what: &str, why: &str) -> Result<(), String> {
    Err(format!("{what}: {why}"))
}

fn gcm(gcm: &Gcm) -> Result<(), String> {
    if gcm.also.iter().any(|also| !also.also.is_empty()) {
        return wrong("gcm", "also is not for those in also");
    }
    if gcm.iv != Iv::Caller && ![12, 16].contains(&gcm.made()) {
        return wrong("gcm", "an IV that the token makes has 12 or 16 bytes");
    }
    if gcm.iv_length == Some(0) {
        return wrong("gcm", "iv_length is from 1");
    }
    if gcm.written == Written::AtEncrypt && gcm.iv != Iv::ZeroedWriteback {
        return wrong("gcm", "written is for zeroed-writeback");
    }
    Ok(())
}

fn attributes(rule: &AttributeRule) -> Result<(), String> {
    let refused = |name| rule.refuse.contains(name) || rule.only.as_ref().is_some_and(|only| !only.contains(name));
    if rule.demand.iter().any(refused) {
        return Err("what is demanded is refused too".to_owned());
    }
    if rule.ignore.iter().any(|name| rule.refuse.contains(name)) {
        return Err("what is ignored is refused too".to_owned());
    }
    if rule.force.keys().any(|name| rule.ignore.contains(name) || rule.default.contains_key(name)) {
        return Err("what is forced is ignored too, or has a default".to_owned());
    }
    Ok(())
}

fn topology(topology: &Topology) -> Result<(), String> {
    if !(2..=BACK_ENDS).contains(&topology.back_ends) {
        return wrong("topology", &format!("back_ends is from 2 to {BACK_ENDS}"));
    }
    if topology.down.iter().any(|down| *down >= topology.back_ends) {
        return wrong("topology", "down has numbers from 0 to back_ends - 1");
    }
    match topology.outages {
        Some(outages) if outages.lasts == 0 || outages.lasts >= outages.every => {
            wrong("topology", "outages last less calls than there are from one to the next")
        }
        _ => Ok(()),
    }
}

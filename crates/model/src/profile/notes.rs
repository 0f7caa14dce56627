//! What people are told of an HSM's capabilities before anything goes wrong: which promises do not hold, and by which habits
//! something is otherwise than they may think. Pure.

use super::{Broken, Capabilities, FirstLogin, Flags, promises};

/// A sentence for each, promises first.
#[must_use]
pub fn notes(of: &Capabilities) -> Vec<String> {
    let broken = |Broken { promise, why }| format!("it does not hold that {}: {why}", promise.text());
    promises(of).into_iter().map(broken).chain(habits(of)).collect()
}

fn habits(of: &Capabilities) -> Vec<String> {
    let mut notes = Vec::new();
    if of.objects.in_host_file() {
        notes.push(
            "its token holds no certificates (capabilities.objects.certificate), so that the identity's is in a file, which \
             each host needs whose daemon uses this HSM"
                .to_owned(),
        );
    }
    if of.login.flags == Flags::AlwaysSet {
        notes.push(
            "the token's flags about its user tell nothing (capabilities.login.flags): whether it is locked, or nearly, is \
             not seen before a login, and login_tries alone keeps it from being locked"
                .to_owned(),
        );
    }
    if of.login.first_login == FirstLogin::Change {
        notes.push(
            "a PIN that the token wants changed before its first login is changed to one that the daemon makes \
             (capabilities.login.first_login)"
                .to_owned(),
        );
    }
    if let Some(most) = of.objects.versions_max() {
        notes.push(format!(
            "it takes {} keys (capabilities.objects.keys_max), so that no more than {most} versions of keys are made",
            of.objects.keys_max
        ));
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::{Basis, CertificateIn, Reach};

    #[test]
    fn each_habit_is_told_and_the_standard_has_none() {
        let told = |change: &dyn Fn(&mut Capabilities)| {
            let mut known = Capabilities { basis: Basis::Measured, ..Capabilities::standard() };
            change(&mut known);
            habits(&known).join("\n")
        };
        assert_eq!(told(&|_| ()), "");
        assert!(told(&|of| of.objects.certificate = CertificateIn::HostFile).contains("is in a file"));
        assert!(told(&|of| of.login.flags = Flags::AlwaysSet).contains("login_tries alone"));
        assert!(told(&|of| of.login.first_login = FirstLogin::Change).contains("login.first_login"));
        let most = "it takes 3300 keys (capabilities.objects.keys_max), so that no more than 3284";
        assert!(told(&|of| of.objects.keys_max = 3_300).contains(most));
    }

    #[test]
    fn promises_that_do_not_hold_come_first() {
        let mut known = Capabilities { basis: Basis::Measured, ..Capabilities::standard() };
        assert!(notes(&known).iter().all(|note| note.starts_with("it does not hold that")), "{:?}", notes(&known));
        let before = notes(&known).len();
        known.objects.destroy = Reach::ThisHost;
        known.login.flags = Flags::AlwaysSet;
        let notes = notes(&known);
        assert_eq!(notes.len(), before + 2);
        assert!(
            notes[before].contains("are files on this host") && notes[before + 1].contains("login_tries"),
            "{notes:?}"
        );
    }
}

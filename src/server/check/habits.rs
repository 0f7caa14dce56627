//! What an HSM's capabilities mean beside the promises that do not hold.

use model::profile::{Capabilities, FirstLogin, Flags};

/// A sentence for each habit by which something is otherwise than people may think.
pub(super) fn notes(of: &Capabilities) -> Vec<String> {
    let mut notes = Vec::new();
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
    use model::profile::Profile;

    #[test]
    fn each_habit_is_told_and_the_standard_has_none() {
        let notes = |of: &Capabilities| super::notes(of).join("\n");
        assert_eq!(notes(&Capabilities::standard()), "");
        let of = |profile| notes(&config::capabilities(profile).unwrap());
        for (profile, words) in [
            (Profile::CloudHsm, "it takes 3300 keys (capabilities.objects.keys_max), so that no more than 3284"),
            (Profile::Luna, "login.first_login"),
        ] {
            assert!(of(profile).contains(words), "{profile:?}: {}", of(profile));
        }
        let mut known = Capabilities::standard();
        known.login.flags = Flags::AlwaysSet;
        assert!(notes(&known).contains("login_tries alone"));
    }
}

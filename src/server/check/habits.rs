//! What an HSM's capabilities mean for what keystored promises.

use model::profile::{Capabilities, FirstLogin, Flags, Reach, UnwrapTemplate};

/// A sentence for each habit by which something is otherwise than people may think.
pub(super) fn notes(of: &Capabilities) -> Vec<String> {
    let mut notes = Vec::new();
    if !of.wrap.unwrap_template.is_told() {
        let why = match of.wrap.unwrap_template {
            UnwrapTemplate::AtGenerate => {
                "the HSM can be told what a wrapping key may unwrap to only where it makes that key, and gets this one wrapped"
            }
            UnwrapTemplate::AtUnwrap | UnwrapTemplate::None => "the wrapping key is not told what it may unwrap to",
        };
        notes.push(format!(
            "whoever has kmsuser's PIN and a wrapped key from the database can unwrap it as a key that can be read, since \
             {why} (capabilities.wrap.unwrap_template)"
        ));
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
    if of.objects.destroy == Reach::ThisHost {
        notes.push(
            "destroying a key reaches this host's copy of it alone (capabilities.objects.destroy): copies of the objects on \
             other hosts and in backups have to be removed there"
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
            (Profile::CloudHsm, "the wrapping key is not told"),
            (Profile::CloudHsm, "it takes 3300 keys (capabilities.objects.keys_max), so that no more than 3284"),
            (Profile::Luna, "login.first_login"),
            (Profile::NShield, "this host's copy of it alone"),
        ] {
            assert!(of(profile).contains(words), "{profile:?}: {}", of(profile));
        }
        let mut known = Capabilities::standard();
        (known.login.flags, known.wrap.unwrap_template) = (Flags::AlwaysSet, UnwrapTemplate::AtGenerate);
        assert!(notes(&known).contains("login_tries alone") && notes(&known).contains("only where it makes that key"));
    }
}

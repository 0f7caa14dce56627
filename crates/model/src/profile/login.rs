//! How kmsuser logs in to an HSM, and who may change its PIN.

use serde::{Deserialize, Serialize};

/// The user's login.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Login {
    /// What C_Login and C_SetPIN take for a PIN.
    pub pin_form: PinForm,
    /// The user's name, where the form has one.
    pub user: String,
    /// Shortest PIN that the daemon makes, in characters.
    pub pin_min: u64,
    /// Longest PIN that the daemon makes, in characters.
    pub pin_max: u64,
    /// Who may change the PIN.
    pub changed_by: ChangedBy,
    /// Wrong PINs in a row that lock the user; 0 where it is not known.
    pub tries: u64,
}

/// What is given to the token for a PIN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PinForm {
    /// The PIN itself.
    #[serde(rename = "{pin}")]
    Pin,
    /// The user's name before it.
    #[serde(rename = "{user}:{pin}")]
    UserAndPin,
}

/// Who may change the user's PIN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChangedBy {
    /// The user, by C_SetPIN.
    User,
    /// Nobody by way of PKCS#11.
    Nobody,
}

impl Login {
    /// See [`super::Capabilities::standard`].
    #[must_use]
    pub fn standard() -> Self {
        Self {
            pin_form: PinForm::Pin,
            user: String::new(),
            pin_min: 8,
            pin_max: 32,
            changed_by: ChangedBy::User,
            tries: 0,
        }
    }

    /// What the token is given for a PIN. To be wiped.
    #[must_use]
    pub fn text(&self, pin: &[u8]) -> Vec<u8> {
        match self.pin_form {
            PinForm::Pin => pin.to_vec(),
            PinForm::UserAndPin => {
                // In one piece, so that growing leaves no copy behind.
                let mut text = Vec::with_capacity(self.user.len() + 1 + pin.len());
                text.extend_from_slice(self.user.as_bytes());
                text.push(b':');
                text.extend_from_slice(pin);
                text
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_stands_before_the_pin_where_the_form_has_it() {
        let plain = Login { user: "kmsuser".to_owned(), ..Login::standard() };
        assert_eq!(plain.text(b"1234"), b"1234");
        assert_eq!(Login { pin_form: PinForm::UserAndPin, ..plain }.text(b"12:34"), b"kmsuser:12:34");
    }
}

//! How kmsuser logs in to an HSM, and who may change its PIN.

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::secret::Secret;

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
    /// What those are made of.
    pub pin_alphabet: PinAlphabet,
    /// Who may change the PIN.
    pub changed_by: ChangedBy,
    /// What a PIN is good for that the security officer has set.
    pub first_login: FirstLogin,
    /// Whether the token's flags about its user tell anything.
    pub flags: Flags,
    /// Wrong PINs in a row that lock the user; 0 where it is not known.
    pub tries: u64,
}

/// What a PIN is good for that the security officer has set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FirstLogin {
    /// For everything, as soon as it was set.
    Ready,
    /// The user has to change it first: C_Login says CKR_PIN_EXPIRED of the right PIN until then.
    Change,
}

/// What the token's flags about its user are worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Flags {
    /// They say how it is.
    Truth,
    /// They say the same whatever happens. Nothing is decided by them.
    AlwaysSet,
}

/// What PINs are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PinAlphabet {
    /// Letters, large and small, and digits; of each at least one, as many vendors want it.
    LettersDigits,
    /// Digits alone, and then at least 15 of them.
    Digits,
}

impl PinAlphabet {
    const fn characters(self) -> &'static [u8] {
        match self {
            Self::LettersDigits => b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789",
            Self::Digits => b"0123456789",
        }
    }

    /// The fewest characters of a PIN that is not guessed: 47 bits.
    #[must_use]
    pub const fn shortest(self) -> u64 {
        match self {
            Self::LettersDigits => 8,
            Self::Digits => 15,
        }
    }

    /// A PIN of such characters, each as likely as the others. `random` fills a buffer.
    pub fn pin<E>(self, length: usize, mut random: impl FnMut(&mut [u8]) -> Result<(), E>) -> Result<Secret, E> {
        let all = self.characters();
        // What lies above the largest multiple in a byte would favour the first ones.
        let fair = 256 / all.len() * all.len();
        loop {
            let mut pin = Vec::with_capacity(length);
            while pin.len() < length {
                let mut bytes = Zeroizing::new([0; 64]);
                random(&mut bytes[..])?;
                let picked = bytes.iter().map(|byte| usize::from(*byte)).filter(|byte| *byte < fair);
                pin.extend(picked.map(|byte| all[byte % all.len()]).take(length - pin.len()));
            }
            let pin = Secret::new(pin);
            let kinds = [u8::is_ascii_uppercase, u8::is_ascii_lowercase, u8::is_ascii_digit];
            if self == Self::Digits || kinds.iter().all(|kind| pin.expose().iter().any(kind)) {
                return Ok(pin);
            }
        }
    }
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
            pin_alphabet: PinAlphabet::LettersDigits,
            changed_by: ChangedBy::User,
            first_login: FirstLogin::Ready,
            flags: Flags::Truth,
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
    fn pins_are_of_their_alphabet_and_take_no_account_of_what_would_be_unfair() {
        let mut next = 0_u8;
        let mut count = |bytes: &mut [u8]| {
            bytes.fill_with(|| {
                next = next.wrapping_add(1);
                next
            });
            Ok::<_, ()>(())
        };
        let digits = PinAlphabet::Digits.pin(500, &mut count).unwrap();
        assert_eq!(digits.len(), 500);
        // 250 numbers of a byte are as many of each digit.
        let of = |digit: u8| digits.expose().iter().filter(|byte| **byte == digit).count();
        assert_eq!((b'0'..=b'9').map(of).collect::<Vec<_>>(), [50; 10]);
        let mut apart = |bytes: &mut [u8]| {
            bytes.fill_with(|| {
                next = next.wrapping_add(37);
                next
            });
            Ok::<_, ()>(())
        };
        let mixed = PinAlphabet::LettersDigits.pin(8, &mut apart).unwrap();
        assert!(mixed.expose().iter().all(u8::is_ascii_alphanumeric) && mixed.len() == 8);
        assert_eq!(PinAlphabet::Digits.pin(8, |_: &mut [u8]| Err("none")).unwrap_err(), "none");
        for alphabet in [PinAlphabet::LettersDigits, PinAlphabet::Digits] {
            let bits = (alphabet.characters().len() as f64).log2() * alphabet.shortest() as f64;
            assert!((47.0..51.0).contains(&bits), "{alphabet:?}: {bits}");
        }
    }

    #[test]
    fn the_user_stands_before_the_pin_where_the_form_has_it() {
        let plain = Login { user: "kmsuser".to_owned(), ..Login::standard() };
        assert_eq!(plain.text(b"1234"), b"1234");
        assert_eq!(Login { pin_form: PinForm::UserAndPin, ..plain }.text(b"12:34"), b"kmsuser:12:34");
    }
}

//! What keystored promises, and which of it does not hold with an HSM of such capabilities. Pure.
//!
//! `keystored check` prints it for each HSM, and docs/hsms.md has it as a table for each profile, which a test compares
//! with this. A promise that is not known to hold counts as one that does not.

use super::capabilities::{Basis, Capabilities, IvBy};
use super::login::ChangedBy;
use super::objects::{Objects, Optional};
use super::stored::Reach;

/// Something that README.md and docs promise and an HSM has its part in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Promise {
    /// Keys cannot be read where they are.
    NotExtractable,
    /// Nor where they come from.
    WrappedOnly,
    /// Keys do one thing.
    GcmAlone,
    /// Proven in two zones.
    TwoZones,
    /// Nobody waits for an HSM that hangs.
    Hangs,
    /// IVs are keystored's.
    FreshIvs,
    /// The token is the one that was certified.
    Identity,
    /// What a token does is looked at.
    LookedAt,
    /// Nobody else has the PIN.
    SecretPin,
    /// The daemon locks no user.
    NotLockedOut,
    /// Its module works confined.
    Confined,
    /// There can be more of them.
    Joins,
    /// What is deleted is gone.
    Destroyed,
}

/// A promise that does not hold, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken {
    /// The promise, as docs/hsms.md numbers it.
    pub promise: Promise,
    /// Why, in a sentence without its stop.
    pub why: &'static str,
}

impl Promise {
    /// All of them, in the order of the document.
    pub const ALL: [Self; 13] = [
        Self::NotExtractable,
        Self::WrappedOnly,
        Self::GcmAlone,
        Self::TwoZones,
        Self::Hangs,
        Self::FreshIvs,
        Self::Identity,
        Self::LookedAt,
        Self::SecretPin,
        Self::NotLockedOut,
        Self::Confined,
        Self::Joins,
        Self::Destroyed,
    ];

    /// What is promised.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::NotExtractable => "a key is sensitive and not extractable in every token that keeps it",
            Self::WrappedOnly => "a wrapped key unwraps only as one that cannot be read",
            Self::GcmAlone => "a key's object in a token allows AES-GCM and no other mechanism",
            Self::TwoZones => "a key that is Enabled was proven in two zones",
            Self::Hangs => "an HSM that hangs is given up within a second",
            Self::FreshIvs => "each IV is random, and drawn by keystored",
            Self::Identity => "only the token that the ceremony certified is used",
            Self::LookedAt => "a token that does AES-GCM otherwise than its profile says is not used",
            Self::SecretPin => "kmsuser's PIN is known to the daemon alone after the first connect",
            Self::NotLockedOut => "the daemon tries fewer wrong PINs in a row than lock the user",
            Self::Confined => "its module reaches what it needs, and nothing else",
            Self::Joins => "a further HSM can be brought in, and then holds every key",
            Self::Destroyed => "a key that is deleted is destroyed for everybody who uses the HSM",
        }
    }

    /// Why it does not hold with an HSM of these capabilities, if it does not.
    fn broken(self, of: &Capabilities) -> Option<&'static str> {
        match self {
            // What makes keys so is named in every template, whatever the profile: see `Optional`. The others do not depend
            // on what an HSM can do.
            Self::NotExtractable | Self::Identity | Self::LookedAt => None,
            Self::TwoZones => of.topology.replicates().then_some(
                "nobody can look behind the slot: that its HSMs are in the zones that it counts for, and that its module \
                 keeps the keys in more than one of them, is the operator's word (capabilities.topology.kind)",
            ),
            Self::WrappedOnly if of.keys.in_place() => None,
            Self::WrappedOnly if !of.wrap.unwrap_template.is_told() => Some(
                "the wrapping key cannot be told what it may unwrap to, so whoever has kmsuser's PIN and a wrapped key from \
                 the database can unwrap it as a key that can be read, or that does something else (capabilities.wrap.unwrap_template)",
            ),
            Self::WrappedOnly => changes(of).then_some(
                "the wrapping key is not told that it stays as it is, so whoever has kmsuser's PIN may have the token make one of \
                 it that decrypts what it should only unwrap (CKA_MODIFIABLE or CKA_COPYABLE in capabilities.attributes.left_out)",
            ),
            Self::GcmAlone => ["C_GenerateKey", "C_UnwrapKey"]
                .iter()
                .any(|function| of.attributes.leave_out(function, Objects::SecretKey, Optional::AllowedMechanisms))
                .then_some(
                    "keys do not have CKA_ALLOWED_MECHANISMS there, so whoever has kmsuser's PIN can encrypt and decrypt \
                     with them by other AES mechanisms (capabilities.attributes.left_out)",
                ),
            Self::Hangs => (of.calls.retry_ms > 0).then_some(
                "its module tries again, or moves to another HSM, within a call, and a worker that does so is not killed for \
                 it (capabilities.calls.retry_ms); calls go to other zones meanwhile, where another HSM has the keys",
            ),
            Self::FreshIvs => (of.gcm.iv != IvBy::Caller).then_some(
                "the HSM makes its IVs itself: keystored looks that it tells them, and that two of them differ, and knows \
                 nothing of how they are made (capabilities.gcm.iv)",
            ),
            Self::SecretPin => (of.login.changed_by == ChangedBy::Nobody).then_some(
                "nobody can change it by PKCS#11, so whoever has set it knows it, and rotating it is work for an operator \
                 with the vendor's tool (capabilities.login.changed_by)",
            ),
            // Of a module that was measured, none was met.
            Self::NotLockedOut => (of.login.tries == 0 && of.basis != Basis::Measured).then_some(
                "it is not known how many wrong PINs lock the user, so login_tries is not compared with it \
                 (capabilities.login.tries)",
            ),
            Self::Confined => (of.basis == Basis::Documents).then_some(
                "what it needs is from documents and was not tried on the device, so it may be denied something \
                 (`sandbox` allows more)",
            ),
            Self::Joins => of.keys.in_place().then_some(
                "keys are made in it and never leave it, so no other HSM can have them (capabilities.keys.made)",
            ),
            Self::Destroyed => (of.objects.destroy == Reach::ThisHost).then_some(
                "its objects are files on this host, so copies on other hosts and in backups have to be removed there \
                 (capabilities.objects.destroy)",
            ),
        }
    }
}

/// What the wrapping key may do can be changed afterwards, in its place or in a copy.
fn changes(of: &Capabilities) -> bool {
    let left_out = |attribute| of.attributes.leave_out("C_UnwrapKey", Objects::SecretKey, attribute);
    left_out(Optional::Modifiable) || (of.calls.copy_object && left_out(Optional::Copyable))
}

/// Which promises do not hold with an HSM of these capabilities, in the order of the document.
#[must_use]
pub fn promises(of: &Capabilities) -> Vec<Broken> {
    let broken = |promise: Promise| promise.broken(of).map(|why| Broken { promise, why });
    Promise::ALL.into_iter().filter_map(broken).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::{KeysMade, LeftOut, TopologyKind, UnwrapTemplate};

    fn broken(change: impl FnOnce(&mut Capabilities)) -> Vec<Promise> {
        let mut capabilities = Capabilities { basis: Basis::Measured, ..Capabilities::standard() };
        change(&mut capabilities);
        promises(&capabilities).into_iter().map(|broken| broken.promise).collect()
    }

    #[test]
    fn each_promise_breaks_by_its_own_capability() {
        let left_out = |function: &str, names| LeftOut {
            functions: vec![function.to_owned()],
            objects: vec![Objects::SecretKey],
            names,
        };
        assert_eq!(broken(|_| {}), []);
        for template in [UnwrapTemplate::None, UnwrapTemplate::AtGenerate] {
            assert_eq!(broken(|of| of.wrap.unwrap_template = template), [Promise::WrappedOnly]);
        }
        // Behind one slot there may be anything; and where keys are made in place nothing is wrapped.
        assert_eq!(broken(|of| of.topology.kind = TopologyKind::SelfReplicating), [Promise::TwoZones]);
        let in_place = |of: &mut Capabilities| {
            (of.keys.made, of.wrap.unwrap_template) = (KeysMade::InPlace, UnwrapTemplate::None);
        };
        assert_eq!(broken(in_place), [Promise::Joins]);
        assert_eq!(broken(|of| of.objects.destroy = Reach::ThisHost), [Promise::Destroyed]);
        for function in ["C_GenerateKey", "C_UnwrapKey", "*"] {
            let left = left_out(function, vec![Optional::AllowedMechanisms]);
            assert_eq!(broken(|of| of.attributes.left_out.push(left)), [Promise::GcmAlone]);
        }
        for (functions, name, copies, expected) in [
            ("*", Optional::Modifiable, false, &[Promise::WrappedOnly][..]),
            ("C_UnwrapKey", Optional::Copyable, true, &[Promise::WrappedOnly][..]),
            ("C_UnwrapKey", Optional::Copyable, false, &[][..]),
            ("C_GenerateKey", Optional::Modifiable, true, &[][..]),
            ("*", Optional::Derive, true, &[][..]),
        ] {
            let left = left_out(functions, vec![name]);
            let change = |of: &mut Capabilities| {
                of.attributes.left_out.push(left);
                of.calls.copy_object = copies;
            };
            assert_eq!(broken(change), expected, "{functions} {name:?}");
        }
        assert_eq!(broken(|of| of.calls.retry_ms = 1), [Promise::Hangs]);
        for iv in [IvBy::ZeroedWriteback, IvBy::NullAppended, IvBy::NullPrepended] {
            assert_eq!(broken(|of| of.gcm.iv = iv), [Promise::FreshIvs]);
        }
        assert_eq!(broken(|of| of.login.changed_by = ChangedBy::Nobody), [Promise::SecretPin]);
        assert_eq!(broken(|of| of.basis = Basis::Standard), [Promise::NotLockedOut]);
        assert_eq!(broken(|of| of.basis = Basis::Documents), [Promise::NotLockedOut, Promise::Confined]);
        assert_eq!(broken(|of| (of.basis, of.login.tries) = (Basis::Documents, 5)), [Promise::Confined]);
    }

    #[test]
    fn sentences_can_stand_in_a_line() {
        for promise in Promise::ALL {
            assert!(!promise.text().is_empty() && !promise.text().ends_with('.') && !promise.text().contains('\n'));
        }
    }
}

//! What things are tried on: sessions of their own, and objects that are destroyed in the end.

use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, ObjectHandle};
use cryptoki::session::Session;
use rustix::rand::{GetRandomFlags, getrandom};

use crate::fault::Failure;
use crate::module::Module;
use crate::owner::Owner;
use model::profile::Capabilities;
use model::profile::examination::{Setting, Tried};
use protocol::{Class, Fault};

/// Random bytes that every token gives, to see whether it is there.
const FEW: usize = 32;

/// Sessions and objects of one examination.
pub(in crate::operations) struct Bench<'o> {
    owner: &'o Owner,
    /// Has the objects.
    keeper: Session,
    /// Is used, and replaced after a failure: an operation may have been left half-way in it.
    pub(super) desk: Session,
    objects: Vec<ObjectHandle>,
}

impl<'o> Bench<'o> {
    /// With nothing on it.
    pub(in crate::operations) fn open(owner: &'o Owner) -> Result<Self, Failure> {
        let open = || owner.token.module.open(owner.token.slot);
        Ok(Self { owner, keeper: open()?, desk: open()?, objects: Vec::new() })
    }

    /// Whose token it is.
    pub(super) fn owner(&self) -> &'o Owner {
        self.owner
    }

    /// The module.
    pub(in crate::operations) fn module(&self) -> &'o Module {
        &self.owner.token.module
    }

    /// What it is said to do.
    pub(in crate::operations) fn of(&self) -> &'o Capabilities {
        self.module().capabilities()
    }

    /// A further session.
    pub(in crate::operations) fn session(&self) -> Result<Session, Failure> {
        self.module().open(self.owner.token.slot)
    }

    /// An AES-256 key.
    pub(in crate::operations) fn generate(&mut self, template: &[Attribute]) -> Result<ObjectHandle, Failure> {
        let made = self.keeper.generate_key(&Mechanism::AesKeyGen, template)?;
        Ok(self.keep(made))
    }

    /// C_UnwrapKey.
    pub(in crate::operations) fn unwrap(
        &mut self,
        by: &Mechanism<'_>,
        with: ObjectHandle,
        blob: &[u8],
        template: &[Attribute],
    ) -> Result<ObjectHandle, Failure> {
        let made = self.keeper.unwrap_key(by, with, blob, template)?;
        Ok(self.keep(made))
    }

    /// Where objects are made.
    pub(super) fn keeper(&self) -> &Session {
        &self.keeper
    }

    /// Has it destroyed in the end.
    pub(super) fn keep(&mut self, object: ObjectHandle) -> ObjectHandle {
        self.objects.push(object);
        object
    }

    /// Bytes for what is tried: of the operating system, since the token's may be what is wrong.
    pub(in crate::operations) fn random(bytes: &mut [u8]) -> Result<(), Failure> {
        let mut filled = 0;
        while filled < bytes.len() {
            filled += getrandom(&mut bytes[filled..], GetRandomFlags::empty())
                .map_err(|error| Fault::own(Class::Token, "getrandom", error.to_string()))?;
        }
        Ok(())
    }

    /// What the token makes of something: that it does it, or that it refuses it twice, with the token in order in between.
    /// Fails where nothing can be said of it now.
    pub(super) fn settle<T>(
        &mut self,
        act: impl Fn(&mut Self) -> Result<T, Failure>,
    ) -> Result<Result<T, Fault>, Failure> {
        match act(self) {
            Ok(value) => return Ok(Ok(value)),
            Err(failure) => self.is_believed(failure)?,
        };
        match act(self) {
            Ok(value) => Ok(Ok(value)),
            Err(failure) => Ok(Err(self.is_believed(failure)?)),
        }
    }

    /// The same, where it is enough to know whether.
    pub(super) fn tried(&mut self, act: impl Fn(&mut Self) -> Result<(), Failure>) -> Result<Tried, Failure> {
        Ok(match self.settle(act)? {
            Ok(()) => Tried::Works,
            Err(fault) => Tried::Fails(said(&fault)),
        })
    }

    /// Whether a refusal says something about what was asked, and not of the moment.
    fn is_believed(&mut self, failure: Failure) -> Result<Fault, Failure> {
        let fault = failure.into_fault(self.owner.codes());
        if fault.class == Class::Busy {
            return Err(fault.into());
        }
        self.owner.token_info()?;
        self.desk = self.session()?;
        self.desk.generate_random_slice(&mut [0; FEW])?;
        Ok(fault)
    }
}

impl Drop for Bench<'_> {
    fn drop(&mut self) {
        for object in self.objects.drain(..).rev() {
            if let Err(error) = self.keeper.destroy_object(object) {
                // It goes with its session, which is closed now.
                tracing::debug!(%error, "an object of the self-test could not be destroyed by itself");
            }
        }
    }
}

/// Of what serving cannot do without: the token refuses it in every way. Where that reads as trouble of its own it is not
/// judged, since trouble passes, nor where it may be too much to do.
pub(super) fn nothing_works<T>(fault: Fault) -> Result<Setting<T>, Failure> {
    match fault.class {
        Class::Token | Class::Session | Class::Login | Class::AmbiguousOrBusy => Err(fault.into()),
        _ => Ok(Setting { as_said: Tried::Fails(said(&fault)), instead: None }),
    }
}

/// A refusal in one line.
pub(super) fn said(fault: &Fault) -> String {
    match (&fault.detail, fault.code) {
        // The worker's own words.
        (Some(detail), 0) => detail.clone(),
        _ => fault.to_string(),
    }
}

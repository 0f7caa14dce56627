//! What things are tried on: sessions of their own, and objects that are destroyed in the end.

use std::thread;

use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, ObjectHandle};
use cryptoki::session::Session;
use rustix::rand::{GetRandomFlags, getrandom};

use super::patience::{Patience, Question, Then};
use crate::fault::Failure;
use crate::module::Module;
use crate::owner::Owner;
use model::profile::Capabilities;
use model::profile::examination::{Setting, Tried};
use protocol::{Class, Fault};

/// Random bytes that every token gives, to see whether it is there.
const FEW: usize = 32;

/// Sessions and objects of one examination: two sessions, and a third for a moment where one takes the place of another.
pub(in crate::operations) struct Bench<'o> {
    owner: &'o Owner,
    /// Has the objects.
    keeper: Session,
    /// Is used, and replaced after a failure: an operation may have been left half-way in it.
    pub(super) desk: Session,
    objects: Vec<ObjectHandle>,
    patience: Patience,
}

/// What a token makes of something.
pub(super) enum Settled<T> {
    /// It does it.
    Done(T),
    /// It refuses it.
    Refused(Fault),
    /// It has said nothing but what it may say when it is busy.
    NotJudged(Fault),
}

impl<'o> Bench<'o> {
    /// With nothing on it.
    pub(in crate::operations) fn open(owner: &'o Owner) -> Result<Self, Failure> {
        let open = || owner.token.module.open(owner.token.slot);
        Ok(Self { owner, keeper: open()?, desk: open()?, objects: Vec::new(), patience: Patience::default() })
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

    /// What the token makes of something: that it does it, or that it refuses it twice, with the token in order in between,
    /// or neither. Fails where nothing can be said of anything now.
    pub(super) fn settle<T>(&mut self, act: impl Fn(&mut Self) -> Result<T, Failure>) -> Result<Settled<T>, Failure> {
        let mut question = Question::default();
        loop {
            let fault = match act(self) {
                Ok(value) => return Ok(Settled::Done(value)),
                Err(failure) => failure.into_fault(self.owner.codes()),
            };
            let fault = match self.is_in_order() {
                Ok(()) => fault,
                Err(failure) => match failure.into_fault(self.owner.codes()) {
                    busy if busy.class.may_be_busy() && !fault.class.may_be_busy() => busy,
                    busy if busy.class.may_be_busy() => fault,
                    trouble => return Err(trouble.into()),
                },
            };
            match question.after(fault.class, &mut self.patience) {
                Then::Again => {}
                Then::After(pause) => thread::sleep(pause),
                Then::Believed => return Ok(Settled::Refused(fault)),
                Then::NotJudged => return Ok(Settled::NotJudged(fault)),
            }
        }
    }

    /// The same, where it is enough to know whether.
    pub(super) fn tried(&mut self, act: impl Fn(&mut Self) -> Result<(), Failure>) -> Result<Tried, Failure> {
        Ok(match self.settle(act)? {
            Settled::Done(()) => Tried::Works,
            Settled::Refused(fault) => Tried::Fails(said(&fault)),
            Settled::NotJudged(fault) => Tried::NotJudged(said(&fault)),
        })
    }

    /// The same of what something else needs, and what every token does. Fails where it does not.
    pub(super) fn need<T>(&mut self, act: impl Fn(&mut Self) -> Result<T, Failure>) -> Result<T, Failure> {
        match self.settle(act)? {
            Settled::Done(value) => Ok(value),
            Settled::Refused(fault) | Settled::NotJudged(fault) => Err(fault.into()),
        }
    }

    /// Whether the token does what every token must. With a new session: an operation may have been left half-way in the
    /// other one.
    fn is_in_order(&mut self) -> Result<(), Failure> {
        self.owner.token_info()?;
        self.desk = self.session()?;
        Ok(self.desk.generate_random_slice(&mut [0; FEW])?)
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

/// Of what serving cannot do without: the token refuses it in every way that could be judged. Where that reads as trouble of
/// its own it is not judged, since trouble passes.
pub(super) fn nothing_works<T>(fault: Fault, unjudged: Option<String>) -> Result<Setting<T>, Failure> {
    match fault.class {
        Class::Token | Class::Session | Class::Login => Err(fault.into()),
        _ => Ok(Setting { as_said: Tried::Fails(said(&fault)), instead: None, unjudged }),
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

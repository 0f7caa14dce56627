//! What a reply says as a whole.

use super::{Fault, Reply};

impl Reply {
    /// Why the first item was not done of which the token says that it has too much to do, or may be saying so.
    #[must_use]
    pub fn busy(&self) -> Option<&Fault> {
        self.first_fault(|fault| fault.class.may_be_busy())
    }

    /// The first fault of a kind, of an item or of the whole request.
    #[must_use]
    pub fn first_fault(&self, is_meant: impl Fn(&Fault) -> bool) -> Option<&Fault> {
        fn of<T>(items: &[Result<T, Fault>], is_meant: impl Fn(&Fault) -> bool) -> Option<&Fault> {
            items.iter().filter_map(|item| item.as_ref().err()).find(|fault| is_meant(fault))
        }
        match self {
            Self::Encrypted(items) | Self::ReEncrypted(items) => of(items, is_meant),
            Self::Decrypted(items) => of(items, is_meant),
            Self::DataKeys(items) => of(items, is_meant),
            Self::Compared(items) => of(items, is_meant),
            Self::Failed(fault) => Some(fault).filter(|fault| is_meant(fault)),
            _ => None,
        }
    }

    /// Has each fault looked at, of an item or of the whole request, and changed where that is wanted.
    pub fn each_fault(&mut self, mut change: impl FnMut(&mut Fault)) {
        fn of<T>(items: &mut [Result<T, Fault>], change: impl FnMut(&mut Fault)) {
            items.iter_mut().filter_map(|item| item.as_mut().err()).for_each(change);
        }
        match self {
            Self::Encrypted(items) | Self::ReEncrypted(items) => of(items, change),
            Self::Decrypted(items) => of(items, change),
            Self::DataKeys(items) => of(items, change),
            Self::Compared(items) => of(items, change),
            Self::Failed(fault) => change(fault),
            _ => {}
        }
    }

    /// Something was done: an item at least, or the whole request.
    #[must_use]
    pub fn did_something(&self) -> bool {
        fn any<T>(items: &[Result<T, Fault>]) -> bool {
            items.iter().any(Result::is_ok)
        }
        match self {
            Self::Encrypted(items) | Self::ReEncrypted(items) => any(items),
            Self::Decrypted(items) => any(items),
            Self::DataKeys(items) => any(items),
            Self::Compared(items) => any(items),
            Self::Failed(_) => false,
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Class;

    #[test]
    fn one_item_is_enough_for_each() {
        let fault = |class| Fault::own(class, "C_Test", "test");
        let reply = Reply::Compared(vec![Ok(true), Err(fault(Class::Token)), Err(fault(Class::AmbiguousOrBusy))]);
        assert_eq!(reply.busy().map(|fault| fault.class), Some(Class::AmbiguousOrBusy));
        assert!(reply.did_something());
        let reply = Reply::Compared(vec![Err(fault(Class::Token))]);
        assert!(reply.busy().is_none() && !reply.did_something());
        let reply = Reply::Failed(fault(Class::Busy));
        assert!(reply.busy().is_some() && !reply.did_something());
        assert!(Reply::Done.busy().is_none() && Reply::Done.did_something());
    }
}

//! The configuration's administrators: who may do everything, whatever policies say.

use std::collections::BTreeSet;
use std::sync::Mutex;

use model::text;
use service::Service;
use store::Store;

/// Who they are at this moment.
pub(super) struct Administrators {
    service: Service,
    store: Store,
    names: Mutex<BTreeSet<String>>,
}

impl Administrators {
    /// Has these be administrators from the start.
    pub(super) fn begin(service: &Service, store: &Store, names: BTreeSet<String>) -> Self {
        let this = Self { service: service.clone(), store: store.clone(), names: Mutex::default() };
        this.take_over(names);
        this
    }

    /// Has these be the administrators, and nobody else; the log is told who came and who went. When this returns,
    /// nobody who went is given anything any more that needs one.
    pub(super) fn take_over(&self, names: BTreeSet<String>) {
        let mut before = self.names.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        self.service.set_administrators(names.clone());
        if *before != names {
            let (added, removed) = (listed(names.difference(&before)), listed(before.difference(&names)));
            tracing::info!(added, removed, "administrators of the configuration");
        }
        if let Some(sentence) = nobody(&names, self.store.catalogue().principal_count()) {
            tracing::warn!("{sentence}");
        }
        *before = names;
    }
}

fn listed<'n>(names: impl Iterator<Item = &'n String>) -> String {
    let names: Vec<_> = names.map(|name| text::shown(name)).collect();
    names.join(", ")
}

/// What is to be said where nobody may do anything.
fn nobody(administrators: &BTreeSet<String>, principals: usize) -> Option<&'static str> {
    (administrators.is_empty() && principals == 0).then_some(NOBODY)
}

/// An installation without administrators and principals.
pub(super) const NOBODY: &str = "nobody may do anything but ask who they are: there is no principal, and \
    `administrators` names nobody; name the client certificate of whoever is to make principals, and send SIGHUP";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_installation_that_lets_nobody_do_anything_says_so() {
        let admin = BTreeSet::from(["cn:admin".to_owned()]);
        assert_eq!(nobody(&BTreeSet::new(), 0), Some(NOBODY));
        assert_eq!(nobody(&BTreeSet::new(), 1), None, "policies say what the principal may do");
        assert_eq!(nobody(&admin, 0), None);
    }
}

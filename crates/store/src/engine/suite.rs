//! What every engine owes the store.

//! What every engine owes the store, as tests that any engine can be put through.
//!
//! `contract` asks the engine itself; `faulty` stands between the store and an engine and fails at a statement of choice;
//! `faults` has every change of the store fail at each of its statements, and brings real trouble about. An engine's
//! module names itself once, with [`suite`].

mod access;
pub(crate) mod contract;
pub(crate) mod faults;
pub(crate) mod faulty;
mod subject;

use std::any::Any;
use std::sync::Arc;

use super::Engine;

/// An engine over an empty database of its own.
pub(crate) struct Made {
    pub(crate) engine: Arc<dyn Engine>,
    /// Whatever has to live as long.
    pub(crate) _keep: Box<dyn Any + Send>,
}

/// Puts an engine through everything. `$make` is an async function that gives a [`Made`].
macro_rules! suite {
    ($make:path) => {
        $crate::engine::suite::tests_of! { $make:
            contract {
                values_come_back_as_they_were,
                what_is_committed_is_there_and_nothing_else,
                writers_take_turns,
                a_look_is_of_one_moment_and_waits_for_nobody,
                rows_keep_their_references,
                statements_tell_what_they_did,
                a_schema_is_made_once,
            }
            faults {
                real_trouble_is_told_and_passes,
            }
        }
        $crate::engine::suite::tests_with! { $make:
            faults {
                a_change_that_fails_at_any_statement_for_want_of_room_is_made_wholly_or_not,
                a_change_that_fails_at_any_statement_for_a_moment_is_made_wholly_or_not,
                a_change_that_fails_at_any_statement_for_its_file_is_made_wholly_or_not,
                a_change_whose_answers_are_lost_is_found_again,
                trouble_that_lasts_ends_with_its_cause,
                a_panic_at_any_statement_costs_that_change_alone,
            }
        }
    };
}
pub(crate) use suite;

macro_rules! tests_of {
    ($make:path: $($module:ident { $($test:ident,)+ })+) => {
        $($(
            #[tokio::test]
            async fn $test() {
                $crate::engine::suite::$module::$test($make().await).await;
            }
        )+)+
    };
}
pub(crate) use tests_of;

/// The same of tests that need an engine over an empty database again and again.
macro_rules! tests_with {
    ($make:path: $module:ident { $($test:ident,)+ }) => {
        $(
            #[tokio::test]
            async fn $test() {
                $crate::engine::suite::$module::$test($make).await;
            }
        )+
    };
}
pub(crate) use tests_with;

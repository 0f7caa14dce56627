//! Steps of durable procedures, each with a name, so that a test can break a procedure off before and after every one
//! of them and none can be left out.

/// Declares an enum of steps with their names and the list of all of them.
#[macro_export]
macro_rules! steps {
    (
        $(#[$meta:meta])*
        $vis:vis enum $name:ident in $area:literal { $($(#[$doc:meta])* $variant:ident = $text:literal),+ $(,)? }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        $vis enum $name { $($(#[$doc])* $variant),+ }

        impl $name {
            /// Every step, in the order of the declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The procedure's name, a dot, the step's name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => concat!($area, ".", $text)),+ }
            }
        }
    };
}

pub use steps;

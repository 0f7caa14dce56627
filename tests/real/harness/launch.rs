//! Starting a daemon otherwise than by itself, and with other limits.

use std::process::Command;

use super::daemon::{Daemon, Site};

impl Site {
    /// Sets how long calls may take that do not say so, in milliseconds.
    pub(crate) fn answer_within(&self, milliseconds: i64) {
        self.configure(|config| {
            let limits = config.entry("limits").or_insert_with(|| toml::Table::new().into());
            limits.as_table_mut().unwrap().insert("default_deadline_ms".to_owned(), milliseconds.into());
        });
    }

    /// Starts the daemon without waiting for it; it aborts when it comes to this point, as a crash would end it.
    pub(crate) fn launch_to_abort_at(self, point: &str) -> Daemon {
        self.launch_with(&[("KEYSTORED_ABORT_AT", point)])
    }

    /// Starts it with these variables.
    pub(crate) fn launch_with(self, environment: &[(&str, &str)]) -> Daemon {
        let mut command = self.serve();
        // Tests may be run under systemd themselves, which is not to hear of this daemon.
        command.env_remove("NOTIFY_SOCKET").envs(environment.iter().copied());
        self.spawn(command)
    }

    /// Starts it so that it may have so many files open, softly and at most.
    pub(crate) fn launch_with_files(self, soft: u64, hard: u64) -> Daemon {
        let serve = self.serve();
        let mut command = Command::new("prlimit");
        command.arg(format!("--nofile={soft}:{hard}")).arg(serve.get_program()).args(serve.get_args());
        self.spawn(command)
    }

    /// Starts it so that permissions of files bind it, also where the tests are run by root, whom they do not bind otherwise. It
    /// has the same user, and so all that is that one's.
    pub(crate) fn launch_bound_by_permissions(self) -> Daemon {
        if !rustix::process::geteuid().is_root() {
            return self.launch();
        }
        let serve = self.serve();
        let mut command = Command::new("setpriv");
        let without = "-dac_override,-dac_read_search";
        command.arg(format!("--inh-caps={without}")).arg(format!("--bounding-set={without}"));
        command.arg(serve.get_program()).args(serve.get_args());
        self.spawn(command)
    }
}

//! Every task and thread that lives for long, and what becomes of each when it breaks.
//!
//! Named here and nowhere else, so that metrics, log lines and tests have the same names, and a task that is added is a
//! task that a test breaks.

/// What follows when a task panics, ends where it must not, or stands still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Nothing works without it: the process ends with a message, and whoever started it starts it again.
    Vital,
    /// It is started again, after a pause that grows while it goes on breaking.
    Restarted,
    /// The worker process that it serves, or whose thread it is, is given up and replaced.
    Worker,
    /// It is a thread of the audit log, which is closed and opened anew. Until then nothing is given out.
    Log,
    /// It lives no longer than a call: the caller gets an error, or the next call does the work.
    Call,
}

macro_rules! tasks {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $rule:ident;)+) => {
        /// A kind of task; there may be many of one kind.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Task { $($(#[$doc])* $variant),+ }

        impl Task {
            /// Every one, in the order of the declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// As log lines, metrics and /livez call it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }

            /// What follows when it breaks.
            #[must_use]
            pub const fn rule(self) -> Rule {
                match self { $(Self::$variant => Rule::$rule),+ }
            }
        }
    };
}

tasks! {
    /// Accepts gRPC connections.
    Accept = "accept", Vital;
    /// Accepts connections of clients of AWS KMS.
    AwsAccept = "aws-accept", Vital;
    /// Answers at the ops port.
    Ops = "ops", Vital;
    /// Looks at all others.
    Watchdog = "watchdog", Vital;
    /// Wakes the watchdog from outside the runtime, from a thread of its own.
    Metronome = "metronome", Vital;
    /// Tells systemd, from a thread of its own.
    Systemd = "systemd", Vital;
    /// Takes readiness over into the gRPC health service, the log and systemd's status.
    Health = "health", Restarted;
    /// Follows changes of the gRPC listener's certificate files.
    Certificates = "certificates", Restarted;
    /// Follows changes of those of the listener for clients of AWS KMS.
    AwsCertificates = "aws-certificates", Restarted;
    /// Tells of certificates that end.
    CertificateEnds = "certificate-ends", Restarted;
    /// Looks at the disk with the metadata, and keeps its reserve.
    Disk = "disk", Restarted;
    /// Looks after the audit log: opens it, notes its head, keeps the file with its public keys.
    Audit = "audit", Restarted;
    /// Passes records of the audit log on.
    AuditSink = "audit-sink", Restarted;
    /// Tells the log what was left out of it.
    Sampled = "sampled", Restarted;
    /// Reads the configuration again at SIGHUP.
    Reload = "reload", Restarted;
    /// Records removals that clusters report.
    Removals = "removals", Restarted;
    /// Rotates and deletes keys when that is due, and keeps their last use on record.
    Keys = "keys", Restarted;
    /// Takes up what an earlier run left unfinished.
    Resume = "resume", Restarted;
    /// Connects a key store.
    Connect = "connect", Restarted;
    /// Disconnects a key store.
    Disconnect = "disconnect", Restarted;
    /// Brings an HSM to the keys that it should hold.
    Reconcile = "reconcile", Restarted;
    /// Takes an HSM's lock and starts its workers, one after the other.
    Launch = "launch", Restarted;
    /// Keeps one worker alive.
    WorkerDriver = "worker-driver", Restarted;
    /// Takes what a supervisor says over into a member's health.
    Follow = "follow", Restarted;
    /// Looks into what is wrong with a member and its keys.
    Doubts = "doubts", Restarted;
    /// Has a member's token make its log key.
    LogKey = "log-key", Restarted;
    /// Looks again at what could not be judged of a member's token.
    Examination = "examination", Restarted;
    /// Sends requests to a worker.
    Requests = "requests", Worker;
    /// Reads a worker's replies.
    Replies = "replies", Worker;
    /// Decides whether a worker may serve.
    Admission = "admission", Worker;
    /// Watches over a worker that stands on its own.
    Minder = "minder", Worker;
    /// A worker's thread that carries requests out.
    Session = "session", Worker;
    /// A worker's thread that writes replies for the sessions.
    Writer = "writer", Worker;
    /// A worker's thread that notices the end of the daemon.
    Watch = "watch", Worker;
    /// Has the heads of the audit log signed by HSMs.
    Heads = "heads", Log;
    /// Answers one call.
    Handler = "handler", Call;
    /// Carries out what one call asks for, whether or not its caller stays.
    Work = "work", Call;
    /// Makes a key.
    Creation = "creation", Call;
    /// Reserves encryptions ahead of their use.
    Refill = "refill", Call;
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_task_has_a_name_of_its_own_and_its_place() {
        let names: BTreeSet<&str> = Task::ALL.iter().map(|task| task.name()).collect();
        assert_eq!(names.len(), Task::ALL.len());
        for (place, task) in Task::ALL.iter().enumerate() {
            assert_eq!(*task as usize, place);
        }
    }
}

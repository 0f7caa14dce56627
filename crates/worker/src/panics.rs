//! A panic ends the worker, but not while another of its threads is inside a login: a process that ends there can take
//! its token with it.

use std::cell::Cell;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use super::queue::Queue;
use protocol::Kind;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(10);
/// Looks in a row at a queue that somebody holds: by then it is the thread that panicked, and nothing more can be
/// known.
const HELD: u32 = 100;

thread_local! {
    /// What this thread has in hand is a login.
    static LOGS_IN: Cell<bool> = const { Cell::new(false) };
}

/// What the sessions of this worker are inside of. Empty until there are any.
#[derive(Clone, Default)]
pub(super) struct Sessions(Arc<OnceLock<(Arc<Queue>, Duration)>>);

impl Sessions {
    /// From now on there are. A login takes no longer than `limit`.
    pub(super) fn are(&self, queue: &Arc<Queue>, limit: Duration) {
        let _ = self.0.set((Arc::clone(queue), limit));
    }

    /// Called by a thread that panics: waits until no other one is inside a login, within its limit.
    pub(super) fn leave_no_login(&self) {
        self.wait(|| thread::sleep(LOOK));
    }

    fn wait(&self, mut pause: impl FnMut()) {
        let Some((queue, limit)) = self.0.get() else { return };
        // A worker has one login at a time, so that one of this thread's own is the only one.
        if LOGS_IN.get() {
            return;
        }
        let (mut held, looks) = (0, limit.as_millis() / LOOK.as_millis());
        for _ in 0..looks {
            match queue.in_hand_unless_held() {
                Some(in_hand) if !in_hand.contains(&Kind::Login) => return,
                Some(_) => held = 0,
                None if held == HELD => return,
                None => held += 1,
            }
            pause();
        }
    }
}

/// Carries out what a session thread has in hand.
pub(super) fn in_hand<T>(kind: Kind, work: impl FnOnce() -> T) -> T {
    LOGS_IN.set(kind == Kind::Login);
    let done = work();
    LOGS_IN.set(false);
    done
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::net::UnixStream;

    use super::super::wire::Inbox;
    use super::*;
    use model::secret::Secret;
    use protocol::{Op, ToWorker, encode_frame};

    const LIMIT: Duration = Duration::from_secs(60);

    #[test]
    fn the_login_of_another_thread_is_waited_for_and_its_own_is_not() {
        let (mut parent, child) = UnixStream::pair().unwrap();
        let queue = Arc::new(Queue::new(Inbox::new(child)).unwrap());
        let sessions = Sessions::default();
        sessions.leave_no_login();
        sessions.are(&queue, LIMIT);
        sessions.leave_no_login();
        let mut frame = Vec::new();
        let login = ToWorker::Request { id: 0, op: Op::Login(Secret::new(b"pin".to_vec())) };
        encode_frame(&login, &mut frame).unwrap();
        parent.write_all(&frame).unwrap();
        assert_eq!(queue.pop(None).unwrap().op.kind(), Kind::Login);
        // This very thread panics in what it has in hand.
        in_hand(Kind::Login, || sessions.wait(|| panic!("nobody else logs in")));
        // Another one does, until the third look.
        drop(parent);
        let mut looks = 0;
        sessions.wait(|| {
            looks += 1;
            if looks == 3 {
                assert!(queue.pop(Some(Kind::Login)).is_none(), "the login is behind it");
            }
        });
        assert_eq!(looks, 3);
    }

    #[test]
    fn neither_a_login_without_an_end_nor_a_queue_of_its_own_is_waited_for_for_ever() {
        let (mut parent, child) = UnixStream::pair().unwrap();
        let queue = Arc::new(Queue::new(Inbox::new(child)).unwrap());
        let sessions = Sessions::default();
        sessions.are(&queue, LIMIT);
        let mut looks = 0;
        queue.while_held(|| sessions.wait(|| looks += 1));
        assert_eq!(looks, HELD);
        let mut frame = Vec::new();
        let login = ToWorker::Request { id: 0, op: Op::Login(Secret::new(b"pin".to_vec())) };
        encode_frame(&login, &mut frame).unwrap();
        parent.write_all(&frame).unwrap();
        let _held = queue.pop(None).unwrap();
        looks = 0;
        sessions.wait(|| looks += 1);
        assert_eq!(LOOK * looks, LIMIT);
    }
}

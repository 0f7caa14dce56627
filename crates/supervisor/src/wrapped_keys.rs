//! Where data workers have the keys from of which they make hot copies.

use bytes::Bytes;

use model::id::KeyVersionId;

/// Most copies that one worker is having made at a time: they stand before callers' requests, so they are few. More are asked
/// for again a second later.
pub(super) const AT_ONCE: usize = 64;

/// Keys, wrapped under their cluster's wrapping key.
pub trait WrappedKeys: Send + Sync + 'static {
    /// This version, where there is such a form of it and its material was not given up. Asked on a link's own task: it
    /// must not wait for anything.
    fn of(&self, key: KeyVersionId) -> Option<Bytes>;
}

/// None: for workers that keep no copies.
impl WrappedKeys for () {
    fn of(&self, _: KeyVersionId) -> Option<Bytes> {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;
    use std::sync::Arc;

    use tokio::sync::mpsc;

    use super::super::link::Link;
    use super::super::socket::Socket;
    use super::super::work_queue::WorkQueue;
    use super::super::{Settings, WrappedKeys};
    use super::*;
    use model::clock::Clock;
    use model::id::KeyId;
    use protocol::{FromWorker, Op, Reply, Start, ToWorker, decode_frame, encode_frame};

    fn key(version: u32) -> KeyVersionId {
        KeyVersionId { key: KeyId::from_bytes([7; 16]), version }
    }

    /// Has a wrapped form of every second key.
    struct EachSecond;

    impl WrappedKeys for EachSecond {
        fn of(&self, key: KeyVersionId) -> Option<Bytes> {
            key.version.is_multiple_of(2).then(|| key.version.to_le_bytes().to_vec().into())
        }
    }

    type Copied = (u32, Option<Bytes>);

    /// A worker that wants so many copies at each request for random bytes, and answers what it is given then if told so.
    fn worker(wants: u32, answers: bool) -> (Arc<WorkQueue>, Link, mpsc::UnboundedReceiver<Copied>) {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let (told, copies) = mpsc::unbounded_channel();
        std::thread::spawn(move || {
            let (mut bytes, mut chunk) = (Vec::new(), [0; 4096]);
            loop {
                let mut out = Vec::new();
                while let Some((message, length)) = decode_frame::<ToWorker>(&bytes).unwrap() {
                    bytes.drain(..length);
                    let ToWorker::Request { id, op } = message else { continue };
                    let mut say = |message| encode_frame(&message, &mut out).unwrap();
                    let reply = answers || matches!(op, Op::Random { .. });
                    match op {
                        Op::Copy { key, blob } => told.send((key.version, blob)).unwrap(),
                        _ => say(FromWorker::Wants { keys: (1..=wants).map(key).collect() }),
                    }
                    if reply {
                        say(FromWorker::Reply { id, reply: Reply::Done });
                    }
                }
                theirs.write_all(&out).unwrap();
                match theirs.read(&mut chunk).unwrap() {
                    0 => return,
                    read => bytes.extend_from_slice(&chunk[..read]),
                }
            }
        });
        let settings = Settings { hot_copies: true, ..Settings::of_a_test("a", "zone-a") };
        let work = Arc::new(WorkQueue::new(&settings, Arc::new(EachSecond), Clock::system()));
        let socket = Socket::over(ours).unwrap();
        let (link, _) = Link::open(socket, &Start::of_a_test(), Clock::system(), Arc::downgrade(&work));
        (work, link, copies)
    }

    #[tokio::test]
    async fn a_worker_is_given_what_it_wants_again_and_again() {
        let (_work, link, mut copies) = worker(3, true);
        for _ in 0..AT_ONCE {
            assert!(matches!(link.call(Op::Random { length: 1 }).await, Ok(Reply::Done)));
            for version in 1..=3 {
                let (copied, blob) = copies.recv().await.unwrap();
                assert_eq!((copied, blob), (version, EachSecond.of(key(version))));
            }
        }
    }

    #[tokio::test]
    async fn a_worker_that_wants_more_than_it_takes_is_not_given_more() {
        let most = u32::try_from(AT_ONCE).unwrap();
        let (_work, link, mut copies) = worker(3 * most, false);
        for _ in 0..3 {
            assert!(matches!(link.call(Op::Random { length: 1 }).await, Ok(Reply::Done)));
        }
        // What comes behind all copies is answered after them.
        assert!(matches!(link.call(Op::Random { length: 1 }).await, Ok(Reply::Done)));
        let mut given = 0;
        while let Ok((copied, _)) = copies.try_recv() {
            given += 1;
            assert_eq!(copied, given, "in their order, each once");
        }
        assert_eq!(given, most);
    }
}

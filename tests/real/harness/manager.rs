//! Whoever plays systemd's part: hears what the daemon tells it.

use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::Duration;

use super::daemon::Site;
use super::wait;

pub(crate) struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Manager {
    /// For a daemon that is started here, with this name in `NOTIFY_SOCKET`.
    pub(crate) fn of(site: &Site) -> Self {
        let path = site.path().join("notify");
        let _ = std::fs::remove_file(&path);
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
        Self { socket, path }
    }

    pub(crate) fn path(&self) -> &str {
        self.path.to_str().unwrap()
    }

    /// What it is told next, if something waits.
    pub(crate) fn hear(&self) -> Option<String> {
        let mut message = [0; 4_096];
        // A signal may come while it listens, such as a child's end.
        let mut heard = self.socket.recv(&mut message);
        while heard.as_ref().is_err_and(|error| error.kind() == ErrorKind::Interrupted) {
            heard = self.socket.recv(&mut message);
        }
        match heard {
            Ok(length) => Some(String::from_utf8(message[..length].to_vec()).unwrap().trim_end().to_owned()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            Err(error) => panic!("{error}"),
        }
    }

    /// Everything that waits.
    pub(crate) fn hear_all(&self) -> Vec<String> {
        std::iter::from_fn(|| self.hear()).collect()
    }

    /// Waits for a message that is so, past others.
    #[track_caller]
    pub(crate) fn until(&self, what: &str, is_so: impl Fn(&str) -> bool) -> String {
        let mut heard = Vec::new();
        wait::until(what, wait::LONG, || {
            let message = self.hear()?;
            heard.push(message.clone());
            is_so(&message).then_some(message)
        })
    }
}

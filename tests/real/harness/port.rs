//! A port that is known before anybody listens on it, and that nobody else is given meanwhile.

use std::net::SocketAddr;

use tokio::net::TcpSocket;

/// One of this machine's own ports. A socket is bound to it and does not listen: the system gives it to nobody who asks for any
/// port, and whoever asks for this very one may listen on it.
pub(crate) struct Port(TcpSocket);

impl Port {
    pub(crate) fn hold() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        Self(socket)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }
}

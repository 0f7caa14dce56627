//! The daemon's ports, the world, and sockets of this host.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixDatagram, UnixListener, UnixStream};

use super::{Report, listed};

const IPPROTO_MPTCP: libc::c_int = 262;
const MSG_FASTOPEN: libc::c_int = 0x2000_0000;

pub(crate) fn attack(report: &mut Report) {
    for port in listed("HOSTILE_PORTS").iter().filter_map(|port| port.parse().ok()) {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        report.tried(&format!("connect to {port}"), TcpStream::connect(address));
        for (name, kind, protocol) in
            [("MPTCP", libc::SOCK_STREAM, IPPROTO_MPTCP), ("SCTP", libc::SOCK_SEQPACKET, libc::IPPROTO_SCTP)]
        {
            report.tried(&format!("connect to {port} by {name}"), with_socket(kind, protocol, |fd| connect(fd, port)));
        }
        let sent = with_socket(libc::SOCK_STREAM, libc::IPPROTO_TCP, |fd| send_at_once(fd, port));
        report.tried(&format!("connect to {port} by what is sent"), sent);
    }
    report.tried("listen", TcpListener::bind((Ipv4Addr::LOCALHOST, 0)));
    report.tried("have a port for datagrams", UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)));
    report.tried("have a raw socket", with_socket(libc::SOCK_RAW, libc::IPPROTO_ICMP, Ok));
    for path in listed("HOSTILE_SOCKET") {
        report.tried("connect to a Unix socket of somebody", UnixStream::connect(&path));
    }
    let abstract_name = || UnixAddress::from_abstract_name(b"hostile-hsm-test");
    report.tried("connect to an abstract socket", abstract_name().and_then(|name| UnixStream::connect_addr(&name)));
    let mine = UnixAddress::from_abstract_name(format!("hostile-hsm-{}", std::process::id()));
    report.tried("listen at an abstract socket", mine.and_then(|name| UnixListener::bind_addr(&name)));
    let log = UnixDatagram::unbound().and_then(|socket| socket.connect("/dev/log"));
    report.tried("write to the log of the system", log);
    for (name, family, kind, protocol) in [
        ("packets", libc::AF_PACKET, libc::SOCK_RAW, 0),
        ("the kernel's events", libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_KOBJECT_UEVENT),
        ("the kernel's audit", libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_AUDIT),
        ("other machines of the host", libc::AF_VSOCK, libc::SOCK_STREAM, 0),
        ("the kernel's ciphers", libc::AF_ALG, libc::SOCK_SEQPACKET, 0),
    ] {
        report.tried(&format!("have a socket to {name}"), socket(family, kind, protocol).and_then(close));
    }
}

fn socket(family: libc::c_int, kind: libc::c_int, protocol: libc::c_int) -> io::Result<libc::c_int> {
    // SAFETY: takes three numbers.
    let fd = unsafe { libc::socket(family, kind | libc::SOCK_CLOEXEC, protocol) };
    if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(fd) }
}

fn close(fd: libc::c_int) -> io::Result<()> {
    // SAFETY: our own descriptor, which nobody uses any more.
    unsafe { libc::close(fd) };
    Ok(())
}

fn with_socket<T>(
    kind: libc::c_int,
    protocol: libc::c_int,
    use_it: impl FnOnce(libc::c_int) -> io::Result<T>,
) -> io::Result<T> {
    let fd = socket(libc::AF_INET, kind, protocol)?;
    let result = use_it(fd);
    close(fd)?;
    result
}

fn loopback(port: u16) -> libc::sockaddr_in {
    let address = libc::in_addr { s_addr: u32::from(Ipv4Addr::LOCALHOST).to_be() };
    let family = libc::AF_INET as libc::sa_family_t;
    libc::sockaddr_in { sin_family: family, sin_port: port.to_be(), sin_addr: address, sin_zero: [0; 8] }
}

fn connect(fd: libc::c_int, port: u16) -> io::Result<()> {
    let address = loopback(port);
    let length = size_of_val(&address) as libc::socklen_t;
    // SAFETY: an address of the length that is said.
    let answer = unsafe { libc::connect(fd, (&raw const address).cast(), length) };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn send_at_once(fd: libc::c_int, port: u16) -> io::Result<()> {
    let address = loopback(port);
    let length = size_of_val(&address) as libc::socklen_t;
    // SAFETY: one byte, and an address of the length that is said.
    let sent = unsafe { libc::sendto(fd, c"G".as_ptr().cast(), 1, MSG_FASTOPEN, (&raw const address).cast(), length) };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

//! Sends statements at once.
//!
//! The client of Postgres leaves Nagle's algorithm on and offers no setting for it, nor the socket itself. A statement
//! that the socket takes in two pieces, such as many rows or a piece of a log, then waits about 40 ms for the server's
//! delayed acknowledgement of the first. So the sockets of this process are looked through for those that lead to the
//! database, and told to wait for nothing. Where the system does not let a process look at its own sockets that way,
//! statements are as slow as they were.

use std::net::SocketAddr;

use rustix::net::sockopt::set_tcp_nodelay;
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};

/// Makes every connection of this process to this port send at once.
pub(super) fn send_at_once(port: u16) -> std::io::Result<()> {
    let this = pidfd_open(getpid(), PidfdFlags::empty())?;
    for entry in std::fs::read_dir("/proc/self/fd")? {
        let entry = entry?;
        let is_socket =
            std::fs::read_link(entry.path()).is_ok_and(|what| what.to_string_lossy().starts_with("socket:"));
        let number = entry.file_name().to_str().and_then(|name| name.parse().ok());
        let Some(number) = number.filter(|_| is_socket) else {
            continue;
        };
        // Another name of the same socket. It may have been closed since, or lead nowhere.
        let Ok(socket) = pidfd_getfd(&this, number, PidfdGetfdFlags::empty()) else {
            continue;
        };
        let peer = rustix::net::getpeername(&socket).ok().flatten();
        let leads_there =
            peer.is_some_and(|peer| SocketAddr::try_from(peer).is_ok_and(|peer| peer.port() == port));
        if leads_there {
            set_tcp_nodelay(&socket, true)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn only_connections_to_the_port_are_changed() {
        let here = TcpListener::bind("127.0.0.1:0").unwrap();
        let there = TcpListener::bind("127.0.0.1:0").unwrap();
        let (one, other) = (
            TcpStream::connect(here.local_addr().unwrap()).unwrap(),
            TcpStream::connect(there.local_addr().unwrap()).unwrap(),
        );
        send_at_once(here.local_addr().unwrap().port()).unwrap();
        assert!(one.nodelay().unwrap());
        assert!(!other.nodelay().unwrap());
    }
}

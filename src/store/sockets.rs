//! Settings of the sockets that lead to Postgres.
//!
//! The client of Postgres leaves Nagle's algorithm on, and a lost peer is noticed after a quarter of an hour; it offers
//! no setting for either, nor the socket itself. A statement that the socket takes in two pieces, such as many rows or a
//! piece of a log, then waits about 40 ms for the server's delayed acknowledgement of the first; and a connection to a
//! machine that is gone hangs. So the sockets of this process are looked through for those that lead to the database,
//! and told to send at once and to give up a silent peer soon. Where the system does not let a process look at its own
//! sockets that way, statements are as slow as they were, and the bound of each statement is all that ends a wait.

use std::net::SocketAddr;
use std::time::Duration;

use rustix::net::sockopt::{
    set_socket_keepalive, set_tcp_keepcnt, set_tcp_keepidle, set_tcp_keepintvl, set_tcp_nodelay,
    set_tcp_user_timeout,
};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
use tokio::sync::{Semaphore, SemaphorePermit};

/// How long what was sent may stay without an acknowledgement before the connection counts as lost.
const LOST: Duration = Duration::from_secs(10);

/// A quiet connection is probed after this time, and then so often; so many probes without an answer end it.
const QUIET: Duration = Duration::from_secs(10);
const PROBE: Duration = Duration::from_secs(3);
const PROBES: u32 = 3;

/// Pauses between the looks for a socket that is being connected.
const FIRST_LOOK: Duration = Duration::from_millis(1);
const LAST_LOOK: Duration = Duration::from_millis(500);

/// One look at a time, however many wait for a connection: it is a look for all of them, and where clients have ten
/// thousand sockets it takes many milliseconds.
static LOOK: Semaphore = Semaphore::const_new(1);

/// Sets up every connection of this process to this port.
fn set_up(port: u16) -> std::io::Result<()> {
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
            set_tcp_user_timeout(&socket, u32::try_from(LOST.as_millis()).unwrap_or(u32::MAX))?;
            set_tcp_keepidle(&socket, QUIET)?;
            set_tcp_keepintvl(&socket, PROBE)?;
            set_tcp_keepcnt(&socket, PROBES)?;
            set_socket_keepalive(&socket, true)?;
        }
    }
    Ok(())
}

/// Does what may open connections to this port, and sets them up meanwhile: the handshake of TLS waits twice for an
/// acknowledgement.
pub(super) async fn while_connecting<T>(port: u16, work: impl Future<Output = T>) -> T {
    tokio::select! {
        done = work => done,
        never = set_up_again_and_again(port) => match never {},
    }
}

/// Sets up every connection of this process to this port, and keeps no thread of the runtime from its work meanwhile.
pub(super) async fn set_up_aside(port: u16) {
    if let Ok(turn) = LOOK.acquire().await {
        look(port, turn).await;
    }
}

/// Looks less often the longer it takes.
async fn set_up_again_and_again(port: u16) -> std::convert::Infallible {
    let mut pause = FIRST_LOOK;
    while pause < LAST_LOOK {
        tokio::time::sleep(pause).await;
        pause *= 2;
        if let Ok(turn) = LOOK.try_acquire()
            && !look(port, turn).await
        {
            break;
        }
    }
    std::future::pending().await
}

/// Whether that could be done.
async fn look(port: u16, turn: SemaphorePermit<'static>) -> bool {
    let looked = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        set_up(port)
    });
    if let Ok(Err(error)) = looked.await {
        tracing::debug!(error = %error, "the sockets to the database cannot be set up");
        return false;
    }
    true
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use rustix::net::sockopt;

    use super::*;

    #[test]
    fn only_connections_to_the_port_are_changed() {
        let here = TcpListener::bind("127.0.0.1:0").unwrap();
        let there = TcpListener::bind("127.0.0.1:0").unwrap();
        let (one, other) = (
            TcpStream::connect(here.local_addr().unwrap()).unwrap(),
            TcpStream::connect(there.local_addr().unwrap()).unwrap(),
        );
        set_up(here.local_addr().unwrap().port()).unwrap();
        let settings = |stream: &TcpStream| {
            (
                stream.nodelay().unwrap(),
                sockopt::socket_keepalive(stream).unwrap(),
                sockopt::tcp_user_timeout(stream).unwrap(),
            )
        };
        assert_eq!(settings(&one), (true, true, 10_000));
        assert_eq!(settings(&other), (false, false, 0));
    }
}

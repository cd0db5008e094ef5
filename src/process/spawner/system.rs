//! The few system calls that the spawner needs and that have no safe form: signal dispositions, waiting with the
//! child's resource usage, and closing what was inherited. All unsafe code of the product is here.
#![expect(unsafe_code, reason = "each call says why it is sound")]

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};
use std::sync::OnceLock;
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};

use crate::process::outcome::{Exit, Usage};

/// Written by the handler of SIGCHLD, so that waiting for the socket also waits for children.
static CHILD_EVENTS: OnceLock<OwnedFd> = OnceLock::new();

/// Signals that a terminal or a service manager sends to whole groups: the spawner outlives them, because it is the
/// server that decides when programs are to stop, and the server's end is noticed by the socket. Limits that
/// programs are born with hold for the spawner too, and it has nothing to end for them.
const SURVIVED: [i32; 6] = [
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGTERM,
    libc::SIGXCPU,
    libc::SIGXFSZ,
];

/// Makes signals what programs expect to find: nothing blocked, nothing ignored.
///
/// Handlers do not survive an exec, ignored signals do; so the spawner catches what it has to survive instead of
/// ignoring it. SIGPIPE stays ignored here, and the standard library gives it back to each program.
pub(super) fn settle_signals() -> io::Result<BorrowedFd<'static>> {
    use std::os::fd::AsFd;
    let events = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
    let events = CHILD_EVENTS.get_or_init(|| events);
    for signal in 1..=libc::SIGRTMAX() {
        let (handler, flags) = match signal {
            libc::SIGKILL | libc::SIGSTOP | libc::SIGPIPE => continue,
            // The C library keeps these for itself, and its posix_spawn hands them down ignored in any case.
            32..=33 => continue,
            libc::SIGCHLD => (
                on_child as *const () as usize,
                libc::SA_RESTART | libc::SA_NOCLDSTOP,
            ),
            _ if SURVIVED.contains(&signal) => (on_survived as *const () as usize, libc::SA_RESTART),
            _ => (libc::SIG_DFL, 0),
        };
        // SAFETY: the structure is fully initialised (all zeroes is a valid value of this plain C struct), both
        // handlers are extern "C" functions that do only what is async-signal-safe, and they live for ever.
        let result = unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = handler;
            action.sa_flags = flags;
            libc::sigemptyset(&raw mut action.sa_mask);
            libc::sigaction(signal, &raw const action, std::ptr::null_mut())
        };
        check(result)?;
    }
    // SAFETY: the set is initialised by sigemptyset before it is read, and the old mask is not asked for.
    let result = unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut())
    };
    check(result)?;
    Ok(events.as_fd())
}

extern "C" fn on_child(_signal: libc::c_int) {
    use std::os::fd::AsRawFd;
    if let Some(events) = CHILD_EVENTS.get() {
        let one = 1_u64.to_ne_bytes();
        // SAFETY: write is async-signal-safe; the buffer is eight valid bytes. errno is put back, so the code that
        // was interrupted does not see a stranger's. A full counter fails with EAGAIN, and then it is readable anyway.
        unsafe {
            let errno = *libc::__errno_location();
            libc::write(events.as_raw_fd(), one.as_ptr().cast(), one.len());
            *libc::__errno_location() = errno;
        }
    }
}

extern "C" fn on_survived(_signal: libc::c_int) {}

/// Keeps everything that was inherited, beyond the standard three, away from the programs.
///
/// Whoever started the server may have left descriptors open in it, and those are not for its programs.
pub(super) fn close_on_exec_beyond_standard() -> io::Result<()> {
    for entry in std::fs::read_dir("/proc/self/fd")? {
        let name = entry?.file_name();
        let Some(fd) = name.to_str().and_then(|name| name.parse::<RawFd>().ok()) else {
            continue;
        };
        if fd > 2 {
            // SAFETY: setting a flag on a descriptor by number touches no memory; the one of this very directory
            // listing may be among them and has the flag already.
            check(unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) })?;
        }
    }
    Ok(())
}

/// What waiting for any child gave.
pub(super) enum Waited {
    /// This child ended and is now reaped.
    Reaped { pid: i32, exit: Exit, usage: Usage },
    /// There are children, and all of them still run.
    Running,
    /// There is no child at all: nothing descends from this process.
    Childless,
}

/// Reaps one child that has ended, if any has.
pub(super) fn wait_any() -> Waited {
    loop {
        let mut status = 0;
        // SAFETY: all zeroes is a valid value of this plain C struct, and both pointers are to live locals.
        let (pid, usage) = unsafe {
            let mut usage: libc::rusage = std::mem::zeroed();
            let pid = libc::wait4(-1, &raw mut status, libc::WNOHANG, &raw mut usage);
            (pid, usage)
        };
        match pid {
            0 => return Waited::Running,
            -1 if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => {}
            // ECHILD is the only other error that these arguments can lead to.
            -1 => return Waited::Childless,
            _ => {
                let exit = if libc::WIFSIGNALED(status) {
                    Exit::Signal(libc::WTERMSIG(status))
                } else {
                    Exit::Code(libc::WEXITSTATUS(status))
                };
                let usage = Usage {
                    user: time(usage.ru_utime),
                    system: time(usage.ru_stime),
                    max_rss: u64::try_from(usage.ru_maxrss).unwrap_or(0) * 1024,
                };
                return Waited::Reaped { pid, exit, usage };
            }
        }
    }
}

fn time(time: libc::timeval) -> Duration {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::from_secs(seconds) + Duration::from_micros(u64::try_from(time.tv_usec).unwrap_or(0))
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

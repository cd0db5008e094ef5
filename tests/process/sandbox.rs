//! What programs are kept from, by programs that try.
#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use runql::process::{Exit, LANDLOCK_COMPLETE, Limits, Outcome, RunAs, Sandbox, SandboxMode, Slot, Spec};

use crate::support::{Ran, bash, executable, program, python, run, slot_in};

/// Folders of one test: a program's own, another's, and files that nobody may read.
struct Place {
    _folder: tempfile::TempDir,
    root: PathBuf,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        for name in ["own", "other", "shared"] {
            std::fs::create_dir(root.join(name)).unwrap();
        }
        std::fs::write(root.join("secret"), "the secret").unwrap();
        std::fs::write(root.join("other/file"), "untouched").unwrap();
        Self {
            _folder: folder,
            root,
        }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    fn sandbox(&self) -> Sandbox {
        Sandbox {
            mode: SandboxMode::Require,
            hidden: vec![self.at("secret")],
            ..Sandbox::default()
        }
    }

    fn own(&self, mut spec: Spec) -> Spec {
        spec.current_dir = self.at("own");
        spec.writable = vec![self.at("own")];
        let root = self.root.clone().into_os_string();
        spec.env.push(("ROOT".into(), root));
        spec
    }

    /// Runs a script in its own folder.
    async fn run(&self, script: &str) -> Ran {
        let mut slot = slot_in(&self.sandbox()).await;
        run(&mut slot, self.own(bash(script))).await
    }
}

fn error_of(ran: &Ran) -> String {
    String::from_utf8_lossy(&ran.stderr).into_owned()
}

#[tokio::test]
async fn the_own_folder_and_the_devices_that_hold_nothing_can_be_written() {
    let place = Place::new();
    let ran = place
        .run(
            "set -e; mkdir -p a/b; echo text > a/b/c; ln -s c a/b/l; ln a/b/c a/h; mv a/b x; mkfifo p; chmod 700 x
             echo > /dev/null; head -c 9 /dev/zero > /dev/null; head -c 9 /dev/urandom > bytes; : > /dev/stdout
             cat < <(echo substituted); exec 3<> $ROOT/own/x/c; [ -t 0 ] || cat x/l; rm -r x; pwd",
        )
        .await;
    let own = place.at("own");
    assert_eq!(
        (ran.ended().exit, error_of(&ran).as_str()),
        (Exit::Code(0), ""),
        "{:?}",
        ran.text()
    );
    assert_eq!(ran.text(), format!("substituted\ntext\n{}\n", own.display()));
}

#[tokio::test]
async fn nothing_else_can_be_written_made_moved_or_removed() {
    let place = Place::new();
    let home = tempfile::tempdir_in(std::env::var_os("HOME").unwrap()).unwrap();
    let tries = [
        "echo x > $ROOT/other/file",
        "echo x >> $ROOT/other/file",
        "echo x > $ROOT/new",
        "python3 -c 'import os; os.truncate(os.environ[\"ROOT\"] + \"/other/file\", 0)'",
        "mkdir $ROOT/other/new",
        "rm $ROOT/other/file",
        "mv $ROOT/other/file .",
        "mv $ROOT/other/file $ROOT/other/moved",
        "touch mine && mv mine $ROOT/other/",
        "ln $ROOT/other/file ./hard && echo x > hard",
        "ln -s $ROOT/other/file soft; echo x > soft",
        "ln -s $ROOT/other way; echo x > way/new",
        "touch here && ln here $ROOT/other/hard",
        "ln -s /etc $ROOT/other/soft",
        "echo x > /tmp/runql-escaped",
        "echo x > /dev/shm/runql-escaped",
        "echo x > $HOME_DIR/escaped",
        "echo x > /proc/self/root/$ROOT/other/file",
        "mknod disk b 1 1 || mknod $ROOT/own/disk c 1 3",
        "echo x > /etc/runql-escaped",
        "echo 1 > /proc/sys/kernel/core_uses_pid",
    ];
    let mut slot = slot_in(&place.sandbox()).await;
    for attempt in tries {
        let mut spec = place.own(bash(attempt));
        spec.env.push(("HOME_DIR".into(), home.path().into()));
        let ran = run(&mut slot, spec).await;
        assert_ne!(ran.ended().exit, Exit::Code(0), "{attempt}");
        let told = error_of(&ran);
        assert!(
            ["ermission denied", "cross-device", "not permitted"]
                .iter()
                .any(|why| told.contains(why)),
            "{attempt}: {told}"
        );
    }
    assert_eq!(
        std::fs::read_to_string(place.at("other/file")).unwrap(),
        "untouched"
    );
    let others: Vec<_> = std::fs::read_dir(place.at("other")).unwrap().flatten().collect();
    assert_eq!(others.len(), 1, "{others:?}");
    assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0);
    for path in [
        "/tmp/runql-escaped",
        "/dev/shm/runql-escaped",
        "/etc/runql-escaped",
    ] {
        assert!(!Path::new(path).exists(), "{path}");
    }
}

#[tokio::test]
async fn what_is_hidden_can_be_read_by_no_name() {
    let place = Place::new();
    std::os::unix::fs::symlink(place.at("secret"), place.at("other/link")).unwrap();
    for attempt in [
        "cat $ROOT/secret",
        "cat $ROOT/other/link",
        "cat $ROOT/other/../secret",
        "ln -s $ROOT/secret s; cat s",
        "ln $ROOT/secret s && cat s",
        "cp $ROOT/secret .",
        "cat /proc/self/root$ROOT/secret",
        "cat /proc/$PPID/root$ROOT/secret",
        "tar cf - -C $ROOT secret | grep 'the secret'",
        "bash -c 'exec 3< $ROOT/secret && cat <&3'",
    ] {
        let ran = place.run(attempt).await;
        assert_ne!(ran.ended().exit, Exit::Code(0), "{attempt}");
        let all = [ran.stdout.clone(), ran.stderr.clone()].concat();
        assert!(!String::from_utf8_lossy(&all).contains("the secret"), "{attempt}");
    }
    // What lies beside it is as readable as it was.
    let ran = place.run("cat $ROOT/other/file; ls $ROOT | wc -l").await;
    assert_eq!(ran.text(), "untouched4\n");
}

#[tokio::test]
async fn what_appears_beside_a_hidden_file_can_be_read_by_the_next_program() {
    let place = Place::new();
    let mut slot = slot_in(&place.sandbox()).await;
    for number in 0..20 {
        let name = format!("new-{number}");
        std::fs::write(place.at(&name), &name).unwrap();
        std::fs::write(place.at("secret-wal"), "not hidden").unwrap();
        let ran = run(
            &mut slot,
            place.own(bash(&format!("cat $ROOT/{name} && ! cat $ROOT/secret"))),
        )
        .await;
        assert_eq!((ran.ended().exit, ran.text()), (Exit::Code(0), name.as_str()));
        std::fs::remove_file(place.at(&name)).unwrap();
    }
}

#[tokio::test]
async fn a_hidden_file_may_appear_later_and_be_replaced() {
    let place = Place::new();
    let sandbox = Sandbox {
        hidden: vec![place.at("later"), place.at("deep/er/later")],
        ..place.sandbox()
    };
    let mut slot = slot_in(&sandbox).await;
    assert_eq!(
        run(&mut slot, place.own(bash("true"))).await.ended().exit,
        Exit::Code(0)
    );
    std::fs::create_dir_all(place.at("deep/er")).unwrap();
    for name in ["later", "deep/er/later"] {
        for round in 0..3 {
            let fresh = place.at("fresh");
            std::fs::write(&fresh, "the secret").unwrap();
            std::fs::rename(&fresh, place.at(name)).unwrap();
            let ran = run(&mut slot, place.own(bash(&format!("cat $ROOT/{name}")))).await;
            assert_eq!(
                (ran.ended().exit, ran.text()),
                (Exit::Code(1), ""),
                "{name} in round {round}"
            );
        }
    }
}

#[tokio::test]
async fn a_program_reaches_neither_its_spawner_nor_another_program() {
    let place = Place::new();
    let sandbox = place.sandbox();
    let mut other = slot_in(&sandbox).await;
    let mut spec = bash("echo $$ > pid; exec sleep 1000");
    spec.env.push(("CANARY".into(), "canary-of-another".into()));
    spec.current_dir = place.at("shared");
    spec.writable = vec![place.at("shared")];
    let (stop, controls) = runql::process::controls();
    let mut victim = tokio::task::JoinSet::new();
    victim.spawn(async move { crate::support::run_with(&mut other, spec, controls).await });
    crate::support::wait_until_async("the other program runs", || {
        std::fs::read_to_string(place.at("shared/pid")).is_ok_and(|text| text.ends_with('\n'))
    })
    .await;
    let mut slot = slot_in(&sandbox).await;
    let spawner = slot.pid();
    let pid = std::fs::read_to_string(place.at("shared/pid"))
        .unwrap()
        .trim()
        .to_owned();
    let attack = place.own(python(&format!(
        "import ctypes, os, signal
libc = ctypes.CDLL(None, use_errno=True)
for pid in ({pid}, {spawner}, os.getppid(), {server}):
    for number in (0, signal.SIGKILL, signal.SIGSTOP, signal.SIGUSR1):
        try:
            os.kill(pid, number); print('signalled', pid, number)
        except PermissionError: pass
    if libc.ptrace(16, pid, 0, 0) == 0 or libc.ptrace(0x4206, pid, 0, 0) == 0: print('traced', pid)
    for name in ('environ', 'mem', 'maps', 'pagemap', 'root', 'cwd', 'exe', 'syscall', 'stack', 'auxv', 'io'):
        for mode in (os.O_RDONLY, os.O_RDWR):
            try:
                if os.pread(os.open(f'/proc/{{pid}}/{{name}}', mode), 1, 0): print('read', pid, name)
            except IsADirectoryError: print('entered', pid, name)
            except OSError: pass
        try: print('followed', os.readlink(f'/proc/{{pid}}/{{name}}'))
        except OSError: pass
    # Root may count descriptors, and no more than that.
    try: descriptors = os.listdir(f'/proc/{{pid}}/fd')
    except OSError: descriptors = range(9)
    for number in descriptors:
        try: print('named', os.readlink(f'/proc/{{pid}}/fd/{{number}}'))
        except OSError: pass
        try: print('opened', pid, number, os.open(f'/proc/{{pid}}/fd/{{number}}', os.O_RDONLY))
        except OSError: pass
    pidfd = os.pidfd_open(pid)
    if libc.syscall(438, pidfd, 0, 0) >= 0: print('took a descriptor of', pid)
os.kill(os.getpid(), 0)
found = 0
for pid in filter(str.isdigit, os.listdir('/proc')):
    try:
        if b'canary-of-another' in open(f'/proc/{{pid}}/environ', 'rb').read(): found += 1
    except OSError: pass
print('done', found)
",
        server = std::process::id(),
    )));
    let ran = run(&mut slot, attack).await;
    assert_eq!((ran.text(), error_of(&ran).as_str()), ("done 0\n", ""));
    assert!(slot.is_alive());
    // `kill -1` means everybody that may be signalled: only itself.
    let ran = run(&mut slot, place.own(bash("kill -9 -1; kill -9 0"))).await;
    assert_eq!(ran.ended().exit, Exit::Signal(9));
    assert!(slot.is_alive() && victim.try_join_next().is_none());
    stop.stop(runql::process::StopCause::Cancelled, Duration::ZERO);
    assert_eq!(
        victim.join_next().await.unwrap().unwrap().ended().stopped,
        Some(runql::process::StopCause::Cancelled)
    );
}

#[tokio::test]
async fn a_program_cannot_reach_an_abstract_socket_of_another() {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixListener};
    let place = Place::new();
    let name = format!("runql-{}-abstract", std::process::id());
    let _listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    let script = format!(
        "import socket
s = socket.socket(socket.AF_UNIX)
try: s.connect('\\0{name}'); print('connected')
except PermissionError: print('refused')"
    );
    let mut slot = slot_in(&place.sandbox()).await;
    assert_eq!(
        run(&mut slot, place.own(python(&script))).await.text(),
        "refused\n"
    );
}

#[tokio::test]
async fn there_are_no_new_privileges_no_core_dumps_and_few_capabilities() {
    let place = Place::new();
    let ran = place
        .run("grep -E '^(NoNewPrivs|CapBnd|CapEff)' /proc/self/status; ulimit -c; cat /proc/self/oom_score_adj")
        .await;
    let lines: Vec<_> = ran.text().lines().collect();
    assert!(lines.contains(&"NoNewPrivs:\t1"), "{lines:?}");
    assert_eq!(lines[3], "0");
    assert!(lines[4].parse::<i32>().unwrap() >= 500, "{lines:?}");
    let capabilities = |name: &str| {
        let line = lines.iter().find(|line| line.starts_with(name)).unwrap();
        u64::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap()
    };
    const SYS_MODULE: u32 = 16;
    const SYS_PTRACE: u32 = 19;
    const SYS_ADMIN: u32 = 21;
    let effective = capabilities("CapEff");
    for capability in [SYS_MODULE, SYS_PTRACE, SYS_ADMIN] {
        assert_eq!(effective & (1 << capability), 0, "{lines:?}");
    }
}

#[tokio::test]
async fn limits_hold_and_can_be_told_from_other_ends() {
    let place = Place::new();
    let sandbox = Sandbox {
        limits: Limits {
            cpu_seconds: Some(1),
            memory: Some(256 << 20),
            open_files: Some(64),
            processes: None,
            file_size: Some(1 << 20),
            millicpus: None,
        },
        ..place.sandbox()
    };
    let mut slot = slot_in(&sandbox).await;
    let ran = run(&mut slot, place.own(bash("while :; do :; done"))).await;
    assert_eq!(ran.ended().exit, Exit::Signal(libc::SIGXCPU));
    let ran = run(&mut slot, place.own(bash("exec head -c 2000000 /dev/zero > big"))).await;
    assert_eq!(ran.ended().exit, Exit::Signal(libc::SIGXFSZ));
    assert_eq!(place.at("own/big").metadata().unwrap().len(), 1 << 20);
    let script = "
import os
try: x = bytearray(400 << 20); print('had it')
except MemoryError: print('refused')
y = bytearray(64 << 20)
fds = []
try:
    while True: fds.append(os.open('/dev/null', os.O_RDONLY))
except OSError: print(len(fds) < 64)
";
    let ran = run(&mut slot, place.own(python(script))).await;
    assert_eq!(ran.text(), "refused\nTrue\n", "{}", error_of(&ran));
    // The spawner is under the same limits and goes on; its own processor time has none.
    for _ in 0..20 {
        assert_eq!(
            run(&mut slot, place.own(bash("true"))).await.ended().exit,
            Exit::Code(0)
        );
    }
    assert_eq!(slot.landlock(), LANDLOCK_COMPLETE.max(slot.landlock()));
}

#[tokio::test]
async fn runtimes_that_reserve_much_address_space_run_with_little_memory() {
    let place = Place::new();
    let sandbox = Sandbox {
        limits: Limits {
            memory: Some(512 << 20),
            ..Limits::default()
        },
        ..place.sandbox()
    };
    let mut slot = slot_in(&sandbox).await;
    let ran = run(&mut slot, place.own(bash("node -e 'console.log(6 * 7)'"))).await;
    assert_eq!(ran.text(), "42\n", "{}", error_of(&ran));
}

#[tokio::test]
async fn links_put_in_the_place_of_a_folder_lead_nowhere() {
    let place = Place::new();
    let mut slot = slot_in(&place.sandbox()).await;
    let mut spec = place.own(bash("echo x > file"));
    let (link, real) = (place.at("own/link"), place.at("other"));
    std::os::unix::fs::symlink(&real, &link).unwrap();
    spec.current_dir = link.clone();
    spec.writable = vec![link];
    let ran = run(&mut slot, spec).await;
    assert!(
        matches!(ran.outcome, Outcome::SpawnFailed(_)),
        "{:?}",
        ran.outcome
    );
    assert_eq!(
        std::fs::read_to_string(place.at("other/file")).unwrap(),
        "untouched"
    );
}

#[tokio::test]
async fn a_folder_that_holds_what_is_hidden_is_no_place_to_write() {
    let place = Place::new();
    let sandbox = Sandbox {
        writable: vec![place.root.clone()],
        ..place.sandbox()
    };
    let error = Slot::start(executable(), &sandbox).await.expect_err("refused");
    assert!(error.to_string().contains("secret"), "{error}");
    let missing = Sandbox {
        writable: vec![place.at("missing")],
        ..place.sandbox()
    };
    let error = Slot::start(executable(), &missing).await.expect_err("refused");
    assert!(error.to_string().contains("missing"), "{error}");
    let mut slot = slot_in(&place.sandbox()).await;
    let mut spec = place.own(bash("true"));
    spec.writable.push(place.root.clone());
    let ran = run(&mut slot, spec).await;
    assert!(
        matches!(ran.outcome, Outcome::SpawnFailed(_)),
        "{:?}",
        ran.outcome
    );
}

/// Nobody else is this user on any machine.
const STRANGER: u32 = 3_999_999;

#[tokio::test]
async fn programs_run_as_another_user_where_that_can_be() {
    let place = Place::new();
    let user = RunAs::find(&STRANGER.to_string()).unwrap();
    let sandbox = Sandbox {
        run_as: Some(user),
        limits: Limits {
            processes: Some(20),
            ..Limits::default()
        },
        ..place.sandbox()
    };
    let started = Slot::start(executable(), &sandbox).await;
    if !RunAs::is_root(None) {
        let error = started.expect_err("only root can").to_string();
        assert!(error.contains("cannot run as"), "{error}");
        return;
    }
    let mut slot = started.expect("a spawner");
    use std::os::unix::fs::{PermissionsExt, chown};
    std::fs::set_permissions(&place.root, std::fs::Permissions::from_mode(0o755)).unwrap();
    chown(place.at("own"), Some(STRANGER), Some(STRANGER)).unwrap();
    let script = "id -u; id -g; id -G; grep -E '^Cap(Eff|Prm|Inh|Amb)' /proc/self/status | cut -f2 | sort -u; echo x > file; \
                  cat /proc/$PPID/environ /etc/shadow 2>/dev/null; stat -c %u file";
    let ran = run(&mut slot, place.own(bash(script))).await;
    let wanted = format!("{STRANGER}\n{STRANGER}\n{STRANGER}\n0000000000000000\n{STRANGER}\n");
    assert_eq!(ran.text(), wanted, "{}", error_of(&ran));
    // A bomb meets its limit, and all of it can be killed.
    let mut bomb = place.own(program(
        "dash",
        &["-c", "i=0; while :; do sleep 1000 & i=$((i+1)); echo $i; done"],
    ));
    bomb.leak_grace = Duration::ZERO;
    let ran = run(&mut slot, bomb).await;
    let made: usize = ran.text().lines().last().unwrap().parse().unwrap();
    assert!((1..=20).contains(&made), "{made}");
    assert_eq!((ran.ended().leaked, ran.ended().unkillable), (made, 0));
    let folder = place.at("closed");
    std::fs::create_dir(&folder).unwrap();
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o700)).unwrap();
    let needed = Sandbox {
        needed: vec![place.at("missing"), folder],
        ..sandbox
    };
    let error = Slot::start(executable(), &needed)
        .await
        .expect_err("refused")
        .to_string();
    assert!(
        error.contains("closed") && error.contains(&STRANGER.to_string()),
        "{error}"
    );
}

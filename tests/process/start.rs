//! How programs are started, what they find, how they end, and why some cannot be started.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use runql::process::{Exit, Outcome, Slot, SpawnError, SpawnErrorKind, Spec, controls, own_executable};
use tokio::sync::oneshot;

use crate::support::{bash, executable, no_sandbox, program, python, run, run_with, slot};

#[tokio::test]
async fn exit_codes_and_signals_are_told_apart() {
    let mut slot = slot().await;
    for (script, exit) in [
        ("exit 0", Exit::Code(0)),
        ("exit 7", Exit::Code(7)),
        ("exit 255", Exit::Code(255)),
        ("kill -SEGV $$", Exit::Signal(11)),
        ("kill -TERM $$", Exit::Signal(15)),
        ("kill -KILL $$", Exit::Signal(9)),
    ] {
        let ran = run(&mut slot, bash(script)).await;
        assert_eq!(ran.ended().exit, exit, "{script}");
        assert_eq!((ran.ended().leaked, ran.ended().stopped), (0, None), "{script}");
    }
    slot.close().await;
}

#[tokio::test]
async fn the_start_is_told_with_pid_and_time() {
    let mut slot = slot().await;
    let (told, started) = oneshot::channel();
    let before = SystemTime::now();
    let ran = run_with(&mut slot, bash("echo $$"), controls().1.on_start(told)).await;
    let started = started.await.expect("the program has started");
    assert_eq!(ran.text(), format!("{}\n", started.pid));
    assert_eq!(ran.ended().pid, started.pid);
    assert_eq!(ran.ended().started, started.at);
    assert!(before - Duration::from_millis(50) < started.wall && started.wall < SystemTime::now());
    assert!(ran.ended().duration > Duration::ZERO && ran.ended().duration < Duration::from_secs(10));
    assert!(ran.ended().usage.max_rss > 100_000, "{:?}", ran.ended().usage);
}

#[tokio::test]
async fn usage_is_the_programs_own_each_time() {
    let mut slot = slot().await;
    let busy = python("import time\nwhile time.process_time() < 0.2: pass\nx = bytearray(60_000_000)");
    let busy = run(&mut slot, busy).await;
    assert!(busy.ended().usage.user + busy.ended().usage.system > Duration::from_millis(190));
    assert!(busy.ended().usage.max_rss > 60_000_000);
    let idle = run(&mut slot, program("true", &[])).await;
    assert!(idle.ended().usage.user < Duration::from_millis(100));
    // Not what the one before took. The kernel counts what the program was born with, too, which is its spawner's: of this
    // build some 30 MB, most of it pages of its file, of which more or fewer are mapped.
    assert!(
        idle.ended().usage.max_rss < 60_000_000,
        "{:?}",
        idle.ended().usage
    );
}

#[tokio::test]
async fn the_environment_is_exactly_what_was_given() {
    let mut slot = slot().await;
    let mut spec = Spec::new("/usr/bin/env", "/");
    spec.args = vec!["-0".into()];
    spec.env = vec![
        ("A".into(), "1".into()),
        ("EMPTY".into(), "".into()),
        ("RAW".into(), OsString::from_vec(vec![b'x', 0xff, b'\n', b'='])),
    ];
    let ran = run(&mut slot, spec).await;
    let mut entries: Vec<_> = ran.stdout.split(|byte| *byte == 0).collect();
    entries.sort_unstable();
    assert_eq!(entries, [b"".as_slice(), b"A=1", b"EMPTY=", b"RAW=x\xff\n="]);
}

#[tokio::test]
async fn arguments_directory_and_group_are_as_asked() {
    let mut slot = slot().await;
    let folder = tempfile::tempdir().expect("a folder");
    let mut spec = program(
        "python3",
        &[
            "-c",
            "import os,sys; print(sys.argv[1:], os.getcwd(), os.getpgrp()==os.getpid(), os.getsid(0)==os.getppid())",
        ],
    );
    spec.args.extend(["".into(), "a b".into(), "-x\n".into()]);
    spec.current_dir = folder.path().canonicalize().expect("a real path");
    let expected = format!("['', 'a b', '-x\\n'] {} True True\n", spec.current_dir.display());
    assert_eq!(run(&mut slot, spec).await.text(), expected);
}

#[tokio::test]
async fn only_the_three_standard_descriptors_are_open() {
    let mut slot = slot().await;
    // The descriptor of the directory that is being read is the one more.
    let ran = run(
        &mut slot,
        python("import os; print(sorted(map(int, os.listdir('/proc/self/fd'))))"),
    )
    .await;
    assert_eq!(ran.text(), "[0, 1, 2, 3]\n");
    let mut spec = python(
        "import os; print(os.readlink('/proc/self/fd/0'), sorted(map(int, os.listdir('/proc/self/fd'))))",
    );
    spec.stdin = Some(b"x".to_vec());
    let ran = run(&mut slot, spec).await;
    assert!(
        ran.text().starts_with("pipe:") && ran.text().ends_with("[0, 1, 2, 3]\n"),
        "{}",
        ran.text()
    );
}

#[tokio::test]
async fn signals_are_as_a_login_shell_leaves_them() {
    let mut slot = slot().await;
    let ran = run(&mut slot, program("cat", &["/proc/self/status"])).await;
    let lines: Vec<_> = ran
        .text()
        .lines()
        .filter(|line| line.starts_with("Sig") && !line.starts_with("SigQ"))
        .collect();
    assert_eq!(lines.len(), 4, "{lines:?}");
    for line in lines {
        assert_eq!(signals(line), 0, "{line}");
    }
}

/// The set of signals in a line of a status, without the two that the C library's `posix_spawn` always ignores.
fn signals(line: &str) -> u64 {
    let (_, set) = line.split_once('\t').expect("a name and a set");
    u64::from_str_radix(set, 16).expect("a set") & !(0b11 << 31)
}

#[tokio::test]
async fn signals_that_the_server_ignores_or_blocks_are_not_handed_down() {
    // A server under nohup, started by something careless: HUP and USR1 ignored, TERM blocked, a descriptor open.
    let wrapper = tempfile::tempdir().expect("a folder");
    let path = wrapper.path().join("careless");
    let script = format!(
        "#!/usr/bin/env python3\nimport os, signal, sys\nsignal.signal(signal.SIGHUP, signal.SIG_IGN)\n\
         signal.signal(signal.SIGUSR1, signal.SIG_IGN)\n\
         signal.pthread_sigmask(signal.SIG_BLOCK, {{signal.SIGTERM, signal.SIGCHLD}})\n\
         os.set_inheritable(os.open('/dev/zero', os.O_RDONLY), True)\n\
         os.execv({:?}, ['runql'] + sys.argv[1:])\n",
        executable().display().to_string()
    );
    executable_file(&path, script.as_bytes());
    // The spawner's environment is empty, so the interpreter is named in full.
    let python = run(
        &mut slot().await,
        bash("readlink -f $(python3 -c 'import sys; print(sys.executable)')"),
    )
    .await;
    let script = script.replace("/usr/bin/env python3", python.text().trim());
    executable_file(&path, script.as_bytes());
    let mut slot = Slot::start(&path, &no_sandbox()).await.expect("a spawner starts");
    let ran = run(
        &mut slot,
        bash("grep -E '^Sig(Blk|Ign)' /proc/self/status; ls /proc/self/fd"),
    )
    .await;
    let lines: Vec<_> = ran.text().lines().collect();
    assert_eq!((signals(lines[0]), signals(lines[1])), (0, 0), "{lines:?}");
    assert_eq!(lines[2..], ["0", "1", "2", "3"]);
}

#[tokio::test]
async fn programs_have_no_terminal() {
    let mut slot = slot().await;
    let ran = run(&mut slot, bash("exec 3</dev/tty && echo a terminal")).await;
    assert_eq!(ran.text(), "");
}

fn executable_file(path: &Path, content: &[u8]) {
    std::fs::write(path, content).expect("written");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("permitted");
}

async fn failure(slot: &mut Slot, spec: Spec) -> SpawnError {
    match run(slot, spec).await.outcome {
        Outcome::SpawnFailed(error) => error,
        other => panic!("it was started: {other:?}"),
    }
}

#[tokio::test]
async fn each_failure_to_start_says_what_is_wrong() {
    use SpawnErrorKind::*;
    let mut slot = slot().await;
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(path("plain"), "text").expect("written");
    executable_file(Path::new(&path("no-format")), b"\x01\x02\x03\x04");
    executable_file(
        Path::new(&path("no-interpreter")),
        b"#!/nonexistent/interpreter\n",
    );
    let in_folder = |spec: Spec, folder: &str| Spec {
        current_dir: folder.into(),
        ..spec
    };
    let with_path = |name: &str| Spec {
        env: vec![(
            "PATH".into(),
            format!("/nonexistent:{}", folder.path().display()).into(),
        )],
        ..program(name, &[])
    };
    let with_env = |name: &str, value: &str| Spec {
        env: vec![(name.into(), value.into())],
        ..program("/bin/true", &[])
    };
    for (spec, kind, words) in [
        (
            program("nonexistent-program", &[]),
            ProgramNotFound,
            "was not found in PATH",
        ),
        (
            with_path("absent"),
            ProgramNotFound,
            "`absent` was not found in PATH (/nonexistent:",
        ),
        (
            program("/nonexistent/program", &[]),
            ProgramNotFound,
            "does not exist",
        ),
        (program("/etc/passwd/x", &[]), ProgramNotFound, "does not exist"),
        (with_path("plain"), NotExecutable, "is not executable"),
        (program(&path("plain"), &[]), NotExecutable, "is not executable"),
        (program("/tmp", &[]), NotExecutable, "is a directory"),
        (program(&path("no-format"), &[]), NotExecutable, "is no program"),
        (
            program(&path("no-interpreter"), &[]),
            NotExecutable,
            "interpreter",
        ),
        (
            in_folder(program("true", &[]), "/nonexistent"),
            DirectoryNotFound,
            "/nonexistent does not exist",
        ),
        (
            in_folder(program("/bin/true", &[]), "/etc/passwd"),
            DirectoryNotFound,
            "is not a directory",
        ),
        (
            in_folder(program("absent", &[]), "/nonexistent"),
            DirectoryNotFound,
            "/nonexistent does not exist",
        ),
        (
            program("true", &["x".repeat(200_000).as_str()]),
            ArgumentsTooLong,
            "longer than the system takes",
        ),
        (
            program("true", &vec!["x".repeat(100_000).as_str(); 100]),
            ArgumentsTooLong,
            "longer than",
        ),
        (
            program("true", &vec!["x".repeat(100_000).as_str(); 200]),
            ArgumentsTooLong,
            "longer than",
        ),
        (
            program("true", &["a\0b"]),
            InvalidInput,
            "argument 1 contains a NUL byte",
        ),
        (program("", &[]), InvalidInput, "name is empty"),
        (program("a\0b", &[]), InvalidInput, "name contains a NUL byte"),
        (with_env("A=B", "x"), InvalidInput, "\"A=B\" is no name"),
        (with_env("", "x"), InvalidInput, "\"\" is no name"),
        (
            with_env("A", "x\0"),
            InvalidInput,
            "the value of the environment variable \"A\"",
        ),
    ] {
        let shown = format!("{spec:?}");
        let error = failure(&mut slot, spec).await;
        assert_eq!(error.kind, kind, "{shown}: {error}");
        assert!(error.to_string().contains(words), "{shown}: {error}");
    }
    // The slot is as good as before.
    assert_eq!(run(&mut slot, bash("exit 4")).await.ended().exit, Exit::Code(4));
}

#[tokio::test]
async fn the_program_is_looked_for_in_its_own_path() {
    let mut slot = slot().await;
    let folder = tempfile::tempdir().expect("a folder");
    executable_file(&folder.path().join("tool"), b"#!/bin/sh\necho found $0\n");
    let mut spec = Spec::new("tool", folder.path());
    spec.env = vec![("PATH".into(), "/nonexistent::/usr/bin".into())];
    assert_eq!(run(&mut slot, spec.clone()).await.text(), "found ./tool\n");
    spec.env = vec![("PATH".into(), folder.path().into())];
    let expected = format!("found {}/tool\n", folder.path().display());
    assert_eq!(run(&mut slot, spec).await.text(), expected);
    let relative = Spec::new("./tool", folder.path());
    assert_eq!(run(&mut slot, relative).await.text(), "found ./tool\n");
}

#[tokio::test]
async fn an_executable_that_is_no_spawner_is_refused() {
    for stranger in ["/bin/true", "/bin/cat"] {
        let error = Slot::start(Path::new(stranger), &no_sandbox())
            .await
            .expect_err("no spawner");
        assert!(error.to_string().contains("run_spawner_if_asked"), "{error}");
    }
    // This very binary does not call the function, so it must not be taken for a spawner either.
    let own = own_executable().expect("an executable");
    let error = Slot::start(&own, &no_sandbox()).await.expect_err("no spawner");
    assert!(error.to_string().contains("run_spawner_if_asked"), "{error}");
    Slot::start(Path::new("/nonexistent"), &no_sandbox())
        .await
        .expect_err("no executable");
}

#[tokio::test]
async fn a_spawner_started_by_hand_says_so_and_ends() {
    let output = tokio::process::Command::new(executable())
        .arg("__runql-spawner")
        .stdin(std::process::Stdio::null())
        .output()
        .await
        .expect("it runs");
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("never by hand"));
}

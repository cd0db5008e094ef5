//! Control groups of version 2. Root can make one to hand over; whether it has controllers is the machine's affair, and
//! where it has not, the reason is told. `tests/kernel/run.sh` runs these on a kernel where all of it is there.
#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use runql::process::{Cgroup, Exit, Limits, Sandbox, SandboxMode, Slot, Spec};

use crate::support::{alive, bash, executable, no_sandbox, python, run, slot_in, wait_until_async};

/// A group for one test, right below the root.
struct Handed(PathBuf);

impl Handed {
    fn new(name: &str) -> std::io::Result<Self> {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
        let root = mounts
            .lines()
            .find(|line| line.contains(" - cgroup2 "))
            .and_then(|line| line.split(' ').nth(4))
            .ok_or(std::io::ErrorKind::NotFound)?;
        let dir = Path::new(root).join(format!("runql-test-{name}-{}", std::process::id()));
        std::fs::create_dir(&dir)?;
        Ok(Self(dir))
    }

    fn groups(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap());
        entries
            .filter(|entry| entry.file_type().unwrap().is_dir())
            .map(|entry| entry.path())
            .collect()
    }
}

impl Drop for Handed {
    fn drop(&mut self) {
        for group in self.groups() {
            let _ = std::fs::remove_dir(group);
        }
        let _ = std::fs::remove_dir(&self.0);
    }
}

/// A program in a folder of its own, as a job has one.
fn at_home(mut spec: Spec, home: &Path) -> Spec {
    spec.current_dir = home.canonicalize().unwrap();
    spec.writable = vec![spec.current_dir.clone()];
    spec
}

#[tokio::test]
async fn each_spawner_has_a_group_of_its_own_with_all_that_it_starts() {
    let handed = match Handed::new("own") {
        Ok(handed) => handed,
        Err(error) => {
            let refused = Cgroup::take_over(Some(Path::new("/")), &Limits::default()).unwrap_err();
            assert!(refused.contains("no control group"), "{error}: {refused}");
            return;
        }
    };
    let home = tempfile::tempdir().unwrap();
    // What a server left that died, and what another one is just making.
    std::fs::create_dir(handed.0.join("runql-job-4194305-1")).unwrap();
    let foreign = handed.0.join("runql-job-1-1");
    std::fs::create_dir(&foreign).unwrap();
    let sandbox = Sandbox {
        mode: SandboxMode::Require,
        cgroup: Some(Cgroup::take_over(Some(&handed.0), &Limits::default()).unwrap()),
        ..Sandbox::default()
    };
    let (mut first, second) = (slot_in(&sandbox).await, slot_in(&sandbox).await);
    assert_eq!(handed.groups().len(), 3, "{:?}", handed.groups());
    let mut script = bash(
        "(sleep 1000 &) ; grep ^0:: /proc/self/cgroup; cat $HANDED/*/cgroup.procs | wc -l
         echo $$ > $HANDED/cgroup.procs; echo $$ > $HANDED/runql-job-1-1/cgroup.procs; mkdir $HANDED/more",
    );
    script.env.push(("HANDED".into(), handed.0.clone().into()));
    script.leak_grace = Duration::ZERO;
    let ran = run(&mut first, at_home(script, home.path())).await;
    let lines: Vec<&str> = ran.text().lines().collect();
    let name = lines[0].rsplit('/').next().unwrap();
    assert!(
        name.starts_with(&format!("runql-job-{}-", std::process::id())),
        "{lines:?}"
    );
    // Two spawners, bash, sleep and cat; wc as well, where it has started by then.
    assert!(["5", "6"].contains(&lines[1]), "{lines:?}");
    let errors = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert_eq!(errors.matches("Permission denied").count(), 3, "{errors}");
    assert_eq!(ran.ended().ended_by_memory, 0);
    first.close().await;
    assert!(!handed.0.join(name).exists());
    // Nobody waits for this one; its group goes when the next is made.
    let spawner = second.pid();
    drop(second);
    wait_until_async("the spawner has ended", || !crate::support::lives(spawner)).await;
    let third = slot_in(&sandbox).await;
    assert_eq!(handed.groups().len(), 2, "{:?}", handed.groups());
    third.close().await;
    assert_eq!(handed.groups(), [foreign]);
}

#[tokio::test]
async fn a_spawner_that_is_killed_takes_its_whole_group_along() {
    let Ok(handed) = Handed::new("lost") else {
        // Told by the other tests.
        return;
    };
    let sandbox = Sandbox {
        cgroup: Some(Cgroup::take_over(Some(&handed.0), &Limits::default()).unwrap()),
        ..no_sandbox()
    };
    let mut slot = slot_in(&sandbox).await;
    // Neither its session, nor its environment, nor its parent leads to it any more.
    let hidden = format!("runql-hidden-{}", std::process::id());
    let script = format!(
        "import os, signal\n\
         told, tell = os.pipe()\n\
         os.set_inheritable(tell, True)\n\
         if os.fork() == 0:\n    \
             os.setsid()\n    \
             if os.fork() == 0:\n        \
                 line = f'printf x >&{{tell}}; exec -a {hidden} sleep 1000'\n        \
                 os.execve('/bin/bash', ['bash', '-c', line], {{}})\n    \
             os._exit(0)\n\
         os.wait()\n\
         os.read(told, 1)\n\
         os.kill(os.getppid(), signal.SIGKILL)\n\
         signal.pause()\n"
    );
    let ran = run(&mut slot, python(&script)).await;
    assert!(
        matches!(ran.outcome, runql::process::Outcome::Lost),
        "{:?}",
        ran.outcome
    );
    let hidden = hidden.into();
    wait_until_async("all of it is gone", || alive(&hidden).is_empty()).await;
    slot.close().await;
}

const MEMORY: u64 = 96 << 20;

#[tokio::test]
async fn limits_hold_for_a_job_as_a_whole_or_what_they_lack_is_told() {
    let limits = Limits {
        memory: Some(MEMORY),
        processes: Some(20),
        millicpus: Some(500),
        ..Limits::default()
    };
    let handed = Handed::new("limits");
    let dir = handed
        .as_ref()
        .map_or(Path::new("/no/such/group"), |handed| handed.0.as_path());
    let offered = std::fs::read_to_string(dir.join("cgroup.controllers")).unwrap_or_default();
    let complete = ["memory", "pids", "cpu"]
        .iter()
        .all(|controller| offered.split_whitespace().any(|offered| offered == *controller));
    let taken = Cgroup::take_over(Some(dir), &limits);
    if !complete {
        let refused = taken.unwrap_err();
        let reason = if handed.is_ok() {
            "has no controller `"
        } else {
            "is no control group"
        };
        assert!(refused.contains(reason), "{refused}");
        return;
    }
    let sandbox = Sandbox {
        cgroup: Some(taken.unwrap()),
        limits,
        ..no_sandbox()
    };
    let mut slot = slot_in(&sandbox).await;
    // Half of the processors' one, for two that would take all of two.
    let busy = "for n in 1 2; do timeout 2 bash -c 'while :; do :; done' & done; wait";
    let ran = run(&mut slot, bash(busy)).await;
    let ended = ran.ended();
    let used = ended.usage.user + ended.usage.system;
    assert!(
        used < ended.duration.mul_f64(0.75),
        "{used:?} of {:?}",
        ended.duration
    );
    let bomb = "i=0; while (sleep 1000 & :) 2> /dev/null; do i=$((i+1)); done; echo $i";
    let mut bomb = crate::support::program("dash", &["-c", bomb]);
    bomb.leak_grace = Duration::ZERO;
    let ran = run(&mut slot, bomb).await;
    let leaked = ran.ended().leaked;
    assert!((10..=21).contains(&leaked), "{:?}", ran.outcome);
    assert!(ran.ended().refused_processes > 0, "{:?}", ran.outcome);
    // Each is below what a process may have; together they are above it.
    let hungry = "import os, sys, time\n\
                  for n in range(4):\n    \
                      if os.fork() == 0:\n        \
                          x = bytearray(b'x') * (40 << 20)\n        \
                          time.sleep(1000)\n\
                  sys.exit(os.waitstatus_to_exitcode(os.wait()[1]) == -9)";
    let ran = run(&mut slot, python(hungry)).await;
    assert_eq!(
        ran.ended().exit,
        Exit::Code(1),
        "{:?} {}",
        ran.outcome,
        String::from_utf8_lossy(&ran.stderr)
    );
    assert!(ran.ended().ended_by_memory > 0, "{:?}", ran.outcome);
    // Its group is not the next one's.
    assert!(!slot.is_alive());
    slot.close().await;
    let mut slot = Slot::start(executable(), &sandbox).await.unwrap();
    let ran = run(&mut slot, bash("echo well")).await;
    assert_eq!((ran.text(), ran.ended().ended_by_memory), ("well\n", 0));
    slot.close().await;
    assert_eq!(handed.unwrap().groups(), Vec::<PathBuf>::new());
}

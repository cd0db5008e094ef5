//! What a job can reach of the server and of other jobs: nothing.

use serde_json::json;

use super::{healthy, shell_with};
use crate::support::app::Setup;
use crate::support::both_stores;
use crate::support::db::TestDb;
use crate::support::machine::spawners;
use crate::support::wait::until;

both_stores!(
    a_script_finds_no_secret_of_the_server,
    a_script_ends_neither_the_server_nor_another_job,
);

/// Reads whatever it can, and tells where it found what it must not.
const SPY: &str = r#"
import ctypes, json, os, sys
told = json.load(sys.stdin)["parameters"]
found = []
def look(path, at=0, size=1 << 16):
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        data = os.pread(fd, size, at)
        os.close(fd)
    except OSError: return None
    if b"canary-of-the-server" in data: found.append(path)
    return data
server = told["server"]
pids = [pid for pid in os.listdir("/proc") if pid.isdigit()]
for pid in pids: look(f"/proc/{pid}/environ")
for pid in (server, os.getppid()):
    for name in ("mem", "maps", "auxv"):
        if look(f"/proc/{pid}/{name}"): found.append(f"{pid} {name}")
    for name in ("root", "cwd", "exe", "fd/0", "fd/3", "fd/9"):
        try: found.append(f"{pid} {name} {os.readlink(f'/proc/{pid}/{name}')}")
        except OSError: pass
    libc = ctypes.CDLL(None, use_errno=True)
    for request in (16, 0x4206):
        if libc.ptrace(request, pid, 0, 0) == 0: found.append(f"{pid} traced")
    local, remote = (ctypes.c_size_t * 2)(0, 0), (ctypes.c_size_t * 2)(0x400000, 8)
    if libc.process_vm_readv(pid, local, 1, remote, 1, 0) > 0: found.append(f"{pid} read")
for path in told["files"]:
    for way in (path, "/proc/self/root" + path, f"/proc/{server}/root" + path, os.path.join(os.path.dirname(path), "..", os.path.basename(os.path.dirname(path)), os.path.basename(path))):
        if look(way) is not None: found.append(way)
    for put in (os.symlink, os.link):
        try:
            put(path, "mine")
            if look("mine") is not None: found.append(f"{path} {put.__name__}")
        except OSError: pass
        try: os.unlink("mine")
        except OSError: pass
    for mode in (os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_TRUNC, os.O_WRONLY | os.O_CREAT):
        try: found.append(f"{path} written {os.open(path, mode)}")
        except OSError: pass
    for spoil in (os.unlink, lambda path: os.rename(path, "mine"), lambda path: os.truncate(path, 0)):
        try:
            spoil(path)
            found.append(f"{path} spoilt")
        except OSError: pass
print(json.dumps({"looked": len(pids) > 2, "found": found}))
"#;

async fn a_script_finds_no_secret_of_the_server(db: TestDb) {
    let app = Setup::new(&db)
        .closed()
        .env("DATABASE_PASSWORD", "canary-of-the-server")
        .file("runql.toml", "log-level = \"debug\" # canary-of-the-server")
        .start()
        .await;
    app.script("spy.py", SPY);
    let mut files = vec![app.folder().join("runql.toml")];
    if let Some(file) = db.url().strip_prefix("sqlite://") {
        let file = file.split('?').next().unwrap();
        files.extend(["", "-wal", "-shm", ".lock"].map(|ending| format!("{file}{ending}").into()));
    }
    for file in &files {
        assert!(file.exists(), "{}", file.display());
    }
    let parameters = json!({ "server": app.pid(), "files": files });
    let command = json!({ "script": { "name": "spy.py", "parameters": parameters } });
    let job = app.completed(json!({ "command": command })).await;
    let stdout = job["stdout"].as_str().unwrap();
    assert_eq!(stdout, "{\"looked\": true, \"found\": []}\n", "{job:#}");
    healthy(&app).await;
    app.stop().await;
}

async fn a_script_ends_neither_the_server_nor_another_job(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let line = r#"echo $$ > "$HOME/pid"; until [ -e "$HOME/go" ]; do sleep 0.01; done; echo lived"#;
    let victim = app.shell(line).await;
    let pid = app.folder().join("pid");
    until("the other job runs", async || {
        let text = std::fs::read_to_string(&pid).unwrap_or_default();
        if text.ends_with('\n') { Ok(()) } else { Err(text) }
    })
    .await;
    let before = spawners(&app);
    let all: Vec<String> = before.iter().map(u32::to_string).collect();
    let line = format!(
        r#"for signal in KILL STOP TERM SEGV; do
             for pid in {} {} $PPID $(cat "$HOME/pid"); do kill -s $signal $pid && echo sent; done
           done 2> /dev/null; kill -STOP -- -$PPID -1 2> /dev/null; kill -KILL -1; echo alone"#,
        app.pid(),
        all.join(" ")
    );
    let killer = app.run(shell_with(&line, json!({}))).await;
    let killer = app.ended(&killer).await;
    // Bash spares itself when it signals everybody.
    assert!(
        ["alone\n", ""].contains(&killer["stdout"].as_str().unwrap()),
        "{killer:#}"
    );
    std::fs::write(app.folder().join("go"), "").unwrap();
    let victim = app.ended(&victim).await;
    assert_eq!(
        (&victim["status"], &victim["stdout"]),
        (&json!("COMPLETED"), &json!("lived\n"))
    );
    healthy(&app).await;
    let after = spawners(&app);
    assert!(
        before.iter().all(|pid| after.contains(pid)),
        "{before:?} {after:?}"
    );
    app.stop().await;
}

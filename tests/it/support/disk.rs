//! A disk of a test's own that can be full or read-only: mounted in a namespace that only the server under test is in.
//!
//! Root makes a mount namespace; anybody else makes a user namespace around it first. Where the machine allows neither,
//! the server does not start, and the test fails: it is never skipped.

use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::app::TestApp;
use super::db::TestDb;

/// A folder that is another one for the server than for everybody else.
#[derive(Debug)]
pub(crate) struct OwnDisk {
    folder: tempfile::TempDir,
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").unwrap().uid() == 0
}

impl OwnDisk {
    pub(crate) fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("runql-disk-").tempdir().unwrap();
        Self { folder }
    }

    /// A SQLite database on it.
    pub(crate) fn db(&self) -> TestDb {
        TestDb::at(format!("sqlite://{}?mode=rwc", self.file().display()))
    }

    /// The file of that database.
    pub(crate) fn file(&self) -> PathBuf {
        self.folder.path().join("test.db")
    }

    /// For [`Setup::by`](super::app::Setup::by): the folder is an empty disk of this many MiB.
    pub(crate) fn small(&self, megabytes: u32) -> Vec<String> {
        let mount = format!("mount -t tmpfs -o size={megabytes}m none \"$0\" && exec \"$@\"");
        self.prefix(mount)
    }

    /// The same, where the folder, or the database's file alone, cannot be written.
    pub(crate) fn read_only(&self, path: &Path) -> Vec<String> {
        let path = path.display();
        let mount =
            format!("mount --bind '{path}' '{path}' && mount -o remount,bind,ro '{path}' && exec \"$@\"");
        self.prefix(mount)
    }

    fn prefix(&self, line: String) -> Vec<String> {
        let mut words = vec!["unshare", "--mount"];
        if !is_root() {
            words.extend(["--user", "--map-root-user"]);
        }
        words.extend(["sh", "-c"]);
        let mut words: Vec<String> = words.into_iter().map(str::to_owned).collect();
        words.extend([line, self.folder.path().display().to_string()]);
        words
    }

    /// A file of the folder as the server sees it.
    fn within(&self, app: &TestApp, name: &str) -> PathBuf {
        let folder = self.folder.path().strip_prefix("/").unwrap();
        PathBuf::from(format!("/proc/{}/root", app.pid()))
            .join(folder)
            .join(name)
    }

    /// Writes until nothing more fits.
    pub(crate) fn fill(&self, app: &TestApp) {
        let mut file = std::fs::File::create(self.within(app, "filler")).unwrap();
        let mut size = 64 * 1024;
        while size > 0 {
            match file.write(&vec![0; size]) {
                Ok(written) if written > 0 => {}
                _ => size /= 2,
            }
        }
    }

    /// Makes the room free again.
    pub(crate) fn free(&self, app: &TestApp) {
        std::fs::remove_file(self.within(app, "filler")).unwrap();
    }

    /// Makes what was read-only as it was.
    pub(crate) fn make_writable(&self, app: &TestApp, path: &Path) {
        let ended = enter(app).args(["umount", "--lazy"]).arg(path).status().unwrap();
        assert!(ended.success(), "{ended}");
    }

    /// A copy of the database that everybody sees, in the server's own folder.
    pub(crate) fn copy(&self, app: &TestApp) -> TestDb {
        let copy = app.folder().join("copy.db");
        let ended = enter(app)
            .args([
                env!("CARGO_BIN_EXE_runql"),
                "backup",
                "--database-url",
                self.db().url(),
            ])
            .arg(&copy)
            .status()
            .unwrap();
        assert!(ended.success(), "{ended}");
        TestDb::at(format!("sqlite://{}", copy.display()))
    }
}

/// Runs a command where the server is.
fn enter(app: &TestApp) -> Command {
    let mut command = Command::new("nsenter");
    command.args(["--target", &app.pid().to_string(), "--mount"]);
    if !is_root() {
        command.args(["--user", "--preserve-credentials"]);
    }
    command
}

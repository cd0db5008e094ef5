//! Open files: the server takes all that the system lets it, and hands down what it was started with.

use crate::life::shell;
use crate::support::app::Setup;
use crate::support::both_stores;
use crate::support::db::TestDb;
use crate::support::machine::spawners;

both_stores!(
    a_server_may_open_many_files_and_its_jobs_as_many_as_before,
    a_hard_limit_that_is_too_low_is_told,
);

/// Starts a server that has these limits on open files.
fn limited(db: &TestDb, soft: u64, hard: u64) -> Setup {
    let limit = format!("--nofile={soft}:{hard}");
    Setup::new(db).by(vec!["prlimit".to_owned(), limit])
}

/// The soft and the hard limit of a process.
fn limits(pid: u32) -> [String; 2] {
    let all = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let own = all
        .lines()
        .find(|line| line.starts_with("Max open files"))
        .unwrap();
    let mut numbers = own.split_whitespace().skip(3).map(str::to_owned);
    [numbers.next().unwrap(), numbers.next().unwrap()]
}

/// Whether it has warned.
const WARNING: &str = "too few files may be open";

async fn a_server_may_open_many_files_and_its_jobs_as_many_as_before(db: TestDb) {
    let app = limited(&db, 512, 15_000).start().await;
    assert_eq!(limits(app.pid()), ["15000", "15000"]);
    for spawner in spawners(&app) {
        assert_eq!(limits(spawner), ["512", "4096"]);
    }
    let job = app.completed(shell("ulimit -Sn; ulimit -Hn")).await;
    assert_eq!(job["stdout"], "512\n4096\n");
    let told = app.told();
    assert!(!told.iter().any(|line| line.contains(WARNING)), "{told:?}");
    app.stop().await;
}

async fn a_hard_limit_that_is_too_low_is_told(db: TestDb) {
    let app = limited(&db, 512, 3_000).start().await;
    assert_eq!(limits(app.pid()), ["3000", "3000"]);
    let told = app.told();
    let warning = told.iter().find(|line| line.contains(WARNING)).unwrap();
    assert!(warning.contains("--max-connections"), "{warning}");
    let job = app.completed(shell("ulimit -Sn; ulimit -Hn")).await;
    assert_eq!(job["stdout"], "512\n3000\n");
    app.stop().await;
}

//! The store against small models of it: random sequences of the writes that servers, workers and clients make, in
//! any order, each answer and each row compared with what a model of a few lines says.
//!
//! Few cases by default; `PROPTEST_CASES` sets another number. A failure shows the smallest case that still fails.
//! Seeds are not kept in files: a case that was found is worth a test with a name, and a seed means another case as
//! soon as a generator changes.

mod moves;
mod plan_model;
mod plans;

use std::fmt::Debug;

use proptest::strategy::Strategy;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use sea_orm::{ConnectionTrait, DatabaseConnection};
use tokio::runtime::Handle;

use crate::support::db::{Node, TestDb, texts};
use runql::store::Backend;

/// What a case leaves behind.
const TABLES: [&str; 10] = [
    "job",
    "attempt",
    "job_event",
    "job_tag",
    "job_dependency",
    "plan",
    "log_chunk",
    "worker",
    "stat",
    "meta",
];

/// A store for one case, empty.
struct Case<'a> {
    node: &'a Node,
    raw: &'a DatabaseConnection,
}

impl Case<'_> {
    /// Insists that the counters are what a count of the rows gives.
    async fn counters_are_right(&self) {
        let counted = texts(
            self.raw,
            "SELECT name || ' ' || bucket || ' ' || value FROM stat WHERE metric = 'status' AND value <> 0 ORDER BY 1",
        )
        .await;
        let rows = texts(
            self.raw,
            "SELECT name || ' ' || CASE status WHEN 'PENDING' THEN 0 WHEN 'RUNNING' THEN 1 WHEN 'COMPLETED' THEN 2
                WHEN 'FAILED' THEN 3 WHEN 'TIMEOUT' THEN 4 ELSE 5 END || ' ' || count(*)
             FROM job GROUP BY name, status ORDER BY 1",
        )
        .await;
        assert_eq!(counted, rows, "the counters and the rows");
        for (metric, condition) in [
            ("duration", "started_at IS NOT NULL AND finished_at IS NOT NULL"),
            ("wait", "started_at IS NOT NULL AND finished_at IS NOT NULL"),
        ] {
            let counted = texts(
                self.raw,
                &format!("SELECT CAST(COALESCE(SUM(value), 0) AS TEXT) FROM stat WHERE metric = '{metric}'"),
            )
            .await;
            let rows = texts(
                self.raw,
                &format!("SELECT CAST(count(*) AS TEXT) FROM job WHERE {condition}"),
            )
            .await;
            assert_eq!(counted, rows, "jobs in the histogram of {metric}");
        }
    }
}

/// Tries cases on one database, which is emptied before each: to make one for each would cost more than the case.
async fn check<S>(db: TestDb, cases: [u32; 2], of: S, test: impl AsyncFn(Case<'_>, S::Value))
where
    S: Strategy,
    S::Value: Debug,
{
    let node = db.node().await;
    let raw = db.raw().await;
    let cases = match (std::env::var_os("PROPTEST_CASES"), db.backend()) {
        (Some(_), _) => Config::default().cases,
        (None, Backend::Sqlite) => cases[0],
        (None, Backend::Postgres) => cases[1],
    };
    let mut runner = TestRunner::new(Config {
        cases,
        failure_persistence: None,
        max_shrink_time: 20_000,
        ..Config::default()
    });
    let outcome = tokio::task::block_in_place(|| {
        runner.run(&of, |value| {
            Handle::current().block_on(async {
                for table in TABLES {
                    let emptied = raw.execute_unprepared(&format!("DELETE FROM {table}")).await;
                    emptied.map_err(|error| TestCaseError::fail(error.to_string()))?;
                }
                let case = Case {
                    node: &node,
                    raw: &raw,
                };
                test(case, value).await;
                Ok(())
            })
        })
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
}

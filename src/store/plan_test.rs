//! The plans of SQLite for the statements that the store really sends, beside a long history: none of the hot ones
//! may read the table of jobs from end to end, nor sort it.

mod pages;
mod remote;

use std::sync::Arc;
use std::time::Duration;

use migration::{Migrator, MigratorTrait};
use sea_orm::{ConnectionTrait, Database, DatabaseConnection, Statement};
use tokio::task::JoinSet;
use uuid::Uuid;

use super::bounded::{Bounded, Distrust};
use super::condition::Condition;
use super::sqlite::{Recorded, SqliteWriter};
use super::transaction::WriteAccess;
use super::{
    AttemptEnd, CancelJob, ClaimJobs, CleanupBatch, CleanupFilter, EndJob, EndResult, ExpireLeases,
    FreeWorkers, InsertJobs, Place, PromoteDue, Reader, RecordProgress, RenewLeases, Writer,
};
use crate::domain::{
    Command, Dependency, Exec, Fault, FaultCode, Job, JobId, JobStatus, Metadata, NewJob, PlanRules,
    ProcessEnd, Progress, RetryPolicy, StepPlace, Timestamp, WorkerId,
};

/// Jobs that have ended long ago, each with its events.
const HISTORY: &str = "
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)
    INSERT INTO job (id, kind, name, command, status, queue, priority, attempt, max_attempts, backoff_ms, timeout_ms,
        created_at, updated_at, run_at, started_at, finished_at, conversation_id, blockers, gated)
    SELECT randomblob(16), 'EXEC', 'name' || (i % 50), '{\"kind\":\"EXEC\",\"program\":\"x\",\"args\":[]}', 'COMPLETED',
        'default', 0, 1, 1, 0, 1, i, i, i, i + 1, i + 2, 'c' || (i % 1000), 0, FALSE FROM n;
    INSERT INTO job_event (job_id, kind, at, status, attempt) SELECT id, 'CREATED', created_at, 'PENDING', 0 FROM job;
    ANALYZE;";

const TABLES: [&str; 7] = [
    "job",
    "job_event",
    "attempt",
    "log_chunk",
    "job_tag",
    "job_dependency",
    "plan",
];

struct Bench {
    raw: DatabaseConnection,
    recorded: Recorded,
    writer: Writer,
    reader: Reader,
    _work: JoinSet<()>,
}

impl Bench {
    /// With or without the statistics of ANALYZE, which a server never runs by itself.
    async fn new(folder: &std::path::Path, analyzed: bool) -> Self {
        let file = folder.join("plan.db");
        let url = format!("sqlite://{}?mode=rwc", file.display());
        let raw = Database::connect(&url).await.unwrap();
        Migrator::up(&raw, None).await.unwrap();
        let history = if analyzed {
            HISTORY
        } else {
            HISTORY.trim_end_matches("ANALYZE;")
        };
        raw.execute_unprepared(history).await.unwrap();
        let recorded = Recorded::default();
        let mut db = raw.clone();
        let record = Arc::clone(&recorded);
        db.set_metric_callback(move |info| record.lock().unwrap().push(info.statement.clone()));
        let db = Bounded::new(db, None, Distrust::default());
        let write = SqliteWriter::open(file).unwrap();
        write.record(&recorded);
        let (writer, work) = Writer::new(
            WriteAccess::File(write),
            Uuid::nil(),
            Box::new(|_| ()),
            Condition::default(),
            Duration::from_secs(5),
        );
        let mut driven = JoinSet::new();
        driven.spawn(work);
        Self {
            raw,
            recorded,
            writer,
            reader: Reader::new(db, None, Duration::from_secs(5)),
            _work: driven,
        }
    }

    /// The steps of each plan of the statements sent since the last look, with its statement.
    async fn plans(&self) -> Vec<(Statement, Vec<String>)> {
        let statements = std::mem::take(&mut *self.recorded.lock().unwrap());
        let mut plans = Vec::new();
        for statement in statements {
            let explain = Statement {
                sql: format!("EXPLAIN QUERY PLAN {}", statement.sql),
                ..statement.clone()
            };
            let rows = self.raw.query_all_raw(explain).await.unwrap();
            let steps = rows
                .iter()
                .map(|row| row.try_get("", "detail").unwrap())
                .collect();
            plans.push((statement, steps));
        }
        plans
    }

    /// Insists that what was sent since the last look finds its rows by an index.
    async fn assert_cheap(&self, what: &str, sorts: bool) {
        let plans = self.plans().await;
        assert!(!plans.is_empty(), "{what}: nothing was sent");
        for (statement, steps) in plans {
            for step in &steps {
                // To walk the partial index of those in line, up to a limit, is what a claim is for.
                let scan = TABLES.iter().any(|table| {
                    step.strip_prefix("SCAN ")
                        .and_then(|rest| rest.strip_prefix(table))
                        .is_some_and(|rest| rest.is_empty() || rest.starts_with(" USING COVERING"))
                }) && !["INDEX job_claim", "INDEX job_route"]
                    .iter()
                    .any(|index| step.ends_with(index));
                assert!(!scan, "{what}: {statement}\n{steps:#?}");
                // That is each job that is PENDING, and there may be as many as the queue holds.
                assert!(
                    !(statement.sql.contains("'PENDING'") && step.ends_with("INDEX job_status (status=?)")),
                    "{what}: {statement}\n{steps:#?}"
                );
                assert!(
                    sorts || !step.contains("TEMP B-TREE"),
                    "{what}: {statement}\n{steps:#?}"
                );
            }
        }
    }

    /// As [`assert_cheap`](Self::assert_cheap), and that the one statement on jobs uses this index.
    async fn assert_uses(&self, what: &str, index: &str) {
        for (statement, steps) in self.plans().await {
            assert!(
                steps.iter().any(|step| step.contains(index)),
                "{what}: {statement}\n{steps:#?}"
            );
            assert!(
                steps.iter().all(|step| !step.contains("TEMP B-TREE")),
                "{what}: {statement}\n{steps:#?}"
            );
        }
    }

    async fn write<O: super::Operation>(&self, operation: O) -> O::Output {
        self.writer.write(operation).await.unwrap()
    }
}

fn at(ms: i64) -> Timestamp {
    Timestamp::from_millis(ms)
}

fn new_job(key: Option<&str>) -> NewJob {
    NewJob {
        id: JobId::from_uuid(Uuid::now_v7()),
        command: Command::Exec(Exec {
            program: "name1".to_owned(),
            args: Vec::new(),
        }),
        queue: "default".to_owned(),
        priority: 0,
        retry: RetryPolicy {
            max_attempts: 2,
            backoff: Duration::from_secs(1),
        },
        timeout: Duration::from_secs(1),
        created_at: at(1),
        run_at: None,
        env: Vec::new(),
        working_dir: None,
        idempotency_key: key.map(str::to_owned),
        metadata: Metadata::default(),
        step: None,
        depends_on: Vec::new(),
        route: None,
        plan: None,
    }
}

#[tokio::test]
async fn no_hot_write_reads_the_history() {
    for analyzed in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let bench = Bench::new(folder.path(), analyzed).await;
        let jobs = vec![new_job(Some("k")), new_job(None), new_job(None)];
        let inserted = bench
            .write(InsertJobs {
                jobs,
                queue_limit: 99,
            })
            .await
            .unwrap();
        bench.assert_cheap("insert", false).await;
        let workers = vec![
            WorkerId::from_uuid(Uuid::now_v7()),
            WorkerId::from_uuid(Uuid::now_v7()),
        ];
        let claim = ClaimJobs {
            workers: workers.iter().copied().collect(),
            lease_until: at(10),
            now: at(2),
        };
        let claimed: Vec<Arc<Job>> = bench.write(claim).await.into_iter().map(Arc::new).collect();
        assert_eq!(claimed.len(), 2);
        bench.assert_cheap("claim", false).await;
        let renew = RenewLeases {
            workers,
            lease_until: at(20),
            now: at(3),
        };
        assert_eq!(bench.write(renew).await.held.len(), 2);
        bench.assert_cheap("renew", false).await;
        let progress = RecordProgress {
            job: claimed[0].id,
            attempt: 1,
            progress: Progress {
                current: 1,
                total: None,
                step: None,
                updated_at: at(3),
            },
        };
        assert!(bench.write(progress).await);
        bench.assert_cheap("progress", false).await;
        let end = EndJob {
            job: Arc::clone(&claimed[0]),
            end: AttemptEnd {
                status: JobStatus::Failed,
                end: ProcessEnd::default(),
                output: None,
                fault: Some(Fault::new(FaultCode::ExitCode, "x")),
            },
            log: Vec::new(),
            now: at(4),
            jitter: 1.0,
        };
        let _ = bench.write(end).await;
        bench.assert_cheap("retry", false).await;
        assert!(bench.reader.next_due().await.unwrap().is_some());
        bench.assert_uses("next due", "job_due").await;
        assert_eq!(bench.write(PromoteDue { now: at(9_999) }).await, 1);
        bench.assert_uses("promote", "job_due").await;
        let expire = ExpireLeases {
            before: at(99),
            whose: super::Whose::All,
            now: at(99),
            jitter: 1.0,
        };
        assert_eq!(bench.write(expire).await.jobs.len(), 1);
        bench.assert_cheap("expire", true).await;
        let cancel = CancelJob {
            id: inserted[2].job.id,
            reason: None,
            grace: None,
            now: at(5),
        };
        bench.write(cancel).await;
        bench.assert_cheap("cancel", false).await;
        for finished_before in [Some(Timestamp::from_micros(300)), None] {
            let cleanup = CleanupBatch {
                filter: CleanupFilter {
                    finished_before,
                    statuses: vec![JobStatus::Completed, JobStatus::Failed],
                },
                after: Place::default(),
                most: 250,
            };
            assert_eq!(bench.write(cleanup).await.deleted, 250);
            bench.assert_cheap("cleanup", false).await;
        }
    }
}

/// What a step's end costs is the same however many jobs and steps there are, whether it completes or fails.
#[tokio::test]
async fn no_end_of_a_step_reads_the_history() {
    for analyzed in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let bench = Bench::new(folder.path(), analyzed).await;
        let plan = NewJob {
            plan: Some(PlanRules {
                steps: 4,
                stop_on_error: false,
                max_concurrency: Some(2),
            }),
            ..new_job(None)
        };
        let mut jobs = vec![plan.clone()];
        for index in 0..4 {
            // The second waits for the first, which completes, and the last for the third, which fails.
            let awaited = [1, 3].contains(&index).then(|| Dependency {
                job: jobs[usize::try_from(index).unwrap()].id,
                on_end: false,
            });
            jobs.push(NewJob {
                retry: RetryPolicy {
                    max_attempts: 1,
                    backoff: Duration::ZERO,
                },
                step: Some(StepPlace {
                    plan: plan.id,
                    key: index.to_string(),
                    index,
                }),
                depends_on: awaited.into_iter().collect(),
                ..new_job(None)
            });
        }
        let queue_limit = 99;
        bench.write(InsertJobs { jobs, queue_limit }).await.unwrap();
        bench.assert_cheap("insert", false).await;
        for (status, ended) in [
            (JobStatus::Completed, 1),
            (JobStatus::Completed, 2),
            (JobStatus::Failed, 4),
        ] {
            let claim = ClaimJobs {
                workers: FreeWorkers::from_iter([WorkerId::from_uuid(Uuid::now_v7())]),
                lease_until: at(10),
                now: at(2),
            };
            let job = Arc::new(bench.write(claim).await.remove(0));
            bench.assert_cheap("claim of a step", false).await;
            let fault = (status == JobStatus::Failed).then(|| Fault::new(FaultCode::ExitCode, "x"));
            let end = EndJob {
                job,
                end: AttemptEnd {
                    status,
                    end: ProcessEnd::default(),
                    output: None,
                    fault,
                },
                log: Vec::new(),
                now: at(4),
                jitter: 1.0,
            };
            assert_eq!(bench.write(end).await, EndResult::Ended(status));
            bench.assert_cheap("end of a step", false).await;
            let progress = bench
                .reader
                .job(plan.id)
                .await
                .unwrap()
                .unwrap()
                .progress
                .unwrap();
            assert_eq!(progress.current, ended);
            bench.recorded.lock().unwrap().clear();
        }
        let ended = bench.reader.job(plan.id).await.unwrap().unwrap();
        assert_eq!(ended.status, JobStatus::Failed);
    }
}

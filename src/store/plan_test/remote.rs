//! The calls of registered workers.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{Bench, at, new_job};
use crate::domain::{JobId, LogLevel, LogStream, NewJob, WorkerId};
use crate::store::{
    BackAgain, ClaimTasks, Heartbeat, InsertJobs, RegisterWorker, Report, ReportedLine, ReportedResult,
};

#[tokio::test]
async fn no_call_of_a_worker_reads_the_history() {
    for analyzed in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let bench = Bench::new(folder.path(), analyzed).await;
        let routed = |route: &str| NewJob {
            route: Some(route.to_owned()),
            ..new_job(None)
        };
        let jobs = vec![routed("other"), routed("bench-1"), routed("bench-2")];
        let stored = bench
            .write(InsertJobs {
                jobs,
                queue_limit: 99,
            })
            .await;
        assert!(stored.is_ok());
        let register = RegisterWorker {
            id: WorkerId::from_uuid(Uuid::now_v7()),
            name: "worker-001-gpu".to_owned(),
            backend_type: "cuda".to_owned(),
            max_parallel_tasks: 9,
            supported_problems: vec!["bench-*".parse().unwrap(), "x".parse().unwrap()],
            now: at(1),
        };
        let worker = bench.write(register).await.unwrap();
        bench.assert_cheap("register", true).await;
        assert!(bench.reader.has_task_for(worker).await.unwrap());
        bench.assert_cheap("a look for tasks", false).await;
        let lease = Duration::from_secs(30);
        let claim = ClaimTasks {
            worker,
            max: 9,
            lease,
            gone: CancellationToken::new(),
            now: at(2),
        };
        let claimed = bench.write(claim).await.unwrap();
        assert_eq!(claimed.len(), 2);
        bench.assert_cheap("claim", false).await;
        let ids: Vec<JobId> = claimed.iter().map(|job| job.id).collect();
        let beat = Heartbeat {
            worker,
            online: true,
            jobs: ids.clone(),
            lease,
            now: at(3),
        };
        assert!(bench.write(beat).await.unwrap().stop.is_empty());
        bench.assert_cheap("heartbeat", false).await;
        assert_eq!(bench.reader.held_by(worker, &ids, at(3)).await.unwrap().len(), 2);
        bench.assert_cheap("a look for what is held", false).await;
        assert!(bench.reader.next_expiry().await.unwrap().is_some());
        bench.assert_uses("next lease", "job_lease").await;
        let report = Report {
            worker,
            job: ids[0],
            attempt: 1,
            lines: vec![ReportedLine {
                at: None,
                stream: LogStream::Stdout,
                level: LogLevel::Info,
                bytes: b"line\n".to_vec(),
            }],
            progress: None,
            result: Some(ReportedResult {
                success: true,
                exit_code: None,
                output: None,
                error: None,
            }),
            log_limit: 2,
            lease,
            now: at(4),
            jitter: 1.0,
        };
        assert!(bench.write(report).await.is_ok());
        bench.assert_cheap("report", false).await;
        assert_eq!(
            bench
                .write(BackAgain {
                    lease: lease * 9,
                    now: at(5)
                })
                .await,
            1
        );
        bench.assert_cheap("back again", true).await;
    }
}

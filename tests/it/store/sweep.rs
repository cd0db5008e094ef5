//! A plan that is stopped while another node holds one of its steps: the step is stepped over, and stopped later.

use runql::domain::{Command, JobStatus, NewJob, Plan, PlanRules, StepPlace, Strategy};
use runql::store::{CancelJob, Cancelled, SweepPlans};
use sea_orm::{ConnectionTrait, TransactionTrait};

use super::fixture::{at, insert, new_job};
use crate::support::db::{TestDb, sql};
use crate::support::on_postgres;

on_postgres!(a_step_that_another_node_holds_is_stopped_by_the_sweep);

async fn a_step_that_another_node_holds_is_stopped_by_the_sweep(db: TestDb) {
    let (node, raw) = (db.node().await, db.raw().await);
    let plan = NewJob {
        command: Command::Plan(Plan {
            description: String::new(),
            strategy: Strategy::Parallel {
                max_concurrency: None,
            },
        }),
        plan: Some(PlanRules {
            steps: 2,
            stop_on_error: false,
            max_concurrency: None,
        }),
        ..new_job(0)
    };
    let step = |key: &str, index: u32| NewJob {
        step: Some(StepPlace {
            plan: plan.id,
            key: key.to_owned(),
            index,
        }),
        ..new_job(i64::from(index) + 1)
    };
    let (held, free) = (step("held", 0), step("free", 1));
    insert(&node, vec![plan.clone(), held.clone(), free.clone()]).await;
    let status = async |job: &NewJob| node.reader().job(job.id).await.unwrap().unwrap().status;

    // As a claim does that has not committed yet.
    let other = raw.begin().await.unwrap();
    let lock = "SELECT id FROM job WHERE step_key = 'held' FOR UPDATE";
    other.query_all_raw(sql(&raw, lock)).await.unwrap();
    let cancel = CancelJob {
        id: plan.id,
        reason: None,
        grace: None,
        now: at(10),
    };
    assert!(matches!(node.write(cancel).await, Cancelled::Requested(_)));
    assert_eq!(status(&held).await, JobStatus::Pending, "stepped over");
    assert_eq!(status(&free).await, JobStatus::Cancelled);
    assert_eq!(status(&plan).await, JobStatus::Running);
    other.rollback().await.unwrap();

    node.write(SweepPlans { now: at(11) }).await;
    assert_eq!(status(&held).await, JobStatus::Cancelled);
    assert_eq!(status(&plan).await, JobStatus::Cancelled);
}

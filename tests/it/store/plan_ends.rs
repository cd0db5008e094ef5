//! How plans end: not before the last of their steps, and also where another node holds a step that is to be stopped.

use std::sync::Arc;

use runql::domain::{Command, JobStatus, NewJob, Plan, PlanRules, StepPlace, Strategy};
use runql::store::{CancelJob, Cancelled, SweepPlans};
use sea_orm::{ConnectionTrait, TransactionTrait};

use super::fixture::{at, claim, end, insert, new_job, stored};
use crate::support::db::{TestDb, sql};
use crate::support::{both_stores, on_postgres};

both_stores!(a_plan_ends_with_the_last_of_its_steps);
on_postgres!(a_step_that_another_node_holds_is_stopped_by_the_sweep);

/// A plan, and its two steps of these names.
fn plan_of(keys: [&str; 2]) -> [NewJob; 3] {
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
    let step = |index: u32| NewJob {
        step: Some(StepPlace {
            plan: plan.id,
            key: keys[index as usize].to_owned(),
            index,
        }),
        ..new_job(i64::from(index) + 1)
    };
    let (first, second) = (step(0), step(1));
    [plan, first, second]
}

/// An end may be stored after one that came later: it had more to read, or its node's clock is behind.
async fn a_plan_ends_with_the_last_of_its_steps(db: TestDb) {
    let node = db.node().await;
    let jobs = plan_of(["early", "late"]);
    let plan = jobs[0].id;
    insert(&node, jobs.to_vec()).await;
    let [early, late] = claim(&node, 2, 10).await.try_into().unwrap();
    let _ = end(&node, &Arc::new(late), JobStatus::Completed, 30).await;
    let _ = end(&node, &Arc::new(early), JobStatus::Completed, 20).await;
    let plan = stored(&node, plan).await;
    assert_eq!(
        (plan.status, plan.finished_at),
        (JobStatus::Completed, Some(at(30)))
    );
}

async fn a_step_that_another_node_holds_is_stopped_by_the_sweep(db: TestDb) {
    let (node, raw) = (db.node().await, db.raw().await);
    let [plan, held, free] = plan_of(["held", "free"]);
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

//! What runs for as long as the server does.

use std::sync::Arc;

use tokio_util::sync::{CancellationToken, DropGuard};

use super::Context;
use super::dispatcher::Dispatcher;
use super::{feed, housekeeping, keeper};
use crate::domain::Changes;
use crate::supervisor::{self, Supervisor};

/// Drives the writer of the store on a thread of its own until `halt`, and closes the store there.
pub(super) async fn write(
    context: Arc<Context>,
    writer: impl Future<Output = ()> + Send + 'static,
    halt: CancellationToken,
) {
    let work = async move {
        halt.run_until_cancelled(writer).await;
        context.store.close().await;
    };
    supervisor::on_a_thread("writer", work).await;
}

/// Starts a task that runs until it is told to stop.
fn spawn<F>(
    supervisor: &mut Supervisor,
    name: &'static str,
    context: &Arc<Context>,
    task: impl FnOnce(Arc<Context>, CancellationToken) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let context = Arc::clone(context);
    supervisor.spawn(name, move |stop| {
        let task = task(context, stop);
        async move {
            task.await;
            Ok::<(), std::convert::Infallible>(())
        }
    });
}

/// Hands the tasks over. They are stopped in the reverse order: the dispatcher first, the store last.
pub(super) fn supervise(
    context: &Arc<Context>,
    dispatcher: Dispatcher,
    (mut writer, halt): (impl Future<Output = ()> + Send + Unpin + 'static, DropGuard),
    supervisor: &mut Supervisor,
) {
    spawn(supervisor, "store", context, async move |_, stop| {
        if stop.run_until_cancelled(&mut writer).await.is_none() {
            drop(halt);
            writer.await;
        }
    });
    spawn(supervisor, "hints", context, async |context, stop| {
        let publish = |changes: Option<Changes>| match changes {
            Some(changes) => context.hints.publish(&changes),
            None => context.hints.anything(),
        };
        crate::store::listen(&context.store, publish, stop).await;
    });
    spawn(supervisor, "feed", context, feed::feed);
    spawn(supervisor, "tokens", context, async |context, stop| {
        context.tokens.clone().keep(stop).await;
    });
    spawn(supervisor, "leases", context, keeper::keep);
    spawn(supervisor, "expired", context, housekeeping::expire);
    spawn(supervisor, "due", context, housekeeping::promote);
    if let Some(age) = context.options.audit_retention {
        spawn(supervisor, "audit", context, async move |context, stop| {
            housekeeping::forget_audit(context, age, stop).await;
        });
    }
    let outdated = Arc::clone(context);
    supervisor.spawn("version", move |stop| {
        housekeeping::end_where_outdated(outdated, stop)
    });
    if let Some(age) = context.options.retention {
        spawn(supervisor, "retention", context, async move |context, stop| {
            housekeeping::retain(context, age, stop).await;
        });
    }
    spawn(supervisor, "dispatcher", context, async move |_, stop| {
        dispatcher.run(stop).await
    });
}

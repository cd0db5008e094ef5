//! One operation from its parameters to what it answers, whatever the transport: prepared, executed, and kept from
//! taking anything else down when it panics.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use async_graphql::parser::types::OperationType;
use async_graphql::{Executor, Request, Response, ServerError, Value};
use async_stream::stream;
use futures_util::stream::{self, Stream};
use futures_util::{FutureExt as _, StreamExt as _};
use tracing::{Instrument as _, Span, info_span};

use super::answer::Answer;
use super::config::{LastEventId, OperationData};
use super::document::{self, Order};
use super::params::Params;
use super::request_id::RequestId;
use super::shape::SchemaShape;
use super::transport::Transport;

/// Who asks, as far as resolvers may want to know.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    pub(super) id: RequestId,
    pub(super) data: OperationData,
    pub(super) last_event_id: Option<LastEventId>,
}

/// An operation that is ready to be executed.
pub(super) struct Operation<E> {
    pub(super) kind: OperationType,
    executor: E,
    request: Request,
    maker: Maker,
    span: Span,
}

/// Makes answers out of the responses to one operation.
struct Maker {
    id: RequestId,
    shape: Arc<SchemaShape>,
    text: String,
    operation: Option<String>,
    order: Order,
}

impl Maker {
    fn answer(&self, response: Response) -> Answer {
        let mut answer = Answer::new(response, &self.id);
        if let Some(data) = &mut answer.data
            && !answer.errors.is_empty()
            // Parsing again is cheaper than keeping every document for the few results that have errors.
            && let Some((document, operation)) = document::again(&self.text, self.operation.as_deref())
            // A stream without data has failed, or one of its events has: its root field is not null but missing.
            && (operation.ty != OperationType::Subscription || *data != Value::Null)
        {
            self.shape.complete(data, &answer.errors, &document, &operation);
        }
        if let Some(data) = &mut answer.data {
            self.order.apply(data);
        }
        answer
    }
}

/// What an operation that streams gives out. The stream's end is the operation's.
#[derive(Debug)]
pub(super) enum Step {
    /// One result.
    Next(Answer),
    /// Errors instead of a result, after which nothing comes.
    Failed(Answer),
}

impl<E: Executor> Transport<E> {
    /// Prepares an operation, or says why it is not executed.
    pub(super) fn operation(&self, params: Params, caller: &Caller) -> Result<Operation<E>, ServerError> {
        let persisted = params.persisted_query().cloned();
        let mut params = params;
        let found = self.persisted.find(params.query.take(), persisted.as_ref())?;
        let mut request = params.into_request(found.text);
        let chosen = document::prepare(&mut request, &self.config)?;
        if let Some(hash) = found.keep {
            self.persisted.keep(hash, &request.query);
        }
        caller.data.fill(&mut request.data);
        request.data.insert(caller.id.clone());
        if let Some(last) = &caller.last_event_id {
            request.data.insert(last.clone());
        }
        let span = info_span!(
            "graphql.operation",
            request.id = %caller.id,
            graphql.operation.type = %chosen.kind,
            graphql.operation.name = chosen.name.as_ref().map(|name| name.as_str()),
        );
        let maker = Maker {
            id: caller.id.clone(),
            shape: Arc::clone(&self.config.shape),
            text: request.query.clone(),
            operation: request.operation_name.clone(),
            order: chosen.order,
        };
        Ok(Operation {
            kind: chosen.kind,
            executor: self.executor.clone(),
            request,
            maker,
            span,
        })
    }
}

impl<E: Executor> Operation<E> {
    /// Executes a query or a mutation.
    pub(super) async fn answer(self) -> Answer {
        let Self {
            executor,
            request,
            maker,
            span,
            ..
        } = self;
        let execution = async move { executor.execute(request).await };
        // Nothing of a panicked execution is looked at again but the text of the panic.
        match AssertUnwindSafe(execution).catch_unwind().instrument(span).await {
            Ok(response) => maker.answer(response),
            Err(panic) => Answer::panicked(&*panic, &maker.id),
        }
    }

    /// Executes an operation of any kind as a stream.
    pub(super) fn steps(self) -> impl Stream<Item = Step> + Send + 'static {
        let Self {
            kind,
            executor,
            request,
            maker,
            span,
        } = self;
        let responses = stream::once(async move { executor.execute_stream(request, None) }).flatten();
        let responses = AssertUnwindSafe(responses).catch_unwind();
        let steps = stream! {
            let mut answers = std::pin::pin!(responses.map(|outcome| match outcome {
                Ok(response) => maker.answer(response),
                Err(panic) => Answer::panicked(&*panic, &maker.id),
            }));
            let mut next = answers.next().await;
            while let Some(answer) = next.take() {
                if answer.data.is_none() {
                    yield Step::Failed(answer);
                    return;
                }
                // Errors without a result are those of one event, or of the stream itself, which is then over: only
                // what comes after them tells which. What is polled here in vain is polled again below.
                if kind == OperationType::Subscription && answer.is_failure() {
                    match answers.next().now_or_never() {
                        Some(None) => {
                            yield Step::Failed(answer);
                            return;
                        }
                        Some(more) => next = more,
                        None => {}
                    }
                }
                yield Step::Next(answer);
                if next.is_none() {
                    next = answers.next().await;
                }
            }
        };
        let mut steps = Box::pin(steps);
        stream::poll_fn(move |context| {
            let _entered = span.enter();
            steps.poll_next_unpin(context)
        })
    }
}

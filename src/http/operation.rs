//! One operation from its parameters to what it answers, whatever the transport: prepared, executed, and kept from
//! taking anything else down when it panics.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_graphql::parser::types::OperationType;
use async_graphql::{Executor, Request, Response, ServerError, Value};
use async_stream::stream;
use futures_util::stream::{self, BoxStream, CatchUnwind, Stream};
use futures_util::{FutureExt as _, StreamExt as _};
use tracing::{Instrument as _, Span, info_span};

use super::answer::Answer;
use super::code::ErrorCode;
use super::config::{LastEventId, OperationData};
use super::document::{self, Order};
use super::meter::Meter;
use super::params::Params;
use super::persisted::Found;
use super::rate::Standing;
use super::request_id::RequestId;
use super::shape::SchemaShape;
use super::shared::{Item, Payload, Sharing};
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
    /// Of a subscription that may be answered alike with others.
    sharing: Option<Arc<Sharing>>,
    max_execution: Duration,
    /// Whose it is.
    data: OperationData,
}

/// Makes answers out of the responses to one operation.
struct Maker {
    id: RequestId,
    shape: Arc<SchemaShape>,
    text: String,
    operation: Option<String>,
    order: Order,
    meter: Arc<Meter>,
    /// Whether the next answer tells what the operation costs.
    tells_cost: bool,
}

impl Maker {
    fn answer(&mut self, response: Response) -> Answer {
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
        // Of a stream the first answer is enough.
        if std::mem::take(&mut self.tells_cost)
            && let Some(cost) = self.meter.cost()
        {
            answer.tell_cost(cost);
        }
        answer.standing = self.meter.standing();
        answer
    }
}

/// What an operation that streams gives out. The stream's end is the operation's.
#[derive(Debug)]
pub(super) enum Step {
    /// One result.
    Next(Arc<Payload>),
    /// Errors instead of a result, after which nothing comes.
    Failed(Box<Answer>),
}

impl<E: Executor> Transport<E> {
    /// Prepares an operation, or says why it is not executed.
    pub(super) fn operation(&self, params: Params, caller: &Caller) -> Result<Operation<E>, Box<Answer>> {
        let meter = Arc::new(Meter::new(self.rates.as_ref(), caller.data.payer()));
        self.prepared(params, caller, &meter).map_err(|error| {
            let mut answer = Answer::refused(error, &caller.id);
            answer.standing = meter.standing();
            Box::new(answer)
        })
    }

    fn prepared(
        &self,
        mut params: Params,
        caller: &Caller,
        meter: &Arc<Meter>,
    ) -> Result<Operation<E>, ServerError> {
        meter.open()?;
        let tells_cost = params.asks_for_cost();
        let found = match &self.config.manifest {
            Some(manifest) => Found::known(manifest.find(&params)?),
            None => {
                let persisted = params.persisted_query().cloned();
                self.persisted.find(params.query.take(), persisted.as_ref())?
            }
        };
        let mut request = params.into_request(found.text);
        let chosen = document::prepare(&mut request, &self.config, &self.documents, caller.data.rights())?;
        if let Some(hash) = found.keep {
            self.persisted.keep(hash, &request.query);
        }
        caller.data.fill(&mut request.data);
        request.data.insert(caller.id.clone());
        request.data.insert(Arc::clone(meter));
        if let Some(validation) = chosen.validation {
            request.data.insert(validation);
        }
        if let Some(last) = &caller.last_event_id {
            request.data.insert(last.clone());
        }
        let sharing = chosen
            .kin
            .map(|kin| Arc::new(Sharing::new(kin, Arc::clone(&self.payloads))));
        if let Some(sharing) = &sharing {
            request.data.insert(Arc::clone(sharing));
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
            meter: Arc::clone(meter),
            tells_cost,
        };
        Ok(Operation {
            kind: chosen.kind,
            executor: self.executor.clone(),
            request,
            maker,
            span,
            sharing,
            max_execution: self.config.max_execution,
            data: caller.data.clone(),
        })
    }
}

impl<E: Executor> Operation<E> {
    /// How whoever pays for it stands so far.
    pub(super) fn standing(&self) -> Option<Standing> {
        self.maker.meter.standing()
    }

    /// Executes a query or a mutation, for as long as it may take. One that takes longer is dropped, as it is when its
    /// client goes away: what it had handed to the store is stored whole or not at all, and the rest is not begun. So is
    /// one that waits on purpose, once its client would not be let in any more.
    pub(super) async fn answer(self) -> Answer {
        let Self {
            kind,
            executor,
            request,
            mut maker,
            span,
            max_execution,
            data,
            ..
        } = self;
        let execution = async move { executor.execute(request).await };
        // Nothing of a panicked execution is looked at again but the text of the panic.
        let execution = AssertUnwindSafe(execution).catch_unwind().instrument(span);
        let meter = Arc::clone(&maker.meter);
        let waits_in_vain = async {
            data.over().await;
            meter.is_waiting().await;
        };
        tokio::select! {
            biased;
            outcome = execution => match outcome {
                Ok(response) => maker.answer(response),
                Err(panic) => Answer::panicked(&*panic, &maker.id),
            },
            () = meter.over(max_execution) => maker.answer(Response::from_errors(vec![given_up(kind, max_execution)])),
            () = waits_in_vain => {
                let message = "What this was signed with does not hold any more: it was revoked, replaced, or has expired.";
                let error = ErrorCode::Unauthenticated.server_error(message, None);
                maker.answer(Response::from_errors(vec![error]))
            }
        }
    }

    /// Executes an operation of any kind as a stream.
    pub(super) fn steps(self) -> impl Stream<Item = Step> + Send + 'static {
        if self.kind == OperationType::Subscription {
            self.events().left_stream()
        } else {
            let step = self.answer().map(|answer| match answer.data {
                None => Step::Failed(Box::new(answer)),
                Some(_) => Step::Next(Arc::new(Payload::of(&answer))),
            });
            stream::once(step).right_stream()
        }
    }

    /// Executes a subscription.
    fn events(self) -> impl Stream<Item = Step> + Send + 'static {
        let Self {
            executor,
            request,
            maker,
            span,
            sharing,
            ..
        } = self;
        let responses = stream::once(async move { executor.execute_stream(request, None) }).flatten();
        let mut answers = Answers {
            responses: AssertUnwindSafe(responses.boxed()).catch_unwind(),
            maker,
            sharing,
            items: None,
            passed_on: None,
        };
        let steps = stream! {
            let mut next = answers.next().await;
            while let Some(made) = next.take() {
                let answer = match made {
                    Made::Whole(payload) => {
                        yield Step::Next(payload);
                        next = answers.next().await;
                        continue;
                    }
                    Made::Own(answer) => answer,
                };
                if answer.data.is_none() {
                    yield Step::Failed(answer);
                    return;
                }
                // Errors without a result are those of one event, or of the stream itself, which is then over: only
                // what comes after them tells which. What is polled here in vain is polled again below.
                if answer.is_failure() {
                    match answers.next().now_or_never() {
                        Some(None) => {
                            yield Step::Failed(answer);
                            return;
                        }
                        Some(more) => next = more,
                        None => {}
                    }
                }
                yield Step::Next(Arc::new(Payload::of(&answer)));
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

/// An answer of a subscription.
enum Made {
    /// Data and nothing else, as it leaves; it may have been made for another operation.
    Whole(Arc<Payload>),
    Own(Box<Answer>),
}

/// The answers of a subscription: those to its items that are known already, and its responses to the others.
struct Answers {
    responses: CatchUnwind<AssertUnwindSafe<BoxStream<'static, Response>>>,
    maker: Maker,
    sharing: Option<Arc<Sharing>>,
    /// Its items, once it has offered them to be shared, until their end.
    items: Option<CatchUnwind<AssertUnwindSafe<BoxStream<'static, Item>>>>,
    /// The item that the next response is the answer to.
    passed_on: Option<Option<u64>>,
}

impl Answers {
    fn known(&self, item: u64) -> Option<Arc<Payload>> {
        // What an operation costs is told to it alone.
        let shares = !self.maker.tells_cost;
        self.sharing.as_ref().filter(|_| shares)?.known(item)
    }

    fn made(&mut self, response: Response) -> Made {
        let item = self.passed_on.take().flatten();
        let answer = self.maker.answer(response);
        if !answer.is_plain() {
            return Made::Own(Box::new(answer));
        }
        let payload = Arc::new(Payload::of(&answer));
        if let (Some(item), Some(sharing)) = (item, &self.sharing) {
            sharing.keep(item, &payload);
        }
        Made::Whole(payload)
    }

    fn panicked(&self, panic: &(dyn Any + Send)) -> Made {
        Made::Own(Box::new(Answer::panicked(panic, &self.maker.id)))
    }
}

impl Stream for Answers {
    type Item = Made;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Made>> {
        loop {
            if self.items.is_none() || self.passed_on.is_some() {
                match self.responses.poll_next_unpin(context) {
                    Poll::Ready(Some(Ok(response))) => return Poll::Ready(Some(self.made(response))),
                    Poll::Ready(Some(Err(panic))) => return Poll::Ready(Some(self.panicked(&*panic))),
                    Poll::Ready(None) => return Poll::Ready(None),
                    Poll::Pending => {}
                }
                if self.passed_on.is_some() {
                    return Poll::Pending;
                }
                // The resolver has been called by now.
                let Some(items) = self.sharing.as_ref().and_then(|sharing| sharing.take()) else {
                    return Poll::Pending;
                };
                self.items = Some(AssertUnwindSafe(items).catch_unwind());
            }
            let Some(items) = &mut self.items else { continue };
            match ready!(items.poll_next_unpin(context)) {
                Some(Ok(item)) => {
                    if let Some(payload) = item.number.and_then(|number| self.known(number)) {
                        return Poll::Ready(Some(Made::Whole(payload)));
                    }
                    self.passed_on = Some(item.number);
                    item.pass_on();
                }
                Some(Err(panic)) => return Poll::Ready(Some(self.panicked(&*panic))),
                // With them goes their way to the resolver, whose stream then ends.
                None => self.items = None,
            }
        }
    }
}

fn given_up(kind: OperationType, limit: Duration) -> ServerError {
    let limit = limit.as_millis();
    let rest = match kind {
        OperationType::Mutation => {
            "What it was to change may be changed, in whole or in part: look before asking again, and give `run` an \
             `idempotencyKey` to ask twice without harm."
        }
        OperationType::Query | OperationType::Subscription => {
            "Ask for smaller pages or for fewer fields, or again later."
        }
    };
    let message =
        format!("The {kind} took longer than {limit} ms, which is the limit, and was given up. {rest}");
    ErrorCode::Unavailable.server_error(message, None)
}

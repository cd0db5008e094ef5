//! What many are answered alike is resolved and written once.
//!
//! ```text
//!  the resolver's items ──▶ Sharing::each_once ──numbered──▶ transport ── known? ──▶ the payload, as it was written
//!                               ▲                               │ no
//!                               └────── passed on ◀─────────────┘   resolved, written, kept for the others
//! ```
//!
//! Each subscription keeps its own stream of items, its own place in it and its own pace. What is shared is only the
//! answer to one item: between operations that have the same document, operation and rights, and the same variables as
//! far as they reach beyond the arguments of the root field, which say what items there are and not what is told of
//! one. An answer with an error or an extension is never shared, since it is for one operation alone.
//!
//! Payloads are kept while there is room, the least recently used forgotten first. One that is gone is made again.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_graphql::Value;
use futures_util::stream::{self, BoxStream, Stream, StreamExt as _};
use lru::LruCache;
use serde_json::value::{RawValue, to_raw_value};
use tokio::sync::mpsc;

use super::answer::Answer;

/// Bytes of all payloads that are kept: an event is some hundred of them, and is asked for by most listeners at once.
const MAX_BYTES: usize = 8 << 20;

/// What a payload costs beside its text.
const OVERHEAD: usize = 256;

/// What tells operations apart that are not answered alike.
pub(super) type Kin = [u8; 32];

/// A result in the form in which it leaves.
#[derive(Debug)]
pub(super) struct Payload {
    pub(super) json: Box<RawValue>,
    /// Where in the stream the client is once it has this: the `cursor` of the first root field.
    pub(super) cursor: Option<Box<str>>,
}

impl Payload {
    pub(super) fn of(answer: &Answer) -> Self {
        let json = to_raw_value(answer).unwrap_or_else(|fault| {
            // Only a value whose own serialisation fails comes here; no type of ours does.
            tracing::error!(error.message = %fault, "a result could not be written as JSON");
            RawValue::NULL.to_owned()
        });
        Self {
            json,
            cursor: cursor(answer).map(Into::into),
        }
    }

    fn bytes(&self) -> usize {
        OVERHEAD + self.json.get().len()
    }
}

fn cursor(answer: &Answer) -> Option<&str> {
    let Some(Value::Object(data)) = &answer.data else {
        return None;
    };
    let Value::Object(field) = data.values().next()? else {
        return None;
    };
    match field.get("cursor")? {
        // What would break out of its line is no id of an event.
        Value::String(cursor) if !cursor.contains(['\n', '\r', '\0']) => Some(cursor),
        _ => None,
    }
}

/// The payloads that are kept.
#[derive(Debug)]
pub(super) struct Payloads(Mutex<Kept>);

#[derive(Debug)]
struct Kept {
    by_item: LruCache<(Kin, u64), Arc<Payload>>,
    bytes: usize,
}

impl Default for Payloads {
    fn default() -> Self {
        Self(Mutex::new(Kept {
            by_item: LruCache::unbounded(),
            bytes: 0,
        }))
    }
}

impl Payloads {
    fn get(&self, kin: Kin, item: u64) -> Option<Arc<Payload>> {
        self.kept().by_item.get(&(kin, item)).map(Arc::clone)
    }

    fn keep(&self, kin: Kin, item: u64, payload: &Arc<Payload>) {
        // One that fills the room would leave none for the others.
        if payload.bytes() > MAX_BYTES / 8 {
            return;
        }
        let mut kept = self.kept();
        kept.bytes += payload.bytes();
        if let Some(known) = kept.by_item.put((kin, item), Arc::clone(payload)) {
            kept.bytes -= known.bytes();
        }
        while kept.bytes > MAX_BYTES
            && let Some((_, oldest)) = kept.by_item.pop_lru()
        {
            kept.bytes -= oldest.bytes();
        }
    }

    /// Every change above leaves the two fields in step, so what a panicking thread left behind can be used.
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An item of a stream that waits to be answered.
pub(super) struct Item {
    /// None for a fault, which is nobody else's.
    pub(super) number: Option<u64>,
    pass_on: Box<dyn FnOnce() + Send>,
}

impl Item {
    /// Has it resolved: the response comes out of the operation's own stream.
    pub(super) fn pass_on(self) {
        (self.pass_on)();
    }
}

/// The share of one operation in what is answered alike; in the data of each subscription that has one.
pub struct Sharing {
    kin: Kin,
    payloads: Arc<Payloads>,
    offered: Mutex<Option<BoxStream<'static, Item>>>,
}

impl fmt::Debug for Sharing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sharing").finish_non_exhaustive()
    }
}

impl Sharing {
    pub(super) fn new(kin: Kin, payloads: Arc<Payloads>) -> Self {
        Self {
            kin,
            payloads,
            offered: Mutex::default(),
        }
    }

    /// The items that have to be resolved for this operation: those of `items` that no equal one had resolved before.
    /// A number stands for one item with all that resolvers may tell of it: what was read anew has a new number. What is
    /// told of one must not depend on the arguments of the root field. To be asked for once, by that field's resolver, for
    /// the stream that it returns.
    pub fn each_once<T, E>(
        &self,
        items: impl Stream<Item = Result<T, E>> + Send + 'static,
        number: impl Fn(&T) -> u64 + Send + 'static,
    ) -> impl Stream<Item = Result<T, E>> + Send + 'static
    where
        T: Send + 'static,
        E: Send + 'static,
    {
        // The transport waits for the answer to one item before it passes on the next. Boxed, since a channel has room for
        // more than it takes.
        let (pass, mut passed) = mpsc::channel::<Box<Result<T, E>>>(1);
        let items = items.map(move |item| {
            let number = item.as_ref().ok().map(&number);
            let pass = pass.clone();
            Item {
                number,
                // It finds its room, or the operation is over.
                pass_on: Box::new(move || drop(pass.try_send(Box::new(item)))),
            }
        });
        *self.offered() = Some(items.boxed());
        stream::poll_fn(move |context| passed.poll_recv(context).map(|item| item.map(|item| *item)))
    }

    /// The items of the operation, once its resolver has offered them.
    pub(super) fn take(&self) -> Option<BoxStream<'static, Item>> {
        self.offered().take()
    }

    /// What an equal operation was answered to this item.
    pub(super) fn known(&self, item: u64) -> Option<Arc<Payload>> {
        self.payloads.get(self.kin, item)
    }

    /// Keeps what was answered, for the equal ones.
    pub(super) fn keep(&self, item: u64, payload: &Arc<Payload>) {
        self.payloads.keep(self.kin, item, payload);
    }

    fn offered(&self) -> MutexGuard<'_, Option<BoxStream<'static, Item>>> {
        self.offered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(bytes: usize) -> Arc<Payload> {
        let text = format!("\"{}\"", "x".repeat(bytes - OVERHEAD - 2));
        Arc::new(Payload {
            json: RawValue::from_string(text).unwrap(),
            cursor: None,
        })
    }

    #[test]
    fn the_bytes_of_all_payloads_are_bounded() {
        let payloads = Payloads::default();
        let (one, large) = (MAX_BYTES / 8, MAX_BYTES / 8 + 1);
        payloads.keep(Kin::default(), 0, &payload(large));
        assert!(payloads.get(Kin::default(), 0).is_none());
        for item in 0..8 {
            payloads.keep(Kin::default(), item, &payload(one));
            payloads.keep(Kin::default(), item, &payload(one));
        }
        assert_eq!(payloads.kept().bytes, MAX_BYTES);
        assert!(payloads.get(Kin::default(), 0).is_some());
        payloads.keep([1; 32], 0, &payload(one));
        assert_eq!(payloads.kept().bytes, MAX_BYTES);
        assert!(payloads.get(Kin::default(), 1).is_none());
        assert!(payloads.get(Kin::default(), 0).is_some() && payloads.get([1; 32], 0).is_some());
    }
}

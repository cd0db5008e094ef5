//! What resolvers find in the schema's data, and what a selection costs.

use std::sync::Arc;

use async_graphql::Context;

use super::error::ApiResult;
use super::loader::Loaders;
use super::page::DEFAULT_SIZE;
use super::schema::Limits;
use crate::domain::Caller;
use crate::executor::{Acting, Executor};
use crate::store::Reader;

/// Shorthands for the schema's data.
pub(super) trait ContextExt {
    /// The service that all is asked of.
    fn executor(&self) -> &Executor;

    /// Who asks.
    fn caller(&self) -> &Arc<Caller>;

    /// The service, in the name of who asks.
    fn acting(&self) -> Acting {
        self.executor().acting_for(Arc::clone(self.caller()))
    }

    /// The store, for questions.
    fn reader(&self) -> &Reader {
        self.executor().reader()
    }

    /// The loaders for edges between objects.
    fn loaders(&self) -> &Loaders;

    /// What one request may ask for.
    fn limits(&self) -> &Limits;
}

/// `build` puts all of them into every schema that can execute, and lets no request in that has no caller, so they are
/// always there.
impl ContextExt for Context<'_> {
    fn executor(&self) -> &Executor {
        self.data_unchecked()
    }

    fn caller(&self) -> &Arc<Caller> {
        self.data_unchecked()
    }

    fn loaders(&self) -> &Loaders {
        self.data_unchecked()
    }

    fn limits(&self) -> &Limits {
        self.data_unchecked()
    }
}

/// Runs work on files where it does not hold up other requests.
pub(super) async fn on_files<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> ApiResult<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|fault| super::error::ApiError::internal(&fault))
}

/// What a page costs: each of its entries costs what is selected of one.
pub(super) fn page_cost(first: Option<i32>, last: Option<i32>, entry: usize) -> usize {
    let entries = match first.or(last) {
        Some(wanted) => usize::try_from(wanted).unwrap_or(0),
        None => DEFAULT_SIZE,
    };
    entries.saturating_mul(entry).saturating_add(1)
}

/// What a list without pages costs, taken to have ten entries.
pub(super) const fn list_cost(entry: usize) -> usize {
    entry.saturating_mul(10).saturating_add(1)
}

/// What text costs that is answered in one piece: as much as a field for each 4 KiB.
pub(super) fn text_cost(bytes: Option<i32>) -> usize {
    usize::try_from(bytes.unwrap_or(0)).unwrap_or(0) / 4_096 + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_multiply_and_never_overflow() {
        assert_eq!(page_cost(None, None, 3), 151);
        assert_eq!(page_cost(Some(10), None, 3), 31);
        assert_eq!(page_cost(None, Some(2), 3), 7);
        assert_eq!(page_cost(Some(-1), None, 3), 1);
        assert_eq!(page_cost(Some(i32::MAX), None, usize::MAX), usize::MAX);
        assert_eq!(list_cost(2), 21);
        assert_eq!(list_cost(usize::MAX), usize::MAX);
        assert_eq!(text_cost(Some(65_536)), 17);
        assert_eq!(text_cost(Some(-1)), 1);
    }
}

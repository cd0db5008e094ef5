//! Figures over many jobs.

use async_graphql::{Context, Object, SimpleObject};
use tokio::sync::OnceCell;

use crate::domain::{self, Histogram, JobStatus};
use crate::graphql::context::{ContextExt as _, page_cost};
use crate::graphql::error::ApiResult;
use crate::graphql::page::size;
use crate::graphql::scalar::SafeInt;
use crate::store::{Figures, Reader, StatsWindow};

/// The span over which jobs are counted as ended just now.
const MINUTE: std::time::Duration = std::time::Duration::from_secs(60);

/// Names that `byName` lists where the client says nothing.
const NAMES: i32 = 10;

/// Figures over a window, read when the first field asks for them.
pub(in crate::graphql) struct Stats {
    window: StatsWindow,
    figures: OnceCell<Figures>,
}

impl Stats {
    pub(in crate::graphql) fn new(window: StatsWindow) -> Self {
        Self {
            window,
            figures: OnceCell::new(),
        }
    }

    /// Reads the figures, unless that is done.
    pub(in crate::graphql) async fn figures(&self, reader: &Reader) -> ApiResult<&Figures> {
        Ok(self
            .figures
            .get_or_try_init(|| reader.figures(&self.window))
            .await?)
    }
}

/// Figures over all jobs, or over those that a filter names.
#[Object]
impl Stats {
    /// How many jobs of each status there are.
    async fn counts(&self, ctx: &Context<'_>) -> ApiResult<StatusCounts> {
        Ok(StatusCounts(self.figures(ctx.reader()).await?.counts))
    }

    /// The share of those that ended that are COMPLETED, 0 to 1; null before any has ended.
    async fn success_rate(&self, ctx: &Context<'_>) -> ApiResult<Option<f64>> {
        Ok(self.figures(ctx.reader()).await?.counts.success_rate())
    }

    /// From start to finish, of the latest attempt of each job that has ended.
    async fn duration(&self, ctx: &Context<'_>) -> ApiResult<Percentiles> {
        Ok((&self.figures(ctx.reader()).await?.duration).into())
    }

    /// From ready to start to started.
    async fn queue_wait(&self, ctx: &Context<'_>) -> ApiResult<Percentiles> {
        Ok((&self.figures(ctx.reader()).await?.wait).into())
    }

    /// Jobs that ended in the last minute.
    async fn finished_per_minute(&self, ctx: &Context<'_>) -> ApiResult<f64> {
        let since = ctx.executor().now().before(MINUTE);
        let ended = ctx.reader().ended_since(&self.window, since).await?;
        Ok(f64::from(u32::try_from(ended).unwrap_or(u32::MAX)))
    }

    /// The names with the most jobs, the most frequent first.
    #[graphql(complexity = "page_cost(first.or(Some(NAMES)), None, child_complexity)")]
    async fn by_name(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "At most so many.", default_with = "Some(NAMES)")] first: Option<i32>,
    ) -> ApiResult<Vec<NameStats>> {
        let limit = size("first", first.unwrap_or(NAMES), ctx.limits().max_page_size)?;
        let names = ctx.reader().counts_by_name(&self.window, limit as u64).await?;
        Ok(names
            .into_iter()
            .map(|(name, counts)| NameStats {
                name,
                counts: StatusCounts(counts),
            })
            .collect())
    }
}

/// The jobs of one name.
#[derive(SimpleObject)]
pub(in crate::graphql) struct NameStats {
    /// The name that they share.
    name: String,
    /// How many of each status there are.
    counts: StatusCounts,
}

/// Counts of jobs.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::graphql) struct StatusCounts(pub(in crate::graphql) domain::StatusCounts);

/// How many jobs there are of each status.
#[Object]
impl StatusCounts {
    /// In any status.
    async fn total(&self) -> SafeInt {
        SafeInt(self.0.total())
    }

    /// Waiting to start.
    async fn pending(&self) -> SafeInt {
        SafeInt(self.0.of(JobStatus::Pending))
    }

    /// Under way.
    async fn running(&self) -> SafeInt {
        SafeInt(self.0.of(JobStatus::Running))
    }

    /// Ended well.
    async fn completed(&self) -> SafeInt {
        SafeInt(self.0.of(JobStatus::Completed))
    }

    /// Ended badly.
    async fn failed(&self) -> SafeInt {
        SafeInt(self.0.of(JobStatus::Failed))
    }

    /// Stopped at their time limit.
    async fn timeout(&self) -> SafeInt {
        SafeInt(self.0.of(JobStatus::Timeout))
    }

    /// Stopped because somebody asked.
    async fn cancelled(&self) -> SafeInt {
        SafeInt(self.0.of(JobStatus::Cancelled))
    }
}

/// Durations in milliseconds, to within about 2 %; the mean is exact. All are null before any job has ended.
#[derive(SimpleObject)]
pub(in crate::graphql) struct Percentiles {
    /// Their sum ÷ their number.
    mean: Option<f64>,
    /// The duration that half of them stay below.
    p50: Option<f64>,
    /// The duration that 95 % of them stay below.
    p95: Option<f64>,
    /// The duration that 99 % of them stay below.
    p99: Option<f64>,
    /// The longest.
    max: Option<f64>,
}

impl From<&Histogram> for Percentiles {
    fn from(histogram: &Histogram) -> Self {
        Self {
            mean: histogram.mean_ms(),
            p50: histogram.percentile_ms(0.5),
            p95: histogram.percentile_ms(0.95),
            p99: histogram.percentile_ms(0.99),
            max: histogram.max_ms(),
        }
    }
}

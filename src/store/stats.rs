//! Figures, from counters where they cover all jobs, from the rows where only some of them are meant.

use std::collections::HashMap;

use entity::job;
use futures_util::TryStreamExt;
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, EntityTrait, PaginatorTrait, QueryFilter, QuerySelect,
};

use super::counters::metric;
use super::dialect;
use super::error::StoreError;
use super::list::created;
use super::read::Reader;
use crate::domain::{Histogram, JobStatus, StatusCounts, TimeRange, Timestamp};

/// Figures over some jobs.
#[derive(Debug, Clone, Default)]
pub struct Figures {
    /// How many of each status.
    pub counts: StatusCounts,
    /// From start to finish.
    pub duration: Histogram,
    /// From ready to started.
    pub wait: Histogram,
}

/// Over which jobs figures are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StatsWindow {
    /// Those of this name.
    pub name: Option<String>,
    /// Those that were asked for in this time.
    pub created: TimeRange,
}

impl StatsWindow {
    fn is_all_time(&self) -> bool {
        self.created == TimeRange::default()
    }

    fn condition(&self) -> Condition {
        let by_name = self.name.as_ref().map(|name| job::Column::Name.eq(name.as_str()));
        created(Condition::all().add_option(by_name), self.created)
    }
}

impl Reader {
    /// How many jobs of each status there are, of all names or of one.
    ///
    /// # Errors
    ///
    /// See [`Reader::job`].
    pub async fn status_counts(&self, name: Option<&str>) -> Result<StatusCounts, StoreError> {
        let mut counts = StatusCounts::default();
        for (_, bucket, value) in self.sums(name, &[metric::STATUS]).await? {
            if let Some(&status) = usize::try_from(bucket)
                .ok()
                .and_then(|index| JobStatus::ALL.get(index))
            {
                counts.add(status, value);
            }
        }
        Ok(counts)
    }

    /// The figures over a window.
    ///
    /// # Errors
    ///
    /// See [`Reader::job`].
    pub async fn figures(&self, window: &StatsWindow) -> Result<Figures, StoreError> {
        if !window.is_all_time() {
            return self.scan(window).await;
        }
        let name = window.name.as_deref();
        let mut figures = Figures {
            counts: self.status_counts(name).await?,
            ..Figures::default()
        };
        let metrics = [
            metric::DURATION,
            metric::DURATION_SUM,
            metric::WAIT,
            metric::WAIT_SUM,
        ];
        for (metric, bucket, value) in self.sums(name, &metrics).await? {
            match metric.as_str() {
                metric::DURATION => figures.duration.add_bucket(bucket, value),
                metric::DURATION_SUM => figures.duration.add_sum(value),
                metric::WAIT => figures.wait.add_bucket(bucket, value),
                _ => figures.wait.add_sum(value),
            }
        }
        Ok(figures)
    }

    async fn sums(
        &self,
        name: Option<&str>,
        metrics: &[&'static str],
    ) -> Result<Vec<(String, i32, i64)>, StoreError> {
        let marks = vec!["?"; metrics.len()].join(", ");
        let by_name = if name.is_some() { " AND name = ?" } else { "" };
        // A sum of integers is NUMERIC on Postgres, hence the cast.
        let sql = format!(
            "SELECT metric, bucket, CAST(SUM(value) AS BIGINT) AS total FROM stat WHERE metric IN ({marks}){by_name}
             GROUP BY metric, bucket"
        );
        let values = metrics
            .iter()
            .map(|&metric| metric.into())
            .chain(name.map(Into::into));
        let statement = dialect::statement(self.backend(), &sql, values);
        let mut sums = Vec::new();
        for row in self.db.query_all_raw(statement).await? {
            sums.push((
                row.try_get("", "metric")?,
                row.try_get("", "bucket")?,
                row.try_get("", "total")?,
            ));
        }
        Ok(sums)
    }

    /// Reads the jobs of a window one by one: a window's figures are nobody's counter.
    async fn scan(&self, window: &StatsWindow) -> Result<Figures, StoreError> {
        type Row = (String, i64, Option<i64>, Option<i64>);
        let query = job::Entity::find()
            .select_only()
            .columns([
                job::Column::Status,
                job::Column::RunAt,
                job::Column::StartedAt,
                job::Column::FinishedAt,
            ])
            .filter(window.condition())
            .into_tuple::<Row>();
        let mut rows = self.db.within(query.stream(self.db.inner())).await?;
        let mut figures = Figures::default();
        while let Some((status, run_at, started_at, finished_at)) = self.db.within(rows.try_next()).await? {
            let status: JobStatus = status.parse()?;
            figures.counts.add(status, 1);
            if let (Some(started), Some(finished)) = (started_at, finished_at) {
                let started = Timestamp::from_micros(started);
                figures
                    .duration
                    .record(Timestamp::from_micros(finished).since(started));
                figures.wait.record(started.since(Timestamp::from_micros(run_at)));
            }
        }
        Ok(figures)
    }

    /// How many jobs have ended since a moment.
    ///
    /// # Errors
    ///
    /// See [`Reader::job`].
    pub async fn ended_since(&self, window: &StatsWindow, since: Timestamp) -> Result<u64, StoreError> {
        let query = job::Entity::find()
            .filter(window.condition())
            .filter(job::Column::FinishedAt.gte(since.micros()));
        Ok(query.count(&self.db).await?)
    }

    /// The names with the most jobs, and how many of each status they have.
    ///
    /// # Errors
    ///
    /// See [`Reader::job`].
    pub async fn counts_by_name(
        &self,
        window: &StatsWindow,
        limit: u64,
    ) -> Result<Vec<(String, StatusCounts)>, StoreError> {
        let mut found: HashMap<String, StatusCounts> = HashMap::new();
        if window.is_all_time() {
            let by_name = if window.name.is_some() {
                " AND name = ?"
            } else {
                ""
            };
            let sql = format!(
                "SELECT name, bucket, value FROM stat WHERE metric = ? AND name IN (
                    SELECT name FROM stat WHERE metric = ?{by_name}
                    GROUP BY name HAVING SUM(value) > 0 ORDER BY SUM(value) DESC, name LIMIT ?)"
            );
            let mut values: Vec<sea_orm::Value> = vec![metric::STATUS.into(), metric::STATUS.into()];
            values.extend(window.name.as_deref().map(Into::into));
            values.push(i64::try_from(limit).unwrap_or(i64::MAX).into());
            let statement = dialect::statement(self.backend(), &sql, values);
            for row in self.db.query_all_raw(statement).await? {
                let bucket: i32 = row.try_get("", "bucket")?;
                if let Some(&status) = usize::try_from(bucket)
                    .ok()
                    .and_then(|index| JobStatus::ALL.get(index))
                {
                    found
                        .entry(row.try_get("", "name")?)
                        .or_default()
                        .add(status, row.try_get("", "value")?);
                }
            }
        } else {
            let rows: Vec<(String, String, i64)> = job::Entity::find()
                .select_only()
                .columns([job::Column::Name, job::Column::Status])
                .column_as(job::Column::Id.count(), "jobs")
                .filter(window.condition())
                .group_by(job::Column::Name)
                .group_by(job::Column::Status)
                .into_tuple()
                .all(&self.db)
                .await?;
            for (name, status, jobs) in rows {
                found.entry(name).or_default().add(status.parse()?, jobs);
            }
        }
        let mut all: Vec<_> = found.into_iter().collect();
        all.sort_by(|(a, one), (b, other)| other.total().cmp(&one.total()).then_with(|| a.cmp(b)));
        all.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        Ok(all)
    }
}

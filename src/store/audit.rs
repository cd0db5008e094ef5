//! Who did what, from where: written in the transaction of what was done, so that neither is there without the other.

use std::collections::BTreeSet;

use entity::audit;
use futures_util::future::BoxFuture;
use sea_orm::{
    ActiveValue::Set, ColumnTrait, Condition, EntityTrait, Order, QueryFilter, QueryOrder, QuerySelect,
};
use uuid::Uuid;

use super::error::StoreError;
use super::list::PageRequest;
use super::read::Reader;
use super::tx::Tx;
use super::writer::Operation;
use crate::domain::{Actor, AuditAction, AuditEntry, Timestamp, TokenId};

/// Lines that one transaction deletes.
const DELETED_AT_ONCE: u64 = 1_000;

fn row(entry: &AuditEntry) -> Result<audit::ActiveModel, StoreError> {
    let detail = (!entry.detail.is_empty())
        .then(|| serde_json::to_string(&entry.detail))
        .transpose()?;
    Ok(audit::ActiveModel {
        id: Set(entry.id),
        at: Set(entry.at.micros()),
        action: Set(entry.action.as_str().to_owned()),
        actor: Set(entry.actor.name.clone()),
        token_id: Set(entry.actor.token.map(TokenId::uuid)),
        address: Set(entry.actor.address.map(|address| address.to_string())),
        target: Set(entry.target),
        detail: Set(detail),
    })
}

/// Tells from what an operation did which lines the audit log gets.
pub type Note<O> = Box<dyn Fn(&<O as Operation>::Output) -> Vec<AuditEntry> + Send + Sync>;

/// An operation that is noted in the audit log, in the same transaction.
pub struct Audited<O: Operation> {
    /// What is done.
    pub operation: O,
    /// What is noted of it. It may be asked more than once, for each time that the transaction is tried.
    pub note: Note<O>,
}

impl<O: Operation> Operation for Audited<O> {
    type Output = O::Output;

    fn apply<'t>(&'t self, tx: &'t mut Tx) -> BoxFuture<'t, Result<O::Output, StoreError>> {
        Box::pin(async move {
            let output = self.operation.apply(tx).await?;
            for entry in (self.note)(&output) {
                tx.add_audit(row(&entry)?);
            }
            Ok(output)
        })
    }
}

/// Notes what is no write of its own, such as a change of the pool.
#[derive(Debug)]
pub struct RecordAudit {
    /// The line.
    pub entry: AuditEntry,
}

impl Operation for RecordAudit {
    type Output = ();

    fn apply<'t>(&'t self, tx: &'t mut Tx) -> BoxFuture<'t, Result<(), StoreError>> {
        Box::pin(async move {
            tx.add_audit(row(&self.entry)?);
            Ok(())
        })
    }
}

/// Deletes some of the lines that are older than this.
#[derive(Debug)]
pub struct DeleteAudit {
    /// The moment.
    pub before: Timestamp,
}

impl Operation for DeleteAudit {
    /// How many; fewer than a batch where none is left.
    type Output = u64;

    fn apply<'t>(&'t self, tx: &'t mut Tx) -> BoxFuture<'t, Result<u64, StoreError>> {
        Box::pin(async move {
            // Ids sort by their moment, and those of one millisecond may wait for the next call.
            let millis = u64::try_from(self.before.millis()).unwrap_or(0);
            let first = Uuid::new_v7(uuid::Timestamp::from_unix(
                uuid::NoContext,
                millis / 1_000,
                u32::try_from(millis % 1_000 * 1_000_000).unwrap_or(0),
            ));
            let first = Uuid::from_u128(first.as_u128() >> 80 << 80);
            let sql = format!(
                "DELETE FROM audit WHERE id IN (SELECT id FROM audit WHERE id < ? ORDER BY id LIMIT {DELETED_AT_ONCE})"
            );
            tx.execute(tx.statement(&sql, [first.into()])).await
        })
    }
}

/// Which lines are wanted; without any part, all.
#[derive(Debug, Clone, Default)]
pub struct AuditFilter {
    /// Those of this actor.
    pub actor: Option<String>,
    /// Those with one of these actions; empty is any.
    pub actions: Vec<AuditAction>,
    /// Those about this job, worker or token.
    pub target: Option<Uuid>,
}

/// A part of the audit log.
#[derive(Debug, Clone)]
pub struct AuditPage {
    /// The lines, the latest first.
    pub entries: Vec<AuditEntry>,
    /// Whether older ones follow.
    pub has_next: bool,
}

impl Reader {
    /// A page of the audit log, the latest first. Only `limit` and `after` of the request count.
    ///
    /// # Errors
    ///
    /// See [`Reader::job`].
    pub async fn audit(
        &self,
        filter: &AuditFilter,
        page: PageRequest<Uuid>,
    ) -> Result<AuditPage, StoreError> {
        let actions: BTreeSet<_> = filter.actions.iter().map(|action| action.as_str()).collect();
        let condition = Condition::all()
            .add_option(filter.actor.as_ref().map(|actor| audit::Column::Actor.eq(actor)))
            .add_option((!filter.actions.is_empty()).then(|| audit::Column::Action.is_in(actions)))
            .add_option(filter.target.map(|target| audit::Column::Target.eq(target)))
            .add_option(page.after.map(|id| audit::Column::Id.lt(id)));
        let rows = audit::Entity::find()
            .filter(condition)
            .order_by(audit::Column::Id, Order::Desc)
            .limit(page.limit + 1)
            .all(&self.db)
            .await?;
        let has_next = rows.len() as u64 > page.limit;
        let some = usize::try_from(page.limit).unwrap_or(usize::MAX);
        let entries = rows.into_iter().take(some).map(entry);
        Ok(AuditPage {
            entries: entries.collect::<Result<_, _>>()?,
            has_next,
        })
    }
}

fn entry(row: audit::Model) -> Result<AuditEntry, StoreError> {
    let detail = row.detail.as_deref().map(serde_json::from_str).transpose()?;
    Ok(AuditEntry {
        id: row.id,
        at: Timestamp::from_micros(row.at),
        action: row.action.parse()?,
        actor: Actor {
            name: row.actor,
            token: row.token_id.map(TokenId::from_uuid),
            address: row.address.and_then(|address| address.parse().ok()),
        },
        target: row.target,
        detail: detail.unwrap_or_default(),
    })
}

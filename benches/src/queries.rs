//! Requests a second for one job and for a page of jobs, against the same shape answered from constants.

use anyhow::Result;
use serde_json::json;

use crate::client::{Request, load};
use crate::peer::{Child, Peer};
use crate::server::Server;
use crate::table::{Figure, Goal, Table};
use crate::{Bench, floor};

const FIELDS: &str =
    "id kind name status queue priority attempt maxAttempts timeoutMs createdAt finishedAt exitCode";
const CLIENTS: usize = 16;

/// Measures it.
pub(crate) fn measure(bench: &Bench, table: &mut Table) -> Result<()> {
    let server = Server::start(bench, &[])?;
    server.client()?.post(&Request::run_many("/bin/true", 200))?;
    server.completed(200)?;
    let newest = server
        .client()?
        .query("{ jobs(first: 1) { nodes { id } } }", &json!({}))?;
    let id = newest["jobs"]["nodes"][0]["id"].clone();
    let one = Request::operation(
        &format!("query($id: ID!) {{ job(id: $id) {{ {FIELDS} }} }}"),
        &json!({ "id": id }),
    );
    let page = Request::operation(
        &format!("{{ jobs(first: 50) {{ nodes {{ {FIELDS} }} pageInfo {{ hasNextPage endCursor }} }} }}"),
        &json!({}),
    );
    let constant = Child::start(Peer::Constant)?;
    for (what, request, count) in [
        ("job(id) with 12 fields", one, bench.size(20_000, 200)),
        ("a page of 50 jobs", page, bench.size(4_000, 40)),
    ] {
        let (mut rates, mut floors) = (Vec::new(), Vec::new());
        for _ in 0..bench.rounds {
            for (address, rates) in [(constant.address(), &mut floors), (server.address(), &mut rates)] {
                rates.push(floor::rate(
                    count,
                    load(address, CLIENTS, count, |_| request.clone())?,
                ));
            }
        }
        table.add(Figure {
            what: format!("{what}, {CLIENTS} clients"),
            unit: "req/s",
            values: rates,
            floor: Some(("from constants".to_owned(), floors)),
            goal: Some(Goal::RatioFrom(0.6)),
        });
    }
    Ok(())
}

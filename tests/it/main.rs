//! The one integration test binary: every test that needs a real database, a real process or a real socket.
//!
//! `support` makes what tests share; the other modules follow the layers of the library.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]
#![expect(
    clippy::print_stderr,
    reason = "what a server says is shown where its test fails"
)]

mod access;
mod api;
mod bounds;
mod clients;
mod embed;
mod faults;
mod life;
mod live;
mod outage;
mod page;
mod rules;
mod sandbox;
mod schema;
mod store;
mod support;
mod worker;

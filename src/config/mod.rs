//! Every setting of the server and of a worker on another machine, once.
//!
//! Responsible for where a setting comes from (flags win over variables, variables over the file), for its unit, its
//! default and its bounds, and for an error that names it when it is wrong. Not responsible for what happens at a
//! limit: that is told by whoever keeps it.
//!
//! ```text
//! defaults → runql.toml → environment → flags      each layer is read by the one parser of the flags
//! ```
//!
//! Values are of their real types as soon as they are read: nothing behind this module parses text.

mod database;
mod error;
mod file;
mod invocation;
mod layers;
mod sandbox;
mod settings;
mod token;
mod values;
mod worker;

#[cfg(test)]
mod tests;

pub use database::{Backend, DatabaseUrl};
pub use error::{ConfigError, Origin};
pub use invocation::{Chosen, Environment, Invocation, parse};
pub use sandbox::Sandboxing;
pub use settings::{Access, Config, Jobs, Limits, Logging, Scripts, Server, Storage};
pub use token::TokenCommand;
pub use values::{Agent, Allow, Interpreter};
pub use worker::{Token, Worker};

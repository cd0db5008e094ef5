//! Running jobs of each kind: what they are given, what comes back, and where they work.

mod agent;
mod command;
mod folder;
mod interpreter;
mod many;
mod script;
mod whole;

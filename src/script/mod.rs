//! Which scripts there are, how each of them is run and what parameters it takes.
//!
//! ```text
//!   folder ──▶ catalog ──▶ source (hash, shebang, head) ──▶ block ──▶ header ──▶ parameters
//!                 │                    │
//!                 ▼                    ▼
//!              Script  ◀────────  interpreter
//! ```
//!
//! A [`Catalog`] finds scripts below one folder and lets no name leave it. A [`Script`] carries what its header
//! block declares: a description, a timeout and [`Parameters`], whose JSON Schema clients see and whose `validate`
//! refuses what does not fit before a job is stored. [`Interpreters`] turns a script into a [`CommandLine`].
//!
//! Everything here is synchronous file work: callers on a runtime use a blocking thread. Nothing here starts a
//! process, and nothing knows of jobs, the store or GraphQL.

mod block;
mod catalog;
mod content;
mod declaration;
mod duration;
#[cfg(test)]
mod examples;
mod fault;
mod folder;
mod header;
mod interpreter;
#[cfg(any(test, fuzzing))]
pub(crate) mod invariants;
mod name;
mod parameters;
mod shebang;
mod stamp;
mod variable;
mod walk;

pub use catalog::{Catalog, Listing, LookupError, Script};
pub use duration::{DurationError, parse_duration};
pub use interpreter::{CommandLine, InterpreterError, Interpreters};
pub use parameters::{ParameterFault, Parameters};
pub use variable::{parameter_variables, variable_name};

// What other folders of files need too.
pub(crate) use declaration::{Declaration, DeclarationFault, Terms};
pub(crate) use folder::{Folder, NoFile, is_absence, modified_at, similar, suggestion, unreadable};
pub(crate) use name::check_name;
pub(crate) use stamp::{Stamp, hash, open, read_up_to};
pub(crate) use walk::Found;

/// The candidate that was probably meant by `word`; none where nothing is near enough.
pub(crate) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(&word, &candidate.to_lowercase()), candidate))
        .filter(|(likeness, _)| *likeness >= 0.82)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

/// Words between backquotes with commas, for a sentence; past `most` of them it says how many are left.
pub(crate) fn quoted_list<'a>(words: impl ExactSizeIterator<Item = &'a str>, most: usize) -> String {
    let left = words.len().saturating_sub(most);
    let mut list: Vec<String> = words.take(most).map(|word| format!("`{word}`")).collect();
    if left > 0 {
        list.push(format!("and {left} more"));
    }
    list.join(", ")
}

//! The schema as text: that the file in the repository is the code's own, that it keeps what clients were promised,
//! and that everything in it is explained. And how it works at its edges: limits, and questions that are asked once for many.

mod batches;
mod contract;
mod descriptions;
mod drift;
mod limits;
mod support;

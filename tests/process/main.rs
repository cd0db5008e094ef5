//! The process module against real programs: bash, Python and the usual small tools.

mod cgroup;
mod escape;
mod input;
mod lost;
mod output;
mod sandbox;
mod start;
mod stop;
mod support;
mod throughput;

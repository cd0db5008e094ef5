//! The variables of one attempt.

use std::ffi::OsString;

use super::programs::Programs;
use super::workspace::Workspace;
use crate::domain::JobId;

/// The whole environment of a program: this process's allow-list first, then whatever is set over it.
#[derive(Debug)]
pub(crate) struct Variables(Vec<(OsString, OsString)>);

impl Variables {
    /// What every program gets of this process's own environment.
    pub(crate) fn new(programs: &Programs) -> Self {
        Self(programs.base().to_vec())
    }

    /// Sets a variable, over one of the same name.
    pub(crate) fn set(&mut self, name: impl Into<OsString>, value: impl Into<OsString>) {
        let (name, value) = (name.into(), value.into());
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some(entry) => entry.1 = value,
            None => self.0.push((name, value)),
        }
    }

    /// Sets what tells a program which job it is, and where it works. Last, so that nothing else can say otherwise.
    pub(crate) fn of_job(
        mut self,
        job: JobId,
        attempt: u32,
        workspace: &Workspace,
    ) -> Vec<(OsString, OsString)> {
        self.set("RUNQL_JOB_ID", job.to_string());
        self.set("RUNQL_ATTEMPT", attempt.to_string());
        self.set("RUNQL_OUTPUT", &workspace.output);
        self.set("TMPDIR", &workspace.scratch);
        self.set("PWD", &workspace.current_dir);
        self.0
    }
}

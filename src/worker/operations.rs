//! The texts of all that a worker asks of a server. They are in one place since a server that executes only the
//! operations of a list has to know these.

/// All of them.
pub const OPERATIONS: [&str; 8] = [
    KNOWN_NAMES,
    REGISTER,
    HEARTBEAT,
    SIGN_OFF,
    CLAIM,
    CURRENT_JOBS,
    LAST_LINE,
    REPORT,
];

/// The fields of a task.
macro_rules! task_fields {
    () => {
        "id attempt name timeoutMs logs(last: 1) { nodes { number } }
         command { __typename
            ... on TaskCommand { problemId parameters }
            ... on AgentCommand { target inputs config }
         }"
    };
}

pub(super) const KNOWN_NAMES: &str = "{ workers { name } }";

pub(super) const REGISTER: &str = "mutation($input: RegisterWorkerInput!) {
    registerWorker(input: $input) { worker { id } leaseMs errors { code message } }
}";

pub(super) const HEARTBEAT: &str = "mutation($input: HeartbeatInput!) {
    heartbeat(input: $input) { stopJobIds leaseMs errors { code message } }
}";

pub(super) const SIGN_OFF: &str = "mutation($input: HeartbeatInput!) {
    heartbeat(input: $input) { worker { id } leaseMs errors { code message } }
}";

pub(super) const CLAIM: &str = concat!(
    "mutation($input: ClaimInput!) { claim(input: $input) { jobs { ",
    task_fields!(),
    " } errors { code message } } }"
);

/// By a heartbeat: a worker's token need not let it read.
pub(super) const CURRENT_JOBS: &str = concat!(
    "mutation($input: HeartbeatInput!) { heartbeat(input: $input) { worker { currentJobs { ",
    task_fields!(),
    " } } errors { code message } } }"
);

/// By a report that tells nothing, for the same reason.
pub(super) const LAST_LINE: &str = "mutation($input: ReportInput!, $attempt: Int!) { report(input: $input) {
    job { logs(last: 1, filter: { attempt: $attempt, streams: [STDOUT, STDERR] }) { nodes { number message } } }
    errors { code message }
} }";

pub(super) const REPORT: &str =
    "mutation($input: ReportInput!) { report(input: $input) { errors { code message } } }";

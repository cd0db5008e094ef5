//! What of a request can be known to be wrong before anything is stored.
//!
//! Each check names the input at fault and says what to do. What passes here can still fail when the job starts (a
//! script may be deleted meanwhile); that is then the job's outcome, not an error of the request.

use std::collections::HashSet;
use std::time::Duration;

use super::Options;
use super::request::{JobRequest, Refusal, RefusalCode};
use super::secrets::unknown;
use super::validate_command::{CommandCheck, check_command};
use crate::domain::{
    Command, Dependency, EnvValue, EnvVar, JobId, JobKind, MOST_TAGS, NewJob, RetryPolicy, Tag, Timestamp,
};
use crate::pipeline;
use crate::program::{Programs, check_name};
use crate::script::Catalog;

/// Bounds of single inputs. They keep rows small and messages readable; nobody was seen to need more.
const LONGEST_QUEUE: usize = 64;
pub(super) const LONGEST_KEY: usize = 255;
const LONGEST_TAG: usize = 255;
const MOST_ENV: usize = 256;
/// Linux takes no single variable or argument above 128 KiB.
pub(super) const LONGEST_TEXT: usize = 128 * 1024 - 4_096;
const MOST_ATTEMPTS: i32 = 1_000;
const MOST_DEPENDENCIES: usize = 1_000;
const LONGEST_BACKOFF: Duration = Duration::from_secs(3_600);

/// Names that the server sets itself.
const OWN_PREFIXES: [&str; 2] = ["RUNQL_", "PARAM_"];

/// Variables by which a script's environment could run other code than the script: they are refused where only
/// scripts are allowed, or `env` would be `shell` by the back door.
const CODE_NAMES: [&str; 12] = [
    "PATH",
    "BASH_ENV",
    "ENV",
    "SHELLOPTS",
    "BASHOPTS",
    "PS4",
    "IFS",
    "CDPATH",
    "PROMPT_COMMAND",
    "JAVA_TOOL_OPTIONS",
    "AETHER_PATH",
    "GCONV_PATH",
];
const CODE_PREFIXES: [&str; 8] = [
    "LD_",
    "BASH_FUNC_",
    "PYTHON",
    "NODE_",
    "PERL",
    "RUBY",
    "GIT_",
    "NPM_CONFIG_",
];

/// What checks need to know of this server.
#[derive(Debug)]
pub(super) struct Checker<'a> {
    pub(super) options: &'a Options,
    pub(super) catalog: &'a Catalog,
    pub(super) pipelines: &'a pipeline::Catalog,
    pub(super) programs: &'a Programs,
}

impl Checker<'_> {
    /// The job as it will be stored, but for its place among others; or all that is wrong with the request itself.
    ///
    /// # Errors
    ///
    /// The outer error is the server's own: the scripts folder cannot be read.
    pub(super) fn check_one(
        &self,
        request: JobRequest,
        id: JobId,
        created_at: Timestamp,
    ) -> Result<Result<NewJob, Vec<Refusal>>, std::io::Error> {
        let mut refusals = Vec::new();
        check_fields(&request, &mut refusals);
        self.check_env(&request.env, &mut refusals);
        if let Some(dir) = &request.working_dir
            && let Err(message) = check_name(&self.options.work_dir, dir)
        {
            refusals.push(Refusal::new(RefusalCode::NotAllowed, &["workingDir"], message));
        }
        // A plan takes as long as its steps, of which each has a timeout of its own.
        let has_steps = request.command.kind().has_steps();
        let usual = has_steps.then_some(self.options.max_timeout);
        let checked = match check_command(self, request.command)? {
            Ok(checked) => Some(checked),
            Err(mut of_command) => {
                refusals.append(&mut of_command);
                None
            }
        };
        let declared = checked.as_ref().and_then(|checked| checked.timeout).or(usual);
        let timeout = self.timeout(request.timeout, declared, &mut refusals);
        let Some(CommandCheck { command, route, .. }) = checked.filter(|_| refusals.is_empty()) else {
            return Ok(Err(refusals));
        };
        let awaited = request.depends_on.into_iter();
        Ok(Ok(NewJob {
            id,
            command,
            queue: request.queue,
            priority: request.priority,
            retry: RetryPolicy {
                max_attempts: u32::try_from(request.max_attempts).unwrap_or(1),
                backoff: request.backoff,
            },
            timeout,
            created_at,
            run_at: request.run_at,
            env: request.env,
            working_dir: request.working_dir,
            idempotency_key: request.idempotency_key,
            metadata: request.metadata,
            step: None,
            depends_on: awaited.map(|job| Dependency { job, on_end: false }).collect(),
            route,
            plan: None,
        }))
    }

    /// Whether commands of this kind run here.
    pub(super) fn allows(&self, kind: JobKind) -> bool {
        self.options.allow.contains(&kind)
    }

    fn timeout(
        &self,
        asked: Option<Duration>,
        declared: Option<Duration>,
        refusals: &mut Vec<Refusal>,
    ) -> Duration {
        let most = self.options.max_timeout;
        if let Some(asked) = asked {
            if asked.is_zero() {
                refusals.push(Refusal::new(
                    RefusalCode::Invalid,
                    &["timeoutMs"],
                    "a timeout must be at least 1 ms",
                ));
            } else if asked > most {
                let message = format!(
                    "a timeout of {} ms is above the limit of {} ms",
                    asked.as_millis(),
                    most.as_millis()
                );
                refusals.push(Refusal::new(RefusalCode::LimitExceeded, &["timeoutMs"], message));
            }
            return asked;
        }
        declared.unwrap_or(self.options.default_timeout).min(most)
    }

    /// Whether whoever may run all that this server runs may run any program there is.
    fn runs_any_program(&self) -> bool {
        self.allows(JobKind::Shell) || (self.allows(JobKind::Exec) && self.options.programs.is_none())
    }

    fn check_env(&self, env: &[EnvVar], refusals: &mut Vec<Refusal>) {
        let mut refuse = |index: usize, field: &str, code, message: String| {
            refusals.push(Refusal::new(code, &["env", &index.to_string(), field], message));
        };
        if env.len() > MOST_ENV {
            let message = format!("a job takes at most {MOST_ENV} variables");
            return refusals.push(Refusal::new(RefusalCode::LimitExceeded, &["env"], message));
        }
        let only_scripts = !self.runs_any_program();
        for (index, EnvVar { name, value }) in env.iter().enumerate() {
            if !is_variable_name(name) {
                let message = "a variable's name has letters, digits and _, and does not begin with a digit";
                refuse(index, "name", RefusalCode::Invalid, message.to_owned());
            } else if OWN_PREFIXES.iter().any(|prefix| name.starts_with(prefix)) {
                let message = format!(
                    "the server sets {name} itself: names that begin with RUNQL_ or PARAM_ are taken"
                );
                refuse(index, "name", RefusalCode::Invalid, message);
            } else if only_scripts && runs_code(name) {
                let message = format!(
                    "{name} can run other code than what was asked for, and this server does not allow any program"
                );
                refuse(index, "name", RefusalCode::NotAllowed, message);
            } else if env[..index].iter().any(|earlier| earlier.name == *name) {
                refuse(
                    index,
                    "name",
                    RefusalCode::Invalid,
                    format!("{name} is given twice"),
                );
            }
            let value = match value {
                EnvValue::Value(text) => text,
                EnvValue::Secret(secret) => {
                    if !self.options.secrets.has(secret) {
                        refuse(index, "secret", RefusalCode::NotFound, unknown(secret));
                    }
                    continue;
                }
            };
            if value.contains('\0') {
                refuse(
                    index,
                    "value",
                    RefusalCode::Invalid,
                    "a variable cannot hold the NUL character".to_owned(),
                );
            } else if value.len() + name.len() > LONGEST_TEXT {
                let message =
                    format!("a variable takes at most {LONGEST_TEXT} bytes: hand more over as a parameter");
                refuse(index, "value", RefusalCode::LimitExceeded, message);
            }
        }
    }
}

fn is_variable_name(name: &str) -> bool {
    name.len() <= LONGEST_KEY
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty()
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// Whether a variable decides which code runs.
pub(super) fn runs_code(name: &str) -> bool {
    CODE_NAMES.contains(&name) || CODE_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// The inputs that need nothing but themselves to be judged.
fn check_fields(request: &JobRequest, refusals: &mut Vec<Refusal>) {
    let mut refuse = |path: &[&str], code, message: String| refusals.push(Refusal::new(code, path, message));
    let queue_fits = (1..=LONGEST_QUEUE).contains(&request.queue.len())
        && request
            .queue
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    if !queue_fits {
        let message =
            format!("a queue's name has 1 to {LONGEST_QUEUE} letters, digits, dots, dashes or underscores");
        refuse(&["queue"], RefusalCode::Invalid, message);
    }
    if !(-100..=100).contains(&request.priority) {
        refuse(
            &["priority"],
            RefusalCode::Invalid,
            "a priority lies between -100 and 100".to_owned(),
        );
    }
    if !(1..=MOST_ATTEMPTS).contains(&request.max_attempts) {
        refuse(
            &["maxAttempts"],
            RefusalCode::Invalid,
            format!("maxAttempts lies between 1 and {MOST_ATTEMPTS}"),
        );
    }
    if request.backoff > LONGEST_BACKOFF {
        refuse(
            &["backoffMs"],
            RefusalCode::Invalid,
            "backoffMs lies between 0 and 3600000, an hour".to_owned(),
        );
    }
    if let Some(key) = &request.idempotency_key
        && let Err(message) = label(key, LONGEST_KEY)
    {
        refuse(&["idempotencyKey"], RefusalCode::Invalid, message);
    }
    if request.depends_on.len() > MOST_DEPENDENCIES {
        let message = format!("a job waits for at most {MOST_DEPENDENCIES} others");
        refuse(&["dependsOn"], RefusalCode::LimitExceeded, message);
    } else {
        let mut seen = HashSet::new();
        for (index, awaited) in request.depends_on.iter().enumerate() {
            if !seen.insert(awaited) {
                let path = ["dependsOn", &index.to_string()];
                refuse(
                    &path,
                    RefusalCode::Invalid,
                    format!("the job {awaited} is given twice"),
                );
            }
        }
    }
    for (name, value) in [
        ("source", &request.metadata.source),
        ("conversationId", &request.metadata.conversation_id),
    ] {
        if let Some(value) = value
            && let Err(message) = label(value, LONGEST_TAG)
        {
            refuse(&["metadata", name], RefusalCode::Invalid, message);
        }
    }
    if request.metadata.tags.len() > MOST_TAGS {
        refuse(
            &["metadata", "tags"],
            RefusalCode::LimitExceeded,
            format!("a job takes at most {MOST_TAGS} tags"),
        );
    }
    for (index, Tag { key, value }) in request.metadata.tags.iter().enumerate() {
        for (name, text) in [("key", key), ("value", value)] {
            // A tag may stand for itself, without a value.
            if (name == "key" || !text.is_empty())
                && let Err(message) = label(text, LONGEST_TAG)
            {
                refuse(
                    &["metadata", "tags", &index.to_string(), name],
                    RefusalCode::Invalid,
                    message,
                );
            }
        }
    }
}

/// A short text that people choose.
pub(super) fn label(text: &str, longest: usize) -> Result<(), String> {
    if text.is_empty() || text.len() > longest || text.contains('\0') {
        return Err(format!("takes 1 to {longest} bytes, without the NUL character"));
    }
    Ok(())
}

/// Whether the text can be an argument of a program.
pub(super) fn check_args(args: &[String], path: &[&str], refusals: &mut Vec<Refusal>) {
    /// The system takes about 2 MiB of arguments and environment in all.
    const MOST_BYTES: usize = 1 << 20;
    for (index, arg) in args.iter().enumerate() {
        let at = |code, message: &str| {
            let index = index.to_string();
            let full: Vec<&str> = path.iter().copied().chain([index.as_str()]).collect();
            Refusal::new(code, &full, message)
        };
        if arg.contains('\0') {
            refusals.push(at(
                RefusalCode::Invalid,
                "an argument cannot hold the NUL character",
            ));
        } else if arg.len() > LONGEST_TEXT {
            refusals.push(at(
                RefusalCode::LimitExceeded,
                "an argument takes at most 124 KiB: hand more over in a file",
            ));
        }
    }
    if args.iter().map(|arg| arg.len() + 9).sum::<usize>() > MOST_BYTES {
        let message = "all arguments together take at most 1 MiB: hand more over in a file";
        refusals.push(Refusal::new(RefusalCode::LimitExceeded, path, message));
    }
}

/// The command's kind, for messages.
pub(super) const fn kind_setting(command: &Command) -> Option<&'static str> {
    match command {
        Command::Exec(_) => Some("exec"),
        Command::Shell(_) => Some("shell"),
        Command::AwsCli(_) => Some("aws_cli"),
        _ => None,
    }
}

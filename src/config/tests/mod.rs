//! The settings as a person gives them: a command line, variables and a file.

mod refusals;
mod values;

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::*;
use crate::telemetry::{LogFormat, chain};

/// A place to start the program in: a folder that may hold a file, and variables.
struct Place {
    folder: tempfile::TempDir,
    variables: HashMap<String, String>,
}

impl Place {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            variables: HashMap::new(),
        }
    }

    fn file(self, text: &str) -> Self {
        std::fs::write(self.folder.path().join("runql.toml"), text).unwrap();
        self
    }

    fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.insert(name.to_owned(), value.to_owned());
        self
    }

    fn parse(&self, arguments: &str) -> Result<Invocation, ConfigError> {
        let variables = |name: &str| self.variables.get(name).map(OsString::from);
        let environment = Environment::new(&variables, self.folder.path());
        let arguments = std::iter::once("runql").chain(arguments.split_whitespace());
        parse(arguments.map(OsString::from), &environment)
    }

    fn config(&self, arguments: &str) -> Config {
        match self.parse(arguments).unwrap() {
            Invocation::Serve(config) | Invocation::Migrate(config) => *config,
            other => panic!("{other:?}"),
        }
    }

    fn refused(&self, arguments: &str) -> String {
        chain(&self.parse(arguments).unwrap_err()).to_string()
    }
}

#[test]
fn without_any_setting_the_defaults_are_those_of_the_manual() {
    let config = Place::new().config("");
    assert_eq!(config.server.listen.to_string(), "127.0.0.1:8000");
    assert_eq!(config.server.shutdown_grace, Duration::from_secs(10));
    assert_eq!(
        config.storage.database_url.to_string(),
        "sqlite://runql.db?mode=rwc"
    );
    assert_eq!(config.storage.work_dir(), Path::new("work"));
    assert_eq!(config.storage.retention, None);
    assert_eq!(config.scripts.scripts_dir, Path::new("./scripts"));
    assert_eq!(config.scripts.pipelines_dir, Path::new("./pipelines"));
    assert!(config.scripts.agents().is_empty());
    for kind in [Allow::Exec, Allow::Shell, Allow::AwsCli] {
        assert!(!config.scripts.allows(kind));
    }
    assert!(config.jobs.workers >= 3);
    assert!(config.jobs.auto_start_workers);
    assert_eq!(config.jobs.default_timeout, Duration::from_secs(30 * 60));
    assert_eq!(config.jobs.max_timeout, Duration::from_secs(1440 * 60));
    assert_eq!(config.jobs.default_max_steps, 30);
    assert_eq!(config.jobs.lease, Duration::from_secs(30));
    assert_eq!(config.jobs.cancel_grace, Duration::from_secs(5));
    assert_eq!(config.jobs.log_bytes_per_job, 64 << 20);
    assert_eq!(config.jobs.queue_limit, 100_000);
    assert_eq!(config.jobs.max_plan_steps, 10_000);
    assert_eq!(config.limits.max_query_depth, 15);
    assert_eq!(config.limits.max_batch, 20);
    assert_eq!(config.limits.max_execution, Duration::from_secs(30));
    assert!(config.limits.introspection);
    assert_eq!(config.limits.persisted_operations, None);
    assert_eq!(config.limits.rate_limit, None);
    assert_eq!(config.limits.max_listeners, 20_000);
    assert_eq!(config.limits.max_listeners_per_connection, 200);
    assert_eq!(config.limits.max_connections, 10_000);
    assert_eq!(config.limits.request_head_timeout, Duration::from_secs(30));
    assert!(config.logging.log_level.to_string().starts_with("info,"));
    assert_eq!(config.logging.log_format, LogFormat::Auto);
    assert!(
        config.scripts.interpreters().is_empty(),
        "a default would win over a shebang"
    );
}

#[test]
fn flags_win_over_variables_and_variables_over_the_file() {
    let place =
        Place::new().file("lease-ms = 1000\nqueue-limit = 1\nworkers = 1\nallow = [\"exec\", \"shell\"]");
    let place = place
        .variable("RUNQL_LEASE_MS", "2000")
        .variable("RUNQL_QUEUE_LIMIT", "2");
    let config = place.config("--lease-ms 3000");
    assert_eq!(config.jobs.lease, Duration::from_secs(3));
    assert_eq!(config.jobs.queue_limit, 2);
    assert_eq!(config.jobs.workers, 1);
    assert!(config.scripts.allows(Allow::Exec) && config.scripts.allows(Allow::Shell));
    // A list replaces the one below it.
    let config = place.config("serve --allow aws_cli");
    assert!(config.scripts.allows(Allow::AwsCli) && !config.scripts.allows(Allow::Exec));
    // A flag of the subcommand stands nearer than one before it.
    assert_eq!(place.config("--workers 7 serve --workers 8").jobs.workers, 8);
    assert_eq!(place.config("--workers 7 migrate").jobs.workers, 7);
}

#[test]
fn every_setting_can_be_set_in_each_of_the_three_places() {
    let variables = [
        ("listen", "RUNQL_LISTEN", "127.0.0.1:9000"),
        ("database-url", "DATABASE_URL", "sqlite://other.db"),
        ("scripts-dir", "RUNQL_SCRIPTS_DIR", "other"),
        ("pipelines-dir", "RUNQL_PIPELINES_DIR", "other"),
        ("work-dir", "RUNQL_WORK_DIR", "other"),
        ("allow", "RUNQL_ALLOW", "exec"),
        ("allow-programs", "RUNQL_ALLOW_PROGRAMS", "git"),
        ("secrets-dir", "RUNQL_SECRETS_DIR", "secrets"),
        ("secret-env", "RUNQL_SECRET_ENV", "DB_PASSWORD"),
        ("workers", "NUM_INTERNAL_WORKERS", "9"),
        ("auto-start-workers", "AUTO_START_WORKERS", "false"),
        ("default-timeout-minutes", "DEFAULT_TIMEOUT_MINUTES", "9"),
        ("max-timeout-minutes", "MAX_TIMEOUT_MINUTES", "99"),
        ("default-max-steps", "DEFAULT_MAX_STEPS", "9"),
        ("lease-ms", "RUNQL_LEASE_MS", "900"),
        ("cancel-grace-ms", "RUNQL_CANCEL_GRACE_MS", "9"),
        ("log-bytes-per-job", "RUNQL_LOG_BYTES_PER_JOB", "9000"),
        ("queue-limit", "RUNQL_QUEUE_LIMIT", "9"),
        ("max-plan-steps", "RUNQL_MAX_PLAN_STEPS", "9"),
        ("log-level", "LOG_LEVEL", "debug"),
        ("allowed-origins", "RUNQL_ALLOWED_ORIGINS", "https://example.org"),
        ("allowed-hosts", "RUNQL_ALLOWED_HOSTS", "example.org"),
        ("retention", "RUNQL_RETENTION", "9h"),
        ("audit-retention", "RUNQL_AUDIT_RETENTION", "9h"),
        ("trusted-proxies", "RUNQL_TRUSTED_PROXIES", "10.0.0.0/8"),
        ("oidc-scope-claim", "RUNQL_OIDC_SCOPE_CLAIM", "roles"),
        ("oidc-scope-map", "RUNQL_OIDC_SCOPE_MAP", "ops=admin"),
        ("log-format", "RUNQL_LOG_FORMAT", "json"),
        ("shutdown-grace-ms", "RUNQL_SHUTDOWN_GRACE_MS", "9"),
        ("sandbox", "RUNQL_SANDBOX", "require"),
        ("job-write", "RUNQL_JOB_WRITE", "/a,/b"),
        ("run-as", "RUNQL_RUN_AS", "nobody:nogroup"),
        ("job-cgroup", "RUNQL_JOB_CGROUP", "auto"),
        ("job-cpus", "RUNQL_JOB_CPUS", "1.5"),
        ("job-cpu-seconds", "RUNQL_JOB_CPU_SECONDS", "9"),
        ("job-memory", "RUNQL_JOB_MEMORY", "900MiB"),
        ("job-open-files", "RUNQL_JOB_OPEN_FILES", "99"),
        ("job-processes", "RUNQL_JOB_PROCESSES", "9"),
        ("job-file-size", "RUNQL_JOB_FILE_SIZE", "9MiB"),
        ("max-request-bytes", "RUNQL_MAX_REQUEST_BYTES", "9000"),
        ("max-query-depth", "RUNQL_MAX_QUERY_DEPTH", "9"),
        ("max-query-cost", "RUNQL_MAX_QUERY_COST", "9"),
        ("max-aliases", "RUNQL_MAX_ALIASES", "9"),
        ("max-page-size", "RUNQL_MAX_PAGE_SIZE", "9"),
        ("max-batch", "RUNQL_MAX_BATCH", "9"),
        ("max-execution-ms", "RUNQL_MAX_EXECUTION_MS", "900"),
        ("introspection", "RUNQL_INTROSPECTION", "false"),
        (
            "persisted-operations",
            "RUNQL_PERSISTED_OPERATIONS",
            "operations.json",
        ),
        ("rate-limit", "RUNQL_RATE_LIMIT", "9:90"),
        ("max-listeners", "RUNQL_MAX_LISTENERS", "9"),
        (
            "max-listeners-per-connection",
            "RUNQL_MAX_LISTENERS_PER_CONNECTION",
            "9",
        ),
        ("max-connections", "RUNQL_MAX_CONNECTIONS", "9"),
        ("request-head-timeout-ms", "RUNQL_REQUEST_HEAD_TIMEOUT_MS", "900"),
    ];
    let listed =
        |place: &Place, arguments: &str| match place.parse(&format!("check-config {arguments}")).unwrap() {
            Invocation::CheckConfig(chosen) => chosen,
            other => panic!("{other:?}"),
        };
    let untouched = listed(&Place::new(), "");
    for (flag, variable, value) in variables {
        let default = untouched.iter().find(|chosen| chosen.setting == flag).unwrap();
        assert_eq!(default.origin, Origin::Default);
        assert_ne!(default.value, value, "{flag} is tested with its default");
        let quoted = format!("{flag} = \"{value}\"");
        let path = PathBuf::from("runql.toml");
        for (place, arguments, origin) in [
            (
                Place::new(),
                format!("--{flag} {value}"),
                Origin::Flag(flag.to_owned()),
            ),
            (
                Place::new().variable(variable, value),
                String::new(),
                Origin::Variable(variable.to_owned()),
            ),
            (
                Place::new().file(&quoted),
                String::new(),
                Origin::File {
                    path,
                    key: flag.to_owned(),
                },
            ),
        ] {
            let expected = Chosen {
                setting: flag.to_owned(),
                value: value.to_owned(),
                origin,
            };
            assert!(listed(&place, &arguments).contains(&expected), "{expected:?}");
        }
    }
    // Those that a table of texts cannot show, and which have tests of their own.
    let own = [
        "interpreter",
        "agent",
        "config",
        "tokens-file",
        "oidc-issuer",
        "oidc-audience",
    ];
    assert_eq!(untouched.len(), variables.len() + own.len());
}

#[test]
fn the_file_is_the_one_that_is_named_and_must_then_exist() {
    let place = Place::new().file("workers = 4");
    std::fs::write(place.folder.path().join("other.toml"), "workers = 5").unwrap();
    assert_eq!(place.config("").jobs.workers, 4);
    assert_eq!(place.config("--config other.toml").jobs.workers, 5);
    assert_eq!(place.config("serve --config other.toml").jobs.workers, 5);
    let missing = place.variable("RUNQL_CONFIG", "none.toml");
    assert!(
        missing
            .refused("")
            .starts_with("the configuration file none.toml cannot be read: ")
    );
    assert_eq!(missing.config("--config other.toml").jobs.workers, 5);
}

#[test]
fn interpreters_are_added_to_those_below_them() {
    let place = Place::new().file("[interpreters]\nlua = 'lua5.4'\npy = ['/opt/my python/bin/python', '-u']");
    let place = place.variable("RUNQL_INTERPRETERS", ".R=Rscript --vanilla,lua=luajit");
    let got = place.config("--interpreter sh=dash").scripts.interpreters();
    assert_eq!(got["py"], ["/opt/my python/bin/python", "-u"]);
    assert_eq!(got["lua"], ["luajit"]);
    assert_eq!(got["r"], ["Rscript", "--vanilla"]);
    assert_eq!(got["sh"], ["dash"]);
}

#[test]
fn an_issuer_is_kept_letter_by_letter() {
    use crate::domain::Scope;

    let place =
        Place::new().file("oidc-issuer = 'https://id.example.org/realms/x/'\noidc-audience = 'runql'");
    let oidc = place.config("").server.access.oidc;
    assert_eq!(oidc.issuer.as_deref(), Some("https://id.example.org/realms/x/"));
    assert_eq!(
        (oidc.audience.as_deref(), oidc.scope_claim.as_str()),
        (Some("runql"), "scope")
    );
    let words = ["runql:read", "runql:run", "runql:worker", "runql:admin"];
    let words = words.into_iter().map(str::to_owned);
    assert_eq!(
        oidc.scopes(),
        words.zip(Scope::ALL.iter().copied()).collect::<Vec<_>>()
    );
    let place = place.variable("RUNQL_OIDC_ISSUER", "http://127.0.0.1:9000");
    let place = place.variable("RUNQL_OIDC_SCOPE_MAP", "dev=read,dev=RUN,a=b=admin");
    let oidc = place
        .config("--oidc-audience other --oidc-scope-claim realm.roles")
        .server
        .access
        .oidc;
    assert_eq!(oidc.issuer.as_deref(), Some("http://127.0.0.1:9000"));
    assert_eq!(
        (oidc.audience.as_deref(), oidc.scope_claim.as_str()),
        (Some("other"), "realm.roles")
    );
    let scopes = oidc.scopes();
    let scopes: Vec<_> = scopes
        .iter()
        .map(|(word, scope)| (word.as_str(), *scope))
        .collect();
    assert_eq!(
        scopes,
        [("dev", Scope::Read), ("dev", Scope::Run), ("a=b", Scope::Admin)]
    );
}

#[test]
fn agents_are_added_to_those_below_them() {
    let place = Place::new().file("[agents]\n'review-*' = ['python3', 'my review.py']\n'*' = 'agent --any'");
    let place = place.variable("RUNQL_AGENTS", "review-*=review,fix=agent --fix 'a b'");
    let got = place.config("--agent x-*=y").scripts.agents();
    let got: Vec<(&str, String)> = got
        .iter()
        .map(|(pattern, command)| (pattern.as_str(), command.join("|")))
        .collect();
    assert_eq!(
        got,
        [
            ("*", "agent|--any".to_owned()),
            ("fix", "agent|--fix|a b".to_owned()),
            ("review-*", "review".to_owned()),
            ("x-*", "y".to_owned()),
        ]
    );
    let Invocation::CheckConfig(chosen) = place.parse("check-config").unwrap() else {
        panic!("no settings")
    };
    let agents = chosen.iter().find(|chosen| chosen.setting == "agent").unwrap();
    assert_eq!(
        agents.value,
        "*=agent --any,fix=agent --fix 'a b',review-*=review"
    );
}

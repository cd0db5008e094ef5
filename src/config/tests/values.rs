//! What single values are taken for.

use super::*;

#[test]
fn sizes_and_lengths_of_time_take_units() {
    let config =
        Place::new().config("--log-bytes-per-job 2MiB --max-request-bytes 64KiB --retention 1d12h30m5s");
    assert_eq!(config.jobs.log_bytes_per_job, 2 << 20);
    assert_eq!(config.limits.max_request_bytes, 64 << 10);
    assert_eq!(
        config.storage.retention,
        Some(Duration::from_secs(36 * 3_600 + 30 * 60 + 5))
    );
    for text in [
        "59s",
        "0d",
        "1y",
        "d",
        "1d2",
        "99999999999999999999d",
        "36526d",
        "-1d",
        "1 d",
    ] {
        let refused = Place::new().variable("RUNQL_RETENTION", text).refused("");
        assert!(
            refused.starts_with(&format!("RUNQL_RETENTION: `{text}` is not")),
            "{refused}"
        );
    }
}

#[test]
fn a_share_of_processors_has_up_to_three_places() {
    for (text, millis) in [
        ("2", 2_000),
        ("1.5", 1_500),
        ("0.01", 10),
        ("0.125", 125),
        ("10000", 10_000_000),
    ] {
        let config = Place::new().config(&format!("--job-cpus {text}"));
        assert_eq!(config.sandbox.millicpus, Some(millis), "{text}");
    }
    for text in [
        "0",
        "0.009",
        "10000.001",
        "1.2345",
        "1.",
        ".5",
        "+1",
        "1,5",
        "two",
    ] {
        let refused = Place::new().variable("RUNQL_JOB_CPUS", text).refused("");
        assert!(
            refused.starts_with(&format!("RUNQL_JOB_CPUS: `{text}` is not a number from 0.01")),
            "{refused}"
        );
    }
}

#[test]
fn a_rate_limit_has_a_burst_of_ten_seconds_unless_it_says_another() {
    let limit = |text: &str| {
        let limit = Place::new()
            .config(&format!("--rate-limit {text}"))
            .limits
            .rate_limit
            .unwrap();
        (limit.per_second.get(), limit.burst.get())
    };
    assert_eq!(limit("100"), (100, 1_000));
    assert_eq!(limit("100:5"), (100, 5));
    assert_eq!(limit("1000000000"), (1_000_000_000, u32::MAX));
    for text in [
        "0",
        "1:0",
        ":",
        "1:",
        ":1",
        "-1",
        "1.5",
        "1000000001",
        "4294967296",
        "x",
    ] {
        let refused = Place::new().variable("RUNQL_RATE_LIMIT", text).refused("");
        assert!(
            refused.starts_with(&format!("RUNQL_RATE_LIMIT: `{text}` is not COST")),
            "{refused}"
        );
    }
}

#[test]
fn an_empty_variable_counts_as_not_set() {
    let place = Place::new()
        .variable("RUNQL_TOKENS_FILE", "")
        .variable("NUM_INTERNAL_WORKERS", "");
    assert_eq!(place.config("").server.access.tokens_file, None);
}

#[test]
fn lowering_the_longest_timeout_lowers_the_default_one() {
    let jobs = Place::new().config("--max-timeout-minutes 10").jobs;
    assert_eq!(jobs.default_timeout, Duration::from_secs(600));
}

#[test]
fn the_work_folder_stands_beside_the_database() {
    for (arguments, folder) in [
        (
            "--database-url sqlite:///var/lib/runql/jobs.db?mode=rwc",
            "/var/lib/runql/work",
        ),
        ("--database-url sqlite://data/jobs.db", "data/work"),
        ("--database-url postgres://db/runql", "work"),
        ("--work-dir /scratch", "/scratch"),
    ] {
        assert_eq!(
            Place::new().config(arguments).storage.work_dir(),
            Path::new(folder),
            "{arguments}"
        );
    }
}

#[test]
fn origins_and_hosts_are_brought_to_the_form_that_browsers_send() {
    let config = Place::new().config(
        "--allowed-origins HTTPS://Example.org:443,http://localhost:3000/ --allowed-hosts Example.ORG:80",
    );
    let access = config.server.access;
    assert_eq!(
        access.allowed_origins,
        ["https://example.org", "http://localhost:3000"]
    );
    assert_eq!(access.allowed_hosts, ["example.org:80"]);
}

#[test]
fn help_shows_defaults_and_variables_but_no_values_of_them() {
    let Err(ConfigError::Usage(help)) = Place::new().parse("serve --help") else {
        panic!("no help");
    };
    let help = help.to_string();
    for piece in [
        "[env: DATABASE_URL]",
        "[default: 127.0.0.1:8000]",
        "Limits:",
        "--max-query-depth <COUNT>",
    ] {
        assert!(help.contains(piece), "no {piece} in {help}");
    }
    assert!(matches!(Place::new().parse("schema"), Ok(Invocation::Schema)));
    assert!(matches!(
        Place::new().parse("serve --no-such"),
        Err(ConfigError::Usage(_))
    ));
}

//! What stops the start, and what is said then.

use super::*;

#[test]
fn a_bad_value_names_its_setting_its_source_and_what_is_allowed() {
    let place = Place::new;
    for (got, expected) in [
        (
            place().refused("--lease-ms soon"),
            "--lease-ms: `soon` is not a whole number from 100 to 3600000",
        ),
        (
            place().variable("NUM_INTERNAL_WORKERS", "-1").refused(""),
            "NUM_INTERNAL_WORKERS: `-1` is not a whole number from 0 to 1024",
        ),
        (
            place().file("max-batch = 0").refused(""),
            "`max-batch` in runql.toml: `0` is not a whole number from 1 to 10000",
        ),
        (
            place().refused("--listen localhost"),
            "--listen: `localhost` is not an IP address with a port, such as 127.0.0.1:8000 or [::1]:8000",
        ),
        (
            place().refused("serve --allow exec,sudo"),
            "--allow: `sudo` is not exec, shell or aws_cli",
        ),
        (
            place().refused("--max-request-bytes 1KB"),
            "--max-request-bytes: `1KB` is not a number of bytes, bare or with KiB, MiB or GiB, from 1024 to 1073741824",
        ),
        (
            place().refused("--retention 30"),
            "--retention: `30` is not a length of time such as 45m, 12h, 30d or 1d12h, 60s at least",
        ),
        (
            place().file("workers = [1]").refused(""),
            "`workers` in runql.toml: takes one value, not a list",
        ),
        (
            place().file("interpreters = 'py=python'").refused(""),
            "`interpreters` in runql.toml: takes a table of extension = \"command\" or extension = [\"program\", \
             \"argument\"]",
        ),
        (
            place()
                .file("[interpreters]\npy = 'python3'\nworkers = 3")
                .refused(""),
            "`interpreters` in runql.toml: takes a table of extension = \"command\" or extension = [\"program\", \
             \"argument\"]",
        ),
        (
            place().file("[agents]\n'*' = 5").refused(""),
            "`agents` in runql.toml: takes a table of \"pattern\" = \"command\" or \"pattern\" = [\"program\", \
             \"argument\"]",
        ),
        (
            place().refused("--agent review-*"),
            "--agent: `review-*` is not PATTERN=COMMAND, such as review-*=python3 agents/review.py, with quotes as in a \
             shell",
        ),
        (
            place().variable("RUNQL_AGENTS", "=agent").refused(""),
            "RUNQL_AGENTS: `=agent` is not PATTERN=COMMAND, such as review-*=python3 agents/review.py, with quotes as \
             in a shell",
        ),
        (
            place().refused("--allowed-origins https://example.org/path"),
            "--allowed-origins: `https://example.org/path` is not an origin such as https://example.org or \
             http://localhost:3000",
        ),
        (
            place().refused("--allowed-hosts *.example.org"),
            "--allowed-hosts: `*.example.org` is not a host such as runql.example.org or runql.example.org:8000",
        ),
        (
            place().variable("RUNQL_LOG_FORMAT", "xml").refused(""),
            "RUNQL_LOG_FORMAT: `xml` is not auto, text or json",
        ),
        (
            place().refused("--default-timeout-minutes 90 --max-timeout-minutes 60"),
            "--default-timeout-minutes: above the 60 minutes of --max-timeout-minutes",
        ),
        (
            place()
                .variable("RUNQL_INTERPRETERS", "py=python3,lua")
                .refused(""),
            "RUNQL_INTERPRETERS: `lua` is not EXT=COMMAND, such as py=python3 -u, with quotes as in a shell",
        ),
    ] {
        assert_eq!(got, expected);
    }
    let log_level = place().variable("LOG_LEVEL", "inf").refused("");
    assert!(
        log_level.starts_with("LOG_LEVEL: `inf` is not a log filter"),
        "{log_level}"
    );
    let yes = place().variable("AUTO_START_WORKERS", "perhaps").refused("");
    assert!(yes.starts_with("AUTO_START_WORKERS: "), "{yes}");
}

#[test]
fn a_password_is_never_repeated() {
    let secret = "postgres://me:hunter2@db:port/runql";
    for text in [
        Place::new().refused(&format!("--database-url {secret}")),
        Place::new().variable("DATABASE_URL", secret).refused(""),
        Place::new()
            .file(&format!("database-url = '{secret}'"))
            .refused(""),
        Place::new()
            .file(&format!("database-url = '{secret}"))
            .refused(""),
        format!(
            "{:?}",
            Place::new().config("--database-url postgres://me:hunter2@db/runql")
        ),
        format!(
            "{:?}",
            Place::new()
                .parse("check-config --database-url postgres://me:hunter2@db/runql")
                .unwrap()
        ),
    ] {
        assert!(!text.contains("hunter2"), "{text}");
        assert!(
            text.contains("database-url")
                || text.contains("DATABASE_URL")
                || text.contains("***")
                || text.contains("line 1"),
            "{text}"
        );
    }
}

#[test]
fn an_unknown_key_stops_the_start_and_an_unknown_variable_does_not() {
    for (file, expected) in [
        (
            "lease_ms = 1000",
            "runql.toml: unknown key `lease_ms`; did you mean `lease-ms`?",
        ),
        (
            "listn = '127.0.0.1:1'",
            "runql.toml: unknown key `listn`; did you mean `listen`?",
        ),
        (
            "interpreter = {}",
            "runql.toml: unknown key `interpreter`; did you mean `interpreters`?",
        ),
        ("config = 'other.toml'", "runql.toml: unknown key `config`"),
        ("zzz = 1", "runql.toml: unknown key `zzz`"),
        ("lease-ms = 1000\nworkers = ", "runql.toml, line 2: "),
    ] {
        let refused = Place::new().file(file).refused("");
        assert!(refused.starts_with(expected), "{refused}");
    }
    Place::new().variable("RUNQL_NONSENSE", "1").config("");
}

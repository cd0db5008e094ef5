//! What the operating system counts for this process, read at each scrape.
//!
//! The names are those that every Prometheus client library uses for them, so that dashboards find them. On a system
//! without `/proc` there are none.

use std::fmt::Write;
use std::fs;

/// Appends the figures of this process to a Prometheus text.
pub(super) fn render(text: &mut String) {
    let Some(figures) = Figures::read() else {
        return;
    };
    let mut metric = |name: &str, kind: &str, help: &str, value: f64| {
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n\n"
        );
    };
    metric(
        "process_resident_memory_bytes",
        "gauge",
        "Resident memory of the server itself, without the processes of its jobs.",
        figures.resident_bytes,
    );
    metric(
        "process_open_fds",
        "gauge",
        "Open file descriptors.",
        figures.open_fds,
    );
    metric(
        "process_cpu_seconds_total",
        "counter",
        "Processor time of the server itself, user and system.",
        figures.cpu_seconds,
    );
    metric(
        "process_start_time_seconds",
        "gauge",
        "When the server started, in seconds since 1970.",
        figures.start_seconds,
    );
}

struct Figures {
    resident_bytes: f64,
    open_fds: f64,
    cpu_seconds: f64,
    start_seconds: f64,
}

impl Figures {
    fn read() -> Option<Self> {
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        let status = fs::read_to_string("/proc/self/status").ok()?;
        let system = fs::read_to_string("/proc/stat").ok()?;
        #[expect(clippy::cast_precision_loss, reason = "these counts stay far below 2^53")]
        let (ticks, open_fds) = (
            rustix::param::clock_ticks_per_second() as f64,
            fs::read_dir("/proc/self/fd").ok()?.count() as f64,
        );
        let times = Times::parse(&stat)?;
        Some(Self {
            resident_bytes: field(&status, "VmRSS:")? * 1024.0,
            open_fds,
            cpu_seconds: times.cpu / ticks,
            start_seconds: field(&system, "btime ")? + times.start / ticks,
        })
    }
}

/// The first number after `name` at the start of a line.
fn field(text: &str, name: &str) -> Option<f64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

/// Times of a process, in ticks.
struct Times {
    cpu: f64,
    start: f64,
}

impl Times {
    /// Reads `/proc/self/stat`. The program's name, in parentheses, may hold spaces and parentheses itself, so the
    /// fields are counted from the last one; the first after it is field 3 of proc(5).
    fn parse(stat: &str) -> Option<Self> {
        let (_, fields) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let ticks = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
        Some(Self {
            cpu: ticks(14)? + ticks(15)?,
            start: ticks(22)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_name_with_spaces_and_parentheses_does_not_shift_the_fields() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 95 0 0 0 11 22 0 0 20 0 1 0 3333 0 0";
        let times = Times::parse(stat).unwrap();
        assert!((times.cpu - 33.0).abs() < f64::EPSILON);
        assert!((times.start - 3333.0).abs() < f64::EPSILON);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_figures_of_this_process_are_plausible() {
        let figures = Figures::read().unwrap();
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap()
            .as_secs_f64();
        assert!(figures.resident_bytes > 100_000.0);
        assert!(figures.open_fds >= 3.0);
        assert!(figures.start_seconds > now - 3_600.0 && figures.start_seconds < now + 2.0);
        let held = fs::File::open("/proc/self/stat").unwrap();
        assert!(Figures::read().unwrap().open_fds > 3.0);
        drop(held);
    }
}

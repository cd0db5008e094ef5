//! Named places where a test makes this program die, freeze, wait or fail: failpoints.
//!
//! They are there only with the feature `failpoints`, which the tests switch on for themselves. Without it a failpoint
//! is nothing at all, not even its name. The variable `RUNQL_FAILPOINTS` arms them:
//!
//! ```text
//!   commit.before.EndJob=kill@3; commit.after.*=error/9; attempt.prepared=wait:200
//!   name, or its beginning and *  │ what happens            │ @n: at the n-th hit only, /n: at each n-th, else at all
//! ```
//!
//! | action | what happens |
//! | --- | --- |
//! | `kill` | SIGKILL to this process |
//! | `stop` | SIGSTOP to this process, which goes on with SIGCONT |
//! | `wait:MS` | the task that came by waits |
//! | `error` | the failpoint takes its way of failing, where it has one |

/// A failpoint: its name, and what to do where it is armed with `error`.
#[cfg(feature = "failpoints")]
macro_rules! failpoint {
    ($name:expr) => {
        let _ = $crate::failpoint::hit($name).await;
    };
    ($name:expr, $failed:expr) => {
        if $crate::failpoint::hit($name).await {
            $failed
        }
    };
}

/// A failpoint of a program that has none.
#[cfg(not(feature = "failpoints"))]
macro_rules! failpoint {
    ($($any:tt)*) => {};
}

pub(crate) use failpoint;

#[cfg(feature = "failpoints")]
pub(crate) use armed::hit;

#[cfg(feature = "failpoints")]
mod armed {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    use rustix::process::{Signal, getpid, kill_process};

    /// What arms failpoints.
    const VARIABLE: &str = "RUNQL_FAILPOINTS";

    static RULES: LazyLock<Vec<Rule>> = LazyLock::new(|| {
        let text = std::env::var(VARIABLE).unwrap_or_default();
        let rules = text.split(';').map(str::trim).filter(|rule| !rule.is_empty());
        rules
            .map(|rule| Rule::parse(rule).unwrap_or_else(|| panic!("{VARIABLE}: `{rule}` is no rule")))
            .collect()
    });

    #[derive(Debug)]
    struct Rule {
        name: String,
        /// Whether the name is only the beginning of those that are meant.
        open: bool,
        action: Action,
        /// At this hit, or with `again` at each multiple of it.
        at: u64,
        again: bool,
        hits: AtomicU64,
    }

    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Action {
        Kill,
        Stop,
        Wait(Duration),
        Error,
    }

    impl Rule {
        fn parse(text: &str) -> Option<Self> {
            let (name, action) = text.split_once('=')?;
            let (action, at, again) = match (action.split_once('@'), action.split_once('/')) {
                (Some((action, at)), _) => (action, at.parse().ok()?, false),
                (_, Some((action, at))) => (action, at.parse().ok()?, true),
                _ => (action, 1, true),
            };
            let action = match action.split_once(':') {
                Some(("wait", ms)) => Action::Wait(Duration::from_millis(ms.parse().ok()?)),
                None if action == "kill" => Action::Kill,
                None if action == "stop" => Action::Stop,
                None if action == "error" => Action::Error,
                _ => return None,
            };
            let open = name.ends_with('*');
            (at > 0).then(|| Self {
                name: name.trim_end_matches('*').to_owned(),
                open,
                action,
                at,
                again,
                hits: AtomicU64::new(0),
            })
        }

        fn is_for(&self, name: &str) -> bool {
            name == self.name || self.open && name.starts_with(&self.name)
        }

        fn is_due(&self) -> bool {
            let hit = self.hits.fetch_add(1, Ordering::Relaxed) + 1;
            hit == self.at || self.again && hit.is_multiple_of(self.at)
        }
    }

    /// Comes by at a failpoint. Tells whether it is to fail.
    pub(crate) async fn hit(name: impl AsRef<str>) -> bool {
        let mut fails = false;
        for rule in RULES.iter().filter(|rule| rule.is_for(name.as_ref())) {
            if !rule.is_due() {
                continue;
            }
            match rule.action {
                Action::Kill => send(Signal::KILL),
                Action::Stop => send(Signal::STOP),
                Action::Wait(time) => tokio::time::sleep(time).await,
                Action::Error => fails = true,
            }
        }
        fails
    }

    fn send(signal: Signal) {
        if let Err(error) = kill_process(getpid(), signal) {
            tracing::error!(%error, "a failpoint could not send its signal");
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn rules_say_when() {
            let hits = |text: &str| -> Vec<u64> {
                let rule = Rule::parse(text).unwrap();
                (1..=6).filter(|_| rule.is_due()).collect()
            };
            assert_eq!(hits("a=kill"), [1, 2, 3, 4, 5, 6]);
            assert_eq!(hits("a=stop@4"), [4]);
            assert_eq!(hits("a=error/3"), [3, 6]);
            assert_eq!(
                Rule::parse("a=wait:20@2").unwrap().action,
                Action::Wait(Duration::from_millis(20))
            );
            for wrong in ["a", "a=", "a=die", "a=kill@0", "a=kill@x", "a=wait", "a=wait:x"] {
                assert!(Rule::parse(wrong).is_none(), "{wrong}");
            }
        }

        #[test]
        fn names_may_be_left_open() {
            let rule = Rule::parse("commit.*=kill").unwrap();
            assert!(rule.is_for("commit.before.EndJob") && !rule.is_for("attempt.ended"));
            let rule = Rule::parse("commit=kill").unwrap();
            assert!(rule.is_for("commit") && !rule.is_for("commit.before"));
        }
    }
}

//! How the text of a setting becomes a value. Every refusal says what was given and what is allowed.

use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use url::Url;

use crate::domain::{Pattern, Scope, is_worker_name};
use crate::telemetry::LogFormat;

/// A kind of command that does not run until the configuration allows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Allow {
    /// A program with arguments.
    Exec,
    /// A line for a shell.
    Shell,
    /// The AWS command line.
    AwsCli,
}

impl FromStr for Allow {
    type Err = Refused;

    fn from_str(text: &str) -> Result<Self, Refused> {
        match text.trim() {
            "exec" => Ok(Self::Exec),
            "shell" => Ok(Self::Shell),
            "aws_cli" => Ok(Self::AwsCli),
            _ => Err(Refused::new(text, "exec, shell or aws_cli")),
        }
    }
}

/// What a word in an issuer's token allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScopeWord {
    /// As the issuer writes it.
    pub word: String,
    /// The scope that it gives.
    pub scope: Scope,
}

impl FromStr for ScopeWord {
    type Err = Refused;

    fn from_str(text: &str) -> Result<Self, Refused> {
        let entry = || {
            let (word, scope) = text.rsplit_once('=')?;
            let scope = scope.trim().to_ascii_uppercase().parse().ok()?;
            let word = word.trim().to_owned();
            (!word.is_empty()).then_some(Self { word, scope })
        };
        entry().ok_or_else(|| {
            Refused::new(
                text,
                "WORD=SCOPE, such as ops=admin, where the scope is read, run, worker or admin",
            )
        })
    }
}

/// The command that runs scripts of one extension.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interpreter {
    /// Without the dot, in lower case.
    pub extension: String,
    /// The program and its first arguments.
    pub command: Vec<String>,
}

impl FromStr for Interpreter {
    type Err = Refused;

    fn from_str(text: &str) -> Result<Self, Refused> {
        let refused = || {
            Refused::new(
                text,
                "EXT=COMMAND, such as py=python3 -u, with quotes as in a shell",
            )
        };
        let (extension, command) = entry(text).ok_or_else(refused)?;
        let extension = extension.trim_start_matches('.').to_ascii_lowercase();
        let named = !extension.is_empty()
            && extension
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"_+-".contains(&b));
        if !named {
            return Err(refused());
        }
        Ok(Self { extension, command })
    }
}

/// The command that runs agents of one pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agent {
    /// What their targets are compared with.
    pub pattern: Pattern,
    /// The program and its first arguments.
    pub command: Vec<String>,
}

impl FromStr for Agent {
    type Err = Refused;

    fn from_str(text: &str) -> Result<Self, Refused> {
        let refused = || {
            Refused::new(
                text,
                "PATTERN=COMMAND, such as review-*=python3 agents/review.py, with quotes as in a shell",
            )
        };
        let (pattern, command) = entry(text).ok_or_else(refused)?;
        let pattern = pattern.parse().map_err(|_| refused())?;
        Ok(Self { pattern, command })
    }
}

/// Cost units that one client may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    /// In a second, over a longer time.
    pub per_second: NonZeroU32,
    /// At once; ten seconds' worth where it is not said.
    pub burst: NonZeroU32,
}

impl FromStr for RateLimit {
    type Err = Refused;

    fn from_str(text: &str) -> Result<Self, Refused> {
        let refused = || {
            Refused::new(
                text,
                "COST or COST:BURST, such as 1000 or 1000:20000, both of them 1 to 1000000000",
            )
        };
        let units = |text: &str| {
            let units = text.trim().parse::<NonZeroU32>().ok()?;
            (units.get() <= 1_000_000_000).then_some(units)
        };
        let (per_second, burst) = match text.split_once(':') {
            Some((per_second, burst)) => (units(per_second), units(burst)),
            None => {
                let per_second = units(text);
                let ten = NonZeroU32::MIN.saturating_add(9);
                (per_second, per_second.map(|units| units.saturating_mul(ten)))
            }
        };
        Ok(Self {
            per_second: per_second.ok_or_else(refused)?,
            burst: burst.ok_or_else(refused)?,
        })
    }
}

/// A name and the words of the command that stands behind its equals sign, one at least.
fn entry(text: &str) -> Option<(&str, Vec<String>)> {
    let (name, command) = text.split_once('=')?;
    let command = shlex::split(command)?;
    let has_program = command.first().is_some_and(|program| !program.is_empty());
    has_program.then_some((name.trim(), command))
}

/// A value that a setting does not take.
#[derive(Debug, Clone, thiserror::Error)]
#[error("`{text}` is not {allowed}")]
pub struct Refused {
    text: String,
    allowed: String,
}

impl Refused {
    pub(super) fn new(text: &str, allowed: impl fmt::Display) -> Self {
        Self {
            text: text.to_owned(),
            allowed: allowed.to_string(),
        }
    }
}

pub(super) fn address(text: &str) -> Result<SocketAddr, Refused> {
    text.parse().map_err(|_| {
        Refused::new(
            text,
            "an IP address with a port, such as 127.0.0.1:8000 or [::1]:8000",
        )
    })
}

pub(super) fn log_format(text: &str) -> Result<LogFormat, Refused> {
    match text {
        "auto" => Ok(LogFormat::Auto),
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err(Refused::new(text, "auto, text or json")),
    }
}

/// A whole number within `range`.
pub(super) fn whole<T: TryFrom<u64>>(
    range: RangeInclusive<u64>,
) -> impl Fn(&str) -> Result<T, Refused> + Clone + Send + Sync + 'static {
    move |text| {
        within(text.parse().ok(), &range).ok_or_else(|| {
            Refused::new(
                text,
                format_args!("a whole number from {} to {}", range.start(), range.end()),
            )
        })
    }
}

/// A number with up to three places behind the point, from 0.01 to 10000, in thousandths.
pub(super) fn thousandths(text: &str) -> Result<u64, Refused> {
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = (digits(whole) && digits(part) && part.len() <= 3)
        .then(|| format!("{whole}{part:0<3}").parse().ok())
        .flatten();
    within(number, &(10..=10_000_000))
        .ok_or_else(|| Refused::new(text, "a number from 0.01 to 10000, such as 1.5"))
}

/// A whole number of milliseconds within `range`.
pub(super) fn millis(
    range: RangeInclusive<u64>,
) -> impl Fn(&str) -> Result<Duration, Refused> + Clone + Send + Sync + 'static {
    let whole = whole::<u64>(range);
    move |text| whole(text).map(Duration::from_millis)
}

/// A whole number of minutes within `range`.
pub(super) fn minutes(
    range: RangeInclusive<u64>,
) -> impl Fn(&str) -> Result<Duration, Refused> + Clone + Send + Sync + 'static {
    let whole = whole::<u64>(range);
    move |text| whole(text).map(|minutes| Duration::from_secs(minutes * 60))
}

const BYTE_UNITS: &[(&str, u64)] = &[
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

/// A number of bytes within `range`, bare or with a binary unit.
pub(super) fn bytes<T: TryFrom<u64>>(
    range: RangeInclusive<u64>,
) -> impl Fn(&str) -> Result<T, Refused> + Clone + Send + Sync + 'static {
    move |text| {
        let (number, unit) = BYTE_UNITS
            .iter()
            .find_map(|(name, unit)| Some((text.strip_suffix(name)?.trim_end(), *unit)))
            .unwrap_or((text, 1));
        let count = number
            .parse::<u64>()
            .ok()
            .and_then(|number| number.checked_mul(unit));
        within(count, &range).ok_or_else(|| {
            let allowed = "a number of bytes, bare or with KiB, MiB or GiB";
            Refused::new(
                text,
                format_args!("{allowed}, from {} to {}", range.start(), range.end()),
            )
        })
    }
}

fn within<T: TryFrom<u64>>(number: Option<u64>, range: &RangeInclusive<u64>) -> Option<T> {
    number
        .filter(|number| range.contains(number))
        .and_then(|number| T::try_from(number).ok())
}

const TIME_UNITS: &[(&str, u64)] = &[("s", 1), ("m", 60), ("h", 3_600), ("d", 86_400), ("w", 604_800)];
/// A century: everything longer is a slip of the finger.
const LONGEST: Duration = Duration::from_secs(36_525 * 86_400);

/// An address, or a network of them.
pub(super) fn network(text: &str) -> Result<ipnet::IpNet, Refused> {
    let address = || text.parse::<std::net::IpAddr>().map(ipnet::IpNet::from);
    text.parse()
        .or_else(|_| address())
        .map_err(|_| Refused::new(text, "an address or a network such as 10.0.0.0/8"))
}

/// A length of time with its units, such as `12h` or `1d12h`, and at least `shortest`.
pub(super) fn duration(
    shortest: Duration,
) -> impl Fn(&str) -> Result<Duration, Refused> + Clone + Send + Sync + 'static {
    move |text| {
        seconds(text)
            .map(Duration::from_secs)
            .filter(|duration| (shortest..=LONGEST).contains(duration))
            .ok_or_else(|| {
                let shortest = shortest.as_secs();
                Refused::new(
                    text,
                    format_args!("a length of time such as 45m, 12h, 30d or 1d12h, {shortest}s at least"),
                )
            })
    }
}

fn seconds(mut text: &str) -> Option<u64> {
    let mut total = 0_u64;
    loop {
        let digits = text.find(|c: char| !c.is_ascii_digit())?;
        let (number, rest) = text.split_at(digits);
        let end = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let (name, rest) = rest.split_at(end);
        let (_, unit) = TIME_UNITS.iter().find(|(unit, _)| *unit == name)?;
        total = total.checked_add(number.parse::<u64>().ok()?.checked_mul(*unit)?)?;
        if rest.is_empty() {
            return Some(total);
        }
        text = rest;
    }
}

/// A web origin in the form in which browsers send it.
pub(super) fn origin(text: &str) -> Result<String, Refused> {
    let refused = || {
        Refused::new(
            text,
            "an origin such as https://example.org or http://localhost:3000",
        )
    };
    let url = Url::parse(text.trim()).map_err(|_| refused())?;
    let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    if !matches!(url.scheme(), "http" | "https")
        || !bare
        || !url.username().is_empty()
        || url.password().is_some()
    {
        return Err(refused());
    }
    Ok(url.origin().ascii_serialization())
}

/// Whether what is fetched from there is what its owner serves: by TLS, or on this very machine.
#[must_use]
pub fn is_safe_issuer(url: &Url) -> bool {
    let loopback = match url.host() {
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => false,
    };
    url.scheme() == "https" || (url.scheme() == "http" && loopback)
}

/// The address of an issuer, letter by letter as its tokens have it.
pub(super) fn issuer(text: &str) -> Result<String, Refused> {
    let shown = if text.contains('@') { "…@…" } else { text };
    let fits = Url::parse(text).is_ok_and(|url| {
        let plain = url.username().is_empty() && url.password().is_none();
        plain && is_safe_issuer(&url) && url.query().is_none() && url.fragment().is_none()
    });
    fits.then(|| text.to_owned()).ok_or_else(|| {
        Refused::new(
            shown,
            "an address that begins with https://, or with http:// and a loopback address",
        )
    })
}

/// A host as it stands in a Host header, in lower case.
pub(super) fn host(text: &str) -> Result<String, Refused> {
    let refused = || Refused::new(text, "a host such as runql.example.org or runql.example.org:8000");
    let host = text.trim().to_ascii_lowercase();
    let url = Url::parse(&format!("http://{host}/")).map_err(|_| refused())?;
    let bare = url.path() == "/" && !host.contains(['/', '?', '#', '@', '\\', '*']);
    if host.is_empty() || !bare || url.host_str().is_none() {
        return Err(refused());
    }
    Ok(host)
}

/// The kind at the end of a worker's name.
pub(super) fn kind(text: &str) -> Result<String, Refused> {
    // A number of six digits stands before it in a name that is made.
    let fits = is_worker_name(&format!("worker-000000-{text}")) && text != "local";
    fits.then(|| text.to_owned()).ok_or_else(|| {
        Refused::new(
            text,
            "a kind: words of lower-case letters and digits, joined by dashes, and not `local`, which is a server's own",
        )
    })
}

/// `worker-NNN-kind`.
pub(super) fn worker_name(text: &str) -> Result<String, Refused> {
    is_worker_name(text).then(|| text.to_owned()).ok_or_else(|| {
        Refused::new(
            text,
            "a worker's name, such as worker-007-gpu: a number of three digits or more, then its kind in lower case",
        )
    })
}

/// The address of a server's API, from that or from the server's own.
pub(super) fn server(text: &str) -> Result<Url, Refused> {
    // A password in an address is refused, and not repeated.
    let shown = if text.contains('@') { "…@…" } else { text };
    let refused = || Refused::new(shown, "an address such as http://runql.example.org:8000");
    let mut url = Url::parse(text.trim()).map_err(|_| refused())?;
    let plain = url.username().is_empty() && url.password().is_none() && url.host_str().is_some();
    if !matches!(url.scheme(), "http" | "https")
        || !plain
        || url.query().is_some()
        || url.fragment().is_some()
    {
        return Err(refused());
    }
    if url.path() == "/" {
        url.set_path("/graphql");
    }
    Ok(url)
}

//! The results: for people as a table, for programs as JSON.

use serde_json::{Value, json};

/// What is to be reached.
#[derive(Clone, Copy)]
pub(crate) enum Goal {
    /// The ratio to the floor, at least.
    RatioFrom(f64),
    /// The ratio to the floor, below.
    RatioBelow(f64),
    /// The figure itself, at least.
    From(f64),
    /// The figure itself, below.
    Below(f64),
}

/// One figure, with a value from each round.
pub(crate) struct Figure {
    /// What was measured.
    pub(crate) what: String,
    /// In what it is counted.
    pub(crate) unit: &'static str,
    /// Of the server.
    pub(crate) values: Vec<f64>,
    /// What the floor is, with its values from the same rounds.
    pub(crate) floor: Option<(String, Vec<f64>)>,
    /// What is to be reached.
    pub(crate) goal: Option<Goal>,
}

/// All results so far. They are printed as they come.
pub(crate) struct Table {
    about: Value,
    figures: Vec<Value>,
    scenario: String,
    store: String,
}

impl Table {
    /// Begins with where it is measured.
    pub(crate) fn new(about: Value) -> Self {
        for (key, value) in about.as_object().into_iter().flatten() {
            let plain = value.to_string();
            println!("{key:10} {}", plain.trim_matches('"'));
        }
        Self {
            about,
            figures: Vec::new(),
            scenario: String::new(),
            store: String::new(),
        }
    }

    /// Begins a scenario.
    pub(crate) fn open(&mut self, scenario: &str, store: &str) {
        self.scenario = scenario.to_owned();
        self.store = store.to_owned();
        println!("\n{scenario}, {store}");
        println!(
            "  {:<46} {:>14} {:>15}  {:<44} {:>7} {:>15}  goal",
            "", "median", "min – max", "floor", "ratio", "min – max"
        );
    }

    /// Adds a figure.
    pub(crate) fn add(&mut self, figure: Figure) {
        let Figure {
            what,
            unit,
            values,
            floor,
            goal,
        } = figure;
        let figure = Spread::of(&values);
        let floor = floor.map(|(name, floors)| {
            // Each round against its own floor: what slows a round slows both.
            let ratios: Vec<f64> = values.iter().zip(&floors).map(|(a, b)| a / b).collect();
            (name, Spread::of(&floors), Spread::of(&ratios))
        });
        let ratio = floor.as_ref().map(|(.., ratio)| ratio.median);
        let judged = goal.map(|goal| goal.judge(figure.median, ratio));
        let (floor_text, ratio_text, ratio_range) = match &floor {
            Some((name, floor, ratio)) => (
                format!("{} {unit} {name}", number(floor.median)),
                number(ratio.median),
                ratio.range(),
            ),
            None => (String::new(), String::new(), String::new()),
        };
        let verdict = judged.as_ref().map_or_else(String::new, |(text, met)| {
            format!("{text}: {}", if *met { "met" } else { "MISSED" })
        });
        println!(
            "  {what:<46} {:>14} {:>15}  {floor_text:<44} {ratio_text:>7} {ratio_range:>15}  {verdict}",
            format!("{} {unit}", number(figure.median)),
            figure.range(),
        );
        self.figures.push(json!({
            "scenario": self.scenario,
            "store": self.store,
            "what": what,
            "unit": unit,
            "median": figure.median, "min": figure.min, "max": figure.max,
            "floor": floor.as_ref().map(|(name, floor, _)| json!({
                "what": name, "median": floor.median, "min": floor.min, "max": floor.max,
            })),
            "ratio": floor.as_ref().map(|(.., ratio)| json!({
                "median": ratio.median, "min": ratio.min, "max": ratio.max,
            })),
            "goal": judged.as_ref().map(|(text, _)| text),
            "met": judged.as_ref().map(|(_, met)| met),
        }));
    }

    /// Tells what else was found: that the promises were kept, and how that was seen.
    pub(crate) fn note(&mut self, text: &str) {
        println!("  ✓ {text}");
        self.figures.push(json!({
            "scenario": self.scenario, "store": self.store, "checked": text,
        }));
    }

    /// Everything.
    pub(crate) fn json(&self) -> String {
        format!(
            "{:#}\n",
            json!({ "machine": self.about, "results": self.figures })
        )
    }
}

impl Goal {
    /// Its text, and whether it is met.
    fn judge(self, figure: f64, ratio: Option<f64>) -> (String, bool) {
        let ratio = ratio.unwrap_or(f64::NAN);
        match self {
            Self::RatioFrom(goal) => (format!("ratio ≥ {goal}"), ratio >= goal),
            Self::RatioBelow(goal) => (format!("ratio < {goal}"), ratio < goal),
            Self::From(goal) => (format!("≥ {goal}"), figure >= goal),
            Self::Below(goal) => (format!("< {goal}"), figure < goal),
        }
    }
}

struct Spread {
    min: f64,
    median: f64,
    max: f64,
}

impl Spread {
    fn of(values: &[f64]) -> Self {
        Self {
            min: values.iter().copied().fold(f64::INFINITY, f64::min),
            median: percentile(values, 0.5),
            max: values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        }
    }

    fn range(&self) -> String {
        format!("{} – {}", number(self.min), number(self.max))
    }
}

/// The value below which a share of all lie; NaN where there are none.
pub(crate) fn percentile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an index of a list"
    )]
    let rank = ((sorted.len() as f64 * share).ceil() as usize).max(1);
    sorted.get(rank - 1).copied().unwrap_or(f64::NAN)
}

/// Three digits that count.
fn number(value: f64) -> String {
    let digits = match value.abs() {
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 0.1 => 2,
        _ => 4,
    };
    format!("{value:.digits$}")
}

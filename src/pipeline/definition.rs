//! A pipeline's file, read and checked: what it is for, what it takes, and its steps.

use std::fmt;

use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use serde_saphyr::Spanned;

use super::slot::Filler;
use super::step::{Steps, StrategyFile, check, strategy, take_steps};
use super::template::{Values, is_name};
use super::text::{Form, parse};
use super::{Fault, Filled, Problem, StepSketch};
use crate::domain::Strategy;
use crate::script::{Declaration, DeclarationFault, Parameters, Terms};

/// The terms of a pipeline's inputs.
const INPUTS: Terms = Terms {
    value: "input",
    owner: "pipeline",
};

/// What a pipeline's file says.
#[derive(Debug)]
pub(super) struct Definition {
    pub(super) description: Option<String>,
    pub(super) inputs: Parameters,
    pub(super) strategy: Strategy,
    /// The steps as the file has them, for people.
    pub(super) sketch: Vec<StepSketch>,
    steps: Steps,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct File {
    description: Option<String>,
    inputs: Option<Declared>,
    strategy: Option<StrategyFile>,
    steps: Steps,
}

/// Inputs in the order in which they are declared.
#[derive(Debug, Default)]
struct Declared(Vec<(String, Spanned<Map<String, Value>>)>);

impl<'de> Deserialize<'de> for Declared {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Names;

        impl<'de> Visitor<'de> for Names {
            type Value = Declared;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("inputs by their names, each with a type")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Declared, A::Error> {
                let mut declared: Vec<(String, Spanned<Map<String, Value>>)> = Vec::new();
                while let Some(name) = map.next_key::<String>()? {
                    if !is_name(&name) {
                        let message =
                            "an input's name has letters, digits, _ and -, and begins with a letter or _";
                        return Err(de::Error::custom(message));
                    }
                    if declared.iter().any(|(other, _)| *other == name) {
                        return Err(de::Error::custom(format_args!(
                            "the input `{name}` is declared twice"
                        )));
                    }
                    declared.push((name, map.next_value()?));
                }
                Ok(Declared(declared))
            }
        }

        deserializer.deserialize_map(Names)
    }
}

impl Declared {
    fn compile(self) -> Result<Parameters, Problem> {
        let mut declarations = Vec::new();
        let mut lines = Vec::new();
        let problem = |line, fault: &DeclarationFault| Problem::at(line, fault.sentence(INPUTS));
        for (name, keywords) in self.0 {
            let line = keywords.referenced.line();
            declarations
                .push(Declaration::read(&name, keywords.value).map_err(|fault| problem(line, &fault))?);
            lines.push((name, line));
        }
        Parameters::compile(INPUTS, declarations).map_err(|fault| {
            let name = fault.path.first();
            let line = lines.iter().find(|(other, _)| Some(other) == name);
            problem(line.map_or(0, |(_, line)| *line), &fault)
        })
    }
}

impl Definition {
    /// Reads the text of a file.
    pub(super) fn read(text: &str, form: Form) -> Result<Self, Problem> {
        let file: File = parse(text, form)?;
        let inputs = file.inputs.unwrap_or_default().compile()?;
        let steps = file.steps;
        check(file.strategy, &steps)?;
        let mut filler = Filler::check(&inputs);
        let sketch = take_steps(&steps, &mut filler);
        if let Some(problem) = filler.problem() {
            return Err(problem);
        }
        let sketch = sketch.into_iter().enumerate().map(StepSketch::of).collect();
        Ok(Self {
            description: file.description,
            strategy: strategy(file.strategy, &steps),
            inputs,
            sketch,
            steps,
        })
    }

    /// The steps of a run with these inputs, defaults filled in, and this configuration.
    pub(super) fn fill(
        &self,
        inputs: Map<String, Value>,
        config: &Map<String, Value>,
    ) -> Result<Filled, Vec<Fault>> {
        let inputs = self
            .inputs
            .validate(inputs)
            .map_err(|faults| faults.into_iter().map(Fault::of_input).collect::<Vec<_>>())?;
        let values = Values::new(&inputs, config);
        let mut filler = Filler::fill(&values);
        let steps = take_steps(&self.steps, &mut filler);
        let faults = filler.faults();
        if !faults.is_empty() {
            return Err(faults);
        }
        Ok(Filled {
            inputs,
            strategy: self.strategy.clone(),
            steps,
        })
    }
}

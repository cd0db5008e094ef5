//! Places of a step that take a value of one type, or an expression that stands for one.

use std::marker::PhantomData;
use std::time::Duration;

use serde::{Deserialize, Deserializer, de};
use serde_json::{Map, Value};
use serde_saphyr::Spanned;

use super::template::{Root, Template, Unfilled, Values, has_expression, text_of};
use super::{Fault, FaultKind, Problem};
use crate::script::{Parameters, nearest};

/// The most faults that are told of one run.
const MOST_FAULTS: usize = 32;

/// What a slot can take.
pub(super) trait Fits: Default {
    /// As in "takes a string".
    const TAKES: &'static str;

    /// From what an expression stands for: a text takes a number, too.
    fn of(value: Value) -> Option<Self>;

    /// Whether what the file says can become one.
    fn is_written(template: &Template) -> bool {
        match template {
            Template::Constant(value) => Self::of(value.clone()).is_some(),
            Template::Whole(_) => true,
            Template::Text(_) | Template::List(_) | Template::Object(_) => false,
        }
    }
}

impl Fits for String {
    const TAKES: &'static str = "a string";

    fn of(value: Value) -> Option<Self> {
        text_of(&value)
    }

    /// A number is refused: what `1.10` would become is not what was written.
    fn is_written(template: &Template) -> bool {
        match template {
            Template::Constant(value) => value.is_string(),
            Template::Whole(_) | Template::Text(_) => true,
            Template::List(_) | Template::Object(_) => false,
        }
    }
}

impl Fits for Vec<String> {
    const TAKES: &'static str = "a list of strings";

    fn of(value: Value) -> Option<Self> {
        match value {
            Value::Array(items) => items.into_iter().map(String::of).collect(),
            _ => None,
        }
    }

    fn is_written(template: &Template) -> bool {
        match template {
            Template::List(items) => items.iter().all(String::is_written),
            Template::Whole(_) => true,
            Template::Constant(_) | Template::Text(_) | Template::Object(_) => false,
        }
    }
}

impl Fits for Map<String, Value> {
    const TAKES: &'static str = "an object";

    fn of(value: Value) -> Option<Self> {
        match value {
            Value::Object(members) => Some(members),
            _ => None,
        }
    }

    fn is_written(template: &Template) -> bool {
        matches!(template, Template::Object(_) | Template::Whole(_))
    }
}

impl Fits for i32 {
    const TAKES: &'static str = "a whole number";

    fn of(value: Value) -> Option<Self> {
        value.as_i64().and_then(|number| number.try_into().ok())
    }
}

impl Fits for Duration {
    const TAKES: &'static str = "a whole number of milliseconds, from 0";

    fn of(value: Value) -> Option<Self> {
        value.as_u64().map(Self::from_millis)
    }
}

/// A place that takes a `T`.
#[derive(Debug)]
pub(super) struct Slot<T> {
    /// From 1; 0 where it is not known.
    line: u64,
    template: Template,
    of: PhantomData<fn() -> T>,
}

impl<'de, T: Fits> Deserialize<'de> for Slot<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let written: Spanned<Value> = Spanned::deserialize(deserializer)?;
        let line = written.referenced.line();
        let template = Template::read(written.value).map_err(de::Error::custom)?;
        if !T::is_written(&template) {
            return Err(de::Error::custom(format_args!("takes {}", T::TAKES)));
        }
        Ok(Self {
            line,
            template,
            of: PhantomData,
        })
    }
}

/// Text that is the same in every run.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Fixed(pub(super) String);

impl TryFrom<String> for Fixed {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if has_expression(&text) {
            return Err(
                "keys and the names of variables are the same in every run: they take no expressions",
            );
        }
        Ok(Self(text))
    }
}

/// A line for a shell.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Line(pub(super) String);

impl TryFrom<String> for Line {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if has_expression(&text) {
            return Err(
                "an expression in a shell's command would run what it stands for as code: put it into `env`, and use \
                 the variable in double quotes",
            );
        }
        Ok(Self(text))
    }
}

/// Goes through the slots of a pipeline's steps.
#[derive(Debug)]
pub(super) struct Filler<'a> {
    task: Task<'a>,
    /// The place of the step or command that is gone through, below the pipeline.
    place: Vec<String>,
}

#[derive(Debug)]
enum Task<'a> {
    /// Looks for expressions that can never stand for anything. The slots are given as they are written.
    Check {
        inputs: &'a Parameters,
        problem: Option<Problem>,
    },
    /// Fills in.
    Fill {
        values: &'a Values<'a>,
        faults: Vec<Fault>,
    },
}

impl<'a> Filler<'a> {
    /// One that fills in these values.
    pub(super) const fn fill(values: &'a Values<'a>) -> Self {
        Self {
            task: Task::Fill {
                values,
                faults: Vec::new(),
            },
            place: Vec::new(),
        }
    }

    /// One that checks against these declarations.
    pub(super) const fn check(inputs: &'a Parameters) -> Self {
        Self {
            task: Task::Check {
                inputs,
                problem: None,
            },
            place: Vec::new(),
        }
    }

    /// All that did not fit.
    pub(super) fn faults(self) -> Vec<Fault> {
        match self.task {
            Task::Fill { faults, .. } => faults,
            Task::Check { .. } => Vec::new(),
        }
    }

    /// The first expression that can never stand for anything.
    pub(super) fn problem(self) -> Option<Problem> {
        match self.task {
            Task::Check { problem, .. } => problem,
            Task::Fill { .. } => None,
        }
    }

    /// Goes through what lies below these names.
    pub(super) fn below<R>(&mut self, names: &[&str], work: impl FnOnce(&mut Self) -> R) -> R {
        let depth = self.place.len();
        self.place.extend(names.iter().map(|&name| name.to_owned()));
        let done = work(self);
        self.place.truncate(depth);
        done
    }

    /// What the slot of this field holds; the default where it does not fit, which is then told by the faults.
    pub(super) fn take<T: Fits>(&mut self, field: &str, slot: &Slot<T>) -> T {
        match &mut self.task {
            Task::Check { inputs, problem } => {
                slot.template.each(&mut |expression| {
                    let name = expression.names.first().map_or("", String::as_str);
                    if expression.root == Root::Inputs
                        && problem.is_none()
                        && !inputs.names().any(|it| it == name)
                    {
                        *problem = Some(Problem::at(slot.line, undeclared(name, inputs)));
                    }
                });
                T::of(slot.template.as_written()).unwrap_or_default()
            }
            Task::Fill { values, faults } => {
                let fault = match slot.template.fill(values) {
                    Ok(value) => match T::of(value) {
                        Some(value) => return value,
                        None => Fault {
                            kind: FaultKind::Invalid,
                            path: self.place.iter().cloned().chain([field.to_owned()]).collect(),
                            message: format!(
                                "takes {}, and `{}` is none here",
                                T::TAKES,
                                text_of(&slot.template.as_written()).unwrap_or_default()
                            ),
                        },
                    },
                    Err(Unfilled::At { path, message }) => Fault {
                        kind: FaultKind::Invalid,
                        path,
                        message,
                    },
                    Err(Unfilled::TooLarge) => Fault::too_large(),
                };
                if faults.len() < MOST_FAULTS && !faults.contains(&fault) {
                    faults.push(fault);
                }
                T::default()
            }
        }
    }

    /// [`Filler::take`] where the file says anything.
    pub(super) fn maybe<T: Fits>(&mut self, field: &str, slot: Option<&Slot<T>>) -> Option<T> {
        slot.map(|slot| self.take(field, slot))
    }
}

fn undeclared(name: &str, inputs: &Parameters) -> String {
    match nearest(name, inputs.names()) {
        Some(meant) => format!("the input `{name}` is not declared: did you mean `{meant}`?"),
        None => format!("the input `{name}` is not declared: declare it below `inputs`"),
    }
}

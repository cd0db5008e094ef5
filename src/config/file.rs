//! The values of the file, as the texts that the flags of the same settings would take.

use toml::Value;

/// A setting that is a table in the file: commands by what they are for. Everywhere else it has the name of its flag.
#[derive(Debug, Clone, Copy)]
pub(super) struct TableKey {
    pub(super) key: &'static str,
    pub(super) flag: &'static str,
    takes: &'static str,
}

/// All settings that are tables.
pub(super) const TABLES: [TableKey; 2] = [
    TableKey {
        key: "interpreters",
        flag: "interpreter",
        takes: "takes a table of extension = \"command\" or extension = [\"program\", \"argument\"]",
    },
    TableKey {
        key: "agents",
        flag: "agent",
        takes: "takes a table of \"pattern\" = \"command\" or \"pattern\" = [\"program\", \"argument\"]",
    },
];

impl TableKey {
    /// The table of this name in the file.
    pub(super) fn by_key(key: &str) -> Option<Self> {
        TABLES.into_iter().find(|table| table.key == key)
    }

    /// The table whose entries this flag takes.
    pub(super) fn by_flag(flag: &str) -> Option<Self> {
        TABLES.into_iter().find(|table| table.flag == flag)
    }
}

/// A value of the file as the texts that a flag would take.
pub(super) fn texts(value: Value, table: Option<TableKey>, many: bool) -> Result<Vec<String>, &'static str> {
    match (value, table) {
        (Value::Table(entries), Some(table)) => entries
            .into_iter()
            .map(|(name, command)| {
                // A number is no command, but a setting that was meant to stand above the table.
                let command = match command {
                    Value::String(command) => Ok(command),
                    Value::Array(words) => words
                        .iter()
                        .map(Value::as_str)
                        .collect::<Option<Vec<_>>>()
                        .and_then(|words| shlex::try_join(words).ok())
                        .ok_or(table.takes),
                    _ => Err(table.takes),
                }?;
                Ok(format!("{name}={command}"))
            })
            .collect(),
        (_, Some(table)) => Err(table.takes),
        (Value::Array(values), None) if many => values.into_iter().map(text).collect(),
        (Value::Array(_), None) => Err("takes one value, not a list"),
        (value, None) => text(value).map(|text| vec![text]),
    }
}

fn text(value: Value) -> Result<String, &'static str> {
    match value {
        Value::String(text) => Ok(text),
        Value::Integer(number) => Ok(number.to_string()),
        Value::Float(number) => Ok(number.to_string()),
        Value::Boolean(yes) => Ok(yes.to_string()),
        Value::Datetime(_) | Value::Array(_) | Value::Table(_) => {
            Err("takes a string, a number or true or false")
        }
    }
}

//! Decides which program runs a script, and finds it.
//!
//! The order: what the request asks for, if this server knows it; what the settings say for the extension; the
//! script's shebang; the default for the extension. A request cannot name any program at all, for then the
//! permission to run scripts would be the permission to run everything. No script needs to be executable.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

use super::quoted_list;
use super::shebang::{Shebang, file_name};

/// Extensions that make a file a script, with what runs them unless the settings or a shebang say otherwise. No
/// program that runs `.aether` can be had anywhere, so such a script names its own.
const DEFAULTS: [(&str, Option<&str>); 9] = [
    ("aether", None),
    ("bash", Some("bash")),
    ("cjs", Some("node")),
    ("js", Some("node")),
    ("mjs", Some("node")),
    ("pl", Some("perl")),
    ("py", Some("python3")),
    ("rb", Some("ruby")),
    ("sh", Some("bash")),
];

/// Interpreters that a request may ask for by name, beside those of the settings. Each runs the script that it is
/// handed and nothing else.
const KNOWN: [&str; 9] = [
    "bash", "dash", "node", "perl", "python", "python3", "ruby", "sh", "zsh",
];

/// Why there is no way to run a script.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InterpreterError {
    /// The request asks for a program that is no interpreter known here.
    #[error("the interpreter `{requested}` is not one that this server knows: {}", quoted_list(known.iter().map(String::as_str), 20))]
    Refused {
        /// What was asked for.
        requested: String,
        /// What may be asked for.
        known: Vec<String>,
    },
    /// Nothing says what runs such a file.
    #[error(
        "no interpreter for {} configured: set it in the settings, or begin the script with a line such as \
         `#!/usr/bin/env bash`",
        extension.as_ref().map_or_else(|| "files without an extension".to_owned(), |it| format!("`.{it}`"))
    )]
    NotConfigured {
        /// The script's extension, without its dot.
        extension: Option<String>,
    },
    /// The interpreter is known, but not on this machine.
    #[error("{program} is not installed: {hint}")]
    NotInstalled {
        /// The program that was looked for.
        program: String,
        /// What to do.
        hint: String,
    },
}

/// A program and its arguments, ready to be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandLine {
    /// Where the program is.
    pub program: PathBuf,
    /// What comes after it: the interpreter's own arguments, the script's path, the script's arguments.
    pub args: Vec<OsString>,
}

/// What runs which script.
#[derive(Debug, Clone)]
pub struct Interpreters {
    configured: BTreeMap<String, Vec<String>>,
    switched_off: BTreeSet<String>,
    path: OsString,
}

/// A command to be put before a script's path: a program, by path or by name, and its arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Choice {
    program: String,
    args: Vec<String>,
}

impl Choice {
    fn from_command(command: &[String]) -> Option<Self> {
        let (program, args) = command.split_first()?;
        Some(Self {
            program: program.clone(),
            args: args.to_vec(),
        })
    }

    /// Whether a request that says `name` means this one.
    fn is_called(&self, name: &str) -> bool {
        name == self.program || name == file_name(&self.program)
    }
}

impl std::fmt::Display for Choice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.program)?;
        self.args.iter().try_for_each(|arg| write!(f, " {arg}"))
    }
}

impl Interpreters {
    /// From the settings' table of extensions, with or without their dot, and the PATH in which programs are looked
    /// for. An extension with an empty command is switched off: it makes no file a script, and no default runs it.
    #[must_use]
    pub fn new(configured: BTreeMap<String, Vec<String>>, path: OsString) -> Self {
        let (off, configured): (BTreeMap<_, _>, BTreeMap<_, _>) = configured
            .into_iter()
            .map(|(extension, command)| (extension.trim_start_matches('.').to_ascii_lowercase(), command))
            .partition(|(_, command)| command.first().is_none_or(String::is_empty));
        Self {
            configured,
            switched_off: off.into_keys().collect(),
            path,
        }
    }

    /// Whether a file with this extension is a script even without a shebang.
    #[must_use]
    pub fn knows_extension(&self, extension: &str) -> bool {
        self.configured.contains_key(extension)
            || (!self.switched_off.contains(extension)
                && DEFAULTS.iter().any(|(known, _)| *known == extension))
    }

    /// The names that a request may give as interpreter.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let configured = self.configured.values().filter_map(|command| command.first());
        let mut names: Vec<String> = configured.map(|program| file_name(program).to_owned()).collect();
        names.extend(KNOWN.map(str::to_owned));
        names.sort();
        names.dedup();
        names
    }

    /// What runs a script with that extension and shebang, whether it is installed or not.
    pub(super) fn choose(
        &self,
        extension: Option<&str>,
        shebang: Option<&Shebang>,
        requested: Option<&str>,
    ) -> Result<Choice, InterpreterError> {
        if let Some(name) = requested {
            return self.requested(name, extension, shebang);
        }
        self.own(extension, shebang)
            .or_else(|| self.default_for(extension))
            .ok_or_else(|| InterpreterError::NotConfigured {
                extension: extension.map(str::to_owned),
            })
    }

    /// What the settings or the script itself say.
    fn own(&self, extension: Option<&str>, shebang: Option<&Shebang>) -> Option<Choice> {
        let configured = extension
            .and_then(|it| self.configured.get(it))
            .and_then(|it| Choice::from_command(it));
        configured.or_else(|| {
            shebang.map(|it| Choice {
                program: it.program.clone(),
                args: it.args.clone(),
            })
        })
    }

    fn default_for(&self, extension: Option<&str>) -> Option<Choice> {
        let extension = extension.filter(|it| !self.switched_off.contains(*it))?;
        let (_, program) = DEFAULTS.iter().find(|(known, _)| *known == extension)?;
        program.map(|program| Choice {
            program: program.to_owned(),
            args: Vec::new(),
        })
    }

    /// The known interpreter of that name. Asking for what would run the script anyway is never refused; the
    /// arguments that the settings give to an interpreter are part of it.
    fn requested(
        &self,
        name: &str,
        extension: Option<&str>,
        shebang: Option<&Shebang>,
    ) -> Result<Choice, InterpreterError> {
        let own = self.own(extension, shebang);
        let configured = self
            .configured
            .values()
            .filter_map(|command| Choice::from_command(command));
        let known = KNOWN.map(|program| Choice {
            program: program.to_owned(),
            args: Vec::new(),
        });
        own.into_iter()
            .chain(configured)
            .chain(known)
            .find(|choice| choice.is_called(name))
            .ok_or_else(|| InterpreterError::Refused {
                requested: name.to_owned(),
                known: self.names(),
            })
    }

    /// Where the chosen program is on this machine.
    ///
    /// Entries of PATH that are relative are passed over: what they mean depends on the folder in which a job runs.
    pub(super) fn locate(&self, choice: &Choice) -> Result<PathBuf, InterpreterError> {
        let program = Path::new(&choice.program);
        let found = if program.is_absolute() {
            is_program(program).then(|| program.to_owned())
        } else if choice.program.contains('/') {
            None
        } else {
            std::env::split_paths(&self.path)
                .filter(|folder| folder.is_absolute())
                .map(|folder| folder.join(program))
                .find(|candidate| is_program(candidate))
        };
        found.ok_or_else(|| InterpreterError::NotInstalled {
            program: choice.program.clone(),
            hint: hint(&choice.program),
        })
    }

    /// The command line that runs `script` with `args` after its path.
    pub(super) fn command_line(
        &self,
        choice: &Choice,
        script: &Path,
        args: &[String],
    ) -> Result<CommandLine, InterpreterError> {
        let program = self.locate(choice)?;
        let own = choice.args.iter().map(OsString::from);
        let args = own
            .chain([script.into()])
            .chain(args.iter().map(OsString::from))
            .collect();
        Ok(CommandLine { program, args })
    }
}

/// A file that this process may execute.
fn is_program(path: &Path) -> bool {
    path.is_file() && access(path, Access::EXEC_OK).is_ok()
}

fn hint(program: &str) -> String {
    let package = match file_name(program) {
        "bash" => "install the package `bash`",
        "sh" | "dash" => "install the package `dash`",
        "zsh" => "install the package `zsh`",
        "python" => "install Python, or ask for `python3`",
        "python3" => "install Python 3 (package `python3`)",
        "node" => "install Node.js (package `nodejs`)",
        "ruby" => "install Ruby (package `ruby`)",
        "perl" => "install Perl (package `perl`)",
        _ => "install it",
    };
    if program.starts_with('/') {
        format!("{package}, or name another path in the script's first line or in the settings")
    } else if program.contains('/') {
        "an interpreter is a full path or a name that is found in PATH".to_owned()
    } else {
        format!("{package}, or see that the server's PATH holds its folder")
    }
}

#[cfg(test)]
mod tests;

//! Where programs are: a look into PATH, before a job is stored and again when it starts.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

use crate::process::RunAs;

/// The variables of the server's own environment that jobs get too: what a program needs to find others, to speak
/// the user's language and to know the time. Nothing that may hold a secret.
const PASSED_ON: [&str; 8] = [
    "PATH", "HOME", "LANG", "LANGUAGE", "TZ", "USER", "LOGNAME", "SHELL",
];

/// Where the AWS command line looks for whom to be; handed to its jobs alone.
const AWS_PREFIX: &str = "AWS_";

/// Where the system's programs are, for a server that was started without PATH.
const USUAL_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The shells that a command may name: any other program would be `exec` by the back door.
pub(crate) const SHELLS: [&str; 6] = ["bash", "sh", "dash", "zsh", "ksh", "fish"];

/// The server's environment as jobs see it, read once.
#[derive(Debug, Clone)]
pub(crate) struct Programs {
    base: Vec<(OsString, OsString)>,
    aws: Vec<(OsString, OsString)>,
    path: OsString,
}

impl Programs {
    /// From the environment that this process was started with, for jobs that run as this user, or as the server's own.
    pub(crate) fn of_process(run_as: Option<&RunAs>) -> Self {
        let mut programs = Self {
            base: Vec::new(),
            aws: Vec::new(),
            path: USUAL_PATH.into(),
        };
        for (name, value) in std::env::vars_os() {
            let Some(text) = name.to_str() else { continue };
            if text == "PATH" {
                programs.path.clone_from(&value);
            }
            if PASSED_ON.contains(&text) || text.starts_with("LC_") {
                programs.base.push((name, value));
            } else if text.starts_with(AWS_PREFIX) {
                programs.aws.push((name, value));
            }
        }
        if let Some(user) = run_as {
            // The server's home is not for others, and programs that look for one of their own fail on it.
            const OF_THE_USER: [&str; 4] = ["HOME", "USER", "LOGNAME", "SHELL"];
            programs
                .base
                .retain(|(name, _)| !OF_THE_USER.iter().any(|own| name == own));
            programs.base.extend([
                ("HOME".into(), user.home.clone().into_os_string()),
                ("USER".into(), user.name.clone().into()),
                ("LOGNAME".into(), user.name.clone().into()),
            ]);
        }
        if !programs.base.iter().any(|(name, _)| name == "PATH") {
            programs.base.push(("PATH".into(), programs.path.clone()));
        }
        programs
    }

    /// Where programs are looked for.
    pub(crate) fn path(&self) -> &OsStr {
        &self.path
    }

    /// What every job gets.
    pub(crate) fn base(&self) -> &[(OsString, OsString)] {
        &self.base
    }

    /// What jobs of the AWS command line get too.
    pub(crate) fn aws(&self) -> &[(OsString, OsString)] {
        &self.aws
    }

    /// The file of a program: a name to be found in PATH, or an absolute path.
    ///
    /// # Errors
    ///
    /// One sentence that says what is wrong with it.
    pub(crate) fn find(&self, program: &str) -> Result<PathBuf, String> {
        if program.is_empty() || program.contains('\0') {
            return Err("a program's name cannot be empty nor hold the NUL character".to_owned());
        }
        if program.contains('/') {
            let path = Path::new(program);
            if !path.is_absolute() {
                return Err(format!(
                    "`{program}` is relative, and jobs have no fixed folder: give a name that is in PATH, or an absolute path"
                ));
            }
            return match path.metadata() {
                Err(_) => Err(format!("there is no program `{program}` on this server")),
                Ok(found) if !found.is_file() => Err(format!("`{program}` is no file")),
                Ok(_) if access(path, Access::EXEC_OK).is_err() => {
                    Err(format!("`{program}` is not executable"))
                }
                Ok(_) => Ok(path.to_owned()),
            };
        }
        std::env::split_paths(&self.path)
            .map(|dir| dir.join(program))
            .find(|file| file.is_file() && access(file, Access::EXEC_OK).is_ok())
            .ok_or_else(|| format!("there is no program `{program}` in the PATH of this server: install it, or give its absolute path"))
    }
}

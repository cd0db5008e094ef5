//! Reads the first line of a script that names its interpreter.

use std::path::Path;

/// How much of the first line is looked at; Linux itself takes 256 bytes.
pub(super) const LONGEST_LINE: usize = 1024;

/// The interpreter that a script names, and the arguments before the script's path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shebang {
    /// A path, or a name to be found in PATH.
    pub(super) program: String,
    /// What stands between the program and the script's path.
    pub(super) args: Vec<String>,
}

impl Shebang {
    /// The shebang at the beginning of `head`.
    ///
    /// `#!/path/program rest` is read as Linux does, with the rest as one argument. `#!/usr/bin/env program args` is
    /// taken apart, with or without `-S`, so that the program's own name is known; where `env` is asked for more
    /// than that (variables, options, quotes), it stays and gets the rest of the line as one argument.
    pub(super) fn parse(head: &[u8]) -> Option<Self> {
        let line = head.strip_prefix(b"#!")?;
        let line = &line[..line.len().min(LONGEST_LINE)];
        let line = line.split(|&b| b == b'\n').next().unwrap_or_default();
        let line = String::from_utf8_lossy(line);
        let line = line.trim();
        let (program, rest) = line.split_once([' ', '\t']).unwrap_or((line, ""));
        let rest = rest.trim();
        if program.is_empty() || program.contains('\0') {
            return None;
        }
        if file_name(program) == "env"
            && let Some(named) = Self::behind_env(rest)
        {
            return Some(named);
        }
        let args = if rest.is_empty() {
            Vec::new()
        } else {
            vec![rest.to_owned()]
        };
        Some(Self {
            program: program.to_owned(),
            args,
        })
    }

    fn behind_env(rest: &str) -> Option<Self> {
        let split = rest.strip_prefix("-S").map(str::trim_start);
        let words = split.unwrap_or(rest);
        if words.contains(['\'', '"', '\\', '$', '#']) {
            return None;
        }
        let mut words = words.split_whitespace().map(str::to_owned);
        let program = words
            .next()
            .filter(|word| !word.starts_with('-') && !word.contains('='))?;
        Some(Self {
            program,
            args: words.collect(),
        })
    }
}

/// The last part of a program's path.
pub(super) fn file_name(program: &str) -> &str {
    Path::new(program)
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or(program)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(head: &str) -> Option<(String, Vec<String>)> {
        Shebang::parse(head.as_bytes()).map(|shebang| (shebang.program, shebang.args))
    }

    #[test]
    fn lines_that_name_an_interpreter() {
        let cases: [(&str, &str, &[&str]); 13] = [
            ("#!/bin/sh\necho", "/bin/sh", &[]),
            ("#! /bin/sh", "/bin/sh", &[]),
            ("#!/bin/bash\r\necho", "/bin/bash", &[]),
            ("#!/usr/bin/perl -w -T\n", "/usr/bin/perl", &["-w -T"]),
            ("#!/usr/bin/env python3\n", "python3", &[]),
            ("#!/usr/bin/env python3 -u\n", "python3", &["-u"]),
            (
                "#!/usr/bin/env -S node --no-warnings --max-old-space-size=64\n",
                "node",
                &["--no-warnings", "--max-old-space-size=64"],
            ),
            ("#!/usr/bin/env -Sbash -e", "bash", &["-e"]),
            ("#!/usr/bin/env -i bash", "/usr/bin/env", &["-i bash"]),
            ("#!/usr/bin/env -S A=1 bash", "/usr/bin/env", &["-S A=1 bash"]),
            (
                "#!/usr/bin/env -S bash -c 'x y'",
                "/usr/bin/env",
                &["-S bash -c 'x y'"],
            ),
            ("#!/usr/bin/env", "/usr/bin/env", &[]),
            ("#!python3", "python3", &[]),
        ];
        for (head, program, args) in cases {
            let expected = Some((
                program.to_owned(),
                args.iter().map(|&arg| arg.to_owned()).collect(),
            ));
            assert_eq!(parsed(head), expected, "{head:?}");
        }
    }

    #[test]
    fn lines_that_do_not() {
        for head in [
            "",
            "#",
            "#!",
            "#!  \n/bin/sh",
            "# !/bin/sh",
            " #!/bin/sh",
            "echo",
            "#!\0",
        ] {
            assert_eq!(parsed(head), None, "{head:?}");
        }
    }

    #[test]
    fn any_bytes_are_survived_and_bounded() {
        let mut head = b"#!/bin/\xff\xfe ".to_vec();
        head.extend(std::iter::repeat_n(b'x', 100_000));
        let shebang = Shebang::parse(&head).unwrap();
        assert!(shebang.args[0].len() <= LONGEST_LINE);
    }
}

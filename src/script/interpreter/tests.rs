//! Who runs what, and who is refused.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use tempfile::TempDir;

use super::*;

/// A folder with programs of these names, to serve as PATH.
fn programs(names: &[&str]) -> TempDir {
    let folder = TempDir::new().unwrap();
    for name in names {
        let program = folder.path().join(name);
        fs::write(&program, "").unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    }
    folder
}

fn interpreters(configured: &[(&str, &[&str])], path: impl Into<OsString>) -> Interpreters {
    let configured = configured.iter().map(|(extension, command)| {
        (
            (*extension).to_owned(),
            command.iter().map(|&word| word.to_owned()).collect(),
        )
    });
    Interpreters::new(configured.collect(), path.into())
}

fn chosen(
    interpreters: &Interpreters,
    extension: Option<&str>,
    first_line: &str,
    requested: Option<&str>,
) -> Result<String, InterpreterError> {
    let shebang = Shebang::parse(first_line.as_bytes());
    interpreters
        .choose(extension, shebang.as_ref(), requested)
        .map(|choice| choice.to_string())
}

#[test]
fn request_then_settings_then_shebang_then_default() {
    let all = interpreters(&[(".PY", &["uv", "run", "--script"])], "");
    let cases = [
        (Some("py"), "#!/usr/bin/env python3 -u", Some("bash"), "bash"),
        (Some("py"), "#!/usr/bin/env python3 -u", None, "uv run --script"),
        (Some("sh"), "#!/bin/dash -e", None, "/bin/dash -e"),
        (Some("sh"), "echo", None, "bash"),
        (None, "#!/usr/bin/env -S awk -f", None, "awk -f"),
        (Some("unknown"), "#!/usr/bin/env lua", None, "lua"),
        (Some("aether"), "#!/usr/bin/env bash", None, "bash"),
        (Some("mjs"), "", None, "node"),
    ];
    for (extension, first_line, requested, expected) in cases {
        assert_eq!(
            chosen(&all, extension, first_line, requested).as_deref(),
            Ok(expected),
            "{extension:?} {first_line}"
        );
    }
}

#[test]
fn aether_without_a_shebang_wants_a_setting() {
    let error = chosen(&interpreters(&[], ""), Some("aether"), "", None).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("no interpreter for `.aether` configured: set it in the settings"),
        "{error}"
    );
    let set = interpreters(&[("aether", &["/opt/aether", "run"])], "");
    assert_eq!(
        chosen(&set, Some("aether"), "#!/bin/sh", None).as_deref(),
        Ok("/opt/aether run")
    );
    let error = chosen(&set, None, "", None).unwrap_err();
    assert!(error.to_string().contains("without an extension"), "{error}");
}

#[test]
fn a_request_may_name_only_interpreters() {
    let all = interpreters(
        &[
            ("py", &["/opt/python/bin/python3.13", "-I"]),
            ("x", &["xrun", "-q"]),
        ],
        "",
    );
    for (requested, expected) in [
        ("python3.13", "/opt/python/bin/python3.13 -I"),
        ("/opt/python/bin/python3.13", "/opt/python/bin/python3.13 -I"),
        ("xrun", "xrun -q"),
        ("bash", "bash"),
        ("python3", "python3"),
    ] {
        assert_eq!(
            chosen(&all, Some("sh"), "", Some(requested)).as_deref(),
            Ok(expected),
            "{requested}"
        );
    }
    for requested in [
        "",
        "rm",
        "/bin/rm",
        "/bin/bash",
        "./bash",
        "../bash",
        "bash -c",
        "bash;id",
        "env",
        "/usr/bin/env",
        "xargs",
        "sudo",
        "python3.13 -I",
        "bash\0",
        " bash",
        "BASH",
        ".",
        "/",
    ] {
        let error = chosen(&all, Some("sh"), "", Some(requested)).unwrap_err();
        assert!(
            matches!(error, InterpreterError::Refused { .. }),
            "{requested}: {error}"
        );
    }
    let names = all.names();
    assert!(
        names.contains(&"python3.13".to_owned()) && names.contains(&"bash".to_owned()),
        "{names:?}"
    );
}

#[test]
fn asking_for_what_would_run_it_anyway_is_no_trick() {
    let all = interpreters(&[], "");
    assert_eq!(
        chosen(&all, None, "#!/usr/bin/awk -f", Some("awk")).as_deref(),
        Ok("/usr/bin/awk -f")
    );
    assert_eq!(
        chosen(&all, None, "#!/usr/bin/awk -f", Some("/usr/bin/awk")).as_deref(),
        Ok("/usr/bin/awk -f")
    );
    assert!(chosen(&all, None, "#!/usr/bin/awk -f", Some("gawk")).is_err());
}

#[test]
fn the_command_line_holds_interpreter_script_and_arguments() {
    let folder = programs(&["bash", "uv"]);
    let all = interpreters(&[("py", &["uv", "run"])], folder.path());
    let choice = all.choose(Some("py"), None, None).unwrap();
    let line = all
        .command_line(
            &choice,
            Path::new("/s/a b.py"),
            &["-x".to_owned(), "$HOME; 'y'".to_owned()],
        )
        .unwrap();
    assert_eq!(line.program, folder.path().join("uv"));
    assert_eq!(line.args, ["run", "/s/a b.py", "-x", "$HOME; 'y'"]);
}

#[test]
fn programs_are_found_in_absolute_folders_of_path_in_order() {
    let (first, second) = (programs(&["bash"]), programs(&["bash", "node"]));
    let not_executable = TempDir::new().unwrap();
    fs::write(not_executable.path().join("bash"), "").unwrap();
    fs::create_dir(not_executable.path().join("node")).unwrap();
    let rubies = programs(&["ruby"]);
    let up: PathBuf = std::env::current_dir()
        .unwrap()
        .components()
        .skip(1)
        .map(|_| "..")
        .collect();
    let relative = up.join(rubies.path().strip_prefix("/").unwrap());
    assert!(relative.join("ruby").is_file());
    let path = std::env::join_paths([
        relative.as_path(),
        Path::new(""),
        Path::new("."),
        Path::new("/nowhere"),
        not_executable.path(),
        first.path(),
        second.path(),
    ])
    .unwrap();
    let all = interpreters(&[], path);
    let locate = |extension| all.locate(&all.choose(Some(extension), None, None).unwrap());
    assert_eq!(locate("sh"), Ok(first.path().join("bash")));
    assert_eq!(locate("js"), Ok(second.path().join("node")));
    let error = locate("rb").unwrap_err();
    assert_eq!(
        error.to_string(),
        "ruby is not installed: install Ruby (package `ruby`), or see that the server's PATH holds its folder"
    );
}

#[test]
fn a_shebang_with_a_path_means_that_path() {
    let folder = programs(&["python3"]);
    let all = interpreters(&[], folder.path());
    let here = folder.path().join("python3");
    let locate = |line: &str| {
        let shebang = Shebang::parse(line.as_bytes());
        all.locate(&all.choose(Some("py"), shebang.as_ref(), None).unwrap())
    };
    assert_eq!(locate(&format!("#!{}", here.display())), Ok(here.clone()));
    assert_eq!(locate("#!/usr/bin/env python3"), Ok(here));
    for line in [
        "#!/nowhere/python3",
        "#!bin/python3",
        "#!./python3",
        "#!../../bin/sh",
    ] {
        assert!(
            matches!(locate(line), Err(InterpreterError::NotInstalled { .. })),
            "{line}"
        );
    }
}

#[test]
fn an_empty_command_switches_an_extension_off() {
    let all = interpreters(&[(".js", &[]), ("py", &[""])], "");
    assert!(!all.knows_extension("js") && !all.knows_extension("py") && all.knows_extension("sh"));
    assert!(matches!(
        chosen(&all, Some("js"), "", None),
        Err(InterpreterError::NotConfigured { .. })
    ));
    assert_eq!(
        chosen(&all, Some("js"), "#!/usr/bin/env deno", None).as_deref(),
        Ok("deno")
    );
}

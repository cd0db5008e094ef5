//! Folders with all that can lie in them.

mod cache;
mod paths;

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt};
use std::time::SystemTime;

use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
use serde_json::Map;
use tempfile::TempDir;

use super::*;
use crate::script::walk::Bounds;

/// A clock at which every file has long been as it is, so that what was read is remembered.
fn in_an_hour() -> SystemTime {
    SystemTime::now() + Duration::from_secs(3_600)
}

struct Folder {
    /// Holds the scripts folder and what lies beside it.
    outer: TempDir,
    catalog: Catalog,
}

impl Folder {
    fn new() -> Self {
        let outer = TempDir::new().unwrap();
        let root = outer.path().join("scripts");
        fs::create_dir(&root).unwrap();
        let path = std::env::var_os("PATH").unwrap();
        let catalog = Catalog::new(root, Interpreters::new([].into(), path));
        Self { outer, catalog }
    }

    fn remembering() -> Self {
        let mut folder = Self::new();
        folder.catalog.folder.clock = in_an_hour;
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.catalog.folder.root.join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn names(&self) -> Vec<String> {
        self.catalog
            .list()
            .unwrap()
            .scripts
            .into_iter()
            .map(|script| script.name)
            .collect()
    }

    fn find(&self, name: &str) -> Result<Script, LookupError> {
        self.catalog.find(name)
    }
}

const WITH_HEADER: &str = "#!/usr/bin/env bash\n# /// runql\n# description = \"Greets\"\n# timeout = \"90s\"\n# [parameters.name]\n# type = \"string\"\n# default = \"you\"\n# ///\necho\n";

#[test]
fn scripts_are_files_with_a_known_extension_or_a_shebang() {
    let folder = Folder::new();
    for name in ["b.sh", "a.PY", "deep/er/c.js", "deep-er.rb", "x.aether"] {
        folder.write(name, "1");
    }
    folder.write("tool", "#!/bin/sh\n");
    folder.write("empty.sh", "");
    for name in [
        "README.md",
        "data.json",
        "noext",
        "hash",
        ".hidden.sh",
        ".git/hook.sh",
        "deep/.x/a.sh",
    ] {
        folder.write(name, "# no script");
    }
    folder.write("bang", "#!\nx");
    folder.write("back\\slash.sh", "");
    folder.write("new\nline.sh", "");
    fs::create_dir(folder.path("folder.sh")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        folder.path("pipe.sh"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o644),
        0,
    )
    .unwrap();
    let expected = [
        "a.PY",
        "b.sh",
        "deep-er.rb",
        "deep/er/c.js",
        "empty.sh",
        "tool",
        "x.aether",
    ];
    assert_eq!(folder.names(), expected);
    for name in expected {
        let script = folder.find(name).unwrap();
        assert_eq!(script.name, name);
        assert_eq!(script.path, folder.path(name).canonicalize().unwrap());
    }
    for name in ["README.md", "noext", "bang", "folder.sh", "pipe.sh", "deep"] {
        assert!(
            matches!(folder.find(name), Err(LookupError::NotAScript)),
            "{name}"
        );
    }
}

#[test]
fn a_script_carries_what_its_header_says() {
    let folder = Folder::new();
    folder.write("hello.sh", WITH_HEADER);
    let script = folder.find("hello.sh").unwrap();
    assert_eq!(script.description.as_deref(), Some("Greets"));
    assert_eq!(script.timeout, Some(Duration::from_secs(90)));
    assert_eq!(script.interpreter.as_deref(), Some("bash"));
    assert!(script.runnable && script.has_valid_header() && script.problem.is_none());
    assert_eq!(script.size_bytes, u64::try_from(WITH_HEADER.len()).unwrap());
    assert_eq!(
        script.parameters.as_ref().unwrap().validate(Map::new()).unwrap()["name"],
        "you"
    );
    let metadata = fs::metadata(&script.path).unwrap();
    assert_eq!(script.modified_at.micros() / 1_000_000, metadata.mtime());

    let line = script.command_line(None, &["x".to_owned()]).unwrap();
    let output = std::process::Command::new(&line.program)
        .args(&line.args)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "a script needs no executable bit: {output:?}"
    );
    assert!(matches!(
        script.command_line(Some("rm"), &[]),
        Err(InterpreterError::Refused { .. })
    ));
}

#[test]
fn the_hash_is_that_of_the_bytes() {
    let folder = Folder::new();
    folder.write("empty.sh", "");
    folder.write("abc.sh", "abc");
    folder.write("long.sh", &"a".repeat(1_000_000));
    for (name, sha256) in [
        (
            "empty.sh",
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        ),
        (
            "abc.sh",
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        ),
        (
            "long.sh",
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0",
        ),
    ] {
        assert_eq!(folder.find(name).unwrap().sha256, sha256, "{name}");
    }
}

#[test]
fn an_invalid_header_is_the_scripts_problem() {
    let folder = Folder::new();
    folder.write(
        "bad.sh",
        "#!/bin/sh\n# /// runql\n# description = \"x\"\n# timeout = \"soon\"\n# ///\n",
    );
    let listing = folder.catalog.list().unwrap();
    let [script] = listing.scripts.as_slice() else {
        panic!("{listing:?}")
    };
    assert!(!script.runnable && !script.has_valid_header());
    let problem = script.problem.as_deref().unwrap();
    assert!(
        problem.starts_with("the header is invalid: line 4: `timeout`"),
        "{problem}"
    );
    assert!(script.parameters.is_none() && script.description.is_none());
    assert_eq!(script.interpreter.as_deref(), Some("/bin/sh"));
}

#[test]
fn a_header_beyond_the_first_64_kib_is_not_looked_for() {
    let folder = Folder::new();
    let header = "# /// runql\n# description = \"x\"\n# ///\n";
    folder.write("near.sh", &format!("{}{header}", "#\n".repeat(30_000)));
    folder.write("far.sh", &format!("{}{header}", "#\n".repeat(33_000)));
    folder.write(
        "across.sh",
        &format!(
            "{}# /// runql\n# description = \"x\"\n{}# ///\n",
            "#\n".repeat(32_700),
            "#\n".repeat(100)
        ),
    );
    assert_eq!(folder.find("near.sh").unwrap().description.as_deref(), Some("x"));
    assert_eq!(folder.find("far.sh").unwrap().description, None);
    let problem = folder.find("across.sh").unwrap().problem.unwrap();
    assert!(problem.contains("within the first 64 KiB"), "{problem}");
}

#[test]
fn a_missing_interpreter_is_the_scripts_problem_until_another_is_asked_for() {
    let folder = Folder::new();
    folder.write("a.sh", "#!/nowhere/zork\necho");
    folder.write("b.aether", "x");
    let script = folder.find("a.sh").unwrap();
    assert!(!script.runnable && script.has_valid_header());
    assert!(
        script
            .problem
            .as_deref()
            .unwrap()
            .contains("/nowhere/zork is not installed"),
        "{:?}",
        script.problem
    );
    assert_eq!(script.interpreter.as_deref(), Some("/nowhere/zork"));
    assert!(script.command_line(Some("bash"), &[]).is_ok());
    let script = folder.find("b.aether").unwrap();
    assert!(!script.runnable && script.interpreter.is_none());
    assert!(script.problem.unwrap().contains("set it in the settings"));
}

/// Takes from this thread the right to read whatever it likes, which root has.
fn without_privileges() {
    let mut sets = capabilities(None).unwrap();
    sets.effective -= CapabilitySet::DAC_OVERRIDE | CapabilitySet::DAC_READ_SEARCH;
    set_capabilities(None, sets).unwrap();
}

#[test]
fn an_unreadable_script_is_listed_with_its_problem() {
    let folder = Folder::new();
    for name in ["locked.sh", "locked-tool", "room/a.sh", "open.sh"] {
        folder.write(name, "#!/bin/sh\n");
    }
    let lock =
        |name: &str| fs::set_permissions(folder.path(name), fs::Permissions::from_mode(0o000)).unwrap();
    lock("locked.sh");
    lock("locked-tool");
    lock("room");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            without_privileges();
            let listing = folder.catalog.list().unwrap();
            let names: Vec<&str> = listing
                .scripts
                .iter()
                .map(|script| script.name.as_str())
                .collect();
            assert_eq!(names, ["locked.sh", "open.sh"]);
            let locked = &listing.scripts[0];
            assert_eq!(
                locked.problem.as_deref(),
                Some("the file cannot be read: permission denied")
            );
            assert!(!locked.runnable && !locked.has_valid_header() && locked.sha256.is_empty());
            for name in ["locked.sh", "locked-tool", "room/a.sh"] {
                assert!(
                    matches!(folder.find(name), Err(LookupError::Unreadable(_))),
                    "{name}"
                );
            }
        });
    });
    fs::set_permissions(folder.path("room"), fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn a_listing_is_bounded() {
    let mut folder = Folder::new();
    for n in 0..9 {
        folder.write(&format!("{n}.sh"), "");
        folder.write(&format!("sub/{n}.sh"), "");
    }
    folder.write("1/2/3/deep.sh", "");
    assert!(!folder.catalog.list().unwrap().truncated);
    let mut cut = |bounds: Bounds| {
        folder.catalog.folder.bounds = bounds;
        let listing = folder.catalog.list().unwrap();
        assert!(listing.truncated, "{bounds:?}");
        listing
            .scripts
            .into_iter()
            .map(|script| script.name)
            .collect::<Vec<_>>()
    };
    let all = Bounds::default();
    assert_eq!(cut(Bounds { files: 3, ..all }), ["0.sh", "1.sh", "2.sh"]);
    assert_eq!(cut(Bounds { depth: 1, ..all }).len(), 9);
    assert!(!cut(Bounds { depth: 3, ..all }).contains(&"1/2/3/deep.sh".to_owned()));
    assert_eq!(cut(Bounds { files: 18, ..all }).len(), 18);
    assert!(cut(Bounds { entries: 5, ..all }).len() <= 5);
    folder.catalog.folder.bounds = Bounds { files: 19, ..all };
    assert!(!folder.catalog.list().unwrap().truncated);
}

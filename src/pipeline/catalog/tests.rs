//! Folders with all that can lie in them.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::json;
use tempfile::TempDir;

use super::*;

const ONE: &str = "description: One\nsteps:\n- run: {command: {task: {problemId: x}}}\n";

struct Place {
    /// Holds the pipelines folder and what lies beside it.
    outer: TempDir,
    catalog: Catalog,
}

impl Place {
    fn new() -> Self {
        let outer = TempDir::new().unwrap();
        let catalog = Catalog::new(outer.path().join("pipelines"));
        Self { outer, catalog }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.outer.path().join("pipelines").join(name)
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn targets(&self) -> Vec<String> {
        let listing = self.catalog.list().unwrap();
        listing.pipelines.into_iter().map(|it| it.target).collect()
    }
}

#[test]
fn targets_are_paths_without_extensions() {
    let place = Place::new();
    assert_eq!(place.targets(), [""; 0], "a folder that is not there holds none");
    assert!(matches!(
        place.catalog.find("a"),
        Err(LookupError::NotFound { .. })
    ));
    for name in [
        "a.yaml",
        "deploy/web.yml",
        "b.json",
        "v1.2.yaml",
        "README.md",
        "noext",
        ".hidden.yaml",
        ".git/a.yaml",
        "A.YAML",
    ] {
        let text = if name == "b.json" {
            json!({ "steps": [{ "run": { "command": { "task": { "problemId": "x" } } } }] }).to_string()
        } else {
            ONE.to_owned()
        };
        place.write(name, text);
    }
    fs::create_dir(place.path("folder.yaml")).unwrap();
    assert_eq!(place.targets(), ["a", "b", "deploy/web", "v1.2"]);
    for target in place.targets() {
        let found = place.catalog.find(&target).unwrap();
        assert_eq!((found.target.as_str(), &found.problem), (target.as_str(), &None));
        assert_eq!((found.steps().len(), found.sha256.len()), (1, 64));
        assert_eq!(found.strategy(), Some(&Strategy::Serial { stop_on_error: true }));
        assert_eq!(found.fill(Map::new(), &Map::new()).unwrap().steps.len(), 1);
    }
    for target in ["a.yaml", "folder", "README", ".hidden", "deploy", "noext"] {
        assert!(place.catalog.find(target).is_err(), "{target}");
    }
    let Err(LookupError::NotFound { similar }) = place.catalog.find("deploy/wev") else {
        panic!("found")
    };
    assert_eq!(similar, ["deploy/web"]);
}

#[test]
fn no_target_leaves_the_folder() {
    let place = Place::new();
    place.write("a.yaml", ONE);
    place.write("sub/b.yaml", ONE);
    fs::write(place.outer.path().join("secret.yaml"), ONE).unwrap();
    symlink(place.outer.path().join("secret.yaml"), place.path("out.yaml")).unwrap();
    symlink(place.outer.path(), place.path("up")).unwrap();
    symlink("sub/b.yaml", place.path("in.yaml")).unwrap();
    symlink("loop.yaml", place.path("loop.yaml")).unwrap();
    assert_eq!(place.targets(), ["a", "in", "sub/b"]);
    assert!(place.catalog.find("in").is_ok());
    for target in ["out", "up/secret"] {
        assert!(
            matches!(place.catalog.find(target), Err(LookupError::Outside)),
            "{target}"
        );
    }
    for target in [
        "",
        "../secret",
        "/a",
        "sub/../a",
        "sub//b",
        "./a",
        "sub/",
        "a\0",
        "sub\\b",
    ] {
        assert!(
            matches!(place.catalog.find(target), Err(LookupError::Invalid(_))),
            "{target:?}"
        );
    }
    assert!(matches!(
        place.catalog.find("loop"),
        Err(LookupError::NotFound { .. })
    ));
}

#[test]
fn a_file_with_a_problem_is_listed_with_it() {
    let place = Place::new();
    place.write("broken.yaml", "steps:\n- rin: 1\n");
    place.write("latin.yaml", b"steps:\n# gr\xfc\xdfe\n");
    place.write("large.yaml", format!("{ONE}# {}\n", "x".repeat(LARGEST)));
    place.write("twice.yml", ONE);
    place.write("twice.yaml", ONE);
    place.write("good.yaml", ONE);
    let problems = [
        ("broken", "line 2: unknown field `rin`"),
        ("latin", "line 2: the file is not UTF-8"),
        ("large", "the file has more than 1 MiB"),
        (
            "twice",
            "`twice.yaml` and `twice.yml` would both be `twice`: remove or rename one",
        ),
    ];
    let listing = place.catalog.list().unwrap();
    assert_eq!(listing.pipelines.len(), 5);
    for (target, problem) in problems {
        let listed = listing.pipelines.iter().find(|it| it.target == target).unwrap();
        for pipeline in [listed, &place.catalog.find(target).unwrap()] {
            let told = pipeline.problem.as_deref().unwrap();
            assert!(told.starts_with(problem), "{target}: {told}");
            assert!(pipeline.inputs().is_none() && pipeline.steps().is_empty());
            assert_eq!(pipeline.fill(Map::new(), &Map::new()), Err(Vec::new()));
            assert_eq!(pipeline.sha256.len(), 64);
        }
    }
}

#[test]
fn a_link_may_give_a_file_another_form() {
    let place = Place::new();
    place.write("a.yaml", ONE);
    symlink("a.yaml", place.path("b.json")).unwrap();
    for _ in 0..2 {
        assert_eq!(place.catalog.find("a").unwrap().problem, None);
        let problem = place.catalog.find("b").unwrap().problem.unwrap();
        assert!(problem.starts_with("line 1: "), "{problem}");
    }
}

//! The examples in the folder `pipelines` and in the documentation.

use super::*;

#[test]
fn the_examples_run_scripts_that_there_are_with_parameters_that_fit() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = std::env::var_os("PATH").unwrap();
    let interpreters = crate::script::Interpreters::new([].into(), path);
    let scripts = crate::script::Catalog::new(root.join("scripts"), interpreters);
    let listing = Catalog::new(root.join("pipelines")).list().unwrap();
    let targets: Vec<&str> = listing.pipelines.iter().map(|it| it.target.as_str()).collect();
    assert_eq!(targets, ["greetings", "report"]);
    for pipeline in &listing.pipelines {
        assert_eq!(pipeline.problem, None);
        assert!(pipeline.description().is_some());
        let required = pipeline.inputs().unwrap().schema()["required"]
            .as_array()
            .unwrap();
        let inputs = required
            .iter()
            .map(|name| (name.as_str().unwrap().to_owned(), json!("Ada")));
        for step in pipeline.fill(inputs.collect(), &Map::new()).unwrap().steps {
            let Command::Script(script) = step.run.command else {
                panic!("{step:?}")
            };
            let found = scripts.find(&script.script).unwrap();
            assert!(found.has_valid_header());
            found.parameters.unwrap().validate(script.parameters).unwrap();
        }
    }
}

#[test]
fn the_file_in_the_documentation_is_a_pipeline() {
    let text = include_str!("../../../docs/pipelines.md");
    let files: Vec<&str> = text
        .split("```yaml\n")
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap())
        .collect();
    assert_eq!(files.len(), 1);
    let filled = fill(files[0], json!({ "version": "1.2" }), json!({ "region": "eu" })).unwrap();
    assert_eq!(filled.steps[0].run.max_attempts, Some(3));
    assert_eq!(
        filled.steps[1].run.env[1].value,
        crate::domain::EnvValue::Value("eu".to_owned())
    );
    // What it says about a shell's command holds.
    let unsafe_line = files[0].replace("$VERSION", "${{ inputs.version }}");
    assert!(problem(&unsafe_line).contains("would run what it stands for as code"));
}

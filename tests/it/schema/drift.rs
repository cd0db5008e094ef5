//! `schema.graphql` is printed from the code.

#[test]
fn the_file_is_what_the_code_prints() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/schema.graphql");
    let file = std::fs::read_to_string(path).unwrap();
    let printed = runql::graphql::sdl();
    let differing = file
        .lines()
        .zip(printed.lines())
        .position(|(file, printed)| file != printed)
        .unwrap_or_else(|| file.lines().count().min(printed.lines().count()));
    assert!(
        file == printed,
        "schema.graphql differs from the code from line {} on; print it anew and look at the difference:\n\n    \
         cargo run -- schema > schema.graphql && git diff schema.graphql\n",
        differing + 1
    );
}

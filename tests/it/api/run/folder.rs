//! Where jobs work: folders that they share, and folders that are gone when they are.

use serde_json::json;

use crate::api::fixture::{request, shell};
use crate::support::app::Setup;
use crate::support::both_stores;
use crate::support::db::TestDb;

both_stores!(
    a_working_directory_is_kept_and_shared,
    the_default_folder_is_empty_and_removed,
    links_inside_the_work_root_are_followed,
);

async fn a_working_directory_is_kept_and_shared(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let in_folder = |line: &str| request(shell(line), json!({ "workingDir": "shared/by two" }));
    app.completed(in_folder("echo from the first > note")).await;
    let second = app
        .completed(in_folder("cat note; pwd; echo \"$PWD\"; ls -a | wc -l"))
        .await;
    let folder = app.folder().join("work/shared/by two").canonicalize().unwrap();
    let expected = format!("from the first\n{0}\n{0}\n3\n", folder.display());
    assert_eq!(second["stdout"], expected);
    assert_eq!(
        std::fs::read_to_string(folder.join("note")).unwrap(),
        "from the first\n"
    );
    app.stop().await;
}

async fn the_default_folder_is_empty_and_removed(db: TestDb) {
    let app = Setup::new(&db).start().await;
    for line in [
        "pwd; ls -A; mkdir -p deep/er; echo x > deep/er/file; chmod 500 deep",
        "pwd; touch file; exit 1",
    ] {
        let job = app.ended(&app.run(request(shell(line), json!({}))).await).await;
        let printed = job["stdout"].as_str().unwrap();
        let folder = std::path::Path::new(printed.trim_end());
        assert!(
            folder.starts_with(app.folder().join("work").canonicalize().unwrap()),
            "{printed:?}"
        );
        // Gone before the end is told.
        assert!(!folder.exists(), "{folder:?} is left");
    }
    let left: Vec<_> = std::fs::read_dir(app.folder().join("work/.jobs"))
        .unwrap()
        .flatten()
        .collect();
    assert!(left.is_empty(), "{left:?}");
    app.stop().await;
}

async fn links_inside_the_work_root_are_followed(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let work = app.folder().join("work");
    std::fs::create_dir_all(work.join("real")).unwrap();
    std::os::unix::fs::symlink(work.join("real"), work.join("alias")).unwrap();
    let job = app
        .completed(request(shell("pwd -P"), json!({ "workingDir": "alias/below" })))
        .await;
    let real = work.canonicalize().unwrap().join("real/below");
    assert_eq!(job["stdout"], format!("{}\n", real.display()));
    app.stop().await;
}

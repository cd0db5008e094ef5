//! Where jobs work: folders that they share, and folders that are gone when they are.

use serde_json::json;

use crate::api::fixture::{request, shell};
use crate::support::app::Setup;
use crate::support::both_stores;
use crate::support::db::TestDb;

both_stores!(
    a_working_directory_is_kept_and_shared,
    the_default_folder_is_empty_and_removed,
    folders_are_handed_on_only_as_they_were,
    folders_that_wait_are_gone_with_their_server,
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

async fn folders_are_handed_on_only_as_they_were(db: TestDb) {
    // Each job is the next one of the same worker.
    let app = Setup::new(&db).flag("--workers", 1).start().await;
    let printed = async |line: &str| {
        let job = app.completed(request(shell(line), json!({}))).await;
        job["stdout"].as_str().unwrap().to_owned()
    };
    // The owner and the mode of each folder, and what lies in them all.
    let look = r#"stat -c '%u %g %a' .. . "$TMPDIR"; cd ..; find . | sort"#;
    let new = printed(look).await;
    assert!(new.ends_with("\n.\n./tmp\n./work\n"), "{new}");
    // A time is all that a job can leave behind, and tells that the folder is the same.
    let (mark, marked) = ("touch -d @1000000000 .", "stat -c %Y .");
    for (change, is_handed_on) in [
        (":", true),
        (r#"echo '{}' > "$RUNQL_OUTPUT""#, true),
        (r#"mktemp; rm -r "$TMPDIR"/*"#, true),
        ("chmod 711 .", false),
        (r#"chmod 1777 "$TMPDIR""#, false),
        ("chmod 755 ..", false),
        ("touch left", false),
        (r#"mkdir "$TMPDIR/.left""#, false),
        ("touch ../left", false),
        (r#"mkdir "$RUNQL_OUTPUT""#, false),
        ("mv ../work ../old; mkdir ../work; rmdir ../old", false),
        (r#"rmdir "$TMPDIR"; ln -s work "$TMPDIR""#, false),
        ("(sleep 600) &", true),
        ("kill -9 $$", true),
    ] {
        let job = app
            .run(request(shell(&format!("{mark}\n{change}")), json!({})))
            .await;
        app.ended(&job).await;
        let found = printed(&format!("{marked}; {look}")).await;
        let (time, rest) = found.split_once('\n').unwrap();
        assert_eq!(rest, new, "{change}");
        assert_eq!(time == "1000000000", is_handed_on, "{change}");
        // Nothing of the mark either.
        printed("chmod 711 .").await;
    }
    app.stop().await;
}

async fn folders_that_wait_are_gone_with_their_server(db: TestDb) {
    let mut app = Setup::new(&db).flag("--workers", 1).start().await;
    let work = app.folder().join("work");
    let found = |folder| std::fs::read_dir(work.join(folder)).unwrap().count();
    for (signal, left) in [("TERM", 0), ("KILL", 1)] {
        app.completed(request(shell(":"), json!({}))).await;
        assert_eq!((found(".jobs"), found(".spare")), (0, 1));
        app.signal(signal);
        app.exit().await;
        assert_eq!((found(".jobs"), found(".spare")), (0, left), "{signal}");
        app.restart().await;
        assert_eq!(found(".spare"), 0, "{signal}");
    }
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

//! What is remembered of files, and when it is not to be trusted.

use std::os::unix::fs::symlink;

use super::*;

#[test]
fn a_change_between_two_lists_is_seen_even_at_the_same_size_and_moment() {
    let folder = Folder::new();
    for round in 0..200 {
        folder.write(
            "a.sh",
            &format!("#!/bin/sh\n# /// runql\n# description = \"{round:03}\"\n# ///\n"),
        );
        let script = folder.catalog.list().unwrap().scripts.remove(0);
        assert_eq!(script.description, Some(format!("{round:03}")));
    }
    folder.write("b.sh", "");
    assert_eq!(folder.names(), ["a.sh", "b.sh"]);
    fs::remove_file(folder.path("a.sh")).unwrap();
    assert_eq!(folder.names(), ["b.sh"]);
}

#[test]
fn what_could_change_under_the_same_stamp_is_not_remembered() {
    let mut folder = Folder::remembering();
    folder.write("a.sh", WITH_HEADER);
    assert!(folder.find("a.sh").is_ok());
    assert_eq!(folder.catalog.folder.remembered().len(), 1);
    // A clock that is behind the file's: somebody could change the file within the moment that its stamp names.
    folder.catalog.folder.clock = || SystemTime::UNIX_EPOCH;
    folder.write("a.sh", "#!/bin/sh\n");
    assert!(folder.find("a.sh").is_ok());
    assert!(folder.catalog.folder.remembered().is_empty());
}

#[test]
fn what_is_unchanged_is_not_read_again() {
    let folder = Folder::remembering();
    folder.write("a.sh", WITH_HEADER);
    folder.write("README", "no script");
    let parameters = || folder.find("a.sh").unwrap().parameters.unwrap();
    let first = parameters();
    assert!(
        Arc::ptr_eq(&first, &parameters()),
        "the schema was compiled twice"
    );
    let listed = folder
        .catalog
        .list()
        .unwrap()
        .scripts
        .remove(0)
        .parameters
        .unwrap();
    assert!(Arc::ptr_eq(&first, &listed));
    assert_eq!(folder.catalog.folder.remembered().len(), 2);

    // Another size is another version, as is a file moved into its place.
    folder.write("a.sh", &WITH_HEADER.replace("Greets", "Greets all"));
    let second = parameters();
    assert!(!Arc::ptr_eq(&first, &second));
    folder.write("new", &WITH_HEADER.replace("Greets", "Shouts all"));
    fs::rename(folder.path("new"), folder.path("a.sh")).unwrap();
    assert_eq!(
        folder.find("a.sh").unwrap().description.as_deref(),
        Some("Shouts all")
    );

    fs::remove_file(folder.path("a.sh")).unwrap();
    fs::remove_file(folder.path("README")).unwrap();
    assert!(folder.names().is_empty());
    assert!(
        folder.catalog.folder.remembered().is_empty(),
        "what is gone is forgotten"
    );
}

#[test]
fn a_file_that_is_no_script_under_one_name_may_be_one_under_another() {
    let folder = Folder::remembering();
    folder.write("plain", "echo");
    symlink("plain", folder.path("link.sh")).unwrap();
    for _ in 0..2 {
        assert!(matches!(folder.find("plain"), Err(LookupError::NotAScript)));
        assert!(folder.find("link.sh").is_ok());
        assert_eq!(folder.names(), ["link.sh"]);
    }
}

#[test]
fn many_threads_may_ask_at_once() {
    let folder = Folder::remembering();
    for n in 0..20 {
        folder.write(&format!("{n:02}.sh"), WITH_HEADER);
    }
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for n in 0..20 {
                    assert!(folder.find(&format!("{n:02}.sh")).unwrap().runnable);
                    assert_eq!(folder.catalog.list().unwrap().scripts.len(), 20);
                }
            });
        }
    });
}

//! Names and links: what leads out of the folder, what leads nowhere, what is passed over.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;

use super::*;

#[test]
fn links_stay_inside_or_are_refused() {
    let folder = Folder::new();
    let outside = folder.outer.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret.sh"), "secret").unwrap();
    // A folder beside the root whose name begins with the root's.
    fs::create_dir(folder.outer.path().join("scripts-more")).unwrap();
    fs::write(folder.outer.path().join("scripts-more/a.sh"), "x").unwrap();
    folder.write("real/a.sh", "x");
    folder.write("tool", "#!/bin/sh");
    folder.write("plain", "no script");
    symlink("real/a.sh", folder.path("inside.sh")).unwrap();
    symlink(folder.path("tool"), folder.path("absolute-inside")).unwrap();
    symlink("real", folder.path("linked")).unwrap();
    symlink("plain", folder.path("by-name.sh")).unwrap();
    symlink("real/a.sh", folder.path("by-target")).unwrap();
    symlink(outside.join("secret.sh"), folder.path("out.sh")).unwrap();
    symlink("../outside/secret.sh", folder.path("relative-out.sh")).unwrap();
    symlink("../scripts-more/a.sh", folder.path("beside.sh")).unwrap();
    symlink(&outside, folder.path("out")).unwrap();
    symlink("out/secret.sh", folder.path("twice.sh")).unwrap();
    symlink("..", folder.path("up")).unwrap();
    symlink(".", folder.path("self")).unwrap();
    symlink("circle-b.sh", folder.path("circle-a.sh")).unwrap();
    symlink("circle-a.sh", folder.path("circle-b.sh")).unwrap();
    symlink("nowhere.sh", folder.path("dangling.sh")).unwrap();
    symlink("/dev/zero", folder.path("zero.sh")).unwrap();

    assert_eq!(
        folder.names(),
        [
            "absolute-inside",
            "by-name.sh",
            "by-target",
            "inside.sh",
            "real/a.sh",
            "tool"
        ]
    );
    for name in [
        "inside.sh",
        "absolute-inside",
        "linked/a.sh",
        "by-name.sh",
        "by-target",
        "self/self/tool",
        "up/scripts/tool",
    ] {
        assert!(folder.find(name).is_ok(), "{name}: {:?}", folder.find(name));
    }
    for name in [
        "out.sh",
        "relative-out.sh",
        "beside.sh",
        "out/secret.sh",
        "twice.sh",
        "up/outside/secret.sh",
        "up",
        "zero.sh",
    ] {
        assert!(
            matches!(folder.find(name), Err(LookupError::Outside)),
            "{name}: {:?}",
            folder.find(name)
        );
    }
    for nothing in ["dangling.sh", "circle-a.sh"] {
        assert!(matches!(folder.find(nothing), Err(LookupError::NotFound { .. })));
    }
}

#[test]
fn the_root_may_be_a_link_or_missing() {
    let folder = Folder::new();
    folder.write("a.sh", "x");
    let link = folder.outer.path().join("link");
    symlink(folder.path(""), &link).unwrap();
    let linked = Catalog::new(link, Interpreters::new([].into(), "".into()));
    assert_eq!(linked.list().unwrap().scripts.len(), 1);
    assert_eq!(
        linked.find("a.sh").unwrap().path,
        folder.path("a.sh").canonicalize().unwrap()
    );

    let missing = Catalog::new(
        folder.outer.path().join("nowhere"),
        Interpreters::new([].into(), "".into()),
    );
    let listing = missing.list().unwrap();
    assert!(listing.scripts.is_empty() && !listing.truncated);
    assert!(matches!(missing.find("a.sh"), Err(LookupError::NotFound { similar }) if similar.is_empty()));
    let file = Catalog::new(folder.path("a.sh"), Interpreters::new([].into(), "".into()));
    assert!(file.list().is_err());
}

#[test]
fn names_that_are_not_there() {
    let folder = Folder::new();
    for name in ["deploy.sh", "reports/daily.py", "zzz.rb"] {
        folder.write(name, "");
    }
    for name in [
        "",
        "..",
        "../outside",
        "/etc/passwd",
        "a\\b",
        "a\0b",
        ".hidden.sh",
        "./deploy.sh",
    ] {
        assert!(
            matches!(folder.find(name), Err(LookupError::Invalid(_))),
            "{name:?}"
        );
    }
    for name in [
        "nothing.sh",
        "deploy.sh/x",
        &"x".repeat(300),
        "a/".repeat(400).trim_end_matches('/'),
    ] {
        assert!(
            matches!(folder.find(name), Err(LookupError::NotFound { .. })),
            "{name:?}"
        );
    }
    let Err(LookupError::NotFound { similar }) = folder.find("reports/dialy.py") else {
        panic!()
    };
    assert_eq!(similar, ["reports/daily.py"]);
    assert_eq!(
        folder.find("Deplyo.sh").unwrap_err().to_string(),
        "there is no such script: did you mean `deploy.sh`?"
    );
}

#[test]
fn names_that_are_not_utf_8_are_passed_over() {
    let folder = Folder::new();
    fs::write(
        folder.catalog.folder.root.join(OsStr::from_bytes(b"bad\xff.sh")),
        "",
    )
    .unwrap();
    let bad_folder = folder.catalog.folder.root.join(OsStr::from_bytes(b"\xfe\xfd"));
    fs::create_dir(&bad_folder).unwrap();
    fs::write(bad_folder.join("a.sh"), "").unwrap();
    folder.write("good-ü.sh", "\u{feff}# caf\u{e9}");
    fs::write(folder.path("latin1.sh"), b"#!/bin/sh\n# caf\xe9\n").unwrap();
    assert_eq!(folder.names(), ["good-ü.sh", "latin1.sh"]);
}

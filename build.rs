//! Fetches GraphiQL for the page at `/` and hands it to `src/graphiql` as an asset list.
//!
//! Responsible for: getting the pinned npm packages once with `npm pack`, checking each against the SHA-512 pinned
//! below, unpacking the few files that the page needs, and writing `graphiql_assets.rs` into `OUT_DIR`. Not
//! responsible for serving them.
//!
//! The build never depends on npm: where npm is absent or the registry cannot be reached, the list is empty, the build
//! warns, and the server serves its own plain page instead. `RUNQL_GRAPHIQL` changes that: `required` makes such a
//! build fail (what CI uses, so that the page that is tested is the real one), `none` does not even try.
//!
//! What was fetched stays in `OUT_DIR`, and npm's own cache serves other profiles, so a second build needs no network.

use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha512};

/// An npm package at one version, and what the page takes from it.
struct Package {
    name: &'static str,
    version: &'static str,
    /// SHA-512 of the tarball in Base64: what a package-lock.json calls `integrity`.
    sha512: &'static str,
    /// Paths inside the tarball, each with its name on our server.
    files: &'static [(&'static str, &'static str)],
    license: &'static str,
}

/// GraphiQL 4 is the last line with a bundle that a page can load without a bundler; React 18 likewise.
const PACKAGES: &[Package] = &[
    Package {
        name: "react",
        version: "18.3.1",
        sha512: "wS+hAgJShR0KhEvPJArfuPVN1+Hz1t0Y6n5jLrGQbkb4urgPE/0Rve+1kMB1v/oWgHgm4WIcV+i7F2pTVj+2iQ==",
        files: &[("package/umd/react.production.min.js", "react.js")],
        license: "package/LICENSE",
    },
    Package {
        name: "react-dom",
        version: "18.3.1",
        sha512: "5m4nQKp+rZRb09LNH59GM4BxTh9251/ylbKIbpe7TpGxfJ+9kv6BLkLBXIjjspbgbnIBNqlI23tRnTWT0snUIw==",
        files: &[("package/umd/react-dom.production.min.js", "react-dom.js")],
        license: "package/LICENSE",
    },
    Package {
        name: "graphiql",
        version: "4.1.2",
        sha512: "rNlzQIAzm6i2KBXmVQWBgLvt0TloxFVB2d18bukvdsvjEuFDHsKx5IVOomL1W1o5WW+tE54+ioHb2AEKzO2cUg==",
        files: &[
            ("package/graphiql.min.js", "graphiql.js"),
            ("package/graphiql.min.css", "graphiql.css"),
        ],
        license: "package/LICENSE",
    },
];

/// The file of all licences, which the binary has to carry along with the code.
const LICENSES: &str = "licenses.txt";

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=RUNQL_GRAPHIQL");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let mode = env::var("RUNQL_GRAPHIQL").unwrap_or_else(|_| String::from("auto"));
    let names = match mode.as_str() {
        "none" => Vec::new(),
        "required" => vendor(&out)?,
        "auto" => vendor(&out).unwrap_or_else(|error| {
            println!("cargo:warning=GraphiQL could not be fetched, `/` will be a plain page: {error}");
            println!("cargo:warning=With npm installed, `RUNQL_GRAPHIQL=required cargo build` tries again.");
            Vec::new()
        }),
        other => return Err(format!("RUNQL_GRAPHIQL is `{other}`: it takes auto, required or none").into()),
    };
    fs::write(out.join("graphiql_assets.rs"), asset_list(&names)?)?;
    Ok(())
}

/// Brings every file into `OUT_DIR/graphiql` and answers with their names.
fn vendor(out: &Path) -> Result<Vec<&'static str>> {
    let tarballs = out.join("npm");
    let missing = PACKAGES
        .iter()
        .any(|package| verified(&tarballs, package).is_err());
    if missing {
        fs::create_dir_all(&tarballs)?;
        pack(&tarballs)?;
    }
    let files = out.join("graphiql");
    fs::create_dir_all(&files)?;
    let mut names = Vec::new();
    let mut licenses = String::new();
    for package in PACKAGES {
        let tarball = verified(&tarballs, package)?;
        for (path, name) in package.files {
            fs::write(files.join(name), extract(&tarball, path)?)?;
            names.push(*name);
        }
        let license = String::from_utf8(extract(&tarball, package.license)?)?;
        writeln!(licenses, "{} {}\n\n{license}\n", package.name, package.version)?;
    }
    fs::write(files.join(LICENSES), licenses)?;
    names.push(LICENSES);
    Ok(names)
}

/// One `npm pack` for all packages. The cache is preferred, and a failure is final, so that a machine without network
/// is not kept waiting.
fn pack(into: &Path) -> Result<()> {
    let output = Command::new("npm")
        .current_dir(into)
        .args(["pack", "--loglevel=error", "--ignore-scripts", "--prefer-offline"])
        .args(["--fetch-retries=0", "--fetch-timeout=20000"])
        .args(
            PACKAGES
                .iter()
                .map(|package| format!("{}@{}", package.name, package.version)),
        )
        .output()
        .map_err(|error| format!("npm could not be started ({error})"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let reason: Vec<&str> = said
            .lines()
            .filter(|line| line.contains("error"))
            .take(3)
            .collect();
        return Err(format!("`npm pack` ended with {}: {}", output.status, reason.join("; ")).into());
    }
    Ok(())
}

/// The package's tarball, if it is there and is the very one that is pinned.
fn verified(tarballs: &Path, package: &Package) -> Result<PathBuf> {
    let path = tarballs.join(format!("{}-{}.tgz", package.name, package.version));
    let bytes = fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let found = STANDARD.encode(Sha512::digest(&bytes));
    if found != package.sha512 {
        return Err(format!("{} is not the pinned one: its SHA-512 is {found}", path.display()).into());
    }
    Ok(path)
}

/// One file of a tarball. `tar` is on every system that can build this project, and spares two crates.
fn extract(tarball: &Path, path: &str) -> Result<Vec<u8>> {
    let output = Command::new("tar").arg("-xzOf").arg(tarball).arg(path).output()?;
    if !output.status.success() || output.stdout.is_empty() {
        return Err(format!("no {path} in {}", tarball.display()).into());
    }
    Ok(output.stdout)
}

/// The Rust source of the list: names with the bytes included from `OUT_DIR`.
fn asset_list(names: &[&str]) -> Result<String> {
    let mut source = String::from("&[\n");
    for name in names {
        writeln!(
            source,
            "    ({name:?}, include_bytes!(concat!(env!(\"OUT_DIR\"), \"/graphiql/{name}\")) as &[u8]),"
        )?;
    }
    source.push_str("]\n");
    Ok(source)
}

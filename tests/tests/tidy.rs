//! Rules about the tree itself that no compiler checks: what the pure crates may depend on, how
//! long a file may be, what must not be left behind in it.
//!
//! Every test names all the places that break its rule, not only the first.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

#[test]
fn pure_crates_depend_on_nothing_outside_the_allow_list() {
    let mut strangers = Vec::new();
    for pure in &PURE_CRATES {
        for (name, _features) in dependencies(pure) {
            let is_json = *pure == "annulet-history" && JSON_DEPENDENCIES.contains(&name.as_str());
            if !is_json && !PURE_DEPENDENCIES.contains(&name.as_str()) {
                strangers.push(format!("{pure} depends on {name}"));
            }
        }
    }
    assert_clean(
        strangers,
        "a pure crate has no runtime, socket, clock or source of randomness",
    );
}

#[test]
fn pure_crates_turn_on_no_randomness_of_the_system() {
    let mut ambient = Vec::new();
    for pure in PURE_CRATES {
        for (name, features) in dependencies(pure) {
            for feature in ["getrandom", "os_rng", "sys_rng", "thread_rng"] {
                if features.contains(feature) {
                    ambient.push(format!("{pure} turns on feature {feature} of {name}"));
                }
            }
        }
    }
    assert_clean(
        ambient,
        "randomness is an argument, so that a seed repeats every decision",
    );
}

#[test]
fn no_source_file_is_longer_than_the_limit() {
    let long = source_files()
        .into_iter()
        .map(|file| (file.text.lines().count(), file.path))
        .filter(|(lines, _)| *lines > FILE_LINES_MAX)
        .map(|(lines, path)| format!("{path}: {lines} lines"))
        .collect();
    assert_clean(long, "a file has at most 800 lines and aims at 400");
}

#[test]
fn no_line_of_rust_is_wider_than_the_limit() {
    let wide = rust_files()
        .iter()
        .flat_map(|file| numbered_lines(file))
        .filter(|(_, line)| line.chars().count() > LINE_COLUMNS_MAX)
        .map(|(place, _)| place)
        .collect();
    assert_clean(
        wide,
        "a line has at most 100 columns, comments and strings too",
    );
}

#[test]
fn nothing_unfinished_is_left_behind() {
    let left = source_files()
        .iter()
        .flat_map(|file| numbered_lines(file))
        .filter(|(_, line)| LEFTOVERS.iter().any(|leftover| line.contains(leftover)))
        .map(|(place, line)| format!("{place}: {}", line.trim()))
        .collect();
    assert_clean(left, "finish it, or say in words what is not done and why");
}

#[test]
fn packages_of_other_languages_have_the_version_of_the_crates() {
    let ours = format!("\"version\": \"{}\"", env!("CARGO_PKG_VERSION"));
    let node = read(&root().join("bindings/node/package.json"));
    let python = read(&root().join("bindings/python/pyproject.toml"));
    let mut others = Vec::new();
    if !node.contains(&ours) {
        others.push(String::from("bindings/node/package.json"));
    }
    // Its tool takes the crate's.
    if !python.contains("dynamic = [\"version\"]") {
        others.push(String::from("bindings/python/pyproject.toml"));
    }
    if read(&root().join("bindings/python/LICENSE")) != read(&root().join("LICENSE")) {
        others.push(String::from("bindings/python/LICENSE"));
    }
    assert_clean(
        others,
        "version and licence are those of the root, copied where a tool wants them",
    );
}

#[test]
fn every_rust_file_belongs_to_a_crate() {
    let files = rust_files();
    let dead = files
        .iter()
        .filter(|file| !is_crate_root(&file.path))
        .filter(|file| !files.iter().any(|parent| declares(parent, &file.path)))
        .map(|file| file.path.clone())
        .collect();
    assert_clean(dead, "no `mod` names this file, so nothing compiles it");
}

#[test]
fn every_workspace_dependency_says_why_it_is_here() {
    let manifest = read(&root().join("Cargo.toml"));
    let mut reasonless = Vec::new();
    let mut reason_above = false;
    for line in section(&manifest, "[workspace.dependencies]") {
        if line.trim().is_empty() {
            reason_above = false;
        } else if line.trim_start().starts_with('#') {
            reason_above = true;
        } else if line.contains(" = ") && !line.contains("path = ") {
            let inline = line.contains(" # ");
            if !reason_above && !inline {
                reasonless.push(format!("Cargo.toml: {line}"));
            }
        }
    }
    assert_clean(
        reasonless,
        "put the reason in a comment above the group or beside the line",
    );
}

#[test]
fn members_take_every_dependency_from_the_workspace() {
    let mut own = Vec::new();
    for file in tracked_files() {
        if !file.path.ends_with("/Cargo.toml") {
            continue;
        }
        let mut in_dependencies = false;
        for line in file.text.lines() {
            if line.starts_with('[') {
                in_dependencies = line.ends_with("dependencies]");
            } else if in_dependencies && starts_dependency(line) && !line.contains("workspace") {
                own.push(format!("{}: {line}", file.path));
            }
        }
    }
    assert_clean(own, "versions stand once, in the root manifest");
}

#[test]
fn the_operators_guide_names_every_metric_and_every_limit() {
    let guide = read(&root().join("docs/operations.md"));
    let metrics = read(&root().join("server/src/metrics.rs"));
    // A name is the first word in quotes after a registration.
    let registered = metrics.split(".register(").skip(1);
    let names = registered.filter_map(|call| call.split('"').nth(1));
    let metrics = names.map(|name| format!("annulet_{name}"));
    let config = read(&root().join("server/src/config.rs"));
    let (_, limits) = config.split_once("pub struct Limits {").expect("limits");
    let (limits, _) = limits.split_once("\n}").expect("its end");
    let fields = limits.lines().filter_map(|line| {
        let (name, _) = line.trim().strip_prefix("pub ")?.split_once(':')?;
        Some(format!("`limits.{name}`"))
    });
    let all: Vec<_> = metrics.chain(fields).collect();
    assert!(all.len() > 50, "{all:?}");
    let missing = all.into_iter().filter(|name| !guide.contains(name));
    assert_clean(
        missing.collect(),
        "docs/operations.md explains what servers show and take",
    );
}

#[test]
fn nothing_in_the_tree_names_a_place_outside_it() {
    let outside = tracked_files()
        .iter()
        .flat_map(|file| numbered_lines(file))
        .filter(|(_, line)| OUTSIDE_PLACES.iter().any(|place| line.contains(place)))
        .map(|(place, line)| format!("{place}: {}", line.trim()))
        .collect();
    assert_clean(outside, "the project must work wherever it is checked out");
}

#[test]
fn the_list_of_files_is_not_empty() {
    let paths: BTreeSet<String> = tracked_files().into_iter().map(|file| file.path).collect();
    for known in ["Cargo.toml", "protocol/src/lib.rs", "tests/tests/tidy.rs"] {
        assert!(
            paths.contains(known),
            "{known} is missing: the other tests would check nothing"
        );
    }
}

/// A text file of the project, with its path from the root.
struct TextFile {
    path: String,
    text: String,
}

#[track_caller]
fn assert_clean(violations: Vec<String>, rule: &str) {
    let count = violations.len();
    assert!(
        count == 0,
        "{rule}; {count} found:\n  {}",
        violations.join("\n  ")
    );
}

fn root() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests
        .parent()
        .expect("the crate is a folder of the workspace")
        .to_path_buf()
}

fn read(path: &Path) -> String {
    let bytes = std::fs::read(path).expect("a listed file can be read");
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Name and features of everything that the crate is built with on this system.
fn dependencies(package: &str) -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .current_dir(root())
        .args(["tree", "--offline", "--edges", "normal", "--prefix", "none"])
        .args(["--package", package, "--format", "{p}|{f}"])
        .output()
        .expect("cargo can be started");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "cargo tree of {package} failed: {errors}"
    );

    let mut found = BTreeMap::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let (name_and_version, features) = line.split_once('|').expect("the format has a bar");
        let name = name_and_version
            .split(' ')
            .next()
            .expect("split yields at least one part");
        // A package that stands in the tree a second time is marked with a star.
        let features = features.trim_end_matches("(*)").trim().split(',');
        found
            .entry(name.to_owned())
            .or_insert_with(BTreeSet::new)
            .extend(features.map(str::to_owned));
    }
    assert!(
        found.contains_key(package),
        "cargo tree of {package} does not name {package}"
    );
    found
}

/// The text files of the project: what git tracks or would track, and without git everything
/// outside the folders that tools fill.
fn tracked_files() -> Vec<TextFile> {
    let root = root();
    let listed = Command::new("git")
        .current_dir(&root)
        .args([
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ])
        .output()
        .ok()
        .filter(|output| output.status.success());
    let mut paths = match listed {
        Some(output) => String::from_utf8_lossy(&output.stdout)
            .split_terminator('\0')
            .map(str::to_owned)
            .collect(),
        None => walk(&root, ""),
    };
    paths.sort();
    paths.dedup();
    paths
        .into_iter()
        .filter(|path| root.join(path).is_file())
        .map(|path| TextFile {
            text: read(&root.join(&path)),
            path,
        })
        .filter(|file| !file.text.contains('\0'))
        .collect()
}

fn walk(root: &Path, folder: &str) -> Vec<String> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(root.join(folder)).expect("a folder can be listed") {
        let name = entry.expect("a folder can be listed").file_name();
        let name = name.to_string_lossy();
        if FOLDERS_OF_TOOLS.contains(&name.as_ref()) {
            continue;
        }
        let path = if folder.is_empty() {
            name.into_owned()
        } else {
            format!("{folder}/{name}")
        };
        if root.join(&path).is_dir() {
            paths.extend(walk(root, &path));
        } else {
            paths.push(path);
        }
    }
    paths
}

fn source_files() -> Vec<TextFile> {
    let is_source = |path: &str| {
        let extension = Path::new(path)
            .extension()
            .and_then(|extension| extension.to_str());
        extension.is_some_and(|extension| SOURCE_EXTENSIONS.contains(&extension))
            || path.ends_with("Makefile")
            || path.starts_with(".ci/")
    };
    tracked_files()
        .into_iter()
        .filter(|file| is_source(&file.path))
        .collect()
}

fn rust_files() -> Vec<TextFile> {
    source_files()
        .into_iter()
        .filter(|file| file.path.ends_with(".rs"))
        .collect()
}

fn numbered_lines(file: &TextFile) -> Vec<(String, &str)> {
    let number = |(index, line)| (format!("{}:{}", file.path, index + 1), line);
    file.text.lines().enumerate().map(number).collect()
}

/// Whether cargo itself finds the file: the root of a library, program, test, example or
/// benchmark, or a build script.
fn is_crate_root(path: &str) -> bool {
    let parts: Vec<&str> = path.split('/').collect();
    match parts.as_slice() {
        [.., "src", "lib.rs" | "main.rs"] | [.., "build.rs"] => true,
        [.., "bin" | "tests" | "examples" | "benches", _] => !parts[..parts.len() - 2].is_empty(),
        [.., "bin" | "tests" | "examples" | "benches", _, "main.rs"] => true,
        ["examples", ..] => true,
        _ => false,
    }
}

/// Whether `parent` holds the `mod` line of the module at `path`.
fn declares(parent: &TextFile, path: &str) -> bool {
    let stem = path.trim_end_matches(".rs").trim_end_matches("/mod");
    let Some((folder, module)) = stem.rsplit_once('/') else {
        return false;
    };
    let parent_stem = parent.path.trim_end_matches(".rs");
    let beside = parent_stem
        .rsplit_once('/')
        .map(|(parent_folder, _)| parent_folder);
    let is_parent = parent_stem == folder || beside == Some(folder);
    let declares_module = |line: &str| {
        let before = line
            .trim()
            .strip_suffix(';')
            .and_then(|line| line.strip_suffix(module));
        before.is_some_and(|before| before.ends_with("mod "))
    };
    is_parent && parent.text.lines().any(declares_module)
}

/// The lines of a manifest between a section's heading and the next heading.
fn section<'a>(manifest: &'a str, heading: &str) -> Vec<&'a str> {
    let lines = manifest.lines().skip_while(|line| *line != heading).skip(1);
    let lines: Vec<&str> = lines.take_while(|line| !line.starts_with('[')).collect();
    assert!(!lines.is_empty(), "Cargo.toml has no section {heading}");
    lines
}

fn starts_dependency(line: &str) -> bool {
    let first = line.chars().next();
    first.is_some_and(|first| first.is_ascii_alphabetic()) && line.contains('=')
}

const FILE_LINES_MAX: usize = 800;
const LINE_COLUMNS_MAX: usize = 100;

const PURE_CRATES: [&str; 4] = [
    "annulet-protocol",
    "annulet-ring",
    "annulet-replica",
    "annulet-history",
];

/// All that the pure crates may be built with. Whoever adds a line looks first what the crate
/// does when it runs: no threads, no files, no sockets, no clock, no randomness of its own.
const PURE_DEPENDENCIES: &[&str] = &[
    // Ourselves.
    "annulet-history",
    "annulet-protocol",
    "annulet-replica",
    "annulet-ring",
    // Data and its encoding.
    "bytes",
    "num-traits",
    "rmp",
    "rmp-serde",
    "serde",
    "serde_bytes",
    "serde_core",
    "smallvec",
    // Hashes.
    "xxhash-rust",
    // Generators that are given their seed.
    "ppv-lite86",
    "rand",
    "rand_chacha",
    "rand_core",
    "zerocopy",
    // Errors, and derives that run in the compiler only.
    "proc-macro2",
    "quote",
    "serde_derive",
    "syn",
    "thiserror",
    "thiserror-impl",
    "unicode-ident",
    "zerocopy-derive",
];

/// What histories are written with, and nothing else that is pure. `foldhash` draws a seed for maps
/// that keep their order whatever it is.
const JSON_DEPENDENCIES: &[&str] = &[
    "base64",
    "equivalent",
    "foldhash",
    "hashbrown",
    "indexmap",
    "itoa",
    "memchr",
    "serde_json",
    "zmij",
];

const SOURCE_EXTENSIONS: &[&str] = &[
    "rs", "py", "pyi", "js", "mjs", "ts", "swift", "sh", "toml", "yml", "yaml",
];

const FOLDERS_OF_TOOLS: &[&str] = &[
    ".annulet",
    ".build",
    ".git",
    ".venv",
    "__pycache__",
    "node_modules",
    "target",
];

/// Each is written in two parts, so that this file is clean by its own rule.
const LEFTOVERS: &[&str] = &[
    concat!("dbg", "!("),
    concat!("todo", "!("),
    concat!("unimplemented", "!("),
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
];

const OUTSIDE_PLACES: &[&str] = &[
    concat!("/wo", "rk/"),
    concat!("../sh", "ared"),
    concat!("/ro", "ot/"),
];

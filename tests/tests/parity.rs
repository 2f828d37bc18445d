//! Every language's package has all of the façade: a method, an option or a kind of error that one
//! lacks is found here, before anybody misses it. Each package's own tests see to it that what its
//! types say is there.

use annulet::ErrorKind;
use std::path::Path;

/// A package.
struct Language {
    name: &'static str,
    /// The file that says what it has.
    types: &'static str,
    /// How a method begins there.
    method: fn(&str) -> String,
    /// How an option of a method is written there, by its name in the façade.
    option: fn(&str) -> String,
    /// How a kind of error is written there.
    kind: fn(&str) -> String,
}

const LANGUAGES: &[Language] = &[Language {
    name: "Python",
    types: "bindings/python/python/annulet/__init__.pyi",
    method: |name| format!("def {name}("),
    option: |name| format!(" {}: ", name.strip_suffix("_ms").unwrap_or(name)),
    kind: |name| format!("import {name} as {name}\n"),
}];

/// Operations in steps, and what makes one call of them in a package.
const STEPS: [(&str, &str); 2] = [("begin_update", "update"), ("begin_merge", "get_merged")];
/// An option, and the method that stands for it.
const METHODS_FOR_OPTIONS: [(&str, &str); 1] = [("keys_only", "scan_entries")];
/// The options of the façade, and the methods that take them.
const OPTIONS: [(&str, &[&str]); 6] = [
    ("ConnectOptions", &["connect"]),
    ("ReadOptions", &["get", "exists"]),
    ("WriteOptions", &["put"]),
    ("ScanOptions", &["scan"]),
    ("BucketOptions", &["create_bucket"]),
    ("BucketChanges", &["set_bucket"]),
];

fn read(path: &str) -> String {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = tests.parent().expect("a folder in the project");
    let text = std::fs::read_to_string(root.join(path));
    text.unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The methods of the façade's handles.
fn methods() -> Vec<String> {
    let mut methods = Vec::new();
    for file in ["client.rs", "bucket.rs"] {
        for line in read(&format!("client-core/src/facade/{file}")).lines() {
            let line = line.trim_start();
            let declared = line.strip_prefix("pub fn ");
            let declared = declared.or_else(|| line.strip_prefix("pub async fn "));
            if let Some(name) = declared.and_then(|rest| rest.split(['(', '<']).next()) {
                methods.push(name.to_owned());
            }
        }
    }
    methods.sort();
    methods.dedup();
    methods
}

/// The fields of one of the façade's structs.
fn fields(name: &str) -> Vec<String> {
    let text = read("client-core/src/facade/given.rs");
    let start = [
        format!("pub struct {name} {{"),
        format!("pub struct {name}<'a> {{"),
    ];
    let body = start
        .iter()
        .find_map(|start| text.split_once(start.as_str()));
    let (body, _) = body
        .and_then(|(_, rest)| rest.split_once("\n}"))
        .expect("a struct");
    let field = |line: &str| {
        Some(
            line.trim()
                .strip_prefix("pub ")?
                .split_once(':')?
                .0
                .to_owned(),
        )
    };
    body.lines().filter_map(field).collect()
}

/// The parameters of a method, as the types declare it.
fn parameters<'a>(types: &'a str, beginning: &str) -> &'a str {
    let (_, rest) = types.split_once(beginning).unwrap_or_default();
    rest.split_once("...")
        .map_or(rest, |(parameters, _)| parameters)
}

#[test]
fn every_language_has_every_method_option_and_kind_of_error() {
    let methods = methods();
    assert!(methods.len() > 25, "{methods:?}");
    let mut lacking = Vec::new();
    for language in LANGUAGES {
        let types = read(language.types);
        let mut expect = |what: &str, written: &str, found: &str| {
            if !found.contains(written) {
                lacking.push(format!("{}: {what} (`{written}`)", language.name));
            }
        };
        for name in &methods {
            let one_call = STEPS.iter().find(|(begin, _)| begin == name);
            let name = one_call.map_or(name.as_str(), |(_, name)| name);
            expect(name, &(language.method)(name), &types);
        }
        for (options, takers) in OPTIONS {
            for field in fields(options) {
                let instead = METHODS_FOR_OPTIONS
                    .iter()
                    .find(|(option, _)| *option == field);
                if let Some((_, method)) = instead {
                    expect(&field, &(language.method)(method), &types);
                    continue;
                }
                for taker in takers {
                    let taken = parameters(&types, &(language.method)(taker));
                    expect(
                        &format!("{field} of {taker}"),
                        &(language.option)(&field),
                        taken,
                    );
                }
            }
        }
        for kind in ErrorKind::ALL {
            expect("a kind of error", &(language.kind)(kind.as_str()), &types);
        }
    }
    assert!(lacking.is_empty(), "{}", lacking.join("\n"));
}

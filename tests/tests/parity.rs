//! Every language's package has all of the façade: a method, an option of it or a kind of error
//! that one lacks is found here, before anybody misses it. Each package's own tests see to it that
//! what its types say is there.

use annulet::ErrorKind;
use std::path::Path;

/// A package.
struct Language {
    name: &'static str,
    /// The files that say what it has.
    types: &'static [&'static str],
    /// How a class begins there.
    class: fn(&str) -> String,
    /// How a method or a function is written, by its name in the façade.
    call: fn(&str) -> String,
    /// How an option or a part of a result is written, by its name in the façade.
    part: fn(&str) -> String,
    /// How a kind of error is written.
    kind: fn(&str) -> String,
    /// What comes after the parameters of a call.
    after_parameters: &'static str,
}

const LANGUAGES: [Language; 3] = [
    Language {
        name: "Python",
        types: &["bindings/python/python/annulet/__init__.pyi"],
        class: |name| format!("\nclass {name}"),
        call: |name| format!("def {name}("),
        part: |name| format!(" {}: ", name.strip_suffix("_ms").unwrap_or(name)),
        kind: |name| format!("import {name} as {name}\n"),
        after_parameters: "...",
    },
    Language {
        name: "Node",
        types: &["bindings/node/index.d.ts"],
        class: |name| format!("\nexport declare class {name} "),
        call: |name| format!("{}(", camel(name)),
        part: |name| format!(" {}?: ", camel(name)),
        kind: |name| format!("| '{name}'\n"),
        after_parameters: "): ",
    },
    Language {
        name: "Swift",
        types: &[
            "bindings/swift/Sources/Annulet/AnnuletError.swift",
            "bindings/swift/Sources/Annulet/Bucket.swift",
            "bindings/swift/Sources/Annulet/Client.swift",
        ],
        class: |name| format!("\npublic final class {name}: "),
        call: |name| match name {
            // `close` is what UniFFI calls the end of a handle.
            "close" => "func shutdown(".into(),
            "session_from" => "func session(from ".into(),
            _ => format!("func {}(", camel(name)),
        },
        part: |name| format!(" {}: ", camel(name.strip_suffix("_ms").unwrap_or(name))),
        kind: |name| format!("= \"{name}\"\n"),
        after_parameters: ") ",
    },
];

/// Operations in steps, and what makes one call of them in a package.
const STEPS: [(&str, &str); 2] = [("begin_update", "update"), ("begin_merge", "get_merged")];
/// An option, and the method that stands for it.
const METHODS_FOR_OPTIONS: [(&str, &str); 1] = [("keys_only", "scan_entries")];
/// Options that mean nothing for a method: strong buckets take no level, other modes no `stale`,
/// a delete no expiry, and only puts and deletes of concurrent values a context.
const MEANINGLESS: [(&str, &[&str]); 9] = [
    ("begin_merge", &["stale"]),
    ("begin_update", &["level", "context"]),
    ("delete", &["ttl_ms", "expires_at_ms"]),
    (
        "delete_if_version",
        &["level", "ttl_ms", "expires_at_ms", "context"],
    ),
    ("multi_delete", &["ttl_ms", "expires_at_ms", "context"]),
    ("multi_put", &["context"]),
    ("put_if_absent", &["level", "context"]),
    ("put_if_version", &["level", "context"]),
    ("touch", &["context"]),
];

fn camel(name: &str) -> String {
    let mut words = name.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |name, word| {
        let (initial, rest) = word.split_at(1);
        name + &initial.to_uppercase() + rest
    })
}

fn read(path: &str) -> String {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = tests.parent().expect("a folder in the project");
    let text = std::fs::read_to_string(root.join(path));
    text.unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// A method of one of the façade's handles.
struct Method {
    class: String,
    name: String,
    /// The struct of its options, if it takes any.
    options: Option<String>,
}

fn methods() -> Vec<Method> {
    let mut methods = Vec::new();
    for file in ["client.rs", "bucket.rs"] {
        let text = read(&format!("client-core/src/facade/{file}"));
        for block in text.split("\nimpl ").skip(1) {
            let class = block.split([' ', '<']).next().unwrap_or_default();
            for declared in block.split("    pub ").skip(1) {
                let declared = declared.strip_prefix("async ").unwrap_or(declared);
                let Some(rest) = declared.strip_prefix("fn ") else {
                    continue;
                };
                let signature = rest.split(" {\n").next().unwrap_or_default();
                let words = signature.split([' ', ',', '(', ')', '<', '>', ':', '\n']);
                let is_options =
                    |word: &&str| word.ends_with("Options") || *word == "BucketChanges";
                methods.push(Method {
                    class: class.to_owned(),
                    name: rest.split('(').next().unwrap_or_default().to_owned(),
                    options: words.clone().find(is_options).map(str::to_owned),
                });
            }
        }
    }
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

impl Language {
    /// What the types say of a class.
    fn class_of<'a>(&self, types: &'a str, name: &str) -> &'a str {
        let (_, rest) = types
            .split_once((self.class)(name).as_str())
            .unwrap_or_default();
        let end = rest.find("\nclass ").or_else(|| rest.find("\n}"));
        end.map_or(rest, |end| &rest[..end])
    }

    /// The parameters of a call, with the types of options that it names.
    fn parameters(&self, types: &str, scope: &str, call: &str) -> String {
        let (_, rest) = scope
            .split_once((self.call)(call).as_str())
            .unwrap_or_default();
        let given = rest.split(self.after_parameters).next().unwrap_or_default();
        let mut all = given.to_owned();
        let mut named: Vec<_> = words(given);
        while let Some(name) = named.pop() {
            let declared = types.split_once(&format!("export interface {name} "));
            let Some((_, body)) = declared.filter(|_| name.ends_with("Options")) else {
                continue;
            };
            let body = body.split("\n}").next().unwrap_or_default();
            named.extend(words(body.lines().next().unwrap_or_default()));
            all += body;
        }
        all
    }
}

fn words(text: &str) -> Vec<&str> {
    text.split(|letter: char| !letter.is_alphanumeric())
        .collect()
}

#[test]
fn every_language_has_every_method_option_and_kind_of_error() {
    let methods = methods();
    assert!(methods.len() > 25);
    let mut lacking = Vec::new();
    let mut checked = 0;
    for language in &LANGUAGES {
        let types: String = language.types.iter().copied().map(read).collect();
        let mut expect = |what: String, written: &str, found: &str| {
            checked += 1;
            if !found.contains(written) {
                lacking.push(format!("{}: {what} (`{written}`)", language.name));
            }
        };
        for Method {
            class,
            name,
            options,
        } in &methods
        {
            let is_function = name == "connect";
            let scope = match is_function {
                true => &types[..],
                false => language.class_of(&types, class),
            };
            let one_call = STEPS.iter().find(|(begin, _)| begin == name);
            let call = one_call.map_or(name.as_str(), |(_, name)| name);
            expect(format!("{class}.{call}"), &(language.call)(call), scope);
            let meaningless = MEANINGLESS.iter().find(|(method, _)| method == name);
            let meaningless = meaningless.map_or(&[][..], |(_, options)| options);
            for field in options.iter().flat_map(|options| fields(options)) {
                if meaningless.contains(&field.as_str()) {
                    continue;
                }
                let instead = METHODS_FOR_OPTIONS
                    .iter()
                    .find(|(option, _)| *option == field);
                if let Some((_, method)) = instead {
                    expect(field, &(language.call)(method), scope);
                    continue;
                }
                let taken = language.parameters(&types, scope, call);
                expect(
                    format!("{field} of {call}"),
                    &(language.part)(&field),
                    &taken,
                );
            }
        }
        for kind in ErrorKind::ALL {
            expect(
                "a kind of error".into(),
                &(language.kind)(kind.as_str()),
                &types,
            );
        }
    }
    assert!(lacking.is_empty(), "{}", lacking.join("\n"));
    assert!(checked > 225, "{checked}");
}

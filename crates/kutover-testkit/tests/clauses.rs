//! Every clause of every `# Contract` has a function that checks it and a broken backend that shows that it does.
//!
//! A clause's halves are in functions of their own, and each of these is run on broken backends too.
//!
//! The clauses are read from the ports' sources, the functions from the suites' (`Clause::new`), the broken backends from this
//! folder, where each test names the port and the clause by which its backend is rejected.

use std::collections::BTreeSet;
use std::path::Path;

/// A port and the number of a clause.
type Id = (String, u8);

/// Clauses that no backend can break, and why.
const NO_DUTY: [(&str, u8, &str); 1] =
    [("ProducerClient", 4, "it warns callers of what they lose; a backend has nothing to keep")];

fn sources(folder: &str) -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let files = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let rust = files.filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    rust.map(|path| std::fs::read_to_string(path).unwrap()).collect()
}

/// `1. text` at the beginning of a doc line.
fn number(line: &str) -> Option<u8> {
    line.strip_prefix("/// ")?.split_once(". ")?.0.parse().ok()
}

/// The numbered lines between a `# Contract` and the trait that it belongs to.
fn clauses(source: &str) -> BTreeSet<Id> {
    let (mut found, mut numbers, mut in_contract) = (BTreeSet::new(), Vec::new(), false);
    for line in source.lines() {
        if line == "/// # Contract" {
            in_contract = true;
        } else if let Some(rest) = line.strip_prefix("pub trait ").filter(|_| in_contract) {
            let name = rest.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
            assert!(!numbers.is_empty(), "the contract of {name} has no numbered clauses");
            found.extend(numbers.drain(..).map(|number| (name.to_owned(), number)));
            in_contract = false;
        } else if in_contract {
            numbers.extend(number(line));
        }
    }
    found
}

/// `Clause::new(NAME, 1,` with `const NAME: &str = "Port"` in the same file.
fn checked(source: &str) -> BTreeSet<Id> {
    let ports: Vec<(&str, &str)> = source
        .lines()
        .filter_map(|line| line.strip_prefix("const ")?.split_once(": &str = "))
        .map(|(name, port)| (name, port.trim_matches(['"', ';'])))
        .collect();
    source
        .split("Clause::new(")
        .skip(1)
        .filter_map(|call| {
            let mut arguments = call.split(',').map(str::trim);
            let (name, number) = (arguments.next()?, arguments.next()?.parse().ok()?);
            let port = ports.iter().find(|(known, _)| *known == name)?.1;
            Some((port.to_owned(), number))
        })
        .collect()
}

/// `"Port, clause 1` in a test of a broken backend.
fn broken(source: &str, port: &str, number: u8) -> bool {
    [':', '"'].iter().any(|end| source.contains(&format!("\"{port}, clause {number}{end}")))
}

fn all_clauses() -> BTreeSet<Id> {
    let found: BTreeSet<Id> =
        sources("../kutover-core/src/ports").iter().flat_map(|source| clauses(source)).collect();
    assert!(found.len() > 35, "only {} clauses were found: {found:?}", found.len());
    let duty = |id: &Id| !NO_DUTY.iter().any(|(port, number, _)| (*port, *number) == (id.0.as_str(), id.1));
    found.into_iter().filter(duty).collect()
}

#[test]
fn every_clause_has_a_function_and_every_function_a_clause() {
    let checked: BTreeSet<Id> =
        sources("src/conformance").iter().flat_map(|source| checked(source)).collect();
    let clauses = all_clauses();
    let without: Vec<_> = clauses.difference(&checked).collect();
    assert!(without.is_empty(), "no function in src/conformance checks {without:?}");
    // Number 0 stands for what a method's own documentation says.
    let unknown: Vec<_> = checked.difference(&clauses).filter(|id| id.1 != 0).collect();
    assert!(unknown.is_empty(), "functions check what no contract says: {unknown:?}");
}

/// What a `check_all` calls, up to the end of its file or function.
fn called_by_check_all(source: &str) -> &str {
    let body = source.split_once("pub async fn check_all").map_or("", |(_, body)| body);
    body.split_once("\n}\n").map_or(body, |(body, _)| body)
}

/// A clause has several halves, and a function for each: counting clauses would let one of these go.
#[test]
fn every_function_is_run_on_broken_backends() {
    let (suites, tests) = (sources("src/conformance"), sources("tests"));
    let calls = suites.iter().map(|source| called_by_check_all(source));
    let calls: Vec<&str> = calls.chain(tests.iter().map(String::as_str)).collect();
    let functions = suites.iter().flat_map(|source| source.split("\npub async fn ").skip(1));
    let names: BTreeSet<&str> = functions
        .filter_map(|rest| rest.split(['(', '<']).next())
        .filter(|name| *name != "check_all")
        .collect();
    assert!(names.len() > 75, "only {} functions were found: {names:?}", names.len());
    // `lag::collect` is a tool of the suites, and checks nothing.
    let is_run =
        |name: &&&str| **name == "collect" || calls.iter().any(|text| text.contains(&format!("{name}(")));
    let without: Vec<_> = names.iter().filter(|name| !is_run(name)).collect();
    assert!(without.is_empty(), "no test in tests/ runs {without:?}");
}

#[test]
fn every_clause_has_a_broken_backend() {
    let tests = sources("tests");
    let without: Vec<_> = all_clauses()
        .into_iter()
        .filter(|(port, number)| !tests.iter().any(|source| broken(source, port, *number)))
        .collect();
    assert!(without.is_empty(), "no test in tests/ breaks {without:?}");
}

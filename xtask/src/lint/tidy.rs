//! Rules that no tool knows: sizes, things left undone, paths of one machine, hosts of package registries.

use anyhow::{Result, bail};

use super::{rust, tree};
use crate::test::{Context, Ran};

/// The longest a Rust file may be, in lines.
const LINES: usize = 500;

/// The one crate that may say `unsafe`, and how often: librdkafka's message status has no safe binding.
const UNSAFE: (&str, usize) = ("crates/kutover-kafka/src/", 1);

/// First folders of absolute paths that lead somewhere on one machine only.
const MACHINE: &[&str] = &["home", "root", "tmp", "Users", "work"];

/// Package registries' hosts as (name, top level). Which mirror serves a package is the client's business.
const REGISTRIES: &[(&str, &str)] = &[
    ("crates", "io"),
    ("maven", "org"),
    ("repo.maven.apache", "org"),
    ("pypi", "org"),
    ("pythonhosted", "org"),
    ("npmjs", "org"),
    ("proxy.golang", "org"),
    ("deb.debian", "org"),
];

pub(super) fn run(context: &Context) -> Result<Ran> {
    let files = tree::text_files(&context.root)?;
    let mut found = Vec::new();
    let mut unsafes = Vec::new();
    for file in &files {
        found.extend(text_findings(&file.path, &file.text));
        if file.path.ends_with(".rs") {
            let seen = rust::look(&file.path, &file.text)?;
            found.extend(seen.findings);
            unsafes.extend(seen.unsafes.into_iter().map(|line| (file.path.clone(), line)));
        }
    }
    found.extend(unsafe_findings(&unsafes));
    if !found.is_empty() {
        bail!("{}", found.join("\n"));
    }
    Ok(Ran::Passed)
}

/// Rules that any text file must keep.
fn text_findings(path: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let lines = text.lines().count();
    if path.ends_with(".rs") && lines > LINES {
        found.push(format!("{path}: {lines} lines; more than {LINES} want to be two files"));
    }
    for (number, line) in (1..).zip(text.lines()) {
        let at = format!("{path}:{number}");
        if let Some(mark) = unfinished(line) {
            found.push(format!("{at}: {mark} marks something undone"));
        }
        if let Some(folder) = machine_path(line) {
            found.push(format!("{at}: a path below /{folder} leads somewhere on one machine only"));
        }
        if let Some(host) = registry(line) {
            found
                .push(format!("{at}: {host} is a package registry's host; use the client without naming it"));
        }
    }
    found
}

fn unfinished(line: &str) -> Option<&'static str> {
    // Put together here, so that this file does not break its own rule.
    const MARKS: [&str; 3] = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
    let mut words = line.split(|c: char| !c.is_ascii_alphanumeric());
    words.find_map(|word| MARKS.into_iter().find(|mark| *mark == word))
}

fn machine_path(line: &str) -> Option<&'static str> {
    MACHINE.iter().copied().find(|first| {
        let folder = format!("/{first}/");
        line.match_indices(&folder).any(|(at, _)| {
            let before = line[..at].chars().next_back();
            let after = line[at + folder.len()..].chars().next();
            // The start of a path and not its middle, and a path that goes on.
            let starts = before.is_none_or(|c| !c.is_alphanumeric() && !"._-/}*".contains(c));
            starts && after.is_some_and(|c| c.is_alphanumeric() || c == '.' || c == '_')
        })
    })
}

fn registry(line: &str) -> Option<&str> {
    let urls = line.match_indices("://").map(|(at, mark)| &line[at + mark.len()..]);
    urls.map(|rest| rest.split(|c: char| !c.is_alphanumeric() && c != '.' && c != '-').next().unwrap_or(rest))
        .find(|host| {
            REGISTRIES.iter().any(|(name, top)| {
                let registry = format!("{name}.{top}");
                *host == registry || host.ends_with(&format!(".{registry}"))
            })
        })
}

/// `unsafe` stands where the design put it and nowhere else.
fn unsafe_findings(unsafes: &[(String, usize)]) -> Vec<String> {
    let (home, allowed) = UNSAFE;
    let (at_home, elsewhere): (Vec<_>, Vec<_>) = unsafes.iter().partition(|(path, _)| path.starts_with(home));
    let mut found: Vec<String> =
        elsewhere.iter().map(|(path, line)| format!("{path}:{line}: unsafe outside {home}")).collect();
    if at_home.len() > allowed {
        let places: Vec<String> = at_home.iter().map(|(path, line)| format!("{path}:{line}")).collect();
        found.push(format!("unsafe more than {allowed} time in {home}: {}", places.join(", ")));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::{text_findings, unsafe_findings};

    fn findings(line: &str) -> usize {
        text_findings("docs/x.md", line).len()
    }

    #[test]
    fn long_files_are_found_and_others_are_not() {
        assert!(text_findings("a.rs", &"//\n".repeat(500)).is_empty());
        assert_eq!(text_findings("a.rs", &"//\n".repeat(501)).len(), 1);
        assert!(text_findings("a.md", &"x\n".repeat(501)).is_empty());
    }

    #[test]
    fn marks_of_things_undone_are_found_as_words() {
        assert_eq!(findings(concat!("// TO", "DO: later")), 1);
        assert_eq!(findings(concat!("(FIX", "ME)")), 1);
        assert_eq!(findings(concat!("a TO", "DOS list")), 0);
    }

    #[test]
    fn paths_of_one_machine_are_found_at_their_start_only() {
        assert_eq!(findings(concat!("see /ro", "ot/.cargo")), 1);
        assert_eq!(findings(concat!("\"/ho", "me/someone\"")), 1);
        assert_eq!(findings("the docs/work/now folder"), 0);
        assert_eq!(findings("https://example.com/work/now"), 0);
    }

    #[test]
    fn registries_are_found_by_host() {
        assert_eq!(findings(concat!("https://repo1.mav", "en.org/maven2")), 1);
        assert_eq!(findings(concat!("see https://crat", "es.io/crates/krafka.")), 1);
        assert_eq!(findings("the crate is on crates.io"), 0);
        assert_eq!(findings("xmlns=\"http://maven.apache.org/POM/4.0.0\""), 0);
        assert_eq!(findings("https://docs.rs/krafka"), 0);
    }

    #[test]
    fn unsafe_may_stand_once_in_one_crate() {
        let home = || "crates/kutover-kafka/src/fate.rs".to_owned();
        assert!(unsafe_findings(&[(home(), 3)]).is_empty());
        assert_eq!(unsafe_findings(&[(home(), 3), (home(), 9)]).len(), 1);
        assert_eq!(unsafe_findings(&[("crates/kutover-core/src/lib.rs".to_owned(), 1)]).len(), 1);
    }
}

//! Section `docs`: what the documents say can be followed. Links lead somewhere and commands exist.

use std::{collections::BTreeSet, path::Path};

use anyhow::{Result, bail, ensure};
use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};

use crate::{
    lint::tree::{self, TextFile},
    programs,
    test::{Check, Context, Ran},
};

/// The checks of section `docs`.
pub(crate) const CHECKS: &[Check] = &[
    Check { name: "links between documents resolve", run: links },
    Check { name: "README begins with the two commands", run: first_commands },
    Check { name: "commands in the documents are understood by the programs", run: commands },
];

/// What a reader of README sees first, and in this order.
const FIRST: [&str; 2] = ["cargo run --release -- demo", "cargo xtask test"];

/// What matters of one Markdown document.
#[derive(Debug, Default)]
struct Document {
    path: String,
    links: Vec<String>,
    /// Headings as GitHub names them in links.
    anchors: BTreeSet<String>,
    /// Lines of code blocks marked `sh`.
    commands: Vec<String>,
}

fn documents(context: &Context) -> Result<Vec<Document>> {
    let files = tree::text_files(&context.root)?;
    Ok(files.iter().filter(|file| file.path.ends_with(".md")).map(read).collect())
}

fn read(file: &TextFile) -> Document {
    let mut document = Document { path: file.path.clone(), ..Document::default() };
    let mut heading: Option<String> = None;
    let mut in_shell = false;
    for event in Parser::new_ext(&file.text, Options::ENABLE_TABLES) {
        match event {
            Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                document.links.push(dest_url.into_string());
            }
            Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
            Event::End(TagEnd::Heading(_)) => {
                document.anchors.extend(heading.take().as_deref().map(anchor));
            }
            Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(language))) => in_shell = &*language == "sh",
            Event::End(TagEnd::CodeBlock) => in_shell = false,
            Event::Text(text) if in_shell => {
                document.commands.extend(text.lines().map(|line| line.trim().to_owned()));
            }
            Event::Text(text) | Event::Code(text) => {
                if let Some(heading) = &mut heading {
                    heading.push_str(&text);
                }
            }
            _ => {}
        }
    }
    document.commands.retain(|line| !line.is_empty() && !line.starts_with('#'));
    document
}

/// GitHub's name for a heading: small letters, no punctuation, a hyphen for each space.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase().replace(' ', "-");
    kept.chars().filter(|c| c.is_alphanumeric() || *c == '-' || *c == '_').collect()
}

fn links(context: &Context) -> Result<Ran> {
    let documents = documents(context)?;
    let broken = broken_links(&documents, |path| context.root.join(path).exists());
    if !broken.is_empty() {
        bail!("{}", broken.join("\n"));
    }
    Ok(Ran::Passed)
}

/// Links that lead nowhere. Those to other sites are not followed.
fn broken_links(documents: &[Document], exists: impl Fn(&str) -> bool) -> Vec<String> {
    let mut broken = Vec::new();
    for document in documents {
        for link in document.links.iter().filter(|link| !link.contains(':')) {
            let (target, wanted) = link.split_once('#').unwrap_or((link, ""));
            let path =
                if target.is_empty() { document.path.clone() } else { resolve(&document.path, target) };
            if !exists(&path) {
                broken.push(format!("{}: link to {link}: there is no {path}", document.path));
            } else if let Some(target) = documents.iter().find(|other| other.path == path)
                && !wanted.is_empty()
                && !target.anchors.contains(wanted)
            {
                broken.push(format!("{}: link to {link}: {path} has no such heading", document.path));
            }
        }
    }
    broken
}

/// `../README.md` seen from `docs/testing.md` is `README.md`.
fn resolve(from: &str, link: &str) -> String {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in link.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

fn first_commands(context: &Context) -> Result<Ran> {
    let documents = documents(context)?;
    let readme = documents.iter().find(|document| document.path == "README.md");
    let shown: Vec<&str> =
        readme.map_or_else(Vec::new, |readme| readme.commands.iter().map(String::as_str).collect());
    ensure!(
        shown.starts_with(&FIRST),
        "README's first commands in `sh` blocks are {shown:?} and not {FIRST:?}"
    );
    Ok(Ran::Passed)
}

/// Runs every command that a document shows with `--help` added: options and subcommands that do not exist are refused
/// before the help is printed.
fn commands(context: &Context) -> Result<Ran> {
    let xtask = std::env::current_exe()?;
    let program = programs::build_one(context, "kutover", &[])?;
    let mut refused = Vec::new();
    let mut seen = BTreeSet::new();
    for document in documents(context)? {
        for line in &document.commands {
            let Some(command) = Ours::parse(line) else { continue };
            if !seen.insert(line.clone()) {
                continue;
            }
            let asked = match &command {
                Ours::Xtask(args) => context.sh.cmd(&xtask).args(args),
                Ours::Program(args) => context.sh.cmd(&program.path).args(args),
            };
            let output = asked.arg("--help").quiet().ignore_status().output()?;
            if !output.status.success() || !String::from_utf8_lossy(&output.stdout).contains("Usage:") {
                let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
                refused.push(format!("{}: `{line}` is not understood: {why}", document.path));
            }
        }
    }
    ensure!(!seen.is_empty(), "no document shows a command of this project");
    if !refused.is_empty() {
        bail!("{}", refused.join("\n"));
    }
    Ok(Ran::Passed)
}

/// A command line that runs something of this project.
#[derive(Debug, PartialEq, Eq)]
enum Ours {
    Xtask(Vec<String>),
    Program(Vec<String>),
}

impl Ours {
    fn parse(line: &str) -> Option<Self> {
        // Comments, pipes and redirections are the shell's.
        let line = line.split([' ']).take_while(|word| !["#", "|", ">", "2>", "&&"].contains(word));
        let words: Vec<String> = line.filter(|word| !word.is_empty()).map(str::to_owned).collect();
        let program = words.first().map(|word| Path::new(word).file_name().unwrap_or_default().to_owned())?;
        match (program.to_str()?, words.get(1).map(String::as_str)) {
            ("cargo", Some("xtask")) => Some(Self::Xtask(words[2..].to_vec())),
            ("cargo", Some("run")) => {
                let at = words.iter().position(|word| word == "--")?;
                Some(Self::Program(words[at + 1..].to_vec()))
            }
            ("kutover", _) => Some(Self::Program(words[1..].to_vec())),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Document, Ours, broken_links, read, resolve};
    use crate::lint::tree::TextFile;

    fn document(path: &str, text: &str) -> Document {
        read(&TextFile { path: path.to_owned(), text: text.to_owned() })
    }

    #[test]
    fn broken_links_are_found_by_file_and_by_heading() {
        let readme = document(
            "README.md",
            "# A `b` title!\n[t](docs/t.md#how-it-ends) [x](docs/x.md) [s](#a-b-title)",
        );
        let testing =
            document("docs/t.md", "## How it ends\n[up](../README.md#nowhere) [w](https://example.com/#a)");
        let found = broken_links(&[readme, testing], |path| ["README.md", "docs/t.md"].contains(&path));
        assert_eq!(
            found,
            [
                "README.md: link to docs/x.md: there is no docs/x.md",
                "docs/t.md: link to ../README.md#nowhere: README.md has no such heading",
            ]
        );
    }

    #[test]
    fn links_are_seen_from_their_document() {
        assert_eq!(resolve("docs/a.md", "../README.md"), "README.md");
        assert_eq!(resolve("docs/a.md", "./b.md"), "docs/b.md");
        assert_eq!(resolve("README.md", "crates/kutover-core"), "crates/kutover-core");
    }

    #[test]
    fn commands_come_from_shell_blocks() {
        let text = "```sh\n# first\ncargo xtask test --list\n```\n```text\ncargo xtask gone\n```";
        assert_eq!(document("a.md", text).commands, ["cargo xtask test --list"]);
    }

    #[test]
    fn commands_of_this_project_are_told_from_others() {
        let args = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        assert_eq!(Ours::parse("cargo run --release -- demo"), Some(Ours::Program(args(&["demo"]))));
        assert_eq!(Ours::parse("cargo xtask test # all"), Some(Ours::Xtask(args(&["test"]))));
        assert_eq!(Ours::parse("kutover up a.toml | tee log"), Some(Ours::Program(args(&["up", "a.toml"]))));
        assert_eq!(Ours::parse("apt-get install make"), None);
    }
}

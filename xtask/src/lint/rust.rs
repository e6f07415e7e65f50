//! Rules about Rust code, checked on its tokens, so that comments and strings do not matter.

use anyhow::{Result, anyhow};
use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};

/// What was seen in one file.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Broken rules, each with file and line.
    pub(super) findings: Vec<String>,
    /// Lines that say `unsafe`.
    pub(super) unsafes: Vec<usize>,
}

/// Reads one Rust file.
///
/// # Errors
///
/// The file is not made of Rust tokens.
pub(super) fn look(path: &str, text: &str) -> Result<Seen> {
    let tokens: TokenStream = text.parse().map_err(|error| anyhow!("{path} is not Rust: {error}"))?;
    let virtual_time = is_virtual_time(tokens.clone());
    let mut looker = Looker { path, virtual_time, seen: Seen::default() };
    looker.stream(tokens, is_test_file(path));
    Ok(looker.seen)
}

fn is_test_file(path: &str) -> bool {
    path.starts_with("tests/")
        || path.contains("/tests/")
        || path.ends_with("/tests.rs")
        || path.ends_with("_tests.rs")
}

/// Whether every test on tokio in this file has its clock paused. Then tokio's `sleep` says when something happens and
/// takes no time.
fn is_virtual_time(tokens: TokenStream) -> bool {
    let mut paused = Vec::new();
    tokio_tests(tokens, &mut paused);
    !paused.is_empty() && paused.into_iter().all(|paused| paused)
}

/// For each `#[tokio::test(..)]`, whether it says `start_paused = true`.
fn tokio_tests(tokens: TokenStream, paused: &mut Vec<bool>) {
    for token in tokens {
        if let TokenTree::Group(group) = token {
            if group.delimiter() == Delimiter::Bracket {
                let text = without_spaces(&group);
                if text.starts_with("tokio::test") {
                    paused.push(text.contains("start_paused=true"));
                }
            }
            tokio_tests(group.stream(), paused);
        }
    }
}

fn without_spaces(group: &Group) -> String {
    group.stream().to_string().split_whitespace().collect()
}

struct Looker<'a> {
    path: &'a str,
    virtual_time: bool,
    seen: Seen,
}

impl Looker<'_> {
    fn stream(&mut self, tokens: TokenStream, in_test: bool) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        // An attribute `#[cfg(test)]` is about the next group in braces.
        let mut test_next = false;
        for (at, token) in tokens.iter().enumerate() {
            match token {
                TokenTree::Group(group) => {
                    let attribute = at > 0 && is_punct(&tokens[at - 1], '#');
                    if attribute && group.delimiter() == Delimiter::Bracket {
                        self.attribute(group);
                        test_next |= is_cfg_test(group);
                    }
                    let braces = group.delimiter() == Delimiter::Brace;
                    self.stream(group.stream(), in_test || (braces && test_next));
                    test_next &= !braces;
                }
                TokenTree::Ident(ident) => {
                    // `thread` in `thread::sleep`.
                    let module = at.checked_sub(3).map(|at| tokens[at].to_string());
                    let virtual_time = self.virtual_time && module.as_deref() != Some("thread");
                    let line = ident.span().start().line;
                    self.ident(&ident.to_string(), line, tokens.get(at + 1), in_test && !virtual_time);
                }
                // `#[cfg(test)] mod tests;` and `#[cfg(test)] use …;` end here.
                TokenTree::Punct(punct) if punct.as_char() == ';' => test_next = false,
                TokenTree::Punct(_) | TokenTree::Literal(_) => {}
            }
        }
    }

    fn ident(&mut self, word: &str, line: usize, next: Option<&TokenTree>, sleep_forbidden: bool) {
        match word {
            "unsafe" => self.seen.unsafes.push(line),
            "todo" | "unimplemented" if next.is_some_and(|next| is_punct(next, '!')) => {
                self.find(line, &format!("{word}! is not done"));
            }
            "sleep" | "sleep_until" | "sleep_ms" if sleep_forbidden && next.is_some_and(is_call) => {
                self.find(line, "a test sleeps; it should wait for a condition, with a bound");
            }
            _ => {}
        }
    }

    fn attribute(&mut self, group: &Group) {
        if let Some(TokenTree::Ident(first)) = group.stream().into_iter().next()
            && first == "ignore"
        {
            self.find(first.span().start().line, "an ignored test; a missing part is reported with skip()");
        }
    }

    fn find(&mut self, line: usize, what: &str) {
        self.seen.findings.push(format!("{}:{line}: {what}", self.path));
    }
}

fn is_punct(token: &TokenTree, wanted: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == wanted)
}

fn is_call(token: &TokenTree) -> bool {
    matches!(token, TokenTree::Group(group) if group.delimiter() == Delimiter::Parenthesis)
}

fn is_cfg_test(attribute: &Group) -> bool {
    let text = without_spaces(attribute);
    text == "cfg(test)" || text.starts_with("cfg(all(test,")
}

#[cfg(test)]
mod tests {
    use super::look;

    fn findings(path: &str, text: &str) -> Vec<String> {
        look(path, text).unwrap().findings
    }

    #[test]
    fn undone_macros_are_found_in_code_only() {
        let text = "/// todo!()\nfn a() {\n    todo!()\n}\nconst B: &str = \"unimplemented!()\";";
        assert_eq!(findings("src/a.rs", text), ["src/a.rs:3: todo! is not done"]);
        assert_eq!(findings("src/a.rs", "fn todo() { unimplemented!(\"later\") }").len(), 1);
    }

    #[test]
    fn sleeping_is_found_in_tests_only() {
        let code = "fn wait() { std::thread::sleep(LONG); }";
        assert!(findings("crates/a/src/a.rs", code).is_empty());
        assert_eq!(findings("crates/a/tests/a.rs", code).len(), 1);
        assert_eq!(findings("tests/e2e.rs", code).len(), 1);
        let module = format!("{code}\n#[cfg(test)]\nmod tests {{\n    {code}\n}}\n{code}");
        assert_eq!(findings("crates/a/src/a.rs", &module).len(), 1);
        let outside = format!("#[cfg(test)]\nmod tests;\n{code}");
        assert!(findings("crates/a/src/a.rs", &outside).is_empty());
    }

    #[test]
    fn sleeping_in_virtual_time_takes_none() {
        let test = "async fn a() { tokio::time::sleep(LONG).await; }";
        let paused = format!("#[tokio::test(start_paused = true)]\n{test}");
        assert!(findings("tests/a.rs", &paused).is_empty());
        // One test with a real clock, or a thread's sleep, and it is no virtual time any more.
        assert_eq!(findings("tests/a.rs", &format!("{paused}\n#[tokio::test]\n{test}")).len(), 2);
        assert_eq!(findings("tests/a.rs", &format!("{paused}\nfn b() {{ thread::sleep(LONG); }}")).len(), 1);
    }

    #[test]
    fn ignored_tests_are_found() {
        assert_eq!(findings("tests/a.rs", "#[test]\n#[ignore = \"slow\"]\nfn a() {}").len(), 1);
        assert!(findings("tests/a.rs", "#[test]\nfn ignore() {}").is_empty());
    }

    #[test]
    fn unsafe_is_found_as_a_word_of_the_language() {
        let text = "#![forbid(unsafe_code)]\n// unsafe\nfn a() {\n    unsafe { b() }\n}";
        assert_eq!(look("src/a.rs", text).unwrap().unsafes, [4]);
    }
}

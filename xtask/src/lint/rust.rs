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
    let mut looker = Looker { path, seen: Seen::default() };
    looker.stream(tokens, is_test_file(path));
    Ok(looker.seen)
}

fn is_test_file(path: &str) -> bool {
    path.starts_with("tests/")
        || path.contains("/tests/")
        || path.ends_with("/tests.rs")
        || path.ends_with("_tests.rs")
}

struct Looker<'a> {
    path: &'a str,
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
                    self.ident(&ident.to_string(), ident.span().start().line, tokens.get(at + 1), in_test);
                }
                // `#[cfg(test)] mod tests;` and `#[cfg(test)] use …;` end here.
                TokenTree::Punct(punct) if punct.as_char() == ';' => test_next = false,
                TokenTree::Punct(_) | TokenTree::Literal(_) => {}
            }
        }
    }

    fn ident(&mut self, word: &str, line: usize, next: Option<&TokenTree>, in_test: bool) {
        match word {
            "unsafe" => self.seen.unsafes.push(line),
            "todo" | "unimplemented" if next.is_some_and(|next| is_punct(next, '!')) => {
                self.find(line, &format!("{word}! is not done"));
            }
            "sleep" | "sleep_until" | "sleep_ms" if in_test && next.is_some_and(is_call) => {
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
    let text: String = attribute.stream().to_string().split_whitespace().collect();
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

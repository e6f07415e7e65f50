//! Secrets that a test plants where secrets belong, and looks for everywhere else.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

/// How much of a line is shown around what came out.
const SHOWN: usize = 300;

/// Planted secrets: none may come out, neither as it stands nor in base64 nor escaped as in an address.
pub struct Planted(Vec<String>);

impl Planted {
    /// These, each long enough to stand nowhere by chance.
    pub fn new<T: Into<String>>(secrets: impl IntoIterator<Item = T>) -> Self {
        let mut forms = Vec::new();
        for secret in secrets {
            let secret: String = secret.into();
            forms.push(STANDARD.encode(&secret));
            forms.push(utf8_percent_encode(&secret, NON_ALPHANUMERIC).to_string());
            forms.push(secret);
        }
        Self(forms)
    }

    /// And a password as HTTP sends it along with its user (RFC 7617).
    #[must_use]
    pub fn with_pair(mut self, user: &str, password: &str) -> Self {
        self.0.push(STANDARD.encode(format!("{user}:{password}")));
        self
    }

    /// Looks through a text.
    ///
    /// # Panics
    /// If one of them is in it.
    pub fn assert_not_in(&self, what: &str, text: &str) {
        for line in text.lines() {
            let found = self.0.iter().find_map(|form| Some((form, line.find(form.as_str())?)));
            if let Some((form, at)) = found {
                let from = (0..=at.saturating_sub(SHOWN)).rev().find(|from| line.is_char_boundary(*from));
                let from = from.unwrap_or_default();
                panic!("{what} contains `{form}`: {}", &line[from..at + form.len()]);
            }
        }
    }

    /// Looks through all files of a directory, but for those of these names.
    ///
    /// # Panics
    /// If one of them is in one of these, or there is none.
    pub fn assert_not_in_files(&self, directory: &Path, but: &[&str]) {
        let mut looked = 0;
        for entry in std::fs::read_dir(directory).expect("a directory") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_file() && !but.contains(&name.as_str()) {
                let text = String::from_utf8_lossy(&std::fs::read(&path).expect("a file")).into_owned();
                self.assert_not_in(&path.display().to_string(), &text);
                looked += 1;
            }
        }
        assert!(looked > 0, "there is nothing to look through in {}", directory.display());
    }
}

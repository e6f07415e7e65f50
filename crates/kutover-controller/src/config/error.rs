//! What is wrong with a configuration: where, which field, and the fix.

use std::fmt;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

/// Why a configuration is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    file: Option<PathBuf>,
    line: Option<usize>,
    field: Option<String>,
    message: String,
}

impl std::error::Error for ConfigError {}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.file {
            Some(file) => write!(f, "{}", file.display())?,
            None => f.write_str("configuration")?,
        }
        if let Some(line) = self.line {
            write!(f, ", line {line}")?;
        }
        if let Some(field) = &self.field {
            write!(f, ": field `{field}`")?;
        }
        write!(f, ": {}", self.message)
    }
}

impl ConfigError {
    /// The field at fault, as a path (`clusters.blue.provisioner.bootstrap`), where one is.
    pub fn field(&self) -> Option<&str> {
        self.field.as_deref()
    }

    /// The line at fault, from 1, where it is known.
    pub fn line(&self) -> Option<usize> {
        self.line
    }

    pub(super) fn unreadable(path: &Path, error: &std::io::Error) -> Self {
        let message = format!("cannot be read ({error}); name a file that is there and readable");
        Self { file: Some(path.into()), line: None, field: None, message }
    }

    pub(super) fn unwritable(error: &toml::ser::Error) -> Self {
        let message = format!("cannot be written as TOML ({error}); use paths that are UTF-8");
        Self { file: None, line: None, field: None, message }
    }

    pub(super) fn syntax(text: &str, error: &toml::de::Error) -> Self {
        let line = error.span().map(|span| line_at(text, span.start));
        // The message only: the error's own display quotes the line, which may hold a secret.
        let message = format!("is not TOML ({}); correct the line", error.message().replace('\n', ", "));
        Self { file: None, line, field: None, message }
    }

    pub(super) fn at(text: &str, path: &str, message: String) -> Self {
        // The decoder's path to the root is "."; a provisioner's own message names its field.
        let field = (path != ".").then(|| path.trim_end_matches(".?").to_owned());
        let line = field.as_deref().and_then(|field| line_of(text, field));
        Self { file: None, line, field, message }
    }

    pub(super) fn in_file(mut self, path: &Path) -> Self {
        self.file = Some(path.into());
        self
    }
}

/// Lists of names or addresses, beside those of the plan, which all are.
const LISTS: [&str; 5] = ["addresses", "bootstrap", "topics", "visible_at", "zone_ids"];

/// Adds the fix to what serde says of a field by itself; texts of our own have it already.
pub(super) fn with_fix(field: &str, message: &str) -> String {
    let is_names =
        field.starts_with("plan.") || LISTS.contains(&field.rsplit('.').next().unwrap_or_default());
    let one = message.strip_prefix("invalid type: string \"").filter(|_| is_names);
    if let Some(one) = one.and_then(|rest| rest.trim_end().strip_suffix("\", expected a sequence")) {
        return format!("`{one}` is no list; write `[\"{one}\"]`");
    }
    let fix = if message.starts_with("unknown field") {
        "; correct its name or delete the line"
    } else if message.starts_with("missing field") {
        "; add it"
    } else if field.ends_with(".command") && message.trim_end().ends_with("expected a sequence") {
        "; write the program and each argument by itself, as in [\"sh\", \"cluster.sh\"]"
    } else if message.starts_with("invalid type") || message.starts_with("invalid value") {
        "; write it in that form"
    } else if message.starts_with("unknown variant") {
        "; write one of those"
    } else if message.contains("socket address") {
        "; write address and port, as in 127.0.0.1:5353"
    } else if message.contains("IP address") {
        "; write it as in 127.0.0.1"
    } else {
        ""
    };
    format!("{message}{fix}")
}

fn line_at(text: &str, byte: usize) -> usize {
    1 + text.bytes().take(byte).filter(|byte| *byte == b'\n').count()
}

/// The line on which a field stands, or the nearest table around it that is there.
fn line_of(text: &str, path: &str) -> Option<usize> {
    let root = DeTable::parse(text).ok()?;
    let mut table = Some(root.get_ref());
    let mut array = None;
    let mut found = None;
    for step in path.split('.').flat_map(|part| part.split('[')) {
        let value = match (step.strip_suffix(']').and_then(|index| index.parse::<usize>().ok()), table, array)
        {
            (Some(index), _, Some(items)) => {
                let items: &toml::de::DeArray<'_> = items;
                items.get(index)
            }
            (None, Some(fields), _) => fields.get(step),
            _ => None,
        };
        let Some(value) = value else { break };
        found = Some(line_at(text, value.span().start));
        (table, array) = match value.get_ref() {
            DeValue::Table(fields) => (Some(fields), None),
            DeValue::Array(items) => (None, Some(items)),
            _ => (None, None),
        };
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::Config;

    const GOOD: &str = r#"
deployment = "orders"
journal = "orders.journal"
endpoints = [{ name = "kafka.orders.test", port = 9092 }]
dns = { kind = "local", zone = "orders.test", listen = "127.0.0.1:0", ttl_s = 1 }

[clusters.blue]
provisioner = { kind = "lab", kafka = "embedded" }
fence = { kind = "size" }

[clusters.green]
provisioner = { kind = "lab", kafka = "embedded" }

[plan]
groups = ["billing"]
"#;

    /// What stands there in another form than it should is shown in the form that is right.
    #[test]
    fn another_form_is_answered_with_the_right_one() {
        Config::parse(GOOD).unwrap();
        for (from, to, expected) in [
            (
                "groups = [\"billing\"]",
                "groups = \"billing\"",
                "line 15: field `plan.groups`: `billing` is no list; write `[\"billing\"]`",
            ),
            (
                "kind = \"local\", zone = \"orders.test\", listen = \"127.0.0.1:0\"",
                "kind = \"route53\", zone = \"orders.test\", zone_ids = \"Z1\"",
                "line 5: field `dns.zone_ids`: `Z1` is no list; write `[\"Z1\"]`",
            ),
            (
                "provisioner = { kind = \"lab\", kafka = \"embedded\" }\nfence",
                "provisioner = { kind = \"exec\", command = \"sh cluster.sh\" }\nfence",
                "line 8: field `clusters.blue.provisioner.command`: invalid type: string \"sh cluster.sh\", expected a sequence; \
                 write the program and each argument by itself, as in [\"sh\", \"cluster.sh\"]",
            ),
            (
                "fence = { kind = \"size\" }",
                "fence = \"size\"",
                "line 9: field `clusters.blue.fence`: invalid type: string \"size\", expected a table: `{ kind = \"acl\" }`, \
                 `{ kind = \"size\" }` or `{ kind = \"exec\", command = [\"PROGRAM\"] }`; write it in that form",
            ),
        ] {
            assert!(GOOD.contains(from));
            let error = Config::parse(&GOOD.replace(from, to)).unwrap_err().to_string();
            assert_eq!(error, format!("configuration, {expected}"));
        }
    }
}

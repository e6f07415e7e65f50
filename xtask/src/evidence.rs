//! Whether docs/evidence.md says what runs give.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::test::Context;

/// The page, with its lines as they are.
pub(crate) struct Page(pub(crate) String);

impl Page {
    pub(crate) fn read(context: &Context) -> Result<Self> {
        let path = context.root.join("docs/evidence.md");
        fs::read_to_string(&path).map(Self).with_context(|| format!("cannot read {}", path.display()))
    }

    /// Whether it says all this, wherever its lines end.
    pub(crate) fn says(&self, figures: &[String]) -> Result<()> {
        let page = self.0.split_whitespace().collect::<Vec<_>>().join(" ");
        for figure in figures {
            ensure!(page.contains(figure), "docs/evidence.md does not say what a run gives: {figure}");
        }
        Ok(())
    }

    /// The cells of the rows of its tables that name this, in code, in one of their first two.
    pub(crate) fn rows<'a>(&'a self, name: &str) -> impl Iterator<Item = Vec<&'a str>> + use<'a> {
        let name = format!("`{name}`");
        let rows = self.0.lines().filter(|line| line.starts_with('|'));
        let cells = rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>());
        cells.filter(move |cells| cells.iter().take(2).any(|cell| *cell == name))
    }
}

/// A number as the page has it: with a comma between thousands.
pub(crate) fn grouped(number: &Value) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (index, digit) in digits.char_indices() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn figures_are_found_across_lines_and_rows_by_their_name() {
        let page = Page("so\nmany: 1,234\n| a | b |\n|---|---|\n| `x` | y | 12 |\n| L1 | `z` | w |\n".into());
        assert!(page.says(&["so many: 1,234".into()]).is_ok());
        assert!(page.says(&["so many: 1,235".into()]).is_err());
        assert_eq!(page.rows("x").collect::<Vec<_>>(), [["`x`", "y", "12"]]);
        assert_eq!(page.rows("z").collect::<Vec<_>>(), [["L1", "`z`", "w"]]);
        assert_eq!(page.rows("y").count(), 0);
        assert_eq!(
            [0, 999, 1_000, 1_234_567].map(|n| grouped(&json!(n))),
            ["0", "999", "1,000", "1,234,567"]
        );
    }
}

//! What `cargo xtask controls` says.

use std::{fmt, time::Duration};

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::evidence::Page;

/// What a suite noticed.
pub(super) struct Catch {
    /// The suite.
    pub(super) suite: &'static str,
    /// The test, or what else went wrong.
    pub(super) by: String,
    /// After how many cases or seeds, where that is known.
    pub(super) after: Option<String>,
}

impl Catch {
    /// Whether the page's words are of it: they may leave out the program, and after how much it was varies.
    fn is_named(&self, says: &str) -> bool {
        let says = says.split(" (after ").next().unwrap_or_default();
        let test = self.by.split_once(": ").map_or(self.by.as_str(), |(_, test)| test);
        [self.by.as_str(), test].iter().any(|by| format!("{}: {by}", self.suite) == says)
    }
}

impl fmt::Display for Catch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.suite, self.by)?;
        if let Some(after) = &self.after {
            write!(f, " (after {after})")?;
        }
        Ok(())
    }
}

/// What became of one control.
pub(super) struct Row {
    /// The way of losing records that it lets in.
    pub(super) loss_mode: u64,
    /// Its name.
    pub(super) control: String,
    /// What is left out.
    pub(super) what: String,
    /// Suites that it was tried on.
    pub(super) tried: Vec<&'static str>,
    /// Suites that caught it.
    pub(super) caught: Vec<Catch>,
    /// Suites that had to catch it and did not.
    pub(super) unproven: Vec<&'static str>,
    /// How long it took.
    pub(super) elapsed: Duration,
}

impl Row {
    fn survived(&self) -> bool {
        self.caught.is_empty() || !self.unproven.is_empty()
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let loss_mode = format!("L{}", self.loss_mode);
        write!(f, "{loss_mode:<4}{:<24}", self.control)?;
        let caught: Vec<String> = self.caught.iter().map(ToString::to_string).collect();
        f.write_str(&caught.join("; "))?;
        if self.caught.is_empty() {
            write!(f, "SURVIVED {}: {}", self.tried.join(", "), self.what)?;
        }
        for suite in &self.unproven {
            write!(f, " NOT CAUGHT BY {suite}, which is its proof")?;
        }
        Ok(())
    }
}

/// What became of all of them.
#[derive(Default)]
pub(super) struct Report {
    /// In the order of the loss modes.
    pub(super) rows: Vec<Row>,
}

impl Report {
    /// Controls that nothing caught, or not what had to.
    pub(super) fn survived(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|row| row.survived())
    }

    /// Whether docs/evidence.md says this: how many there are, and in its table what really notices.
    pub(super) fn stands_in(&self, page: &Page) -> Result<()> {
        let (total, survived) = (self.rows.len(), self.survived().count());
        page.says(&[format!("{total} controls, {} caught, {survived} survived", total - survived)])?;
        for row in &self.rows {
            let loss_mode = format!("L{}", row.loss_mode);
            for cells in page.rows(&row.control) {
                let says = cells.get(2).copied().unwrap_or_default();
                ensure!(
                    cells[0] == loss_mode && row.caught.iter().any(|catch| catch.is_named(says)),
                    "docs/evidence.md says of {} that {says} notices, and what does is: {row}",
                    row.control
                );
            }
        }
        Ok(())
    }

    /// All of it for a program.
    pub(super) fn json(&self) -> Value {
        let rows: Vec<Value> = self.rows.iter().map(row_json).collect();
        let survived = self.survived().count();
        json!({
            "schema": "kutover.controls/1",
            "controls": rows,
            "total": self.rows.len(),
            "caught": self.rows.len() - survived,
            "survived": survived,
        })
    }
}

fn row_json(row: &Row) -> Value {
    let caught = row.caught.iter();
    let caught: Vec<Value> =
        caught.map(|catch| json!({ "suite": catch.suite, "by": catch.by, "after": catch.after })).collect();
    json!({
        "loss_mode": format!("L{}", row.loss_mode),
        "control": row.control,
        "what": row.what,
        "tried": row.tried,
        "caught": caught,
        "survived": row.survived(),
        "seconds": (row.elapsed.as_secs_f64() * 10.0).round() / 10.0,
    })
}

/// The closing line, after those that survived.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for row in self.survived() {
            writeln!(f, "SURVIVED: L{} {}: {}", row.loss_mode, row.control, row.what)?;
        }
        let survived = self.survived().count();
        let caught = self.rows.len() - survived;
        writeln!(f, "{} controls, {caught} caught, {survived} survived", self.rows.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(control: &str, caught: Vec<Catch>, unproven: Vec<&'static str>) -> Row {
        Row {
            loss_mode: 9,
            control: control.into(),
            what: "something".into(),
            tried: vec!["core"],
            caught,
            unproven,
            elapsed: Duration::from_millis(1_234),
        }
    }

    #[test]
    fn a_control_that_nothing_catches_is_counted_and_named() {
        let catch = || Catch { suite: "core", by: "lib: a_test".into(), after: Some("12 cases".into()) };
        let rows = vec![
            row("a", vec![catch()], vec![]),
            row("b", vec![], vec![]),
            row("c", vec![catch()], vec!["sim"]),
        ];
        let report = Report { rows };
        assert_eq!(
            report.rows[0].to_string(),
            "L9  a                       core: lib: a_test (after 12 cases)"
        );
        assert!(report.rows[1].to_string().ends_with("SURVIVED core: something"));
        assert!(report.rows[2].to_string().ends_with("NOT CAUGHT BY sim, which is its proof"));
        assert!(report.to_string().ends_with("\n3 controls, 1 caught, 2 survived\n"), "{report}");
        let json = report.json();
        assert_eq!((&json["total"], &json["survived"]), (&json!(3), &json!(2)));
        assert_eq!(json["controls"][0]["caught"][0]["after"], "12 cases");
        assert_eq!(json["controls"][0]["seconds"], 1.2);
    }

    #[test]
    fn the_page_has_to_name_what_notices() {
        let catch =
            |after: &str| Catch { suite: "core", by: "lib: a_test".into(), after: Some(after.into()) };
        let report = Report { rows: vec![row("a", vec![catch("12 cases")], vec![])] };
        let says = |table: &str| {
            report.stands_in(&Page(format!("1 controls, 1 caught, 0 survived\n| | |\n|---|---|\n{table}")))
        };
        says("| L9 | `a` | core: lib: a_test (after 13 cases) |").unwrap();
        says("| L9 | `a` | core: a_test |").unwrap();
        assert!(says("| L9 | `a` | core: another |").is_err());
        assert!(says("| L8 | `a` | core: a_test |").is_err());
        assert!(report.stands_in(&Page("2 controls".into())).is_err());
    }
}

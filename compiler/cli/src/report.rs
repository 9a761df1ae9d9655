//! What a command found: a text for people and one JSON object for programs.

use serde_json::{Map, Value};
use std::io::Write;
use std::process::ExitCode;

/// The result of a command.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Lines for people.
    pub text: String,
    /// Fields for programs.
    pub json: Map<String, Value>,
    /// A check that the command made did not hold.
    pub failed: bool,
    /// What the importer decided on its own; goes to stderr.
    pub notes: Vec<String>,
}

impl Report {
    /// An empty report of a check that holds so far.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a line for people.
    pub fn line(&mut self, line: impl AsRef<str>) {
        self.text.push_str(line.as_ref());
        self.text.push('\n');
    }

    /// Adds a table for people.
    pub fn table(&mut self, table: &Table) {
        self.text.push_str(&table.render());
    }

    /// Adds a field for programs.
    pub fn set(&mut self, key: &str, value: impl Into<Value>) {
        self.json.insert(key.to_owned(), value.into());
    }

    /// Prints one of both forms to stdout. A closed pipe is no failure.
    pub fn print(&self, json: bool) -> ExitCode {
        for note in &self.notes {
            eprintln!("note: {note}");
        }
        let text = if json { format!("{}\n", Value::Object(self.json.clone())) } else { self.text.clone() };
        let mut stdout = std::io::stdout().lock();
        let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
        ExitCode::from(u8::from(self.failed))
    }
}

/// Columns of text; all but the first are right-aligned when they hold numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with a line of titles.
    pub fn titled(titles: &[&str]) -> Self {
        Table { rows: vec![titles.iter().map(|&t| t.to_owned()).collect()] }
    }

    /// Adds a row.
    pub fn row<S: ToString>(&mut self, cells: impl IntoIterator<Item = S>) {
        self.rows.push(cells.into_iter().map(|c| c.to_string()).collect());
    }

    /// The lines.
    pub fn render(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let cell = |row: &[String], c: usize| row.get(c).cloned().unwrap_or_default();
        let widths: Vec<usize> =
            (0..columns).map(|c| self.rows.iter().map(|r| cell(r, c).chars().count()).max().unwrap_or(0)).collect();
        let numeric = |c: usize| {
            let body = self.rows.iter().skip(1).map(|r| cell(r, c));
            let starts = |s: &String| s.chars().next().is_none_or(|f| f.is_ascii_digit() || "-+.".contains(f));
            c > 0 && body.clone().next().is_some() && { body }.all(|s| starts(&s))
        };
        let right: Vec<bool> = (0..columns).map(numeric).collect();
        let mut out = String::new();
        for row in &self.rows {
            let line: Vec<String> = (0..columns)
                .map(|c| {
                    let width = widths[c];
                    if right[c] { format!("{:>width$}", cell(row, c)) } else { format!("{:width$}", cell(row, c)) }
                })
                .collect();
            out.push_str(line.join("  ").trim_end());
            out.push('\n');
        }
        out
    }
}

/// A number of bytes, for people.
pub(crate) fn bytes(n: usize) -> String {
    if n < 10 * 1024 { format!("{n} B") } else { format!("{:.1} KiB", n as f64 / 1024.0) }
}

/// Bytes as lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_line_up_on_the_right() {
        let mut table = Table::titled(&["layer", "MACs", "shape"]);
        table.row(["stem", "12", "1x2"]);
        table.row(["head.conv", "3456", "1x10"]);
        assert_eq!(table.render(), "layer      MACs  shape\nstem         12    1x2\nhead.conv  3456   1x10\n");
    }

    #[test]
    fn bytes_are_readable() {
        assert_eq!((bytes(9000), bytes(112 * 1024)), ("9000 B".to_owned(), "112.0 KiB".to_owned()));
    }
}

//! The table at the end of a command: what ran, what failed, and by name what did not run.

use std::time::{Duration, Instant};

/// What became of one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It ran and is good; with a remark for people.
    Passed(String),
    /// It ran and is not.
    Failed(String),
    /// It did not run.
    NotRun(String),
}

impl From<Result<String, String>> for Outcome {
    fn from(result: Result<String, String>) -> Self {
        match result {
            Ok(remark) => Self::Passed(remark),
            Err(why) => Self::Failed(why),
        }
    }
}

/// One row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// What it is.
    pub name: String,
    /// What became of it.
    pub outcome: Outcome,
    /// How long it took.
    pub time: Duration,
}

/// The rows so far.
#[derive(Debug, Default)]
pub struct Rows {
    rows: Vec<Row>,
}

impl Rows {
    /// Runs one row.
    pub fn run<O: Into<Outcome>>(&mut self, name: &str, work: impl FnOnce() -> O) {
        println!("\n== {name}");
        let started = Instant::now();
        let outcome = work().into();
        if let Outcome::Failed(why) | Outcome::NotRun(why) = &outcome {
            println!("{why}");
        }
        self.rows.push(Row { name: name.to_owned(), outcome, time: started.elapsed() });
    }

    /// Turns rows that begin with this name and did not run into failures. False when no row begins with it.
    pub fn require(&mut self, name: &str) -> bool {
        let mut known = false;
        for row in self.rows.iter_mut().filter(|row| row.name.starts_with(name)) {
            known = true;
            if let Outcome::NotRun(why) = &row.outcome {
                row.outcome = Outcome::Failed(format!("must run here, and did not: {why}"));
            }
        }
        known
    }

    /// Whether no row failed.
    pub fn good(&self) -> bool {
        self.rows.iter().all(|row| !matches!(row.outcome, Outcome::Failed(_)))
    }

    /// How many rows failed, and how many did not run.
    pub fn failed_and_not_run(&self) -> (usize, usize) {
        let count = |is: fn(&Outcome) -> bool| self.rows.iter().filter(|row| is(&row.outcome)).count();
        (count(|o| matches!(o, Outcome::Failed(_))), count(|o| matches!(o, Outcome::NotRun(_))))
    }

    /// How many rows passed.
    pub fn passed(&self) -> usize {
        let (failed, not_run) = self.failed_and_not_run();
        self.rows.len() - failed - not_run
    }

    /// Prints the table.
    pub fn print(&self) {
        let width = self.rows.iter().map(|row| row.name.len()).max().unwrap_or(0);
        println!();
        for Row { name, outcome, time } in &self.rows {
            let (word, remark) = match outcome {
                Outcome::Passed(remark) => ("ok", remark),
                Outcome::Failed(why) => ("FAILED", why),
                Outcome::NotRun(why) => ("NOT RUN", why),
            };
            let remark = remark.lines().next().unwrap_or_default();
            println!("{word:8} {name:width$} {:6.1} s  {remark}", time.as_secs_f64());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_must_run_and_does_not_fails() {
        let mut rows = Rows::default();
        rows.run("a", || Ok(String::new()));
        rows.run("b", || Outcome::NotRun("no tool".to_owned()));
        assert!(rows.good());
        assert_eq!((rows.passed(), rows.failed_and_not_run()), (1, (0, 1)));
        assert!(!rows.require("c"));
        assert!(rows.require("b"));
        assert!(!rows.good());
        assert_eq!((rows.passed(), rows.failed_and_not_run()), (1, (1, 0)));
    }
}

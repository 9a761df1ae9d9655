//! Scores as a table for people and as fields for programs.

use super::Row;
use crate::report::Table;
use flowlet_score::{Scores, interval};
use serde_json::{Map, Value, json};

/// A column: title, field, digits, and the value of one draw if it has one.
struct Column {
    title: &'static str,
    field: &'static str,
    digits: usize,
    value: fn(&Scores) -> Option<f64>,
}

const COLUMNS: [Column; 7] = [
    Column { title: "FD", field: "fd", digits: 3, value: |s| Some(s.fd) },
    Column { title: "accuracy", field: "accuracy", digits: 4, value: |s| s.accuracy },
    Column { title: "precision", field: "precision", digits: 4, value: |s| s.manifold.map(|m| m.precision) },
    Column { title: "recall", field: "recall", digits: 4, value: |s| s.manifold.map(|m| m.recall) },
    Column {
        title: "PSNR median dB",
        field: "psnr_median_db",
        digits: 2,
        value: |s| s.fidelity.map(|f| f.psnr_median_db),
    },
    Column { title: "PSNR 5 % dB", field: "psnr_p5_db", digits: 2, value: |s| s.fidelity.map(|f| f.psnr_p5_db) },
    Column { title: "SNR dB", field: "snr_db", digits: 2, value: |s| s.fidelity.map(|f| f.snr_db) },
];

impl Column {
    /// The values of all draws; none when a draw has none.
    fn values(&self, row: &Row) -> Option<Vec<f64>> {
        row.draws.iter().map(self.value).collect()
    }

    /// The mean over draws, with half of the interval's width where there are two draws.
    fn cell(&self, row: &Row) -> String {
        let Some(values) = self.values(row) else { return "-".to_owned() };
        let (found, digits) = (interval(&values), self.digits);
        match values.len() {
            1 => format!("{:.digits$}", found.mean),
            _ => format!("{:.digits$} +- {:.digits$}", found.mean, found.half_width),
        }
    }
}

/// One row for each arithmetic; columns that nobody has are left out.
pub(super) fn table(rows: &[Row]) -> Table {
    let shown: Vec<&Column> = COLUMNS.iter().filter(|c| rows.iter().any(|row| c.values(row).is_some())).collect();
    let titles: Vec<&str> = std::iter::once("").chain(shown.iter().map(|c| c.title)).collect();
    let mut table = Table::titled(&titles);
    for row in rows {
        table.row(std::iter::once(row.name.clone()).chain(shown.iter().map(|c| c.cell(row))));
    }
    table
}

/// The means; from two draws on also `interval`, half of the width of the 95 % confidence interval of each mean, and
/// `draws`, each draw's scores.
pub(super) fn fields(row: &Row) -> Value {
    let of = |value: &dyn Fn(&Column) -> Option<f64>| -> Map<String, Value> {
        COLUMNS.iter().map(|c| (c.field.to_owned(), json!(value(c)))).collect()
    };
    let mut fields = of(&|c| c.values(row).map(|v| interval(&v).mean));
    if let Some(manifold) = row.draws.first().and_then(|s| s.manifold) {
        fields.insert("manifold_n".to_owned(), json!(manifold.count));
    }
    if row.draws.len() > 1 {
        fields.insert("interval".to_owned(), of(&|c| c.values(row).map(|v| interval(&v).half_width)).into());
        let each = row.draws.iter().map(|scores| Value::Object(of(&|c| (c.value)(scores))));
        fields.insert("draws".to_owned(), each.collect());
    }
    Value::Object(fields)
}

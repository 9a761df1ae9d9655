//! `target/demo/report.json`: per model, the figures that the demo found.

use std::fs;

use flowlet_compiler::codegen::grouped;
use serde_json::{Map, Value, json};

use crate::cargo;

/// The report so far.
#[derive(Debug, Default)]
pub struct DemoReport {
    models: Vec<(String, Entry)>,
}

/// One model's fields.
#[derive(Debug, Default)]
pub struct Entry {
    fields: Map<String, Value>,
}

impl Entry {
    /// Sets a field; a value that is not known is `null`, so that every field is there.
    pub fn set(&mut self, field: &str, value: impl Into<Value>) {
        self.fields.insert(field.to_owned(), value.into());
    }
}

impl DemoReport {
    /// The entry of a model, made when it is asked for first.
    pub fn model(&mut self, name: &str) -> &mut Entry {
        let at = self.models.iter().position(|(known, _)| known == name).unwrap_or_else(|| {
            self.models.push((name.to_owned(), Entry::default()));
            self.models.len() - 1
        });
        &mut self.models[at].1
    }

    fn to_json(&self) -> Value {
        let models = self.models.iter().map(|(name, entry)| {
            let mut fields = entry.fields.clone();
            fields.insert("model".to_owned(), json!(name));
            Value::Object(fields)
        });
        json!({ "models": models.collect::<Vec<_>>() })
    }

    /// The report as the Markdown table of README.
    pub fn table(&self) -> String {
        let mut lines =
            vec![format!("| | {} |", self.models.iter().map(|(n, _)| n.as_str()).collect::<Vec<_>>().join(" | "))];
        lines.push(format!("|---|{}", "---|".repeat(self.models.len())));
        let count = |v: &Value| v.as_u64().map_or("not run".to_owned(), grouped);
        let real = |v: &Value, digits: usize| v.as_f64().map_or("not run".to_owned(), |x| format!("{x:.digits$}"));
        let score = |e: &Value, who: &str| {
            let s = &e["scores"][who];
            format!("{} / {}", real(&s["fd"], 3), real(&s["accuracy"], 3))
        };
        let per_mac = |e: &Value| match (e["board"]["instructions"].as_f64(), e["macs"].as_f64()) {
            (Some(n), Some(macs)) => format!("{:.2}", n / macs),
            _ => "not run".to_owned(),
        };
        let pair = |e: &Value, what: &str| {
            format!("{} -> {}", count(&e[format!("{what}_before")]), count(&e[format!("{what}_after")]))
        };
        type Cell<'a> = Box<dyn Fn(&Value) -> String + 'a>;
        let rows: Vec<(&str, Cell<'_>)> = vec![
            ("parameters", Box::new(|e| count(&e["params"]))),
            ("multiply-accumulates", Box::new(|e| count(&e["macs"]))),
            ("norm ops, before -> after", Box::new(|e| pair(e, "norm_ops"))),
            ("time and label ops, before -> after", Box::new(|e| pair(e, "time_ops"))),
            ("flash of the firmware, bytes", Box::new(|e| count(&e["flash_bytes"]))),
            ("arena, bytes", Box::new(|e| count(&e["arena_bytes"]))),
            ("stack, bytes", Box::new(|e| count(&e["stack_bytes"]))),
            ("Cortex-M4F, executed instructions a picture", Box::new(|e| count(&e["board"]["instructions"]))),
            ("... for each multiply-accumulate", Box::new(|e| per_mac(e))),
            ("bytes that differ between host and board", Box::new(|e| count(&e["mismatches"]))),
            ("this host, one thread, ms a picture", Box::new(|e| real(&e["host"]["ms"], 2))),
            ("f32: Frechet distance / class accuracy", Box::new(|e| score(e, "f32"))),
            ("int8: Frechet distance / class accuracy", Box::new(|e| score(e, "int8"))),
        ];
        for (title, cell) in rows {
            let cells: Vec<String> = self.models.iter().map(|(_, e)| cell(&Value::Object(e.fields.clone()))).collect();
            lines.push(format!("| {title} | {} |", cells.join(" | ")));
        }
        lines.join("\n")
    }

    /// Writes the file and returns where it is.
    pub fn write(&self) -> Result<String, String> {
        let folder = cargo::target().join("demo");
        let path = folder.join("report.json");
        fs::create_dir_all(&folder)
            .and_then(|()| fs::write(&path, format!("{:#}\n", self.to_json())))
            .map_err(|why| format!("cannot write {}: {why}", path.display()))?;
        Ok(path.display().to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_says_what_did_not_run() {
        let mut report = DemoReport::default();
        report.model("m").set("macs", 1_234_567);
        let table = report.table();
        assert!(table.contains("| multiply-accumulates | 1,234,567 |"), "{table}");
        assert!(table.contains("| arena, bytes | not run |"), "{table}");
    }
}

//! `target/demo/report.json`: per model, the figures that the demo found.

use std::fs;

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

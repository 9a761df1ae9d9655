//! The built command, and small models for it.
#![allow(dead_code, missing_docs)]

use flowlet_compiler::flq;
use flowlet_compiler::ir::parse;
use flowlet_score::npy::Array;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What a call printed and how it ended.
pub struct Call {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Call {
    /// Fails unless the call ended well.
    pub fn ok(self) -> Self {
        assert_eq!(self.code, 0, "{}{}", self.stdout, self.stderr);
        self
    }

    /// Fails unless the input was refused, with all of these in the message.
    pub fn refused(self, words: &[&str]) -> Self {
        assert_eq!(self.code, 2, "{}{}", self.stdout, self.stderr);
        assert_eq!(self.stdout, "");
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        for word in words {
            assert!(self.stderr.contains(word), "'{word}' is not in\n{}", self.stderr);
        }
        self
    }

    /// The JSON object on stdout, and nothing else.
    pub fn json(&self) -> serde_json::Value {
        let value: serde_json::Value = serde_json::from_str(&self.stdout).unwrap();
        assert!(value.is_object());
        value
    }
}

/// Calls `flowlet` with words separated by spaces; `{}` stands for the folder.
pub fn flowlet(folder: &Path, line: &str) -> Call {
    let words = line.split_whitespace().map(|w| w.replace("{}", &folder.display().to_string()));
    let output = Command::new(env!("CARGO_BIN_EXE_flowlet")).args(words).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Call { code: output.status.code().unwrap(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// An empty folder for one test.
pub fn folder(test: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(test);
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(&path).unwrap();
    path
}

/// A float picture model: noise and a label in, an image out.
pub const PICTURE: &str = r#"graph "picture" (%noise: f32[1,1,6,6], %label: i64[1] index(3)) -> (%image) {
  meta "noise" = "noise"
  meta "precision" = "f32"
  meta "unit.image" = "intensity 0..1"
  meta "labels.label" = "shoe,shirt,bag"
  meta "flow.noise_at" = "0"
  meta "flow.range" = "-1.0,1.0"
  meta "flow.velocity" = "velocity"
  const @w1: f32[4,1,3,3] = random 1
  const @b1: f32[3,4] = random 2
  const @w2: f32[1,4,3,3] = random 3
  %c = conv %noise, @w1, @b1, %label {pad=[1,1,1,1]} : f32[1,4,6,6] from "stem/Conv"
  %a = silu %c : f32[1,4,6,6] from "stem/Mul"
  %velocity = conv %a, @w2 {pad=[1,1,1,1]} : f32[1,1,6,6] from "head/Conv"
  %image.sum = add %noise, %velocity {alpha=0.5, beta=0.5, gamma=0.5} : f32[1,1,6,6] from "sampler"
  %image = clip %image.sum {lo=0.0, hi=1.0} : f32[1,1,6,6] from "sampler"
}
"#;

/// A float policy: an observation in, an action out.
pub const POLICY: &str = r#"graph "policy" (%obs: f32[1,4]) -> (%action) {
  meta "precision" = "f32"
  const @w1: f32[8,4] = random 1
  const @w2: f32[2,8] = random 2
  %h = linear %obs, @w1 : f32[1,8] from "fc1/Gemm"
  %a = relu %h : f32[1,8] from "relu"
  %action = linear %a, @w2 : f32[1,2] from "fc2/Gemm"
}
"#;

/// Writes a graph's text as `FOLDER/<name>.flq`.
pub fn write_flq(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(format!("{name}.flq"));
    std::fs::write(&path, flq::write(&parse(text, &[]).unwrap())).unwrap();
    path
}

/// Writes an f32 array as `FOLDER/<name>.npy`.
pub fn write_npy(folder: &Path, name: &str, shape: &[usize], values: Vec<f32>) {
    std::fs::write(folder.join(format!("{name}.npy")), Array::f32(shape, values).write()).unwrap();
}

/// A slow wave, as input.
pub fn wave(n: usize) -> Vec<f32> {
    (0..n).map(|i| (i as f32 * 0.37).sin()).collect()
}

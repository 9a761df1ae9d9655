//! Prints a lowered model as straight-line Rust: one static a step, one call a kernel, so that the linker drops every
//! kernel that the model does not use.
//!
//! The output depends on the lowered model and the options only. It is written to be read and committed: in the style
//! of rustfmt's defaults, one comment a step with the line of the graph that it came from. It has no inner attributes,
//! so that both `mod model;` and `include!` take it, and no `unsafe` except the attribute that places the weights in a
//! section that the target names.

mod model;
mod names;
pub mod program;
mod steps;
#[cfg(test)]
mod tests;

use crate::lower::Lowered;
use std::fmt::Write;

/// What the caller decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// File name of the weights, beside the source.
    pub weights_file: String,
}

impl Default for Options {
    fn default() -> Self {
        Options { weights_file: "weights.bin".to_owned() }
    }
}

/// A source file and the constants that it includes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generated {
    /// The Rust source.
    pub source: String,
    /// Contents of the file [`Generated::weights_file`].
    pub weights: Vec<u8>,
    /// File name of the weights, beside the source.
    pub weights_file: String,
}

/// Prints a lowered model.
pub fn generate(lowered: &Lowered, options: &Options) -> Generated {
    let mut out = String::new();
    header(&mut out, lowered);
    weights(&mut out, lowered, options);
    steps::helpers(&mut out, std::slice::from_ref(lowered));
    model::indices(&mut out, lowered);
    model::model(&mut out, lowered);
    steps::ports(&mut out, lowered);
    steps::steps(&mut out, lowered);
    steps::plan(&mut out, lowered);
    Generated { source: out, weights: lowered.weights.clone(), weights_file: options.weights_file.clone() }
}

/// Appends formatted lines.
macro_rules! lines {
    ($out:expr, $($arg:tt)*) => {{
        let _ = writeln!($out, $($arg)*);
    }};
}
use lines;

fn header(out: &mut String, lowered: &Lowered) {
    let hash: String = lowered.model_hash.iter().map(|b| format!("{b:02x}")).collect();
    let name = one_line(&lowered.name);
    lines!(out, "// {name}, lowered for {} by flowlet {}.", lowered.target.name, env!("CARGO_PKG_VERSION"));
    lines!(out, "// Generated: change the model and build again, not this file.");
    lines!(out, "//");
    lines!(out, "// model {hash}");
    let rows = [
        (grouped(lowered.macs()), "multiply-accumulates a pass"),
        (grouped(lowered.parameters as u64), "parameters"),
        (grouped(lowered.arena_bytes as u64), "bytes of RAM for the arena"),
        (grouped(lowered.weights.len() as u64), "bytes of flash for the weights"),
    ];
    let places = memories(lowered);
    let width = rows.iter().map(|(n, _)| n.len()).max().unwrap_or(0);
    for (number, what) in rows {
        lines!(out, "// {number:>width$} {what}");
    }
    places.iter().for_each(|line| lines!(out, "// {line}"));
    lines!(out, "//");
    lines!(out, "// The authors of flowlet claim no rights in this file. The weights are the model author's.");
    lines!(out, "");
    lines!(out, "use flowlet::{{kernels, plan}};");
    lines!(out, "");
    target_guards(out, lowered);
}

/// Which memory holds what, where the target names memories.
fn memories(lowered: &Lowered) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(name) = &lowered.arena_memory {
        let section = lowered.target.memories.iter().find(|m| m.name == *name).and_then(|m| m.section.as_ref());
        let how = section.map_or_else(String::new, |s| format!(": #[unsafe(link_section = {s:?})] on your static"));
        lines.push(format!("place the arena in {}{}", one_line(name), one_line(&how)));
    }
    for part in &lowered.weights_parts {
        lines.push(format!("{} bytes of weights in {}", grouped(part.len as u64), one_line(&part.memory)));
    }
    lines
}

/// Refuses to compile for another target, or without its kernels.
fn target_guards(out: &mut String, lowered: &Lowered) {
    if let (Some(arch), Some(triple)) = (&lowered.target.arch, &lowered.target.triple) {
        lines!(out, "#[cfg(not(target_arch = {arch:?}))]");
        lines!(out, "compile_error!(");
        lines!(
            out,
            "    \"this model was lowered for {}: build with `--target {triple}`, or lower it for `host`\"",
            lowered.target.name
        );
        lines!(out, ");");
        lines!(out, "");
    }
    for feature in lowered.target.features {
        lines!(out, "const _: () = assert!(");
        lines!(out, "    kernels::has_feature({feature:?}),");
        lines!(
            out,
            "    \"{} needs more kernels: add `features = [\\\"{feature}\\\"]` to flowlet in Cargo.toml\"",
            lowered.target.name
        );
        lines!(out, ");");
        lines!(out, "");
    }
}

fn weights(out: &mut String, lowered: &Lowered, options: &Options) {
    lines!(out, "/// Bytes of RAM that the model works in.");
    lines!(out, "pub const ARENA_BYTES: usize = {};", lowered.arena_bytes);
    lines!(out, "");
    weights_static(out, lowered, options);
}

fn weights_static(out: &mut String, lowered: &Lowered, options: &Options) {
    lines!(out, "#[repr(C, align(16))]");
    lines!(out, "struct Aligned<T>(T);");
    lines!(out, "");
    let attribute = |out: &mut String, section: Option<&str>| {
        if let Some(section) = section {
            lines!(out, "#[allow(unsafe_code)]");
            lines!(out, "#[unsafe(link_section = {section:?})]");
        }
    };
    let len = lowered.weights.len();
    if let [inner, outer] = &lowered.weights_parts[..] {
        lines!(out, "const ALL_WEIGHTS: &[u8; {len}] = include_bytes!({:?});", options.weights_file);
        lines!(out, "/// Where the weights of `{}` begin.", one_line(&outer.memory));
        lines!(out, "const BORDER: usize = {};", outer.offset);
        lines!(out, "");
        for (part, name) in [(inner, "WEIGHTS"), (outer, "OUTER_WEIGHTS")] {
            lines!(out, "/// In `{}`.", one_line(&part.memory));
            attribute(out, part.section.as_deref());
            lines!(out, "static {name}: Aligned<[u8; {}]> = Aligned(part(ALL_WEIGHTS, {}));", part.len, part.offset);
            lines!(out, "");
        }
        out.push_str(
            "const fn part<const N: usize, const LEN: usize>(all: &[u8; N], offset: usize) -> [u8; LEN] {
    match all.split_at(offset).1.first_chunk() {
        Some(part) => *part,
        None => panic!(\"the weights are too short\"),
    }
}

/// The weights from `offset` to the end of their memory.
const fn weights(offset: usize) -> &'static [u8] {
    if offset < BORDER {
        WEIGHTS.0.split_at(offset).1
    } else {
        OUTER_WEIGHTS.0.split_at(offset - BORDER).1
    }
}

",
        );
        return;
    }
    attribute(out, lowered.target.weights_section.as_deref());
    let line = format!("static WEIGHTS: Aligned<[u8; {len}]> = Aligned(*include_bytes!({:?}));", options.weights_file);
    match line.len() {
        0..=100 => lines!(out, "{line}"),
        _ => {
            lines!(out, "static WEIGHTS: Aligned<[u8; {len}]> =");
            lines!(out, "    Aligned(*include_bytes!({:?}));", options.weights_file);
        }
    }
    lines!(out, "");
}

/// A number with a comma before every third digit, as generated headers and reports print it.
pub fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// Text for a comment.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>().trim_end().to_owned()
}

//! The text form.

use super::{Attr, Data, Def, Graph, InputKind, Tensor, Type};
use std::fmt::Write;

/// How constants are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConstStyle {
    /// Up to 16 elements in full, larger ones as a splat or a hash: for people and for snapshots.
    Short,
    /// `blob`: the elements follow the text in order, as in a `.flq`.
    Blob,
    /// All elements in full: a text that stands alone.
    Full,
}

/// Prints a graph. The same graph always gives the same text.
pub fn print(graph: &Graph, style: ConstStyle) -> String {
    let mut out = String::new();
    let inputs: Vec<String> = graph
        .inputs
        .iter()
        .map(|&id| {
            let v = graph.value(id);
            let kind = match v.def {
                Def::Input(InputKind::Index { count }) => format!(" index({count})"),
                Def::Input(InputKind::Tensor) | Def::Const(_) | Def::Node => String::new(),
            };
            format!("%{}: {}{kind}", v.name, print_type(&v.ty))
        })
        .collect();
    let outputs: Vec<String> = graph.outputs.iter().map(|&id| reference(graph, id)).collect();
    let _ = writeln!(out, "graph {} ({}) -> ({}) {{", quoted(&graph.name), inputs.join(", "), outputs.join(", "));
    for (key, value) in &graph.meta {
        let _ = writeln!(out, "  meta {} = {}", quoted(key), quoted(value));
    }
    for value in &graph.values {
        if let Def::Const(tensor) = &value.def {
            let _ = writeln!(out, "  const @{}: {} = {}", value.name, print_type(&value.ty), literal(tensor, style));
        }
    }
    for node in &graph.nodes {
        let value = graph.value(node.output);
        let operands: Vec<String> = node.inputs.iter().map(|&id| reference(graph, id)).collect();
        let attrs: Vec<String> = node.op.attrs().iter().map(|(k, v)| format!("{k}={}", print_attr(v))).collect();
        let attrs = if attrs.is_empty() { String::new() } else { format!(" {{{}}}", attrs.join(", ")) };
        let operands = if operands.is_empty() { String::new() } else { format!(" {}", operands.join(", ")) };
        let _ = writeln!(
            out,
            "  %{} = {}{operands}{attrs} : {} from {}",
            value.name,
            node.op.name(),
            print_type(&value.ty),
            quoted(&node.origin)
        );
    }
    for remark in &graph.remarks {
        let _ = writeln!(out, "  remark {} {} {}", remark.pass, quoted(&remark.node), quoted(&remark.message));
    }
    out.push_str("}\n");
    out
}

fn reference(graph: &Graph, id: super::ValueId) -> String {
    let value = graph.value(id);
    let sigil = if matches!(value.def, Def::Const(_)) { '@' } else { '%' };
    format!("{sigil}{}", value.name)
}

fn print_type(ty: &Type) -> String {
    let dims: Vec<String> = ty.dims.iter().map(usize::to_string).collect();
    let quant = ty.quant.map_or(String::new(), |q| format!(" q({:?},{})", q.scale, q.zero_point));
    format!("{}[{}]{quant}", ty.dtype.name(), dims.join(","))
}

fn print_attr(attr: &Attr) -> String {
    match attr {
        Attr::Int(v) => v.to_string(),
        Attr::Float(v) => format!("{v:?}"),
        Attr::Ints(v) => format!("[{}]", v.iter().map(i64::to_string).collect::<Vec<_>>().join(",")),
        Attr::Word(v) => v.clone(),
    }
}

/// A string in double quotes; quotes, backslashes and control characters escaped.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            c if c.is_control() => out.push('?'),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn literal(tensor: &Tensor, style: ConstStyle) -> String {
    if style == ConstStyle::Blob {
        return "blob".to_owned();
    }
    let words: Vec<String> = match &tensor.data {
        Data::F32(v) => v.iter().map(|x| format!("{x:?}")).collect(),
        Data::I64(v) => v.iter().map(i64::to_string).collect(),
        Data::I32(v) => v.iter().map(i32::to_string).collect(),
        Data::S8(v) => v.iter().map(i8::to_string).collect(),
    };
    if words.len() > 1 && words.iter().all(|w| *w == words[0]) {
        return format!("splat {}", words[0]);
    }
    if style == ConstStyle::Full || words.len() <= 16 {
        return format!("[{}]", words.join(", "));
    }
    format!("hash {:016x}", fnv1a(&tensor.to_le_bytes()))
}

/// FNV-1a, enough to see that a large constant in a snapshot changed.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |h, &b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}

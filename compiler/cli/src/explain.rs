//! `flowlet explain`: what every pass did and why, and what each layer costs.

mod layers;
mod picture;

use crate::calibrate::{Calibrate, held_out};
use crate::direction;
use crate::model::{Model, quantise};
use crate::options::{ModelArgs, Precision, write};
use crate::quantize::errors;
use crate::report::{Report, Table, bytes};
use flowlet_compiler::coverage::{Coverage, coverage};
use flowlet_compiler::flq;
use flowlet_compiler::ir::{ConstStyle, Def, Graph, InputKind, Remark, print};
use flowlet_compiler::lower::{Lowered, lower, svg};
use flowlet_compiler::quantize::Measured;
use flowlet_compiler::target::Target;
use layers::{Layer, layers};
use serde_json::{Value, json};
use std::path::PathBuf;

/// Arguments of `flowlet explain`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  flowlet explain fashion.flq
  flowlet explain fashion.flq --svg memory.svg --target qemu-mps2-an386
  flowlet explain fashion.onnx --text            the graph that the compiler works on")]
pub struct Args {
    /// The model.
    #[command(flatten)]
    pub model: ModelArgs,
    /// For which target the arena is planned: a name, or a file.toml that describes the part's memories
    #[arg(long, value_name = "NAME", default_value = "host")]
    pub target: String,
    /// Write a picture of the arena over time
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
    /// Write a plain picture of the arena over time, without names
    #[arg(long, value_name = "FILE")]
    pub png: Option<PathBuf>,
    /// Print the graph's text form and nothing else
    #[arg(long)]
    pub text: bool,
    /// Of an .onnx: explain the folded f32 graph, or the int8 graph after calibration [default: int8 where it can be]
    #[arg(long, value_enum)]
    pub precision: Option<Precision>,
    /// For int8 from an .onnx: number of noise samples, or a folder with <input>.npy [default: 64]
    #[arg(long, value_name = "N|DIR")]
    pub calibrate: Option<Calibrate>,
    /// For int8 from an .onnx: samples that each layer's error is measured on, as in 'flowlet quantize'
    #[arg(long, value_name = "N", default_value = "16")]
    pub measure: usize,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Runs the command.
///
/// # Errors
/// What is wrong with the model or the target.
pub fn run(args: &Args) -> anyhow::Result<Report> {
    let target = Target::named(&args.target)?;
    let model = Model::load(&args.model)?;
    let (graph, not_int8) = choose(&model, args)?;
    let mut report = Report::new();
    report.notes = model.notes();
    if args.text {
        let text = print(&graph, ConstStyle::Short);
        report.set("text", text.clone());
        report.text = text;
        return Ok(report);
    }
    let lowered = match flq::is_quantized(&graph) {
        true => Some(lower(&graph, flq::hash(&flq::write(&graph)), &target)?),
        false => None,
    };
    summary(&mut report, &graph);
    direction::check(&mut report, &model, args.calibrate.as_ref())?;
    operators(&mut report, &model, &graph);
    remarks(&mut report, graph.remarks.iter().chain(lowered.iter().flat_map(|l| &l.remarks)));
    let measured = match (&lowered, model.precision(), args.measure) {
        (Some(_), Precision::F32, 1..) => {
            let samples = held_out(&model.graph, args.calibrate.as_ref(), args.measure)?;
            errors::measure(&model.graph, &graph, &samples)?
        }
        _ => Measured::default(),
    };
    layer_table(&mut report, &layers(&graph), &measured);
    if measured.samples > 0 {
        errors::summary(&mut report, &measured);
    }
    if let Some(reason) = not_int8 {
        report.line(format!("\nnot int8, so that there is no arena: {reason}"));
    }
    match lowered {
        Some(lowered) => memory(&mut report, &lowered, args)?,
        None if args.svg.is_some() || args.png.is_some() => {
            anyhow::bail!("only an int8 graph has an arena to draw: leave --precision f32 out");
        }
        None => {}
    }
    Ok(report)
}

/// The graph to explain, and why it is not int8 if it could not be.
fn choose(model: &Model, args: &Args) -> anyhow::Result<(Graph, Option<String>)> {
    if model.precision() == Precision::Int8 || args.precision.is_some() {
        return Ok((model.prepare(args.precision, args.calibrate.as_ref())?.graph.into_owned(), None));
    }
    match quantise(&model.graph, args.calibrate.as_ref()) {
        Ok(graph) => Ok((graph, None)),
        Err(error) => Ok((model.graph.clone(), Some(format!("{error:#}")))),
    }
}

fn summary(report: &mut Report, graph: &Graph) {
    let mut table = Table::titled(&["", ""]);
    table.row(["model", graph.name.as_str()]);
    for &id in &graph.inputs {
        let value = graph.value(id);
        let kind = match value.def {
            Def::Input(InputKind::Index { count }) => format!("one of {count} values"),
            Def::Input(InputKind::Tensor) | Def::Const(_) | Def::Node => shape(&value.ty.dims),
        };
        table.row(["input", &format!("{} {kind}{}", value.name, unit(graph, &value.name))]);
    }
    for &id in &graph.outputs {
        let value = graph.value(id);
        table.row(["output", &format!("{} {}{}", value.name, shape(&value.ty.dims), unit(graph, &value.name))]);
    }
    for (key, value) in &graph.meta {
        if !key.starts_with("unit.") && key != "noise" {
            table.row([key, value]);
        }
    }
    report.table(&table);
    report.set("name", graph.name.clone());
    report.set("meta", graph.meta.iter().map(|(k, v)| (k.clone(), json!(v))).collect::<serde_json::Map<_, _>>());
}

fn unit(graph: &Graph, name: &str) -> String {
    graph.meta(&format!("unit.{name}")).map_or_else(String::new, |u| format!(" ({u})"))
}

fn shape(dims: &[usize]) -> String {
    dims.iter().map(usize::to_string).collect::<Vec<_>>().join("x")
}

/// What became of each operator of an ONNX file.
fn operators(report: &mut Report, model: &Model, graph: &Graph) {
    if model.operators.is_empty() {
        return;
    }
    let int8 = flq::is_quantized(graph).then_some(graph);
    let rows = coverage(&model.operators, &model.graph, int8);
    report.line("\nwhat became of each operator");
    let mut table = Table::titled(&["operator", "nodes", "became"]);
    for row in &rows {
        for (i, (what, n)) in row.became.iter().enumerate() {
            let (op, nodes) = if i == 0 { (row.op.clone(), row.nodes.to_string()) } else { Default::default() };
            table.row([op, nodes, format!("{n} {what}")]);
        }
    }
    report.table(&table);
    let json = |r: &Coverage| {
        let became: Vec<Value> = r.became.iter().map(|(what, n)| json!({ "what": what, "nodes": n })).collect();
        json!({ "operator": r.op, "nodes": r.nodes, "became": became })
    };
    report.set("operators", rows.iter().map(json).collect::<Vec<_>>());
}

/// Remarks pass by pass; the same words at many nodes are one line.
fn remarks<'r>(report: &mut Report, remarks: impl Iterator<Item = &'r Remark>) {
    let all: Vec<&Remark> = remarks.collect();
    let mut groups: Vec<(&str, &str, Vec<&str>)> = Vec::new();
    for remark in &all {
        match groups.iter_mut().find(|(pass, message, _)| *pass == remark.pass && *message == remark.message) {
            Some((_, _, nodes)) => nodes.push(&remark.node),
            None => groups.push((&remark.pass, &remark.message, vec![&remark.node])),
        }
    }
    report.line("\nwhat the passes did");
    for (pass, message, nodes) in groups {
        let at = match nodes[..] {
            [one] => one.to_owned(),
            [first, second] => format!("{first}, {second}"),
            _ => format!("{}, {} and {} more", nodes[0], nodes[1], nodes.len() - 2),
        };
        report.line(format!("  {pass}: {message}: {at}"));
    }
    let rows: Vec<Value> =
        all.iter().map(|r| json!({ "pass": r.pass, "node": r.node, "message": r.message })).collect();
    report.set("remarks", rows);
}

/// Costs and scales; the ratio of each layer, of all samples and of the worst, where it was measured.
fn layer_table(report: &mut Report, layers: &[Layer], measured: &Measured) {
    report.line("\nlayers");
    let titles = ["layer", "operation", "shape", "MACs", "params", "bytes", "scale", "SQNR dB, worst", "ONNX node"];
    let mut table = Table::titled(&titles);
    for l in layers {
        let error = measured.layers.iter().find(|e| e.tensor == l.name);
        let ratio = error.map_or_else(String::new, |e| format!("{} {}", errors::db(e.snr_db), errors::db(e.worst_db)));
        let scale = l.quant.map_or_else(String::new, |q| format!("{:.5} {:+}", q.scale, q.zero_point));
        table.row([
            l.name.clone(),
            l.op.to_owned(),
            shape(&l.dims),
            l.macs.to_string(),
            l.params.to_string(),
            l.bytes.to_string(),
            scale,
            ratio,
            l.origin.clone(),
        ]);
    }
    let sum = |f: fn(&Layer) -> u64| layers.iter().map(f).sum::<u64>();
    let (macs, params, size) = (sum(|l| l.macs), sum(|l| l.params as u64), sum(|l| l.bytes as u64));
    let cells = ["total", "", "", &macs.to_string(), &params.to_string(), &size.to_string(), "", "", ""];
    table.row(cells);
    report.table(&table);
    report.set("macs", macs);
    report.set("params", params);
    report.set("constant_bytes", size);
    report.set("layers", layers.iter().map(Layer::json).collect::<Vec<_>>());
}

/// The memories of the part and what lies in them.
fn memories(report: &mut Report, lowered: &Lowered) {
    if lowered.target.memories.is_empty() {
        return;
    }
    let mut table = Table::titled(&["memory", "kind", "bytes", "taken", "holds"]);
    let mut rows: Vec<Value> = Vec::new();
    for memory in lowered.target.memories.iter() {
        let weights = lowered.weights_parts.iter().find(|p| p.memory == memory.name);
        let arena = lowered.arena_memory.as_deref() == Some(memory.name.as_ref());
        let (taken, holds) = match weights {
            Some(part) => (part.len, format!("weights {}..{}", part.offset, part.offset + part.len)),
            None if arena => (lowered.arena_bytes, "arena".to_owned()),
            None => (0, String::new()),
        };
        table.row([
            memory.name.to_string(),
            memory.kind.name().to_owned(),
            memory.bytes.to_string(),
            taken.to_string(),
            holds,
        ]);
        rows.push(json!({ "name": memory.name, "kind": memory.kind.name(), "bytes": memory.bytes, "taken": taken }));
    }
    report.table(&table);
    report.set("memories", rows);
}

fn memory(report: &mut Report, lowered: &Lowered, args: &Args) -> anyhow::Result<()> {
    let memory = &lowered.memory;
    report.line(format!("\nmemory on {}", lowered.target.name));
    report.line(format!("weights {} of flash", bytes(lowered.weights.len())));
    memories(report, lowered);
    report.text.push_str(&memory.table());
    let tensors: Vec<Value> = memory
        .tensors
        .iter()
        .map(|t| {
            json!({ "name": t.name, "offset": t.offset, "bytes": t.bytes, "first": t.first, "last": t.last,
                    "inside": t.inside, "over": t.over })
        })
        .collect();
    report.set("target", lowered.target.name.to_string());
    report.set("weights_bytes", lowered.weights.len());
    report.set("arena_bytes", lowered.arena_bytes);
    report.set("arena_lower_bound_bytes", memory.lower_bound_bytes);
    report.set("steps", lowered.steps.len());
    report.set("tensors", tensors);
    if let Some(path) = &args.svg {
        write(path, svg(memory).as_bytes())?;
        report.line(format!("wrote {}", path.display()));
    }
    if let Some(path) = &args.png {
        picture::save(memory, path)?;
        report.line(format!("wrote {}", path.display()));
    }
    Ok(())
}

//! The data: steps, ports and the plan.

use super::{lines, names, one_line};
use crate::lower::{EpilogueKernel, Kernel, Lowered, LoweredPort, LoweredStep, MulKernel, NormKernel, Section};
use flowlet_plan::{AddParams, NormKind, Packing, Panels, PoolKind, RowKey, Run, ShuffleKind, Slot, Split};
use std::fmt::Write;

/// The body of a function that takes an array out of the weights.
fn first_chunk(out: &mut String, from: &str) {
    lines!(out, "    match {from}.first_chunk() {{");
    lines!(out, "        Some(table) => table,");
    lines!(out, "        None => panic!(\"the weights are too short\"),");
    lines!(out, "    }}");
    lines!(out, "}}");
    lines!(out, "");
}

/// Functions that make the data short.
pub(super) fn helpers(out: &mut String, all: &[Lowered]) {
    let split = all.first().is_some_and(|lowered| lowered.weights_parts.len() > 1);
    let from = if split { "weights(offset)" } else { "WEIGHTS.0.split_at(offset).1" };
    let constants = |kernel: &Kernel| match kernel {
        Kernel::Conv(_) | Kernel::ConvTranspose(_) | Kernel::Norm(_) => true,
        Kernel::MatMul(_)
        | Kernel::Add { .. }
        | Kernel::Mul(_)
        | Kernel::Map { .. }
        | Kernel::Softmax { .. }
        | Kernel::Pool { .. }
        | Kernel::Shuffle { .. }
        | Kernel::Transpose => false,
    };
    let steps = || all.iter().flat_map(|lowered| &lowered.steps);
    let convs = steps().any(|s| constants(&s.kernel));
    let softmax = steps().any(|s| matches!(s.kernel, Kernel::Softmax { .. }));
    let tables = steps().any(|s| table_of(&s.kernel).is_some());
    let sums = steps().any(|s| {
        matches!(s.kernel, Kernel::Add { .. }) || epilogue_of(&s.kernel).is_some_and(|e| e.residual.is_some())
    });
    if convs {
        lines!(out, "/// A constant of the model.");
        lines!(out, "const fn bytes(offset: usize, len: usize) -> &'static [u8] {{");
        lines!(out, "    {from}.split_at(len).0");
        lines!(out, "}}");
        lines!(out, "");
    }
    if tables {
        lines!(out, "/// A function of s8, tabulated.");
        lines!(out, "const fn table(offset: usize) -> plan::Table<'static> {{");
        first_chunk(out, from);
    }
    if softmax {
        lines!(out, "/// An exponential function, tabulated.");
        lines!(out, "const fn exponential(offset: usize) -> &'static [u8; 512] {{");
        first_chunk(out, from);
    }
    out.push_str(
        "/// A tensor of `[height, width, channels]`, with `pitch` bytes from pixel to pixel.
const fn slot(offset: u32, dims: [u16; 3], pitch: u16, tensor: u16) -> plan::Slot {
    let [height, width, channels] = dims;
    let dtype = plan::DType::S8;
    plan::Slot {
        offset,
        height,
        width,
        channels,
        pitch,
        dtype,
        tensor,
    }
}

",
    );
    if sums {
        out.push_str(
            "/// Constants of the sum `(a * ma + b * mb + c) >> shift`.
const fn sum(ma: i16, mb: i16, c: i32, shift: u8) -> plan::AddParams {
    plan::AddParams { ma, mb, c, shift }
}

",
        );
    }
}

fn epilogue_of(kernel: &Kernel) -> Option<&EpilogueKernel> {
    match kernel {
        Kernel::Conv(conv) => Some(&conv.epilogue),
        Kernel::ConvTranspose(conv) => Some(&conv.epilogue),
        Kernel::MatMul(_)
        | Kernel::Add { .. }
        | Kernel::Mul(_)
        | Kernel::Map { .. }
        | Kernel::Softmax { .. }
        | Kernel::Norm(_)
        | Kernel::Pool { .. }
        | Kernel::Shuffle { .. }
        | Kernel::Transpose => None,
    }
}

fn table_of(kernel: &Kernel) -> Option<Section> {
    match kernel {
        Kernel::Conv(conv) => conv.epilogue.table,
        Kernel::ConvTranspose(conv) => conv.epilogue.table,
        Kernel::Add { table, .. }
        | Kernel::Map { table }
        | Kernel::Mul(MulKernel { table, .. })
        | Kernel::Norm(NormKernel { table, .. }) => *table,
        Kernel::MatMul(_)
        | Kernel::Softmax { .. }
        | Kernel::Pool { .. }
        | Kernel::Shuffle { .. }
        | Kernel::Transpose => None,
    }
}

fn slot(s: &Slot) -> String {
    format!("slot({}, [{}, {}, {}], {}, {})", s.offset, s.height, s.width, s.channels, s.pitch, s.tensor)
}

fn bytes(s: Section) -> String {
    format!("bytes({}, {})", s.offset, s.len)
}

fn table(s: Option<Section>) -> String {
    s.map_or("None".to_owned(), |s| format!("Some(table({}))", s.offset))
}

fn sum(p: &AddParams) -> String {
    format!("sum({}, {}, {}, {})", p.ma, p.mb, p.c, p.shift)
}

/// Name of the static of a port: `INPUT_NOISE`.
pub(super) fn port_static(kind: &str, method: &str) -> String {
    format!("{kind}_{}", names::screaming(method))
}

pub(super) fn ports(out: &mut String, lowered: &Lowered) {
    let names = super::model::port_names(lowered);
    for (kind, ports, methods) in
        [("INPUT", &lowered.inputs, &names.inputs), ("OUTPUT", &lowered.outputs, &names.outputs)]
    {
        for (port, method) in ports.iter().zip(methods) {
            self::port(out, &port_static(kind, method), port);
        }
    }
}

fn port(out: &mut String, name: &str, port: &LoweredPort) {
    let inverse_scale = port.borrow().inverse_scale;
    lines!(out, "static {name}: plan::Port<'static> = plan::Port {{");
    lines!(out, "    name: {:?},", port.name);
    lines!(out, "    slot: {},", slot(&port.slot));
    lines!(out, "    quant: plan::Quant {{");
    lines!(out, "        scale: {:?},", port.quant.scale);
    lines!(out, "        zero_point: {},", port.quant.zero_point);
    lines!(out, "    }},");
    lines!(out, "    inverse_scale: {inverse_scale:?},");
    lines!(out, "    unit: {:?},", port.unit);
    lines!(out, "}};");
    lines!(out, "");
}

pub(super) fn steps(out: &mut String, lowered: &Lowered) {
    for (i, step) in lowered.steps.iter().enumerate() {
        lines!(out, "// {}", one_line(&step.text));
        self::step(out, i, step);
        lines!(out, "");
    }
}

/// Name of the step's type, and of its variant.
fn type_name(kernel: &Kernel) -> &'static str {
    match kernel {
        Kernel::Conv(_) => "Conv",
        Kernel::ConvTranspose(_) => "ConvTranspose",
        Kernel::MatMul(_) => "MatMul",
        Kernel::Add { .. } => "Add",
        Kernel::Mul(_) => "Mul",
        Kernel::Map { .. } => "Map",
        Kernel::Softmax { .. } => "Softmax",
        Kernel::Norm(_) => "Norm",
        Kernel::Pool { .. } => "Pool",
        Kernel::Shuffle { .. } => "Shuffle",
        Kernel::Transpose => "Transpose",
    }
}

fn step(out: &mut String, i: usize, step: &LoweredStep) {
    let input = step.inputs.first().map_or_else(String::new, slot);
    let other = step.inputs.get(1).map_or_else(String::new, slot);
    let output = slot(&step.output);
    let scratch = step.scratch.as_ref().map_or("None".to_owned(), |s| format!("Some({})", slot(s)));
    let ty = type_name(&step.kernel);
    let lifetime = match step.kernel {
        Kernel::MatMul(_) | Kernel::Pool { .. } | Kernel::Shuffle { .. } | Kernel::Transpose => "",
        Kernel::Conv(_)
        | Kernel::ConvTranspose(_)
        | Kernel::Add { .. }
        | Kernel::Mul(_)
        | Kernel::Map { .. }
        | Kernel::Softmax { .. }
        | Kernel::Norm(_) => "<'static>",
    };
    lines!(out, "static STEP_{i}: plan::{ty}{lifetime} = plan::{ty} {{");
    match &step.kernel {
        Kernel::Conv(c) => {
            lines!(out, "    input: {input},");
            lines!(out, "    output: {output},");
            lines!(out, "    kernel: {:?},", c.kernel);
            lines!(out, "    stride: {:?},", c.stride);
            lines!(out, "    dilation: {:?},", c.dilation);
            lines!(out, "    pad: {:?},", c.pad);
            lines!(out, "    upsample: {},", c.upsample);
            lines!(out, "    groups: {},", c.groups);
            lines!(out, "    input_zero_point: {},", c.input_zero_point);
            lines!(out, "    weights: {},", bytes(c.weights));
            packing(out, c.packing);
            lines!(out, "    scratch: {scratch},");
            epilogue(out, &c.epilogue, &other);
        }
        Kernel::ConvTranspose(c) => {
            lines!(out, "    input: {input},");
            lines!(out, "    output: {output},");
            lines!(out, "    kernel: {:?},", c.kernel);
            lines!(out, "    stride: {:?},", c.stride);
            lines!(out, "    pad: {:?},", c.pad);
            lines!(out, "    input_zero_point: {},", c.input_zero_point);
            lines!(out, "    weights: {},", bytes(c.weights));
            packing(out, c.packing);
            lines!(out, "    scratch: {scratch},");
            epilogue(out, &c.epilogue, &other);
        }
        Kernel::MatMul(m) => {
            let slots = [("a", &input), ("b", &other), ("output", &output)];
            for ((name, slot), split) in slots.into_iter().zip(m.splits) {
                lines!(out, "    {name}: plan::Matrices {{");
                lines!(out, "        slot: {slot},");
                lines!(out, "        split: plan::Split::{},", self::split(split));
                lines!(out, "    }},");
            }
            lines!(out, "    batch: {},", m.batch);
            lines!(out, "    transposed: {},", m.transposed);
            lines!(out, "    a_zero_point: {},", m.a_zero_point);
            lines!(out, "    multiplier: {},", m.multiplier);
            lines!(out, "    left_shift: {},", m.left_shift);
            lines!(out, "    zero_point: {},", m.zero_point);
            lines!(out, "    scratch: {scratch},");
        }
        Kernel::Add { params, table: t } => {
            lines!(out, "    a: {input},");
            lines!(out, "    b: {other},");
            lines!(out, "    output: {output},");
            lines!(out, "    params: {},", sum(params));
            lines!(out, "    table: {},", table(*t));
        }
        Kernel::Mul(m) => {
            lines!(out, "    a: {input},");
            lines!(out, "    b: {other},");
            lines!(out, "    output: {output},");
            lines!(out, "    a_zero_point: {},", m.zero_points[0]);
            lines!(out, "    b_zero_point: {},", m.zero_points[1]);
            lines!(out, "    multiplier: {},", m.multiplier);
            lines!(out, "    left_shift: {},", m.left_shift);
            lines!(out, "    zero_point: {},", m.zero_point);
            lines!(out, "    table: {},", table(m.table));
        }
        Kernel::Map { table: t } => {
            lines!(out, "    input: {input},");
            lines!(out, "    output: {output},");
            lines!(out, "    table: {},", table(*t));
        }
        Kernel::Softmax { table } => {
            lines!(out, "    input: {input},");
            lines!(out, "    output: {output},");
            lines!(out, "    table: exponential({}),", table.offset);
        }
        Kernel::Norm(n) => {
            lines!(out, "    input: {input},");
            lines!(out, "    output: {output},");
            match n.kind {
                NormKind::Layer => lines!(out, "    kind: plan::NormKind::Layer,"),
                NormKind::Rms => lines!(out, "    kind: plan::NormKind::Rms,"),
                NormKind::Group { groups } => lines!(out, "    kind: plan::NormKind::Group {{ groups: {groups} }},"),
            }
            lines!(out, "    input_zero_point: {},", n.input_zero_point);
            lines!(out, "    epsilon: {},", n.epsilon);
            lines!(out, "    gain: {},", bytes(n.gain));
            lines!(out, "    gain_shift: {},", n.gain_shift);
            lines!(out, "    offset: {},", bytes(n.offset));
            lines!(out, "    table: {},", table(n.table));
        }
        Kernel::Pool { kernel, stride, pad, kind } => {
            lines!(out, "    input: {input},");
            lines!(out, "    output: {output},");
            lines!(out, "    kernel: {kernel:?},");
            lines!(out, "    stride: {stride:?},");
            lines!(out, "    pad: {pad:?},");
            match kind {
                PoolKind::Max => lines!(out, "    kind: plan::PoolKind::Max,"),
                PoolKind::Average { input_zero_point, multiplier, left_shift, zero_point } => {
                    lines!(out, "    kind: plan::PoolKind::Average {{");
                    lines!(out, "        input_zero_point: {input_zero_point},");
                    lines!(out, "        multiplier: {multiplier},");
                    lines!(out, "        left_shift: {left_shift},");
                    lines!(out, "        zero_point: {zero_point},");
                    lines!(out, "    }},");
                }
            }
        }
        Kernel::Shuffle { block, kind } => {
            lines!(out, "    input: {input},");
            lines!(out, "    output: {output},");
            lines!(out, "    block: {block},");
            lines!(out, "    kind: plan::ShuffleKind::{},", shuffle_kind(*kind));
        }
        Kernel::Transpose => {
            lines!(out, "    input: {input},");
            lines!(out, "    output: {output},");
        }
    }
    lines!(out, "}};");
}

fn epilogue(out: &mut String, e: &EpilogueKernel, other: &str) {
    lines!(out, "    epilogue: plan::Epilogue {{");
    lines!(out, "        multipliers: {},", bytes(e.multipliers));
    lines!(out, "        bias: {},", bytes(e.bias));
    lines!(out, "        row: plan::RowKey::{},", row(e.row));
    lines!(out, "        left_shift: {},", e.left_shift);
    lines!(out, "        zero_point: {},", e.zero_point);
    match &e.residual {
        None => lines!(out, "        residual: None,"),
        Some(params) => {
            lines!(out, "        residual: Some(plan::Residual {{");
            lines!(out, "            slot: {other},");
            lines!(out, "            params: {},", sum(params));
            lines!(out, "        }}),");
        }
    }
    lines!(out, "        table: {},", table(e.table));
    lines!(out, "    }},");
}

fn packing(out: &mut String, packing: Packing) {
    match packing {
        Packing::Ohwi | Packing::DspPairs | Packing::DspDepthwise => {
            lines!(out, "    packing: plan::Packing::{packing:?},");
        }
        Packing::Panels(Panels { isa, nr, kr, run }) => {
            let run = match run {
                Run::Filter => "Filter",
                Run::Row => "Row",
                Run::Tap => "Tap",
            };
            lines!(out, "    packing: plan::Packing::Panels(plan::Panels {{");
            lines!(out, "        isa: plan::Isa::{isa:?},");
            lines!(out, "        nr: {nr},");
            lines!(out, "        kr: {kr},");
            lines!(out, "        run: plan::Run::{run},");
            lines!(out, "    }}),");
        }
        Packing::Depthwise { isa, nr } => {
            lines!(out, "    packing: plan::Packing::Depthwise {{");
            lines!(out, "        isa: plan::Isa::{isa:?},");
            lines!(out, "        nr: {nr},");
            lines!(out, "    }},");
        }
    }
}

fn split(split: Split) -> &'static str {
    match split {
        Split::Rows => "Rows",
        Split::Channels => "Channels",
    }
}

fn row(row: RowKey) -> String {
    match row {
        RowKey::Fixed => "Fixed".to_owned(),
        RowKey::Index(n) => format!("Index({n})"),
        RowKey::Iteration => "Iteration".to_owned(),
    }
}

fn shuffle_kind(kind: ShuffleKind) -> &'static str {
    match kind {
        ShuffleKind::PixelUnshuffle => "PixelUnshuffle",
        ShuffleKind::PixelShuffle => "PixelShuffle",
    }
}

pub(super) fn plan(out: &mut String, lowered: &Lowered) {
    let names = super::model::port_names(lowered);
    let list =
        |kind: &str, methods: &[String]| methods.iter().map(|m| port_static(kind, m)).collect::<Vec<_>>().join(", ");
    let hash: Vec<String> = lowered.model_hash.iter().map(|b| format!("0x{b:02x}")).collect();
    lines!(out, "/// The same model as data, for the executor. What nothing names takes no flash.");
    lines!(out, "#[allow(dead_code)]");
    lines!(out, "pub static PLAN: plan::Plan<'static> = plan::Plan {{");
    lines!(out, "    version: plan::PLAN_VERSION,");
    lines!(out, "    name: {:?},", lowered.name);
    lines!(out, "    model_hash: [");
    for row in hash.chunks(15) {
        lines!(out, "        {},", row.join(", "));
    }
    lines!(out, "    ],");
    lines!(out, "    arena_bytes: {},", lowered.arena_bytes);
    lines!(out, "    state: None,");
    lines!(out, "    inputs: &[{}],", list("INPUT", &names.inputs));
    match &lowered.indices[..] {
        [] => lines!(out, "    indices: &[],"),
        [(name, count)] => {
            lines!(out, "    indices: &[plan::Index {{");
            lines!(out, "        name: {name:?},");
            lines!(out, "        count: {count},");
            lines!(out, "    }}],");
        }
        several => {
            lines!(out, "    indices: &[");
            for (name, count) in several {
                lines!(out, "        plan::Index {{");
                lines!(out, "            name: {name:?},");
                lines!(out, "            count: {count},");
                lines!(out, "        }},");
            }
            lines!(out, "    ],");
        }
    }
    lines!(out, "    outputs: &[{}],", list("OUTPUT", &names.outputs));
    lines!(out, "    graphs: &[plan::Graph {{");
    lines!(out, "        name: {:?},", Lowered::ENTRY);
    lines!(out, "        first: 0,");
    lines!(out, "        len: {},", lowered.steps.len());
    lines!(out, "        iterations: 1,");
    lines!(out, "    }}],");
    lines!(out, "    steps: &[");
    for (i, step) in lowered.steps.iter().enumerate() {
        let variant = type_name(&step.kernel);
        lines!(out, "        plan::Step::{variant}(STEP_{i}),");
    }
    lines!(out, "    ],");
    lines!(out, "    exactness: plan::Exactness::Exact,");
    lines!(out, "}};");
    lines!(out, "");
    lines!(
        out,
        "// Proved here: every tensor inside the arena, written before it is read, and not overwritten between."
    );
    lines!(out, "#[allow(long_running_const_eval)]");
    lines!(out, "const _: () = assert!(");
    lines!(out, "    PLAN.check().is_ok(),");
    lines!(out, "    \"this runtime refuses the plan: build the model again\"");
    lines!(out, ");");
}

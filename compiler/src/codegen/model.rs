//! The typed model: index types, `Model`, its ports and its straight line of kernel calls.

use super::{lines, names, one_line, steps::port_static};
use crate::lower::{Kernel, Lowered, LoweredPort};
use flowlet_plan::RowKey;
use std::fmt::Write;

/// Names of methods that a port cannot have.
const TAKEN: &[&str] = &["new", "generate", "start", "step", "arena", "next"];

/// Takes the number out of an index type.
const NUMBER: &str = ".0 as usize";

/// Methods of the ports and of the index inputs, in order.
pub(super) struct PortNames {
    pub(super) inputs: Vec<String>,
    pub(super) outputs: Vec<String>,
    pub(super) indices: Vec<String>,
}

pub(super) fn port_names(lowered: &Lowered) -> PortNames {
    let all = lowered.inputs.iter().chain(&lowered.outputs).map(|p| &p.name);
    let all = all.chain(lowered.indices.iter().map(|(name, _)| name));
    let mut inputs = names::distinct(all.map(|name| method(name)), TAKEN);
    let mut outputs = inputs.split_off(lowered.inputs.len());
    let indices = outputs.split_off(lowered.outputs.len());
    PortNames { inputs, outputs, indices }
}

/// Name of the method of a port; never one that belongs to another port's.
fn method(name: &str) -> String {
    let snake = names::snake(name);
    let derived = ["write_", "read_", "fill_"].iter().any(|p| snake.starts_with(p)) || snake.ends_with("_pixels");
    if derived { format!("port_{}", snake.replace("_pixels", "_values")) } else { snake }
}

/// Name of the type of an index input; never one that the file uses itself.
fn index_type(method: &str) -> String {
    let name = names::camel(method);
    if ["Model", "Aligned", "Self"].contains(&name.as_str()) { format!("{name}Index") } else { name }
}

pub(super) fn indices(out: &mut String, lowered: &Lowered) {
    for ((name, count), method) in lowered.indices.iter().zip(port_names(lowered).indices) {
        let ty = index_type(&method);
        let word = if *count <= 256 { "u8" } else { "u16" };
        let labels: Vec<&str> = match lowered.meta(&format!("labels.{name}")) {
            Some(text) => text.split(',').collect(),
            None => Vec::new(),
        };
        lines!(out, "/// The input `{}`, one of {count} values.", one_line(name));
        lines!(out, "#[derive(Clone, Copy, Debug, PartialEq, Eq)]");
        lines!(out, "pub struct {ty}({word});");
        lines!(out, "");
        lines!(out, "#[allow(dead_code)]");
        lines!(out, "impl {ty} {{");
        lines!(out, "    /// Number of values.");
        lines!(out, "    pub const COUNT: u16 = {count};");
        lines!(out, "");
        if labels.len() == usize::from(*count) {
            label_names(out, &ty, &labels);
        }
        lines!(out, "    /// The value with this number, if it is less than [`Self::COUNT`].");
        lines!(out, "    pub const fn new(number: u16) -> Option<Self> {{");
        lines!(out, "        if number < Self::COUNT {{");
        let cast = if word == "u8" { "number as u8" } else { "number" };
        lines!(out, "            Some(Self({cast}))");
        lines!(out, "        }} else {{");
        lines!(out, "            None");
        lines!(out, "        }}");
        lines!(out, "    }}");
        lines!(out, "");
        lines!(out, "    /// The number.");
        lines!(out, "    pub const fn number(self) -> u16 {{");
        lines!(out, "        {}", if word == "u8" { "self.0 as u16" } else { "self.0" });
        lines!(out, "    }}");
        lines!(out, "}}");
        lines!(out, "");
    }
}

fn label_names(out: &mut String, ty: &str, labels: &[&str]) {
    let constants = names::distinct(labels.iter().map(|l| names::screaming(l)), &["COUNT"]);
    for (i, (label, constant)) in labels.iter().zip(constants).enumerate() {
        lines!(out, "    /// {}", one_line(label));
        lines!(out, "    pub const {constant}: {ty} = {ty}({i});");
    }
    lines!(out, "");
    lines!(out, "    /// What the value stands for.");
    lines!(out, "    pub const fn name(self) -> &'static str {{");
    lines!(out, "        match self.0 {{");
    for (i, label) in labels.iter().enumerate() {
        let pattern = if i + 1 == labels.len() { "_".to_owned() } else { i.to_string() };
        lines!(out, "            {pattern} => {label:?},");
    }
    lines!(out, "        }}");
    lines!(out, "    }}");
    lines!(out, "");
}

pub(super) fn model(out: &mut String, lowered: &Lowered) {
    let ports = port_names(lowered);
    lines!(out, "/// {} in the caller's memory.", one_line(&lowered.name));
    lines!(out, "///");
    lines!(
        out,
        "/// [`Model::generate`] runs a pass at once; [`Model::start`] and [`Model::step`] run it one kernel at"
    );
    lines!(out, "/// a time. A pass works in the memory of its inputs: write them before each.");
    lines!(out, "pub struct Model<'a> {{");
    lines!(out, "    arena: &'a mut [i8; ARENA_BYTES],");
    for method in &ports.indices {
        lines!(out, "    {method}: {},", index_type(method));
    }
    lines!(out, "    next: usize,");
    lines!(out, "}}");
    lines!(out, "");
    lines!(out, "#[allow(dead_code)]");
    lines!(out, "impl<'a> Model<'a> {{");
    new(out, lowered, &ports);
    for (number, (port, method)) in lowered.inputs.iter().zip(&ports.inputs).enumerate() {
        input(out, number, port, method);
    }
    run(out, lowered, &ports);
    for (port, method) in lowered.outputs.iter().zip(&ports.outputs) {
        output(out, port, method);
    }
    if out.ends_with("\n\n") {
        out.pop();
    }
    lines!(out, "}}");
    lines!(out, "");
    places(out);
}

fn new(out: &mut String, lowered: &Lowered, ports: &PortNames) {
    let bytes = lowered.arena_bytes;
    lines!(out, "    /// Places the model in an arena, of which it uses the first [`ARENA_BYTES`].");
    lines!(out, "    pub fn new<const N: usize>(arena: &'a mut flowlet::Arena<N>) -> Self {{");
    lines!(out, "        const {{");
    lines!(out, "            assert!(");
    lines!(out, "                N >= ARENA_BYTES,");
    lines!(out, "                \"the arena is too small: this model needs `Arena<{bytes}>`, its `ARENA_BYTES`\"");
    lines!(out, "            );");
    lines!(out, "        }}");
    lines!(out, "        Self {{");
    lines!(out, "            arena: place_mut::<N, 0, ARENA_BYTES>(arena.bytes()),");
    for method in &ports.indices {
        lines!(out, "            {method}: {}(0),", index_type(method));
    }
    lines!(out, "            next: {},", lowered.steps.len());
    lines!(out, "        }}");
    lines!(out, "    }}");
    lines!(out, "");
}

/// What a port holds: unit and dimensions.
fn describe(port: &LoweredPort) -> String {
    let s = &port.slot;
    let unit = if port.unit.is_empty() { String::new() } else { format!(" ({})", one_line(&port.unit)) };
    format!("`{}`{unit}, quantised, as [{}, {}, {}]", one_line(&port.name), s.height, s.width, s.channels)
}

fn place(port: &LoweredPort) -> String {
    format!("::<ARENA_BYTES, {}, {}>", port.slot.offset, port.slot.elements())
}

fn input(out: &mut String, number: usize, port: &LoweredPort, method: &str) {
    let (n, constant) = (port.slot.elements(), port_static("INPUT", method));
    lines!(out, "    /// The input {}.", describe(port));
    lines!(out, "    pub fn {method}(&mut self) -> &mut [i8; {n}] {{");
    lines!(out, "        place_mut{}(self.arena)", place(port));
    lines!(out, "    }}");
    lines!(out, "");
    lines!(out, "    /// Writes real numbers to the input `{}`.", one_line(&port.name));
    lines!(out, "    ///");
    lines!(out, "    /// # Errors");
    lines!(out, "    /// A number that is NaN or infinite, with its position; nothing is written then.");
    lines!(out, "    pub fn write_{method}(&mut self, values: &[f32; {n}]) -> Result<(), flowlet::RunError> {{");
    lines!(out, "        flowlet::port::write_f32(self.arena, &{constant}, values)");
    lines!(out, "    }}");
    lines!(out, "");
    if port.unit == "standard deviations" {
        lines!(
            out,
            "    /// Fills the input `{}` with Gaussian noise, the same on every machine.",
            one_line(&port.name)
        );
        lines!(out, "    pub fn fill_{method}(&mut self, seed: u64) {{");
        lines!(out, "        let (scale, zero_point) = ({constant}.inverse_scale, {constant}.quant.zero_point);");
        lines!(out, "        kernels::noise::fill_s8(self.{method}(), seed, {number}, scale, zero_point);");
        lines!(out, "    }}");
        lines!(out, "");
    }
}

/// The call of step `i`, which finds index inputs under `indices`; `number` takes their value out.
pub(super) fn call(lowered: &Lowered, i: usize, indices: &[String], number: &str) -> String {
    let step = &lowered.steps[i];
    let row = match step.kernel.row() {
        None => String::new(),
        Some(RowKey::Fixed | RowKey::Iteration) => ", 0".to_owned(),
        Some(RowKey::Index(n)) => format!(", {}{number}", indices[usize::from(n)]),
    };
    let function = match step.kernel {
        Kernel::ConvTranspose(_) => "conv::run_transpose".to_owned(),
        Kernel::Conv(_)
        | Kernel::MatMul(_)
        | Kernel::Add { .. }
        | Kernel::Mul(_)
        | Kernel::Map { .. }
        | Kernel::Softmax { .. }
        | Kernel::Norm(_)
        | Kernel::Pool { .. }
        | Kernel::Shuffle { .. }
        | Kernel::Transpose => format!("{}::run", step.kernel.name()),
    };
    format!("kernels::{function}(arena, &STEP_{i}{row})")
}

fn run(out: &mut String, lowered: &Lowered, ports: &PortNames) {
    let arguments: String = ports.indices.iter().map(|m| format!(", {m}: {}", index_type(m))).collect();
    let arena = if lowered.steps.is_empty() { "" } else { "        let arena = &mut self.arena[..];\n" };
    let result = match (&lowered.outputs[..], &ports.outputs[..]) {
        ([port], [method]) => Some((port.slot.elements(), method)),
        _ => None,
    };
    lines!(out, "    /// Runs a pass.");
    match result {
        Some((n, _)) => lines!(out, "    pub fn generate(&mut self{arguments}) -> &[i8; {n}] {{"),
        None => lines!(out, "    pub fn generate(&mut self{arguments}) {{"),
    }
    out.push_str(arena);
    for i in 0..lowered.steps.len() {
        lines!(out, "        {};", call(lowered, i, &ports.indices, NUMBER));
    }
    if let Some((_, method)) = result {
        lines!(out, "        self.{method}()");
    }
    lines!(out, "    }}");
    lines!(out, "");
    lines!(out, "    /// Begins a pass that [`Model::step`] continues.");
    lines!(out, "    pub fn start(&mut self{arguments}) {{");
    for method in &ports.indices {
        lines!(out, "        self.{method} = {method};");
    }
    lines!(out, "        self.next = 0;");
    lines!(out, "    }}");
    lines!(out, "");
    lines!(out, "    /// Runs the next kernel of the pass, or nothing if none is under way.");
    lines!(out, "    pub fn step(&mut self) -> flowlet::Progress {{");
    out.push_str(arena);
    lines!(out, "        match self.next {{");
    let own: Vec<String> = ports.indices.iter().map(|m| format!("self.{m}")).collect();
    for i in 0..lowered.steps.len() {
        lines!(out, "            {i} => {},", call(lowered, i, &own, NUMBER));
    }
    lines!(out, "            _ => return flowlet::Progress::Done,");
    lines!(out, "        }}");
    lines!(out, "        self.next += 1;");
    lines!(out, "        if self.next < {} {{", lowered.steps.len());
    lines!(out, "            flowlet::Progress::Pending");
    lines!(out, "        }} else {{");
    lines!(out, "            flowlet::Progress::Done");
    lines!(out, "        }}");
    lines!(out, "    }}");
    lines!(out, "");
}

fn output(out: &mut String, port: &LoweredPort, method: &str) {
    let (n, constant) = (port.slot.elements(), port_static("OUTPUT", method));
    lines!(out, "    /// The output {}.", describe(port));
    lines!(out, "    pub fn {method}(&self) -> &[i8; {n}] {{");
    lines!(out, "        place{}(self.arena)", place(port));
    lines!(out, "    }}");
    lines!(out, "");
    lines!(out, "    /// Reads the output `{}` as real numbers.", one_line(&port.name));
    lines!(out, "    pub fn read_{method}(&self, values: &mut [f32; {n}]) {{");
    lines!(out, "        let quant = {constant}.quant;");
    lines!(out, "        for (x, &q) in values.iter_mut().zip(self.{method}()) {{");
    lines!(out, "            *x = kernels::port::dequantise(q, quant.scale, quant.zero_point);");
    lines!(out, "        }}");
    lines!(out, "    }}");
    lines!(out, "");
    let is_pixel = (port.quant.scale * 255.0 - 1.0).abs() < 1e-5 && port.quant.zero_point == -128;
    if is_pixel && port.unit.starts_with("intensity") {
        lines!(out, "    /// The output `{}` as pixels, 0 to 255.", one_line(&port.name));
        lines!(out, "    pub fn {method}_pixels(&self) -> impl ExactSizeIterator<Item = u8> + '_ {{");
        lines!(out, "        self.{method}().iter().map(|&q| q as u8 ^ 0x80)");
        lines!(out, "    }}");
        lines!(out, "");
    }
}

/// Accessors of a part of the arena whose bounds are known when the code is compiled.
fn places(out: &mut String) {
    out.push_str(
        "#[inline(always)]
fn place<const N: usize, const AT: usize, const LEN: usize>(arena: &[i8; N]) -> &[i8; LEN] {
    const { assert!(AT + LEN <= N) };
    match arena.split_at(AT).1.first_chunk() {
        Some(place) => place,
        None => unreachable!(),
    }
}

#[inline(always)]
fn place_mut<const N: usize, const AT: usize, const LEN: usize>(
    arena: &mut [i8; N],
) -> &mut [i8; LEN] {
    const { assert!(AT + LEN <= N) };
    match arena.split_at_mut(AT).1.first_chunk_mut() {
        Some(place) => place,
        None => unreachable!(),
    }
}

",
    );
}

//! A program as Rust: one module a network over shared weights, the program as data, and a type that holds both.

use super::{Generated, Options, grouped, lines, names, one_line, steps};
use crate::lower::Lowered;
use crate::program::LoweredProgram;
use flowlet_plan::program::{Image, Instruction, Number, Place, Program, Role, Row, Transfer, View};
use std::fmt::Write;

/// Prints a lowered program.
pub fn generate(lowered: &LoweredProgram, options: &Options) -> Generated {
    let mut out = String::new();
    header(&mut out, lowered);
    let modules = names::distinct(lowered.program.nets.iter().map(|n| names::snake(&n.name)), &["kernels", "plan"]);
    if let Some(first) = lowered.nets.first() {
        super::weights_static(&mut out, first, options);
    }
    steps::helpers(&mut out, &lowered.nets);
    for (net, module) in lowered.nets.iter().zip(&modules) {
        network(&mut out, net, module);
    }
    lowered.with_program(|program| {
        data(&mut out, &program, &modules, lowered);
        model(&mut out, &program, &modules);
    });
    Generated { source: out, weights: lowered.weights().to_vec(), weights_file: options.weights_file.clone() }
}

fn header(out: &mut String, lowered: &LoweredProgram) {
    let program = &lowered.program;
    let hash: String = lowered.hash.iter().map(|b| format!("{b:02x}")).collect();
    let target = lowered.nets.first().map_or("any target", |net| net.target.name.as_ref());
    lines!(
        out,
        "// {}, a program lowered for {target} by flowlet {}.",
        one_line(&program.name),
        env!("CARGO_PKG_VERSION")
    );
    lines!(out, "// Generated: change the program and build again, not this file.");
    lines!(out, "//");
    lines!(out, "// program {hash}");
    let calls: Vec<String> =
        program.entries.iter().map(|e| format!("{} {}", e.name, program.evaluations(&e.name))).collect();
    lines!(out, "// network passes: {}", calls.join(", "));
    let rows = [
        (lowered.arena_bytes(), "bytes of RAM for the networks' arena"),
        (4 * lowered.words, "bytes of RAM for lanes"),
        (lowered.held_bytes, "bytes of RAM for held tensors"),
        (lowered.weights().len(), "bytes of flash for the weights of all networks"),
        (4 * lowered.constants.len(), "bytes of flash for the program's constants"),
    ];
    let width = rows.iter().map(|(n, _)| grouped(*n as u64).len()).max().unwrap_or(0);
    for (number, what) in rows {
        lines!(out, "// {:>width$} {what}", grouped(number as u64));
    }
    lines!(out, "//");
    lines!(out, "// The authors of flowlet claim no rights in this file. The weights are the model author's.");
    lines!(out, "");
    lines!(out, "use flowlet::plan::program;");
    lines!(out, "use flowlet::{{kernels, plan}};");
    lines!(out, "");
    if let Some(first) = lowered.nets.first() {
        super::target_guards(out, first);
    }
    lines!(out, "/// Bytes of RAM that the networks share.");
    lines!(out, "pub const ARENA_BYTES: usize = {};", lowered.arena_bytes());
    lines!(out, "/// f32 words of RAM for lanes.");
    lines!(out, "pub const WORDS: usize = {};", lowered.words);
    lines!(out, "/// Bytes of RAM for held tensors.");
    lines!(out, "pub const HELD_BYTES: usize = {};", lowered.held_bytes);
    lines!(out, "");
}

fn network(out: &mut String, net: &Lowered, module: &str) {
    let mut body = String::new();
    let ports = super::model::port_names(net);
    let list = |kind: &str, methods: &[String]| {
        methods.iter().map(|m| steps::port_static(kind, m)).collect::<Vec<_>>().join(", ")
    };
    lines!(body, "#[allow(unused_imports)]");
    lines!(body, "use super::*;");
    lines!(body, "");
    steps::ports(&mut body, net);
    for (name, kind, methods) in [("INPUTS", "INPUT", &ports.inputs), ("OUTPUTS", "OUTPUT", &ports.outputs)] {
        lines!(body, "pub(super) static {name}: [plan::Port<'static>; {}] = [{}];", methods.len(), list(kind, methods));
    }
    lines!(body, "");
    steps::steps(&mut body, net);
    lines!(body, "pub(super) fn pass(arena: &mut [i8; ARENA_BYTES], [row, twin]: [u16; program::INDICES]) {{");
    lines!(body, "    let (row, twin) = (usize::from(row), usize::from(twin));");
    lines!(body, "    let _ = (row, twin);");
    lines!(body, "    let arena = &mut arena[..];");
    for i in 0..net.steps.len() {
        lines!(body, "    {};", super::model::call(net, i, &["row".to_owned(), "twin".to_owned()], ""));
    }
    lines!(body, "}}");
    lines!(out, "/// The network `{}`.", one_line(&net.name));
    lines!(out, "#[rustfmt::skip]");
    lines!(out, "mod {module} {{");
    for line in body.lines() {
        if line.is_empty() {
            lines!(out, "");
        } else {
            lines!(out, "    {line}");
        }
    }
    lines!(out, "}}");
    lines!(out, "");
}

fn view(v: &View) -> String {
    format!("program::View {{ first: {}, len: {}, per_round: {} }}", v.first, v.len, v.per_round)
}

fn number(n: &Number) -> String {
    format!("program::Number {{ at: {}, per_round: {} }}", n.at, n.per_round)
}

fn place(p: &Place) -> String {
    match p {
        Place::Words(v) => format!("program::Place::Words({})", view(v)),
        Place::Held(v) => format!("program::Place::Held({})", view(v)),
    }
}

fn image(i: &Image) -> String {
    format!("program::Image {{ height: {}, width: {}, channels: {} }}", i.height, i.width, i.channels)
}

fn transfers(list: &[Transfer]) -> String {
    let one = |t: &Transfer| format!("program::Transfer {{ port: {}, place: {} }}", t.port, place(&t.place));
    format!("&[{}]", list.iter().map(one).collect::<Vec<_>>().join(", "))
}

fn instruction(i: &Instruction<'_>) -> String {
    let (name, fields): (&str, Vec<(&str, String)>) = match i {
        Instruction::Call { net, reads, rows, writes } => {
            let row = |Row { base, per_round, label }: &Row| {
                format!("program::Row {{ base: {base}, per_round: {per_round}, label: {label} }}")
            };
            let rows = format!("[{}]", rows.iter().map(row).collect::<Vec<_>>().join(", "));
            let fields = vec![
                ("net", net.to_string()),
                ("reads", transfers(reads)),
                ("rows", rows),
                ("writes", transfers(writes)),
            ];
            ("Call", fields)
        }
        Instruction::Combine { out, terms } => {
            let term = |t: &flowlet_plan::program::Term| {
                format!("program::Term {{ factor: {}, of: {} }}", number(&t.factor), view(&t.of))
            };
            let terms = format!("&[{}]", terms.iter().map(term).collect::<Vec<_>>().join(", "));
            ("Combine", vec![("out", view(out)), ("terms", terms)])
        }
        Instruction::Product { out, a, b } => ("Product", vec![("out", view(out)), ("a", view(a)), ("b", view(b))]),
        Instruction::Matrix { out, of, matrix } => {
            ("Matrix", vec![("out", view(out)), ("of", view(of)), ("matrix", number(matrix))])
        }
        Instruction::Average { out, of, image: i, factor } => {
            let fields =
                vec![("out", view(out)), ("of", view(of)), ("image", image(i)), ("factor", factor.to_string())];
            ("Average", fields)
        }
        Instruction::Repeat { out, of, image: i, factor } => {
            let fields =
                vec![("out", view(out)), ("of", view(of)), ("image", image(i)), ("factor", factor.to_string())];
            ("Repeat", fields)
        }
        Instruction::Blur { out, of, image: i, kernel, radius } => (
            "Blur",
            vec![
                ("out", view(out)),
                ("of", view(of)),
                ("image", image(i)),
                ("kernel", number(kernel)),
                ("radius", radius.to_string()),
            ],
        ),
        Instruction::Noise { out, first, per_round } => {
            ("Noise", vec![("out", view(out)), ("first", first.to_string()), ("per_round", per_round.to_string())])
        }
        Instruction::Dot { out, a, b } => ("Dot", vec![("out", view(out)), ("a", view(a)), ("b", view(b))]),
        Instruction::Select { out, when, yes, no } => {
            ("Select", vec![("out", view(out)), ("when", view(when)), ("yes", view(yes)), ("no", view(no))])
        }
    };
    let fields: Vec<String> = fields.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    format!("program::Instruction::{name} {{ {} }}", fields.join(", "))
}

fn data(out: &mut String, program: &Program<'_>, modules: &[String], lowered: &LoweredProgram) {
    lines!(out, "#[rustfmt::skip]");
    lines!(out, "static CONSTANTS: [f32; {}] = [", program.constants.len());
    for row in program.constants.chunks(8) {
        let row: Vec<String> = row.iter().map(|v| format!("{v:?}")).collect();
        lines!(out, "    {},", row.join(", "));
    }
    lines!(out, "];");
    lines!(out, "");
    lines!(out, "/// The program as data.");
    lines!(out, "#[rustfmt::skip]");
    lines!(out, "pub static PROGRAM: program::Program<'static> = program::Program {{");
    lines!(out, "    version: plan::PLAN_VERSION,");
    lines!(out, "    name: {:?},", program.name);
    lines!(out, "    words: WORDS as u32,");
    lines!(out, "    held_bytes: HELD_BYTES as u32,");
    lines!(out, "    labels: {},", program.labels);
    lines!(out, "    constants: &CONSTANTS,");
    lines!(out, "    nets: &[");
    for (net, module) in program.nets.iter().zip(modules) {
        lines!(
            out,
            "        program::Net {{ name: {:?}, inputs: &{module}::INPUTS, outputs: &{module}::OUTPUTS, rows: {} }},",
            net.name,
            net.rows
        );
    }
    lines!(out, "    ],");
    lines!(out, "    lanes: &[");
    for lane in program.lanes {
        let role = match lane.role {
            Role::Input => "Input",
            Role::Output => "Output",
            Role::State => "State",
            Role::Kept => "Kept",
        };
        lines!(
            out,
            "        program::Lane {{ name: {:?}, place: {}, role: program::Role::{role}, unit: {:?} }},",
            lane.name,
            place(&lane.place),
            lane.unit
        );
    }
    lines!(out, "    ],");
    lines!(out, "    entries: &[");
    let text = crate::program::text::print(&lowered.program);
    let mut source = text.lines().filter(|line| line.starts_with("    "));
    for entry in program.entries {
        lines!(out, "        program::Entry {{");
        lines!(out, "            name: {:?},", entry.name);
        lines!(out, "            needs: {:#x},", entry.needs);
        lines!(out, "            gives: {:#x},", entry.gives);
        lines!(out, "            blocks: &[");
        for block in entry.blocks {
            lines!(out, "                program::Block {{");
            lines!(out, "                    rounds: {},", block.rounds);
            lines!(out, "                    code: &[");
            for i in block.code {
                lines!(out, "                        // {}", one_line(source.next().unwrap_or("").trim()));
                lines!(out, "                        {},", instruction(i));
            }
            lines!(out, "                    ],");
            lines!(out, "                }},");
        }
        lines!(out, "            ],");
        lines!(out, "        }},");
    }
    lines!(out, "    ],");
    lines!(out, "}};");
    lines!(out, "");
    lines!(out, "// Proved here: every operand inside memory, constants and tables, and of the right size.");
    lines!(out, "#[allow(long_running_const_eval)]");
    lines!(out, "static CHECKED: program::CheckedProgram<'static> = match PROGRAM.check() {{");
    lines!(out, "    Ok(checked) => checked,");
    lines!(out, "    Err(_) => panic!(\"this runtime refuses the program: build it again\"),");
    lines!(out, "}};");
    lines!(out, "");
}

fn model(out: &mut String, program: &Program<'_>, modules: &[String]) {
    out.push_str(
        "/// Memory of the program; zero at the start, so it may lie where nothing is loaded.
pub struct Memory {
    arena: flowlet::Arena<ARENA_BYTES>,
    words: [f32; WORDS],
    held: [i8; HELD_BYTES],
}

#[allow(dead_code)]
impl Memory {
    /// Zeroed memory.
    pub const fn new() -> Self {
        Self { arena: flowlet::Arena::new(), words: [0.0; WORDS], held: [0; HELD_BYTES] }
    }
}

/// The networks in their arena.
struct Networks<'a> {
    arena: &'a mut [i8; ARENA_BYTES],
}

impl flowlet::program::Nets for Networks<'_> {
    fn call(
        &mut self,
        net: usize,
        rows: [u16; program::INDICES],
        operands: &mut flowlet::program::Operands<'_>,
    ) -> Result<(), flowlet::RunError> {
        let _ = (rows, &operands, &self.arena);
        match net {
",
    );
    for (number, module) in modules.iter().enumerate() {
        lines!(out, "            {number} => {{");
        lines!(out, "                operands.write_to(self.arena, &{module}::INPUTS)?;");
        lines!(out, "                {module}::pass(self.arena, rows);");
        lines!(out, "                operands.read_from(self.arena, &{module}::OUTPUTS)");
        lines!(out, "            }}");
    }
    out.push_str(
        "            _ => Ok(()),
        }
    }
}

/// The program in the caller's memory.
pub struct Model<'a> {
    networks: Networks<'a>,
    runner: flowlet::program::Runner<'static, 'a>,
}

#[allow(dead_code)]
impl<'a> Model<'a> {
    /// Places the program in memory and resets its state.
    ///
    /// # Errors
    /// None that this memory can give.
    pub fn new(memory: &'a mut Memory) -> Result<Self, flowlet::RunError> {
        let arena = match memory.arena.bytes().first_chunk_mut() {
            Some(arena) => arena,
            None => return Err(flowlet::RunError::ArenaTooSmall { need_bytes: ARENA_BYTES, have_bytes: 0 }),
        };
        let runner = flowlet::program::Runner::new(CHECKED, &mut memory.words, &mut memory.held)?;
        Ok(Self { networks: Networks { arena }, runner })
    }

    /// Runs an entry point by its name or number; `seed` is that of its noise.
    ///
    /// # Errors
    /// An unknown entry point, or a lane that it reads and nobody has written.
    pub fn run<'k>(&mut self, entry: impl Into<flowlet::Key<'k>>, seed: u64) -> Result<(), flowlet::RunError> {
        self.runner.run(&mut self.networks, entry, seed)
    }

    /// Lanes, labels and reset.
    pub fn lanes(&mut self) -> &mut flowlet::program::Runner<'static, 'a> {
        &mut self.runner
    }

",
    );
    let entries = names::distinct(program.entries.iter().map(|e| names::snake(e.name)), &["new", "lanes", "run"]);
    for (number, (entry, method)) in program.entries.iter().zip(&entries).enumerate() {
        lines!(out, "    /// Runs the entry point `{}`; `seed` is that of its noise.", one_line(entry.name));
        lines!(out, "    ///");
        lines!(out, "    /// # Errors");
        lines!(out, "    /// A lane that it reads and nobody has written.");
        lines!(out, "    pub fn {method}(&mut self, seed: u64) -> Result<(), flowlet::RunError> {{");
        lines!(out, "        self.runner.run(&mut self.networks, {number}, seed)");
        lines!(out, "    }}");
        lines!(out, "");
    }
    if out.ends_with("\n\n") {
        out.pop();
    }
    lines!(out, "}}");
}

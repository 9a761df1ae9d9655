//! A program bound to its lowered networks: places in memory, constants in one list, ports with scales.

use super::verify::needs_and_gives;
use super::{At, Instruction, LaneKind, Num, Program, ProgramError, verify};
use crate::ir::{Def, Graph, InputKind, ValueId};
use crate::lower::{LowerError, Lowered, LoweredPort, lower_all};
use crate::target::Target;
use flowlet_plan::program as plan;
use flowlet_plan::{DType, PLAN_VERSION, Port, Quant, Slot};

/// A program and its networks, lowered for one target.
#[derive(Clone, Debug)]
pub struct LoweredProgram {
    /// The program.
    pub program: Program,
    /// SHA-256 of the program file.
    pub hash: [u8; 32],
    /// Its networks; all hold the same weights, in which equal constants are stored once. Empty for f32 networks.
    pub nets: Vec<Lowered>,
    /// Ports of each network.
    ports: Vec<Ports>,
    /// Words of memory.
    pub words: usize,
    /// Bytes of held tensors.
    pub held_bytes: usize,
    /// Numbers of the instructions.
    pub constants: Vec<f32>,
    /// First element of each lane, in words or held bytes.
    places: Vec<usize>,
    /// First number of each bank.
    banks: Vec<usize>,
}

/// Ports of a network.
#[derive(Clone, Debug)]
struct Ports {
    inputs: Vec<LoweredPort>,
    outputs: Vec<LoweredPort>,
}

/// Why a program could not be lowered.
#[derive(Debug)]
#[non_exhaustive]
pub enum ProgramLowerError {
    /// It does not fit its networks, or itself.
    Program(ProgramError),
    /// A network cannot be lowered.
    Net {
        /// The program's name for it.
        name: String,
        /// Why.
        error: LowerError,
    },
}

impl std::fmt::Display for ProgramLowerError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ProgramLowerError::Program(error) => error.fmt(f),
            ProgramLowerError::Net { name, error } => write!(f, "network '{name}': {error}"),
        }
    }
}

impl std::error::Error for ProgramLowerError {}

impl From<ProgramError> for ProgramLowerError {
    fn from(error: ProgramError) -> Self {
        ProgramLowerError::Program(error)
    }
}

/// Lowers a program and its quantised networks, one graph for each in order.
///
/// # Errors
/// A network that is missing or whose ports are not those that the program expects, a held tensor between ports of
/// different scales, or a network that cannot be lowered.
pub fn lower(
    program: &Program,
    hash: [u8; 32],
    graphs: &[Graph],
    target: &Target,
) -> Result<LoweredProgram, ProgramLowerError> {
    verify(program)?;
    fit(program, graphs)?;
    let nets = lower_all(graphs, hash, target).map_err(|(net, error)| {
        let name = program.nets.get(net).map_or_else(String::new, |n| n.name.clone());
        ProgramLowerError::Net { name, error }
    })?;
    let ports: Vec<Ports> =
        nets.iter().map(|net| Ports { inputs: net.inputs.clone(), outputs: net.outputs.clone() }).collect();
    let rows: Vec<Vec<(String, usize)>> = nets
        .iter()
        .map(|net| net.indices.iter().map(|(name, count)| (name.clone(), usize::from(*count))).collect())
        .collect();
    place(program, hash, nets, ports, &rows)
}

/// Binds a program to f32 networks, for hosts: they run in the interpreter, so there is nothing to lower.
///
/// # Errors
/// A network that is missing or whose ports are not those that the program expects.
pub fn float(program: &Program, graphs: &[Graph]) -> Result<LoweredProgram, ProgramLowerError> {
    verify(program)?;
    fit(program, graphs)?;
    let port = |graph: &Graph, id: ValueId| {
        let value = graph.value(id);
        let side = |n: usize| u16::try_from(n).unwrap_or(u16::MAX);
        let (height, width, channels) = match value.ty.dims[..] {
            [_, c, h, w] => (h, w, c),
            [_, c, n] => (1, n, c),
            ref dims => (1, 1, dims.iter().product()),
        };
        let (height, width, channels) = (side(height), side(width), side(channels));
        let slot = Slot { offset: 0, height, width, channels, pitch: channels, dtype: DType::F32, tensor: 0 };
        LoweredPort { name: value.name.clone(), slot, quant: Quant { scale: 1.0, zero_point: 0 }, unit: String::new() }
    };
    let index = |graph: &Graph, id: ValueId| match graph.value(id).def {
        Def::Input(InputKind::Index { count }) => Some((graph.value(id).name.clone(), count)),
        Def::Input(InputKind::Tensor) | Def::Const(_) | Def::Node => None,
    };
    let mut ports = Vec::new();
    let mut rows = Vec::new();
    for graph in graphs {
        let tensors = graph.inputs.iter().filter(|&&id| index(graph, id).is_none());
        ports.push(Ports {
            inputs: tensors.map(|&id| port(graph, id)).collect(),
            outputs: graph.outputs.iter().map(|&id| port(graph, id)).collect(),
        });
        rows.push(graph.inputs.iter().filter_map(|&id| index(graph, id)).collect());
    }
    place(program, [0; 32], Vec::new(), ports, &rows)
}

fn place(
    program: &Program,
    hash: [u8; 32],
    nets: Vec<Lowered>,
    ports: Vec<Ports>,
    rows: &[Vec<(String, usize)>],
) -> Result<LoweredProgram, ProgramLowerError> {
    for ((net, ports), rows) in program.nets.iter().zip(&ports).zip(rows) {
        ports_fit(net, ports, rows)?;
    }
    held_scales(program, &ports)?;
    let (mut words, mut held_bytes) = (0, 0);
    let mut places = Vec::with_capacity(program.lanes.len());
    for lane in &program.lanes {
        // f32 networks hold no bytes: what is held between them is words.
        let bytes = lane.kind == LaneKind::Held && !nets.is_empty();
        let memory = if bytes { &mut held_bytes } else { &mut words };
        places.push(*memory);
        *memory += lane.len * lane.frames;
    }
    let mut constants = Vec::new();
    let mut banks = Vec::with_capacity(program.banks.len());
    for bank in &program.banks {
        banks.push(constants.len());
        constants.extend(&bank.values);
    }
    let limit = |what: &str| ProgramError {
        place: format!("program '{}'", program.name),
        message: format!("it needs more {what} than a plan can count"),
    };
    if words > u32::MAX as usize || held_bytes > u32::MAX as usize || constants.len() > u32::MAX as usize {
        return Err(limit("memory").into());
    }
    let lowered =
        LoweredProgram { program: program.clone(), hash, nets, ports, words, held_bytes, constants, places, banks };
    match lowered.with_program(|program| program.check().map(|_| ())) {
        Ok(()) => Ok(lowered),
        Err(error) => Err(super::verify::error("lowering", format!("defect: {error}; please report it")).into()),
    }
}

/// Whether there is a graph for each network, under its name.
fn fit(program: &Program, graphs: &[Graph]) -> Result<(), ProgramError> {
    let found: Vec<&str> = graphs.iter().map(|g| g.name.as_str()).collect();
    let wanted: Vec<&str> = program.nets.iter().map(|n| n.name.as_str()).collect();
    if found == wanted {
        return Ok(());
    }
    Err(super::verify::error(
        format!("program '{}'", program.name),
        format!("it calls the networks [{}] and the graphs are [{}]", wanted.join(", "), found.join(", ")),
    ))
}

fn ports_fit(net: &super::Net, ports: &Ports, indices: &[(String, usize)]) -> Result<(), ProgramError> {
    let place = || format!("network '{}'", net.name);
    let wanted = if net.rows == 0 { 0 } else { 1 + usize::from(net.twin) };
    if indices.len() != wanted || indices.iter().any(|(_, count)| *count != net.rows) {
        let message = format!(
            "the program chooses {wanted} of {} rows and the graph has index inputs of [{}] values",
            net.rows,
            indices.iter().map(|(name, n)| format!("{name}: {n}")).collect::<Vec<_>>().join(", ")
        );
        return Err(super::verify::error(place(), message));
    }
    for (what, wanted, found) in [("inputs", &net.inputs, &ports.inputs), ("outputs", &net.outputs, &ports.outputs)] {
        let found: Vec<(String, usize)> = found.iter().map(|p| (p.name.clone(), p.slot.elements())).collect();
        if *wanted != found {
            return Err(super::verify::error(
                place(),
                format!("the program expects the {what} {wanted:?} and the graph has {found:?}"),
            ));
        }
    }
    Ok(())
}

/// Bytes that one port wrote are read by another in the same scale.
fn held_scales(program: &Program, nets: &[Ports]) -> Result<(), ProgramError> {
    for (number, lane) in program.lanes.iter().enumerate().filter(|(_, l)| l.kind == LaneKind::Held) {
        let mut first: Option<(String, &LoweredPort)> = None;
        for instruction in program.entries.iter().flat_map(|e| &e.blocks).flat_map(|b| &b.code) {
            let Instruction::Call { net, reads, writes, .. } = instruction else { continue };
            let own = &nets[*net];
            let ports = reads.iter().map(|t| (t, &own.inputs)).chain(writes.iter().map(|t| (t, &own.outputs)));
            for ((port, at), list) in ports {
                if at.lane != number {
                    continue;
                }
                let port = &list[*port];
                let name = format!("'{}' of '{}'", port.name, program.nets[*net].name);
                match &first {
                    None => first = Some((name, port)),
                    Some((_, known)) if known.quant == port.quant => {}
                    Some((other, known)) => {
                        let show = |p: &LoweredPort| format!("{:?}, zero point {}", p.quant.scale, p.quant.zero_point);
                        return Err(super::verify::error(
                            format!("lane '{}'", lane.name),
                            format!(
                                "{other} has scale {} and {name} has {}: quantise both networks with one range for it, or carry it as words",
                                show(known),
                                show(port)
                            ),
                        ));
                    }
                }
            }
        }
    }
    Ok(())
}

/// A network's ports as the plan holds them.
struct BoundNet<'l> {
    inputs: Vec<Port<'l>>,
    outputs: Vec<Port<'l>>,
}

/// An instruction's lists, which the plan borrows.
struct Lists {
    reads: Vec<plan::Transfer>,
    writes: Vec<plan::Transfer>,
    terms: Vec<plan::Term>,
}

impl LoweredProgram {
    /// Calls `f` with the program as the runtime takes it.
    pub fn with_program<R>(&self, f: impl FnOnce(plan::Program<'_>) -> R) -> R {
        let bound: Vec<BoundNet<'_>> = self
            .ports
            .iter()
            .map(|net| BoundNet {
                inputs: net.inputs.iter().map(LoweredPort::borrow).collect(),
                outputs: net.outputs.iter().map(LoweredPort::borrow).collect(),
            })
            .collect();
        let nets: Vec<plan::Net<'_>> = self
            .program
            .nets
            .iter()
            .zip(&bound)
            .map(|(net, bound)| plan::Net {
                name: &net.name,
                inputs: &bound.inputs,
                outputs: &bound.outputs,
                rows: net.rows as u16,
            })
            .collect();
        let lanes = self.lanes();
        let lanes: Vec<plan::Lane<'_>> = lanes
            .iter()
            .map(|(number, place, role)| {
                let lane = &self.program.lanes[*number];
                plan::Lane { name: &lane.name, place: *place, role: *role, unit: &lane.unit }
            })
            .collect();
        let lists: Vec<Vec<Vec<Lists>>> = self
            .program
            .entries
            .iter()
            .map(|e| e.blocks.iter().map(|b| b.code.iter().map(|i| self.lists(i)).collect()).collect())
            .collect();
        let code: Vec<Vec<Vec<plan::Instruction<'_>>>> = self
            .program
            .entries
            .iter()
            .zip(&lists)
            .map(|(entry, lists)| {
                let blocks = entry.blocks.iter().zip(lists);
                blocks
                    .map(|(block, lists)| block.code.iter().zip(lists).map(|(i, l)| self.instruction(i, l)).collect())
                    .collect()
            })
            .collect();
        let blocks: Vec<Vec<plan::Block<'_>>> = self
            .program
            .entries
            .iter()
            .zip(&code)
            .map(|(entry, code)| {
                let blocks = entry.blocks.iter().zip(code);
                blocks.map(|(block, code)| plan::Block { rounds: block.rounds as u16, code }).collect()
            })
            .collect();
        let entries: Vec<plan::Entry<'_>> = self
            .program
            .entries
            .iter()
            .zip(&blocks)
            .map(|(entry, blocks)| {
                let (needs, gives) = self.needs_and_gives(entry);
                plan::Entry { name: &entry.name, blocks, needs, gives }
            })
            .collect();
        f(plan::Program {
            version: PLAN_VERSION,
            name: &self.program.name,
            words: self.words as u32,
            held_bytes: self.held_bytes as u32,
            labels: self.program.labels as u16,
            constants: &self.constants,
            nets: &nets,
            lanes: &lanes,
            entries: &entries,
        })
    }

    /// Lanes that have a role outside the program: number, place and role.
    pub(crate) fn lanes(&self) -> Vec<(usize, plan::Place, plan::Role)> {
        let lanes = self.program.lanes.iter().enumerate();
        let named = lanes.filter_map(|(number, lane)| {
            let view =
                plan::View { first: self.places[number] as u32, len: (lane.len * lane.frames) as u32, per_round: 0 };
            let words = plan::Place::Words(view);
            Some(match lane.kind {
                LaneKind::Local => return None,
                LaneKind::Input => (number, words, plan::Role::Input),
                LaneKind::Output => (number, words, plan::Role::Output),
                LaneKind::State => (number, words, plan::Role::State),
                LaneKind::Kept => (number, words, plan::Role::Kept),
                LaneKind::Held => (number, self.held(view), plan::Role::Kept),
            })
        });
        named.collect()
    }

    /// Bits of the named lanes that an entry point needs and gives.
    pub(crate) fn needs_and_gives(&self, entry: &super::Entry) -> (u64, u64) {
        let (needs, gives) = needs_and_gives(&self.program, entry);
        let bits = |list: &[usize]| {
            let named = self.lanes();
            let bit = |lane: &usize| named.iter().position(|(number, ..)| number == lane);
            list.iter().filter_map(bit).fold(0, |bits, i| bits | 1 << i)
        };
        (bits(&needs), bits(&gives))
    }

    /// The place of a held lane.
    fn held(&self, view: plan::View) -> plan::Place {
        if self.nets.is_empty() { plan::Place::Words(view) } else { plan::Place::Held(view) }
    }

    fn view(&self, at: At) -> plan::View {
        let len = self.program.lanes[at.lane].len;
        plan::View {
            first: (self.places[at.lane] + at.first * len) as u32,
            len: len as u32,
            per_round: at.step * len as i32,
        }
    }

    fn number(&self, num: Num) -> plan::Number {
        let width = self.program.banks[num.bank].width;
        plan::Number { at: (self.banks[num.bank] + num.first * width) as u32, per_round: (num.step * width) as u32 }
    }

    fn lists(&self, instruction: &Instruction) -> Lists {
        let transfers = |list: &[(usize, At)]| {
            let place = |at: At| match self.program.lanes[at.lane].kind {
                LaneKind::Held => self.held(self.view(at)),
                LaneKind::Local | LaneKind::Input | LaneKind::Output | LaneKind::State | LaneKind::Kept => {
                    plan::Place::Words(self.view(at))
                }
            };
            list.iter().map(|(port, at)| plan::Transfer { port: *port as u16, place: place(*at) }).collect()
        };
        match instruction {
            Instruction::Call { reads, writes, .. } => {
                Lists { reads: transfers(reads), writes: transfers(writes), terms: Vec::new() }
            }
            Instruction::Combine { terms, .. } => {
                let term = |(factor, of): &(Num, At)| plan::Term { factor: self.number(*factor), of: self.view(*of) };
                Lists { reads: Vec::new(), writes: Vec::new(), terms: terms.iter().map(term).collect() }
            }
            Instruction::Product { .. }
            | Instruction::Matrix { .. }
            | Instruction::Average { .. }
            | Instruction::Repeat { .. }
            | Instruction::Blur { .. }
            | Instruction::Noise { .. }
            | Instruction::Dot { .. }
            | Instruction::Select { .. } => Lists { reads: Vec::new(), writes: Vec::new(), terms: Vec::new() },
        }
    }

    fn instruction<'l>(&self, instruction: &Instruction, lists: &'l Lists) -> plan::Instruction<'l> {
        match *instruction {
            Instruction::Call { net, rows, .. } => plan::Instruction::Call {
                net: net as u16,
                reads: &lists.reads,
                rows: rows.map(|row| plan::Row { base: row.base as u16, per_round: row.step, label: row.label }),
                writes: &lists.writes,
            },
            Instruction::Combine { out, .. } => plan::Instruction::Combine { out: self.view(out), terms: &lists.terms },
            Instruction::Product { out, a, b } => {
                plan::Instruction::Product { out: self.view(out), a: self.view(a), b: self.view(b) }
            }
            Instruction::Matrix { out, of, matrix } => {
                plan::Instruction::Matrix { out: self.view(out), of: self.view(of), matrix: self.number(matrix) }
            }
            Instruction::Average { out, of, image, factor } => {
                plan::Instruction::Average { out: self.view(out), of: self.view(of), image, factor }
            }
            Instruction::Repeat { out, of, image, factor } => {
                plan::Instruction::Repeat { out: self.view(out), of: self.view(of), image, factor }
            }
            Instruction::Blur { out, of, image, kernel, radius } => plan::Instruction::Blur {
                out: self.view(out),
                of: self.view(of),
                image,
                kernel: self.number(kernel),
                radius,
            },
            Instruction::Noise { out, first, step } => {
                plan::Instruction::Noise { out: self.view(out), first, per_round: step }
            }
            Instruction::Dot { out, a, b } => {
                plan::Instruction::Dot { out: self.view(out), a: self.view(a), b: self.view(b) }
            }
            Instruction::Select { out, when, yes, no } => plan::Instruction::Select {
                out: self.view(out),
                when: self.view(when),
                yes: self.view(yes),
                no: self.view(no),
            },
        }
    }

    /// Bytes of RAM: the arena that the networks share, the words and the held bytes.
    pub fn ram_bytes(&self) -> usize {
        self.arena_bytes() + 4 * self.words + self.held_bytes
    }

    /// Bytes of the arena that the networks share.
    pub fn arena_bytes(&self) -> usize {
        self.nets.iter().map(|net| net.arena_bytes).max().unwrap_or(0)
    }

    /// Constants of all networks, each stored once.
    pub fn weights(&self) -> &[u8] {
        self.nets.first().map_or(&[], |net| &net.weights)
    }
}

//! Programs: samplers, inversions and edits around one or more networks.
//!
//! A [`Program`] is to a list of network calls what a [`crate::ir::Graph`] is to a network: it has a text form that prints
//! and parses ([`text`]), a verifier that names both sides of what does not fit ([`verify()`]), builders ([`samplers`],
//! [`steer`], [`cycle`]), a file ([`mod@file`]) and a lowered form ([`lower()`]) that devices run. The runtime's
//! `flowlet::program::Runner` is the one interpreter: on hosts over f32 or int8 networks, on boards over generated code.

pub mod bellman;
mod build;
pub mod cycle;
mod derive;
pub mod file;
pub mod gaussian;
mod lower;
pub mod samplers;
pub mod steer;
pub mod text;
mod verify;

pub use build::{Builder, Code};
pub use derive::derived;
pub use flowlet_plan::program::{INDICES, Image};
pub use lower::{LoweredProgram, ProgramLowerError, float, lower};
pub use verify::{ProgramError, verify};

/// A vector of f32 words, or of held bytes, that outlives a network's pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lane {
    /// Its name, unique in the program.
    pub name: String,
    /// Elements of a frame.
    pub len: usize,
    /// Frames: 1, or one for each round that is kept.
    pub frames: usize,
    /// Who writes it.
    pub kind: LaneKind,
    /// Unit, for people.
    pub unit: String,
}

/// Who writes a lane, and how long it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LaneKind {
    /// Lives inside one run of an entry point.
    Local,
    /// Written by the caller.
    Input,
    /// Read by the caller.
    Output,
    /// Lives from call to call; zero after a reset.
    State,
    /// Written by one entry point for another.
    Kept,
    /// Quantised bytes of a network's port, kept in its scale from call to call.
    Held,
}

/// Constants: rows of equal width, chosen by the round.
#[derive(Clone, Debug, PartialEq)]
pub struct Bank {
    /// Its name, unique in the program.
    pub name: String,
    /// Numbers in a row.
    pub width: usize,
    /// All rows.
    pub values: Vec<f32>,
}

impl Bank {
    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.values.len() / self.width.max(1)
    }
}

/// A frame of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct At {
    /// Number of the lane.
    pub lane: usize,
    /// Frame in round 0.
    pub first: usize,
    /// Frames from round to round.
    pub step: i32,
}

/// A row of a bank.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Num {
    /// Number of the bank.
    pub bank: usize,
    /// Row in round 0.
    pub first: usize,
    /// Rows from round to round.
    pub step: usize,
}

/// Rows of a network's tables: `base + step * round`, and the label if `label`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// Row in round 0 for label 0.
    pub base: usize,
    /// Rows from round to round; fewer where a schedule runs backwards.
    pub step: i32,
    /// Whether the caller's label is added.
    pub label: bool,
}

/// What a program expects of a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Net {
    /// Name in the program, and of the graph in its file.
    pub name: String,
    /// Inputs: name and elements.
    pub inputs: Vec<(String, usize)>,
    /// Outputs: name and elements.
    pub outputs: Vec<(String, usize)>,
    /// Values of each of its index inputs; 0 if it has none.
    pub rows: usize,
    /// The network that it is derived from ([`derived`]): an earlier one, whose inputs and outputs come first; its own
    /// further inputs and outputs are tensors inside that network.
    pub of: Option<String>,
    /// Whether it computes its base twice in one pass, for two rows ([`crate::passes::twin`]). The outputs of the second
    /// row follow those of the first.
    pub twin: bool,
}

/// One instruction; [`flowlet_plan::program::Instruction`] says what each computes.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Instruction {
    Call { net: usize, reads: Vec<(usize, At)>, rows: [Row; INDICES], writes: Vec<(usize, At)> },
    Combine { out: At, terms: Vec<(Num, At)> },
    Product { out: At, a: At, b: At },
    Matrix { out: At, of: At, matrix: Num },
    Average { out: At, of: At, image: Image, factor: u16 },
    Repeat { out: At, of: At, image: Image, factor: u16 },
    Blur { out: At, of: At, image: Image, kernel: Num, radius: u16 },
    Noise { out: At, first: u32, step: u32 },
    Dot { out: At, a: At, b: At },
    Select { out: At, when: At, yes: At, no: At },
}

impl Instruction {
    /// The frames that it reads.
    pub fn reads(&self) -> Vec<At> {
        match self {
            Instruction::Call { reads, .. } => reads.iter().map(|(_, at)| *at).collect(),
            Instruction::Combine { terms, .. } => terms.iter().map(|(_, at)| *at).collect(),
            Instruction::Product { a, b, .. } | Instruction::Dot { a, b, .. } => vec![*a, *b],
            Instruction::Matrix { of, .. }
            | Instruction::Average { of, .. }
            | Instruction::Repeat { of, .. }
            | Instruction::Blur { of, .. } => vec![*of],
            Instruction::Noise { .. } => Vec::new(),
            Instruction::Select { when, yes, no, .. } => vec![*when, *yes, *no],
        }
    }

    /// The frames that it writes.
    pub fn writes(&self) -> Vec<At> {
        match self {
            Instruction::Call { writes, .. } => writes.iter().map(|(_, at)| *at).collect(),
            Instruction::Combine { out, .. }
            | Instruction::Product { out, .. }
            | Instruction::Matrix { out, .. }
            | Instruction::Average { out, .. }
            | Instruction::Repeat { out, .. }
            | Instruction::Blur { out, .. }
            | Instruction::Noise { out, .. }
            | Instruction::Dot { out, .. }
            | Instruction::Select { out, .. } => vec![*out],
        }
    }
}

/// Instructions that run `rounds` times.
#[derive(Clone, Debug, PartialEq)]
pub struct Block {
    /// At least 1.
    pub rounds: usize,
    /// In order.
    pub code: Vec<Instruction>,
}

/// A named list of blocks.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// In order.
    pub blocks: Vec<Block>,
}

/// A program over networks.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Program {
    /// Its name.
    pub name: String,
    /// Values of the caller's label; 0 if it takes none.
    pub labels: usize,
    /// Networks, in the order of their numbers.
    pub nets: Vec<Net>,
    /// Lanes.
    pub lanes: Vec<Lane>,
    /// Constants.
    pub banks: Vec<Bank>,
    /// Entry points.
    pub entries: Vec<Entry>,
    /// Facts for people and tools.
    pub meta: Vec<(String, String)>,
}

impl Program {
    /// The fact stored under `key`.
    pub fn meta(&self, key: &str) -> Option<&str> {
        self.meta.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    /// The number of a lane.
    pub fn lane(&self, name: &str) -> Option<usize> {
        self.lanes.iter().position(|lane| lane.name == name)
    }

    /// Passes of networks in one run of an entry point.
    pub fn evaluations(&self, entry: &str) -> usize {
        let entry = self.entries.iter().find(|e| e.name == entry);
        let calls = |b: &Block| b.rounds * b.code.iter().filter(|i| matches!(i, Instruction::Call { .. })).count();
        entry.map_or(0, |e| e.blocks.iter().map(calls).sum())
    }
}

//! Writes programs from Rust.
//!
//! ```
//! # use flowlet_compiler::program::{Builder, Code, LaneKind};
//! let mut b = Builder::new("decay");
//! let x = b.lane("x", 2, LaneKind::State, "");
//! let half = b.number(0.5);
//! let mut code = Code::new();
//! code.combine(x, &[(half, x)]);
//! b.entry("step").block(1, code);
//! let program = b.finish()?;
//! # assert_eq!(program.evaluations("step"), 0);
//! # Ok::<(), flowlet_compiler::program::ProgramError>(())
//! ```

use super::{
    At, Bank, Block, Entry, INDICES, Image, Instruction, Lane, LaneKind, Net, Num, Program, ProgramError, Row, verify,
};

impl At {
    /// Frame `frame` in every round.
    pub fn frame(self, frame: usize) -> At {
        At { first: frame, ..self }
    }

    /// Frame `first + step * round`.
    pub fn moving(self, first: usize, step: i32) -> At {
        At { first, step, ..self }
    }
}

impl Num {
    /// Row `first` in every round.
    pub fn row(self, first: usize) -> Num {
        Num { first, step: 0, ..self }
    }

    /// Row `round`.
    pub fn each(self) -> Num {
        Num { first: 0, step: 1, ..self }
    }
}

/// A program under construction.
#[derive(Clone, Debug, Default)]
pub struct Builder {
    program: Program,
}

impl Builder {
    /// An empty program.
    pub fn new(name: &str) -> Self {
        Builder { program: Program { name: name.to_owned(), ..Program::default() } }
    }

    /// The number of labels that the caller chooses from.
    pub fn labels(&mut self, count: usize) {
        self.program.labels = count;
    }

    /// Stores a fact.
    pub fn meta(&mut self, key: &str, value: impl Into<String>) {
        self.program.meta.push((key.to_owned(), value.into()));
    }

    /// A network; returns its number.
    pub fn net(&mut self, net: Net) -> usize {
        self.program.nets.push(net);
        self.program.nets.len() - 1
    }

    /// A network with the ports of another, under another name and derived from it.
    pub(super) fn like(&self, base: usize, name: &str) -> Net {
        let base = &self.program.nets[base];
        Net { name: name.to_owned(), of: Some(base.name.clone()), ..base.clone() }
    }

    /// Elements of a frame.
    pub(super) fn len(&self, at: At) -> usize {
        self.program.lanes[at.lane].len
    }

    /// A lane of one frame.
    pub fn lane(&mut self, name: &str, len: usize, kind: LaneKind, unit: &str) -> At {
        self.frames(name, len, 1, kind, unit)
    }

    /// A lane of several frames.
    pub fn frames(&mut self, name: &str, len: usize, frames: usize, kind: LaneKind, unit: &str) -> At {
        self.program.lanes.push(Lane { name: name.to_owned(), len, frames, kind, unit: unit.to_owned() });
        At { lane: self.program.lanes.len() - 1, first: 0, step: 0 }
    }

    /// A lane inside one run, under this name or, where it is taken, one like it.
    pub(super) fn local(&mut self, name: &str, len: usize) -> At {
        let free = |n: &String| self.program.lane(n).is_none();
        let name = std::iter::once(name.to_owned()).chain((1..).map(|i| format!("{name}_{i}"))).find(free);
        self.lane(&name.unwrap_or_default(), len, LaneKind::Local, "")
    }

    /// A number; equal ones are stored once.
    pub fn number(&mut self, value: f32) -> Num {
        let same = |b: &Bank| b.values.len() == 1 && b.values[0].to_bits() == value.to_bits();
        let bank = self.program.banks.iter().position(same).unwrap_or_else(|| {
            let name = format!("k{}", self.program.banks.len());
            self.program.banks.push(Bank { name, width: 1, values: vec![value] });
            self.program.banks.len() - 1
        });
        Num { bank, first: 0, step: 0 }
    }

    /// Rows of `width` numbers.
    pub fn bank(&mut self, name: &str, width: usize, values: Vec<f32>) -> Num {
        let taken = self.program.banks.iter().filter(|b| b.name == name || b.name.starts_with(&format!("{name}_")));
        let name = match taken.count() {
            0 => name.to_owned(),
            n => format!("{name}_{n}"),
        };
        self.program.banks.push(Bank { name, width, values });
        Num { bank: self.program.banks.len() - 1, first: 0, step: 0 }
    }

    /// One number a round.
    pub fn schedule(&mut self, name: &str, values: impl IntoIterator<Item = f64>) -> Num {
        self.bank(name, 1, values.into_iter().map(|v| v as f32).collect()).each()
    }

    /// Starts an entry point; blocks that follow belong to it.
    pub fn entry(&mut self, name: &str) -> &mut Self {
        self.program.entries.push(Entry { name: name.to_owned(), blocks: Vec::new() });
        self
    }

    /// Appends instructions to the last entry point, to be run `rounds` times; nothing for no rounds.
    pub fn block(&mut self, rounds: usize, code: Code) {
        if self.program.entries.is_empty() {
            self.entry("generate");
        }
        let last = self.program.entries.len() - 1;
        if rounds > 0 && !code.0.is_empty() {
            self.program.entries[last].blocks.push(Block { rounds, code: code.0 });
        }
    }

    /// Sets the number of rows of a network.
    pub(super) fn rows(&mut self, net: usize, rows: usize) {
        self.program.nets[net].rows = rows;
    }

    /// The verified program.
    ///
    /// # Errors
    /// What does not fit, by name.
    pub fn finish(self) -> Result<Program, ProgramError> {
        verify(&self.program)?;
        Ok(self.program)
    }
}

/// Instructions of a block.
#[derive(Clone, Debug, Default)]
pub struct Code(Vec<Instruction>);

#[allow(missing_docs)]
impl Code {
    pub fn new() -> Self {
        Code::default()
    }

    pub fn push(&mut self, instruction: Instruction) -> &mut Self {
        self.0.push(instruction);
        self
    }

    pub fn call(&mut self, net: usize, reads: &[(usize, At)], row: Row, writes: &[(usize, At)]) -> &mut Self {
        self.call_twin(net, reads, [row, Row::default()], writes)
    }

    pub fn call_twin(
        &mut self,
        net: usize,
        reads: &[(usize, At)],
        rows: [Row; INDICES],
        writes: &[(usize, At)],
    ) -> &mut Self {
        self.push(Instruction::Call { net, reads: reads.to_vec(), rows, writes: writes.to_vec() })
    }

    pub fn combine(&mut self, out: At, terms: &[(Num, At)]) -> &mut Self {
        self.push(Instruction::Combine { out, terms: terms.to_vec() })
    }

    pub fn product(&mut self, out: At, a: At, b: At) -> &mut Self {
        self.push(Instruction::Product { out, a, b })
    }

    pub fn matrix(&mut self, out: At, of: At, matrix: Num) -> &mut Self {
        self.push(Instruction::Matrix { out, of, matrix })
    }

    pub fn average(&mut self, out: At, of: At, image: Image, factor: u16) -> &mut Self {
        self.push(Instruction::Average { out, of, image, factor })
    }

    pub fn repeat(&mut self, out: At, of: At, image: Image, factor: u16) -> &mut Self {
        self.push(Instruction::Repeat { out, of, image, factor })
    }

    pub fn blur(&mut self, out: At, of: At, image: Image, kernel: Num, radius: u16) -> &mut Self {
        self.push(Instruction::Blur { out, of, image, kernel, radius })
    }

    pub fn noise(&mut self, out: At, first: u32, step: u32) -> &mut Self {
        self.push(Instruction::Noise { out, first, step })
    }

    pub fn dot(&mut self, out: At, a: At, b: At) -> &mut Self {
        self.push(Instruction::Dot { out, a, b })
    }

    pub fn select(&mut self, out: At, when: At, yes: At, no: At) -> &mut Self {
        self.push(Instruction::Select { out, when, yes, no })
    }
}

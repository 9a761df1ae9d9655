//! Runs programs: samplers, inversions and edits around networks.
//!
//! A [`Runner`] holds the program's memory between calls; the networks come with each call as something that implements
//! [`Nets`]: [`Plans`] interprets plans, generated code brings its own, and a host may bring f32 networks. One network
//! runs at a time, so all of them share one arena; what must survive a pass is in the program's lanes.

use crate::error::{Kind, Name, RunError};
use crate::executor::{Executor, Key, find};
use crate::kernels::carry::Carry;
use crate::kernels::{self, noise};
use crate::plan::program::{CheckedProgram, INDICES, Instruction, Lane, Place, Program, Role, Transfer, View};
use crate::plan::{CheckedPlan, Port, RowKey};
use crate::port;

/// Networks that a program calls, numbered as in [`Program::nets`].
pub trait Nets {
    /// Writes the inputs of a network from the operands, runs a pass with these rows of its tables, one for each index
    /// input that it has, and reads its outputs into the operands.
    ///
    /// # Errors
    /// What the network refuses.
    fn call(&mut self, net: usize, rows: [u16; INDICES], operands: &mut Operands<'_>) -> Result<(), RunError>;
}

/// What a call reads and writes, in the program's memory.
#[derive(Debug)]
pub struct Operands<'c> {
    words: &'c mut [f32],
    held: &'c mut [i8],
    reads: &'c [Transfer],
    writes: &'c [Transfer],
    round: u16,
}

/// The values of a port.
#[derive(Debug)]
pub enum Values<W, H> {
    /// Real numbers in NHWC order, to be moved by the port rules.
    Words(W),
    /// Quantised values, to be copied.
    Held(H),
}

impl Operands<'_> {
    /// Writes the inputs that are read. A lane that has left the range of numbers gives saturated values, the same
    /// everywhere.
    ///
    /// # Errors
    /// A port outside the arena.
    pub fn write_to(&self, arena: &mut [i8], inputs: &[Port<'_>]) -> Result<(), RunError> {
        for (number, values) in self.inputs() {
            match (inputs.get(number), values) {
                (None, _) => {}
                (Some(input), Values::Words(values)) => port::write_saturated(arena, input, values)?,
                (Some(input), Values::Held(values)) => port::write_s8(arena, input, values)?,
            }
        }
        Ok(())
    }

    /// Reads the outputs that are wanted.
    ///
    /// # Errors
    /// A port outside the arena.
    pub fn read_from(&mut self, arena: &[i8], outputs: &[Port<'_>]) -> Result<(), RunError> {
        self.outputs(|number, values| match (outputs.get(number), values) {
            (None, _) => Ok(()),
            (Some(output), Values::Words(values)) => port::read_f32(arena, output, values),
            (Some(output), Values::Held(values)) => port::read_s8(arena, output, values),
        })
    }

    /// The number of each input that is read, and its values.
    pub fn inputs(&self) -> impl Iterator<Item = (usize, Values<&[f32], &[i8]>)> {
        self.reads.iter().map(|Transfer { port, place }| {
            let values = match *place {
                Place::Words(view) => Values::Words(slice(self.words, view, self.round)),
                Place::Held(view) => Values::Held(slice(self.held, view, self.round)),
            };
            (usize::from(*port), values)
        })
    }

    /// Calls `f` with the number of each output that is wanted and the place for its values.
    ///
    /// # Errors
    /// The first that `f` returns.
    pub fn outputs(
        &mut self,
        mut f: impl FnMut(usize, Values<&mut [f32], &mut [i8]>) -> Result<(), RunError>,
    ) -> Result<(), RunError> {
        for Transfer { port, place } in self.writes {
            let values = match *place {
                Place::Words(view) => Values::Words(slice_mut(self.words, view, self.round)),
                Place::Held(view) => Values::Held(slice_mut(self.held, view, self.round)),
            };
            f(usize::from(*port), values)?;
        }
        Ok(())
    }
}

/// A program with its memory.
#[derive(Debug)]
pub struct Runner<'p, 'm> {
    program: Program<'p>,
    words: &'m mut [f32],
    held: &'m mut [i8],
    label: u16,
    /// Bit `i`: lane `i` holds what its writer wrote.
    ready: u64,
}

impl<'p, 'm> Runner<'p, 'm> {
    /// Places a program in memory, of which it uses the first [`Program::words`] and [`Program::held_bytes`], and
    /// resets its state.
    ///
    /// # Errors
    /// Memory that is too small, and by how much.
    pub fn new(program: CheckedProgram<'p>, words: &'m mut [f32], held: &'m mut [i8]) -> Result<Self, RunError> {
        let program = *program.program();
        let short = |need: u32, have: usize, size: usize| RunError::ArenaTooSmall {
            need_bytes: need as usize * size,
            have_bytes: have * size,
        };
        let (have_words, have_held) = (words.len(), held.len());
        let words = words.get_mut(..program.words as usize).ok_or(short(program.words, have_words, 4))?;
        let held = held.get_mut(..program.held_bytes as usize).ok_or(short(program.held_bytes, have_held, 1))?;
        let mut runner = Runner { program, words, held, label: 0, ready: 0 };
        runner.reset();
        Ok(runner)
    }

    /// The program.
    pub fn program(&self) -> &Program<'p> {
        &self.program
    }

    /// Zeroes the carried state, and forgets what entry points kept for each other.
    pub fn reset(&mut self) {
        for (number, lane) in self.program.lanes.iter().enumerate() {
            match lane.role {
                Role::State => {
                    if let Some(words) = place_mut(self.words, lane.place) {
                        words.fill(0.0);
                    }
                    self.ready |= 1 << number;
                }
                Role::Kept => self.ready &= !(1 << number),
                Role::Input | Role::Output => {}
            }
        }
    }

    /// Sets the label; it keeps its value until set again, and starts at 0.
    ///
    /// # Errors
    /// A label out of range, with the range.
    pub fn set_label(&mut self, label: u16) -> Result<(), RunError> {
        if label < self.program.labels {
            self.label = label;
            return Ok(());
        }
        Err(RunError::IndexOutOfRange { name: Name::new("label"), value: label, count: self.program.labels })
    }

    /// Writes a lane that the caller may write: an input or the carried state.
    ///
    /// # Errors
    /// An unknown lane, one that belongs to the program, a wrong number of values, or one that is not finite.
    pub fn write<'k>(&mut self, lane: impl Into<Key<'k>>, values: &[f32]) -> Result<(), RunError> {
        let number = self.writable(lane.into())?;
        let Some(lane) = self.program.lanes.get(number) else { return Ok(()) };
        let name = Name::new(lane.name);
        let need = elements(lane);
        if values.len() != need {
            return Err(RunError::WrongLength { name, need, have: values.len() });
        }
        if let Some(element) = values.iter().position(|x| !x.is_finite()) {
            return Err(RunError::NotFinite { name, element });
        }
        if let Some(words) = place_mut(self.words, lane.place) {
            words.iter_mut().zip(values).for_each(|(place, &value)| *place = value);
        }
        self.ready |= 1 << number;
        Ok(())
    }

    /// Fills an input lane with standard normal noise.
    ///
    /// # Errors
    /// An unknown lane, or one that belongs to the program.
    pub fn fill_noise<'k>(&mut self, lane: impl Into<Key<'k>>, seed: u64, stream: u32) -> Result<(), RunError> {
        let number = self.writable(lane.into())?;
        let lane = self.program.lanes.get(number);
        if let Some(words) = lane.and_then(|lane| place_mut(self.words, lane.place)) {
            noise::fill_f32(words, seed, stream);
        }
        self.ready |= 1 << number;
        Ok(())
    }

    /// Runs an entry point; `seed` is that of its noise instructions.
    ///
    /// # Errors
    /// An unknown entry point, a lane that it reads and nobody has written, or what a network refuses.
    pub fn run<'k>(&mut self, nets: &mut impl Nets, entry: impl Into<Key<'k>>, seed: u64) -> Result<(), RunError> {
        let number = find(Kind::Graph, entry.into(), self.program.entries, |entry| entry.name);
        let program = Name::new(self.program.name);
        let number = number.map_err(|error| {
            if let RunError::Unknown { name, .. } = error { RunError::NoEntry { program, entry: name } } else { error }
        })?;
        let Some(entry) = self.program.entries.get(number) else { return Ok(()) };
        let missing = entry.needs & !self.ready;
        if let Some(lane) = self.program.lanes.get(missing.trailing_zeros() as usize) {
            return Err(RunError::LaneMissing { entry: Name::new(entry.name), lane: Name::new(lane.name) });
        }
        for block in entry.blocks {
            for round in 0..block.rounds {
                for instruction in block.code {
                    self.instruction(nets, instruction, round, seed)?;
                }
            }
        }
        self.ready |= entry.gives;
        Ok(())
    }

    /// The words of a lane.
    ///
    /// # Errors
    /// An unknown lane, or one that holds nothing yet.
    pub fn read<'k>(&self, lane: impl Into<Key<'k>>) -> Result<&[f32], RunError> {
        let number = find(Kind::Lane, lane.into(), self.program.lanes, |lane| lane.name)?;
        let Some(lane) = self.program.lanes.get(number) else { return Ok(&[]) };
        if self.ready & 1 << number == 0 {
            return Err(RunError::LaneNotWritten { lane: Name::new(lane.name) });
        }
        match lane.place {
            Place::Words(view) => Ok(slice(self.words, view, 0)),
            Place::Held(_) => Err(RunError::WrongType { name: Name::new(lane.name) }),
        }
    }

    fn instruction(
        &mut self,
        nets: &mut impl Nets,
        instruction: &Instruction<'_>,
        round: u16,
        seed: u64,
    ) -> Result<(), RunError> {
        let Instruction::Call { net, reads, rows, writes } = *instruction else {
            let constants = self.program.constants;
            Carry { words: self.words, constants, round, seed }.run(instruction);
            return Ok(());
        };
        let rows = rows.map(|row| {
            let label = if row.label { self.label } else { 0 };
            let moved = row.per_round.wrapping_mul(i32::from(round)) as u16;
            row.base.wrapping_add(moved).wrapping_add(label)
        });
        nets.call(usize::from(net), rows, &mut Operands { words: self.words, held: self.held, reads, writes, round })
    }

    fn writable(&self, lane: Key<'_>) -> Result<usize, RunError> {
        let number = find(Kind::Lane, lane, self.program.lanes, |lane| lane.name)?;
        let Some(lane) = self.program.lanes.get(number) else { return Ok(number) };
        match lane.role {
            Role::Input | Role::State => Ok(number),
            Role::Output | Role::Kept => Err(RunError::Unknown { kind: Kind::Input, name: Name::new(lane.name) }),
        }
    }
}

fn elements(lane: &Lane<'_>) -> usize {
    match lane.place {
        Place::Words(view) | Place::Held(view) => view.len as usize,
    }
}

fn place_mut(words: &mut [f32], place: Place) -> Option<&mut [f32]> {
    match place {
        Place::Words(view) => Some(slice_mut(words, view, 0)),
        Place::Held(_) => None,
    }
}

/// A checked program's views are inside its memory; another's are empty.
fn slice<T>(memory: &[T], view: View, round: u16) -> &[T] {
    let start = view.start(round);
    memory.get(start..start.wrapping_add(view.len as usize)).unwrap_or(&[])
}

fn slice_mut<T>(memory: &mut [T], view: View, round: u16) -> &mut [T] {
    let start = view.start(round);
    memory.get_mut(start..start.wrapping_add(view.len as usize)).unwrap_or(&mut [])
}

/// Plans as a program's networks, interpreted in one arena.
#[derive(Debug)]
pub struct Plans<'p, 'a> {
    plans: &'p [CheckedPlan<'p>],
    arena: &'a mut [i8],
}

impl<'p, 'a> Plans<'p, 'a> {
    /// Plans in the order of the program's networks, and an arena for the largest.
    ///
    /// # Errors
    /// An arena or a plan that the executor refuses; a plan whose ports are not those that the program expects, by the
    /// names of both sides.
    pub fn new(program: &Program<'_>, plans: &'p [CheckedPlan<'p>], arena: &'a mut [i8]) -> Result<Self, RunError> {
        if program.nets.len() != plans.len() {
            return Err(RunError::WrongNets { need: program.nets.len(), have: plans.len() });
        }
        for (net, plan) in program.nets.iter().zip(plans) {
            let plan = *Executor::new(*plan, arena)?.plan();
            let same = plan.indices.len() <= INDICES
                && plan.indices.iter().all(|index| index.count == net.rows)
                && (net.rows == 0) == plan.indices.is_empty()
                && same(net.inputs, plan.inputs)
                && same(net.outputs, plan.outputs);
            if !same {
                return Err(RunError::WrongNet { net: Name::new(net.name), plan: Name::new(plan.name) });
            }
        }
        Ok(Plans { plans, arena })
    }
}

/// Whether ports have the same names, sizes and scales; places and units are each side's own.
fn same(wanted: &[Port<'_>], found: &[Port<'_>]) -> bool {
    let alike = |(a, b): (&Port<'_>, &Port<'_>)| {
        a.name == b.name && a.slot.elements() == b.slot.elements() && a.quant == b.quant
    };
    wanted.len() == found.len() && wanted.iter().zip(found).all(alike)
}

impl Nets for Plans<'_, '_> {
    fn call(&mut self, net: usize, rows: [u16; INDICES], operands: &mut Operands<'_>) -> Result<(), RunError> {
        let unknown = RunError::Unknown { kind: Kind::Graph, name: Name::decimal(net) };
        let plan = self.plans.get(net).ok_or(unknown)?;
        let plan = plan.plan();
        operands.write_to(self.arena, plan.inputs)?;
        for step in plan.steps {
            let row = match step.bank() {
                Some((RowKey::Index(index), _)) => rows.get(usize::from(index)).copied().map_or(0, usize::from),
                Some((RowKey::Fixed | RowKey::Iteration, _)) | None => 0,
            };
            kernels::step::run(self.arena, step, row);
        }
        operands.read_from(self.arena, plan.outputs)
    }
}

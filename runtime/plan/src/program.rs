//! Programs: what runs around a network more than once.
//!
//! A sampler, an inversion or an edit is a short list of instructions on **lanes** (f32 vectors that outlive a pass of a
//! network) with calls of networks in between. Repeated rounds take their constants (times, step sizes, guidance) from
//! banks, so neither code nor memory grows with their number. Arithmetic on lanes is scalar f32 in a stated order, without
//! fused multiply-add: the same bits on every processor that follows IEEE 754.

use crate::plan::{PLAN_VERSION, Port};

/// A vector in the program's memory, which may move from round to round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// First element in round 0.
    pub first: u32,
    /// Number of elements.
    pub len: u32,
    /// Elements that it moves each round.
    pub per_round: i32,
}

impl View {
    /// The first element in a round.
    #[inline(always)]
    pub const fn start(&self, round: u16) -> usize {
        (self.first as i64 + self.per_round as i64 * round as i64) as usize
    }

    /// Whether it lies inside a memory of `size` elements in every round.
    const fn fits(&self, size: u32, rounds: u16) -> bool {
        let last = self.first as i64 + self.per_round as i64 * (rounds as i64 - 1);
        let end = if last > self.first as i64 { last } else { self.first as i64 } + self.len as i64;
        last >= 0 && end <= size as i64
    }

    /// Whether the two share an element in some round, unless they are the same view.
    const fn collides(&self, other: &View, rounds: u16) -> bool {
        let same = self.first == other.first && self.len == other.len && self.per_round == other.per_round;
        !same && self.meets(other, rounds)
    }

    const fn meets(&self, other: &View, rounds: u16) -> bool {
        let mut round = 0;
        while round < rounds {
            let (a, b) = (self.start(round), other.start(round));
            if a < b + other.len as usize && b < a + self.len as usize {
                return true;
            }
            round += 1;
        }
        false
    }
}

/// A place in the program's constants, which moves from round to round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Number {
    /// Position in round 0.
    pub at: u32,
    /// How far it moves each round.
    pub per_round: u32,
}

impl Number {
    /// The position in a round.
    #[inline(always)]
    pub const fn index(&self, round: u16) -> usize {
        self.at as usize + self.per_round as usize * round as usize
    }

    const fn fits(&self, count: usize, constants: usize, rounds: u16) -> bool {
        let last = self.at as u64 + self.per_round as u64 * (rounds as u64 - 1);
        last + count as u64 <= constants as u64
    }
}

/// A factor times a vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Term {
    /// The factor.
    pub factor: Number,
    /// The vector.
    pub of: View,
}

/// What chooses the row of a network's constant tables: `base + per_round * round`, and the caller's label if `label`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Row in round 0 for label 0.
    pub base: u16,
    /// Rows from round to round; fewer where a schedule runs backwards.
    pub per_round: i32,
    /// Whether the caller's label is added.
    pub label: bool,
}

/// Where a network's port is read from or written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// f32 words, by the port rules.
    Words(View),
    /// Bytes that are held as they are, in the scale of the port.
    Held(View),
}

/// A port of a network and its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// Number of the input or output.
    pub port: u16,
    /// Where its values are.
    pub place: Place,
}

/// A picture in NHWC order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Image {
    /// Rows.
    pub height: u16,
    /// Pixels of a row.
    pub width: u16,
    /// Values of a pixel.
    pub channels: u16,
}

impl Image {
    /// Number of values.
    pub const fn elements(&self) -> usize {
        self.height as usize * self.width as usize * self.channels as usize
    }
}

/// One instruction of a program. Matches over it are exhaustive everywhere.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Instruction<'a> {
    /// One pass of a network.
    Call {
        /// Which.
        net: u16,
        /// Its inputs.
        reads: &'a [Transfer],
        /// Rows of its tables, one for each index input that it has.
        rows: [Row; INDICES],
        /// Its outputs.
        writes: &'a [Transfer],
    },
    /// `out = f0*a0 + f1*a1 + ...`, summed from left to right.
    Combine {
        /// The sum.
        out: View,
        /// At least one.
        terms: &'a [Term],
    },
    /// `out = a * b`, element by element.
    Product {
        /// The product.
        out: View,
        /// Left operand.
        a: View,
        /// Right operand.
        b: View,
    },
    /// `out = M of`, each row summed from left to right; `M` is row-major in the constants.
    Matrix {
        /// The product.
        out: View,
        /// The vector.
        of: View,
        /// First element of the matrix.
        matrix: Number,
    },
    /// Means of blocks of `factor` x `factor` pixels, summed by rows, times `1 / factor^2`.
    Average {
        /// The smaller picture.
        out: View,
        /// The larger picture.
        of: View,
        /// Its size.
        image: Image,
        /// A divisor of both sides.
        factor: u16,
    },
    /// Every pixel becomes a block of `factor` x `factor`.
    Repeat {
        /// The larger picture.
        out: View,
        /// The smaller picture.
        of: View,
        /// Size of the larger.
        image: Image,
        /// A divisor of both sides.
        factor: u16,
    },
    /// Correlation with a square kernel in every channel, zeros outside, summed by rows of the kernel.
    Blur {
        /// The result.
        out: View,
        /// The picture.
        of: View,
        /// Its size.
        image: Image,
        /// First of `(2 * radius + 1)^2` numbers.
        kernel: Number,
        /// Half the side of the kernel.
        radius: u16,
    },
    /// Standard normal noise of the caller's seed, stream `first + per_round * round`.
    Noise {
        /// What is filled.
        out: View,
        /// Stream in round 0.
        first: u32,
        /// Streams from round to round.
        per_round: u32,
    },
    /// The inner product, summed from left to right.
    Dot {
        /// One element.
        out: View,
        /// Left operand.
        a: View,
        /// Right operand.
        b: View,
    },
    /// `out = yes` where the single element `when` is not negative, else `no`.
    Select {
        /// The result.
        out: View,
        /// One element.
        when: View,
        /// Taken when `when >= 0`.
        yes: View,
        /// Taken otherwise, also when `when` is not a number.
        no: View,
    },
}

/// What a program expects of a network.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Net<'a> {
    /// Name in the program.
    pub name: &'a str,
    /// Inputs, in the order of their numbers.
    pub inputs: &'a [Port<'a>],
    /// Outputs.
    pub outputs: &'a [Port<'a>],
    /// Values of each of its index inputs; 0 if it has none.
    pub rows: u16,
}

/// Who writes a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The caller, before an entry point that reads it.
    Input,
    /// An entry point; the caller reads it.
    Output,
    /// Lives from call to call and is zero after a reset.
    State,
    /// Written by one entry point for another.
    Kept,
}

/// A vector that has a name outside the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lane<'a> {
    /// Its name.
    pub name: &'a str,
    /// Where its words are, or its held bytes.
    pub place: Place,
    /// Who writes it.
    pub role: Role,
    /// Unit, for people.
    pub unit: &'a str,
}

/// Instructions that run `rounds` times.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Block<'a> {
    /// At least 1.
    pub rounds: u16,
    /// In order.
    pub code: &'a [Instruction<'a>],
}

/// A named list of blocks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Entry<'a> {
    /// Name ("generate", "invert", "edit").
    pub name: &'a str,
    /// In order.
    pub blocks: &'a [Block<'a>],
    /// Bit `i`: lane `i` is read before it is written.
    pub needs: u64,
    /// Bit `i`: lane `i` is written.
    pub gives: u64,
}

/// Index inputs that a network of a program may have: a twin has two ([`Net`] of a guided sampler).
pub const INDICES: usize = 2;

/// Named lanes that a program may have.
pub const MAX_LANES: usize = 64;

/// A static program over networks that share one arena.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Program<'a> {
    /// Must be [`PLAN_VERSION`].
    pub version: u16,
    /// Its name.
    pub name: &'a str,
    /// f32 words of memory.
    pub words: u32,
    /// Bytes of held tensors.
    pub held_bytes: u32,
    /// Values of the caller's label; 0 if the program takes none.
    pub labels: u16,
    /// Numbers that instructions use.
    pub constants: &'a [f32],
    /// Networks.
    pub nets: &'a [Net<'a>],
    /// Named lanes.
    pub lanes: &'a [Lane<'a>],
    /// Entry points.
    pub entries: &'a [Entry<'a>],
}

/// A program whose check passed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CheckedProgram<'a>(Program<'a>);

impl<'a> CheckedProgram<'a> {
    /// The program.
    pub const fn program(&self) -> &Program<'a> {
        &self.0
    }
}

/// Why a program is refused. Numbers count from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProgramError {
    /// Written for another version of the runtime.
    Version {
        /// The program's.
        found: u16,
    },
    /// More lanes than [`MAX_LANES`].
    Lanes {
        /// How many.
        have: usize,
    },
    /// A named lane lies outside the memory, or holds bytes and is not kept.
    Lane {
        /// Which.
        lane: usize,
    },
    /// An instruction does not fit: its places, sizes, constants or rows.
    Instruction {
        /// Entry point.
        entry: usize,
        /// Block of it.
        block: usize,
        /// Instruction of the block.
        at: usize,
    },
}

impl core::fmt::Display for ProgramError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match *self {
            ProgramError::Version { found } => {
                write!(f, "the program has version {found} and this runtime reads {PLAN_VERSION}: build it again")
            }
            ProgramError::Lanes { have } => write!(f, "the program names {have} lanes, more than {MAX_LANES}"),
            ProgramError::Lane { lane } => write!(f, "lane {lane} lies outside the program's memory"),
            ProgramError::Instruction { entry, block, at } => write!(
                f,
                "instruction {at} of block {block} of entry point {entry} does not fit its operands: build the program again"
            ),
        }
    }
}

impl core::error::Error for ProgramError {}

impl<'a> Program<'a> {
    /// Proves that every instruction stays inside memory, constants and tables, and that sizes agree.
    ///
    /// # Errors
    /// The first thing that does not.
    pub const fn check(self) -> Result<CheckedProgram<'a>, ProgramError> {
        if self.version != PLAN_VERSION {
            return Err(ProgramError::Version { found: self.version });
        }
        if self.lanes.len() > MAX_LANES {
            return Err(ProgramError::Lanes { have: self.lanes.len() });
        }
        let mut lane = 0;
        while lane < self.lanes.len() {
            let fits = match &self.lanes[lane].place {
                Place::Words(view) => view.fits(self.words, 1),
                Place::Held(view) => view.fits(self.held_bytes, 1) && matches!(self.lanes[lane].role, Role::Kept),
            };
            if !fits {
                return Err(ProgramError::Lane { lane });
            }
            lane += 1;
        }
        let mut entry = 0;
        while entry < self.entries.len() {
            let blocks = self.entries[entry].blocks;
            let mut block = 0;
            while block < blocks.len() {
                let code = blocks[block].code;
                let mut at = 0;
                while at < code.len() {
                    if blocks[block].rounds == 0 || !self.fits(&code[at], blocks[block].rounds) {
                        return Err(ProgramError::Instruction { entry, block, at });
                    }
                    at += 1;
                }
                block += 1;
            }
            entry += 1;
        }
        Ok(CheckedProgram(self))
    }

    const fn fits(&self, instruction: &Instruction<'_>, rounds: u16) -> bool {
        let constants = self.constants.len();
        match instruction {
            Instruction::Call { net, reads, rows, writes } => {
                if *net as usize >= self.nets.len() {
                    return false;
                }
                let net = &self.nets[*net as usize];
                let mut index = 0;
                while index < INDICES {
                    let row = &rows[index];
                    let last = row.base as i64 + row.per_round as i64 * (rounds as i64 - 1);
                    let label = if row.label { self.labels.saturating_sub(1) as i64 } else { 0 };
                    let most = if last > row.base as i64 { last } else { row.base as i64 } + label;
                    if last < 0 || most >= if net.rows == 0 { 1 } else { net.rows as i64 } {
                        return false;
                    }
                    index += 1;
                }
                reads.len() == net.inputs.len()
                    && self.transfers_fit(reads, net.inputs, rounds)
                    && self.transfers_fit(writes, net.outputs, rounds)
            }
            Instruction::Combine { out, terms } => {
                let mut i = 0;
                while i < terms.len() {
                    let term = &terms[i];
                    if !self.elementwise(out, &term.of, rounds) || !term.factor.fits(1, constants, rounds) {
                        return false;
                    }
                    i += 1;
                }
                !terms.is_empty() && out.fits(self.words, rounds)
            }
            Instruction::Product { out, a, b } => {
                out.fits(self.words, rounds) && self.elementwise(out, a, rounds) && self.elementwise(out, b, rounds)
            }
            Instruction::Matrix { out, of, matrix } => {
                let count = out.len as u64 * of.len as u64;
                self.apart(out, of, rounds)
                    && count <= u32::MAX as u64
                    && matrix.fits(count as usize, constants, rounds)
            }
            Instruction::Average { out, of, image, factor } => {
                self.apart(out, of, rounds) && scaled(image, *factor, of.len, out.len)
            }
            Instruction::Repeat { out, of, image, factor } => {
                self.apart(out, of, rounds) && scaled(image, *factor, out.len, of.len)
            }
            Instruction::Blur { out, of, image, kernel, radius } => {
                let side = 2 * *radius as usize + 1;
                self.apart(out, of, rounds)
                    && out.len as usize == image.elements()
                    && of.len == out.len
                    && kernel.fits(side * side, constants, rounds)
            }
            Instruction::Noise { out, .. } => out.fits(self.words, rounds),
            Instruction::Dot { out, a, b } => {
                out.len == 1 && a.len == b.len && self.apart(out, a, rounds) && self.apart(out, b, rounds)
            }
            Instruction::Select { out, when, yes, no } => {
                when.len == 1
                    && self.apart(out, when, rounds)
                    && self.elementwise(out, yes, rounds)
                    && self.elementwise(out, no, rounds)
            }
        }
    }

    const fn transfers_fit(&self, transfers: &[Transfer], ports: &[Port<'_>], rounds: u16) -> bool {
        let mut i = 0;
        while i < transfers.len() {
            let Transfer { port, place } = &transfers[i];
            if *port as usize >= ports.len() {
                return false;
            }
            let elements = ports[*port as usize].slot.elements();
            let fits = match place {
                Place::Words(view) => view.len as usize == elements && view.fits(self.words, rounds),
                Place::Held(view) => view.len as usize == elements && view.fits(self.held_bytes, rounds),
            };
            if !fits {
                return false;
            }
            i += 1;
        }
        true
    }

    /// Same size, and the same place or none in common.
    const fn elementwise(&self, out: &View, of: &View, rounds: u16) -> bool {
        of.len == out.len && of.fits(self.words, rounds) && out.fits(self.words, rounds) && !out.collides(of, rounds)
    }

    /// No place in common.
    const fn apart(&self, out: &View, of: &View, rounds: u16) -> bool {
        of.fits(self.words, rounds) && out.fits(self.words, rounds) && !out.meets(of, rounds)
    }
}

const fn scaled(image: &Image, factor: u16, large: u32, small: u32) -> bool {
    factor > 0
        && image.height.is_multiple_of(factor)
        && image.width.is_multiple_of(factor)
        && large as usize == image.elements()
        && small as usize * factor as usize * factor as usize == image.elements()
}

//! Every kernel of flowlet against its textbook reference with `==`, over shape space: one suite for hosts and
//! firmware.
//!
//! Each row of the suite is one kernel: an operator and the instruction set (and packing) that executed it. A case
//! compares the whole arena, so that a stray write shows too.
#![no_std]
#![forbid(unsafe_code)]

mod cases;
mod memory;
mod random;

pub use cases::Limit;
pub use memory::{ARENA_BYTES, CONSTANT_BYTES, Memory};

use flowlet_kernels::isa::is_available;
use flowlet_kernels::plan::{Isa, Packing, Slot, Step};
use flowlet_kernels::{add, conv, map, matmul, mul, norm, pool, shuffle, softmax, transpose};
use random::Random;

/// What one kernel did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The operator.
    pub op: &'static str,
    /// The instruction set whose kernel ran.
    pub isa: Isa,
    /// The packing, for operators that have several.
    pub packing: Option<Packing>,
    /// Cases that ran.
    pub cases: u32,
    /// Cases whose arena differed from the reference's.
    pub mismatches: u32,
    /// The first of them.
    pub first: Option<u32>,
}

/// Runs every kernel of this build and processor for `cases` cases, and tells each row when it is done. Returns the
/// number of mismatches.
pub fn run(memory: &mut Memory, cases: u32, limit: Limit, mut tell: impl FnMut(&Row)) -> u32 {
    let mut suite = Suite { memory, cases, mismatches: 0, tell: &mut tell };
    for &packing in conv::PACKINGS {
        if !is_available(packing.isa()) {
            continue;
        }
        suite.row("conv", packing.isa(), Some(packing), |random, constants, arenas| {
            let step = cases::conv(random, constants, packing, ARENA_BYTES, limit)?;
            let row = random.below(3) as usize;
            arenas.compare(
                random,
                &Step::Conv(step),
                row,
                |a| conv::run(a, &step, row),
                |b, a| conv::reference::run(b, a, &step, row),
            );
            Some(())
        });
        if packing.is_depthwise() {
            continue;
        }
        suite.row("conv_transpose", packing.isa(), Some(packing), |random, constants, arenas| {
            let step = cases::conv_transpose(random, constants, packing, ARENA_BYTES, limit)?;
            let row = random.below(3) as usize;
            arenas.compare(
                random,
                &Step::ConvTranspose(step),
                row,
                |a| conv::run_transpose(a, &step, row),
                |b, a| conv::reference::run_transpose(b, a, &step, row),
            );
            Some(())
        });
    }
    #[cfg(all(feature = "std", target_arch = "x86_64"))]
    modelled(&mut suite, limit);
    suite.row("matmul", matmul::isa(), None, |random, _, arenas| {
        let step = cases::matmul(random, ARENA_BYTES, limit)?;
        let of = Step::MatMul(step);
        arenas.compare(random, &of, 0, |a| matmul::run(a, &step), |b, a| matmul::reference::run(b, a, &step));
        Some(())
    });
    suite.row("add", add::isa(), None, |random, constants, arenas| {
        let step = cases::add(random, constants, ARENA_BYTES)?;
        let of = Step::Add(step);
        arenas.compare(random, &of, 0, |a| add::run(a, &step), |b, a| add::reference::run(b, a, &step));
        Some(())
    });
    suite.row("mul", mul::isa(), None, |random, constants, arenas| {
        let step = cases::mul(random, constants, ARENA_BYTES)?;
        let of = Step::Mul(step);
        arenas.compare(random, &of, 0, |a| mul::run(a, &step), |b, a| mul::reference::run(b, a, &step));
        Some(())
    });
    suite.row("map", map::isa(), None, |random, constants, arenas| {
        let step = cases::map(random, constants, ARENA_BYTES)?;
        let of = Step::Map(step);
        arenas.compare(random, &of, 0, |a| map::run(a, &step), |b, a| map::reference::run(b, a, &step));
        Some(())
    });
    suite.row("softmax", softmax::isa(), None, |random, constants, arenas| {
        let step = cases::softmax(random, constants, ARENA_BYTES)?;
        let of = Step::Softmax(step);
        arenas.compare(random, &of, 0, |a| softmax::run(a, &step), |b, a| softmax::reference::run(b, a, &step));
        Some(())
    });
    suite.row("norm", norm::isa(), None, |random, constants, arenas| {
        let step = cases::norm(random, constants, ARENA_BYTES)?;
        let of = Step::Norm(step);
        arenas.compare(random, &of, 0, |a| norm::run(a, &step), |b, a| norm::reference::run(b, a, &step));
        Some(())
    });
    suite.row("pool", pool::isa(), None, |random, _, arenas| {
        let step = cases::pool(random, ARENA_BYTES)?;
        let of = Step::Pool(step);
        arenas.compare(random, &of, 0, |a| pool::run(a, &step), |b, a| pool::reference::run(b, a, &step));
        Some(())
    });
    suite.row("shuffle", shuffle::isa(), None, |random, _, arenas| {
        let step = cases::shuffle(random, ARENA_BYTES)?;
        let of = Step::Shuffle(step);
        arenas.compare(random, &of, 0, |a| shuffle::run(a, &step), |b, a| shuffle::reference::run(b, a, &step));
        Some(())
    });
    suite.row("transpose", transpose::isa(), None, |random, _, arenas| {
        let step = cases::transpose(random, ARENA_BYTES)?;
        let of = Step::Transpose(step);
        arenas.compare(random, &of, 0, |a| transpose::run(a, &step), |b, a| transpose::reference::run(b, a, &step));
        Some(())
    });
    suite.mismatches
}

/// The kernels for AVX-512 VNNI over a model of its instructions, which many processors do not have.
#[cfg(all(feature = "std", target_arch = "x86_64"))]
fn modelled(suite: &mut Suite<'_, impl FnMut(&Row)>, limit: Limit) {
    let packing = conv::AVX512_PANELS;
    suite.row("conv (model)", packing.isa(), Some(packing), |random, constants, arenas| {
        let step = cases::conv(random, constants, packing, ARENA_BYTES, limit)?;
        let row = random.below(3) as usize;
        arenas.compare_whole(
            random,
            None,
            |a| conv::run_modelled(a, &step, row),
            |b, a| conv::reference::run(b, a, &step, row),
        );
        Some(())
    });
    suite.row("conv_transpose (model)", packing.isa(), Some(packing), |random, constants, arenas| {
        let step = cases::conv_transpose(random, constants, packing, ARENA_BYTES, limit)?;
        let row = random.below(3) as usize;
        arenas.compare_whole(
            random,
            None,
            |a| conv::run_transpose_modelled(a, &step, row),
            |b, a| conv::reference::run_transpose(b, a, &step, row),
        );
        Some(())
    });
}

struct Suite<'m, T> {
    memory: &'m mut Memory,
    cases: u32,
    mismatches: u32,
    tell: &'m mut T,
}

impl<T: FnMut(&Row)> Suite<'_, T> {
    fn row(
        &mut self,
        op: &'static str,
        isa: Isa,
        packing: Option<Packing>,
        mut case: impl FnMut(&mut Random, &mut [u8], &mut Arenas<'_>) -> Option<()>,
    ) {
        let mut row = Row { op, isa, packing, cases: 0, mismatches: 0, first: None };
        let mut random = Random(2);
        // Cases that are too large are drawn again, never counted.
        for _ in 0..self.cases.saturating_mul(200) {
            if row.cases == self.cases {
                break;
            }
            let Memory { before, got, want, constants } = &mut *self.memory;
            let mut arenas = Arenas { before, got, want, equal: true };
            if case(&mut random, constants, &mut arenas).is_none() {
                continue;
            }
            if !arenas.equal {
                row.mismatches += 1;
                row.first = row.first.or(Some(row.cases));
            }
            row.cases += 1;
        }
        self.mismatches += row.mismatches;
        (self.tell)(&row);
    }
}

/// The arenas of one case.
struct Arenas<'m> {
    before: &'m mut [i8; ARENA_BYTES],
    got: &'m mut [i8; ARENA_BYTES],
    want: &'m mut [i8; ARENA_BYTES],
    equal: bool,
}

impl Arenas<'_> {
    /// Runs both on the same random bytes and compares every byte, except the scratch memory's. On hosts, where threads
    /// share steps, runs the step in parts too.
    fn compare(
        &mut self,
        random: &mut Random,
        step: &Step<'_>,
        row: usize,
        kernel: impl FnOnce(&mut [i8]),
        reference: impl FnOnce(&[i8], &mut [i8]),
    ) {
        self.compare_whole(random, step.scratch(), kernel, reference);
        if cfg!(feature = "std") {
            let parts = 2 + random.below(3) as usize;
            self.equal &= self.equals_after(step.scratch(), |arena| {
                for part in (0..parts).filter_map(|part| step.part(row, part, parts)) {
                    flowlet_kernels::step::run(arena, &part, 0);
                }
            });
        }
    }

    /// As [`Self::compare`], without parts.
    fn compare_whole(
        &mut self,
        random: &mut Random,
        scratch: Option<&Slot>,
        kernel: impl FnOnce(&mut [i8]),
        reference: impl FnOnce(&[i8], &mut [i8]),
    ) {
        random.fill(self.before);
        self.want.copy_from_slice(self.before);
        reference(self.before, self.want);
        self.equal = self.equals_after(scratch, kernel);
    }

    fn equals_after(&mut self, scratch: Option<&Slot>, kernel: impl FnOnce(&mut [i8])) -> bool {
        self.got.copy_from_slice(self.before);
        kernel(self.got);
        if let Some(scratch) = scratch {
            let range = scratch.offset as usize..scratch.end();
            if let (Some(got), Some(want)) = (self.got.get_mut(range.clone()), self.want.get(range)) {
                got.copy_from_slice(want);
            }
        }
        self.got == self.want
    }
}

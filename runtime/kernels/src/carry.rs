//! Arithmetic on a program's lanes: scalar f32 in the order that [`flowlet_plan::program::Instruction`] states.
//!
//! Every function reads and writes one memory of words, so that operands may share it. Places outside the memory read as
//! zero and are not written: a checked program has none, and the device code has no panic path. Each operation is one
//! IEEE 754 operation; Rust never contracts a product and a sum into a fused one.

use crate::noise;
use flowlet_plan::program::{Image, Instruction, Number, Term, View};

/// The memory and the constants that an instruction works on.
#[derive(Debug)]
pub struct Carry<'a> {
    /// Lanes.
    pub words: &'a mut [f32],
    /// Constants.
    pub constants: &'a [f32],
    /// Round of the block.
    pub round: u16,
    /// The caller's seed.
    pub seed: u64,
}

impl Carry<'_> {
    /// Runs an instruction that is not a call; a call does nothing here.
    pub fn run(&mut self, instruction: &Instruction<'_>) {
        match *instruction {
            Instruction::Call { .. } => {}
            Instruction::Combine { out, terms } => self.combine(out, terms),
            Instruction::Product { out, a, b } => {
                for i in 0..out.len as usize {
                    let product = self.get(a, i) * self.get(b, i);
                    self.set(out, i, product);
                }
            }
            Instruction::Matrix { out, of, matrix } => self.matrix(out, of, matrix),
            Instruction::Average { out, of, image, factor } => self.average(out, of, image, factor),
            Instruction::Repeat { out, of, image, factor } => self.repeat(out, of, image, factor),
            Instruction::Blur { out, of, image, kernel, radius } => self.blur(out, of, image, kernel, radius),
            Instruction::Noise { out, first, per_round } => {
                let start = out.start(self.round);
                let stream = first.wrapping_add(per_round.wrapping_mul(u32::from(self.round)));
                if let Some(place) = self.words.get_mut(start..start.wrapping_add(out.len as usize)) {
                    noise::fill_f32(place, self.seed, stream);
                }
            }
            Instruction::Dot { out, a, b } => {
                let mut sum = 0.0;
                for i in 0..a.len as usize {
                    sum += self.get(a, i) * self.get(b, i);
                }
                self.set(out, 0, sum);
            }
            Instruction::Select { out, when, yes, no } => {
                // Both are read, so that the number of executed instructions does not depend on the choice.
                let take = u32::from(self.get(when, 0) >= 0.0).wrapping_neg();
                for i in 0..out.len as usize {
                    let (yes, no) = (self.get(yes, i).to_bits(), self.get(no, i).to_bits());
                    self.set(out, i, f32::from_bits(yes & take | no & !take));
                }
            }
        }
    }

    #[inline(always)]
    fn get(&self, view: View, i: usize) -> f32 {
        self.words.get(view.start(self.round).wrapping_add(i)).copied().unwrap_or(0.0)
    }

    #[inline(always)]
    fn set(&mut self, view: View, i: usize, value: f32) {
        if let Some(place) = self.words.get_mut(view.start(self.round).wrapping_add(i)) {
            *place = value;
        }
    }

    #[inline(always)]
    fn constant(&self, number: Number, i: usize) -> f32 {
        self.constants.get(number.index(self.round).wrapping_add(i)).copied().unwrap_or(0.0)
    }

    fn combine(&mut self, out: View, terms: &[Term]) {
        let Some((first, rest)) = terms.split_first() else { return };
        for i in 0..out.len as usize {
            let mut sum = self.constant(first.factor, 0) * self.get(first.of, i);
            for term in rest {
                sum += self.constant(term.factor, 0) * self.get(term.of, i);
            }
            self.set(out, i, sum);
        }
    }

    fn matrix(&mut self, out: View, of: View, matrix: Number) {
        let columns = of.len as usize;
        for row in 0..out.len as usize {
            let mut sum = 0.0;
            for column in 0..columns {
                sum += self.constant(matrix, row * columns + column) * self.get(of, column);
            }
            self.set(out, row, sum);
        }
    }

    fn average(&mut self, out: View, of: View, image: Image, factor: u16) {
        let Some(small) = smaller(image, factor) else { return };
        let side = usize::from(factor);
        let share = 1.0 / (side * side) as f32;
        for y in 0..usize::from(small.height) {
            for x in 0..usize::from(small.width) {
                for c in 0..usize::from(small.channels) {
                    let mut sum = 0.0;
                    for dy in 0..side {
                        for dx in 0..side {
                            sum += self.get(of, at(image, y * side + dy, x * side + dx, c));
                        }
                    }
                    self.set(out, at(small, y, x, c), sum * share);
                }
            }
        }
    }

    fn repeat(&mut self, out: View, of: View, image: Image, factor: u16) {
        let Some(small) = smaller(image, factor) else { return };
        let side = usize::from(factor);
        for y in 0..usize::from(small.height) {
            for x in 0..usize::from(small.width) {
                for c in 0..usize::from(small.channels) {
                    let value = self.get(of, at(small, y, x, c));
                    for dy in 0..side {
                        for dx in 0..side {
                            self.set(out, at(image, y * side + dy, x * side + dx, c), value);
                        }
                    }
                }
            }
        }
    }

    fn blur(&mut self, out: View, of: View, image: Image, kernel: Number, radius: u16) {
        let (height, width, reach) = (usize::from(image.height), usize::from(image.width), usize::from(radius));
        let side = 2 * reach + 1;
        for y in 0..height {
            for x in 0..width {
                for c in 0..usize::from(image.channels) {
                    let mut sum = 0.0;
                    for ky in 0..side {
                        for kx in 0..side {
                            // Rows and columns outside are past the end after the wrapping subtraction.
                            let (sy, sx) = ((y + ky).wrapping_sub(reach), (x + kx).wrapping_sub(reach));
                            if sy < height && sx < width {
                                sum += self.constant(kernel, ky * side + kx) * self.get(of, at(image, sy, sx, c));
                            }
                        }
                    }
                    self.set(out, at(image, y, x, c), sum);
                }
            }
        }
    }
}

fn smaller(image: Image, factor: u16) -> Option<Image> {
    let height = image.height.checked_div(factor)?;
    let width = image.width.checked_div(factor)?;
    Some(Image { height, width, channels: image.channels })
}

/// Position of a value in NHWC order.
fn at(image: Image, y: usize, x: usize, c: usize) -> usize {
    (y * usize::from(image.width) + x) * usize::from(image.channels) + c
}

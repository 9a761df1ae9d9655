//! Products of two tensors that are both computed at run time: attention.

use super::conv::{scratch_bytes, scratch_fits};
use super::packing::Packing;
use crate::isa::Isa;
use crate::slot::{DType, Slot};

/// How a tensor holds several matrices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// Matrix `n` is image row `n`; its rows are the pixels of that image row.
    Rows,
    /// Matrix `n` is channels `n * channels / batch ..` (a head); its rows are all pixels.
    Channels,
}

/// Where the matrices of one operand of a [`MatMul`] lie. A matrix row is contiguous.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Matrices {
    /// The tensor.
    pub slot: Slot,
    /// How the batch lies in it.
    pub split: Split,
}

impl Matrices {
    /// Rows of one matrix.
    #[inline(always)]
    pub const fn rows(&self) -> usize {
        match self.split {
            Split::Rows => self.slot.width as usize,
            Split::Channels => self.slot.pixels(),
        }
    }

    /// Columns of one matrix, for a batch of `batch`.
    #[inline(always)]
    pub const fn columns(&self, batch: u16) -> usize {
        match self.split {
            Split::Rows => self.slot.channels as usize,
            // No plan has an empty batch; no check of the divisor may stay in firmware.
            Split::Channels => match (self.slot.channels as usize).checked_div(batch as usize) {
                Some(columns) => columns,
                None => 0,
            },
        }
    }

    /// First byte in the arena of row `row` of matrix `n`.
    #[inline(always)]
    pub const fn row(&self, batch: u16, n: usize, row: usize) -> usize {
        let pitch = self.slot.pitch as usize;
        self.slot.offset as usize
            + match self.split {
                Split::Rows => (n * self.slot.width as usize + row) * pitch,
                Split::Channels => row * pitch + n * self.columns(batch),
            }
    }

    #[inline(always)]
    const fn fits(&self, batch: u16, arena_bytes: usize) -> bool {
        self.slot.fits(arena_bytes)
            && self.slot.dtype as u8 == DType::S8 as u8
            && match self.split {
                Split::Rows => self.slot.height == batch,
                Split::Channels => self.slot.channels.is_multiple_of(batch),
            }
    }
}

/// `batch` products of s8 matrices `[m, k] x [k, n]`, each requantised by one multiplier.
///
/// `acc = sum_k (a[m][k] - a_zero_point) * b[k][n]`; the right operand is symmetric (its zero point is 0), so
/// `-a_zero_point * sum_k b[k][n]` is the only correction, made once for each column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MatMul {
    /// Left operand, rows of `k`.
    pub a: Matrices,
    /// Right operand: rows of `k` if `transposed` (row `n` is column `n` of the product's right side), else `k` rows
    /// of `n`.
    pub b: Matrices,
    /// Result, rows of `n`; must not overlap an operand.
    pub output: Matrices,
    /// Number of products (heads).
    pub batch: u16,
    /// Whether `b` holds the transpose of the right side.
    pub transposed: bool,
    /// Zero point of `a`.
    pub a_zero_point: i8,
    /// Requantise multiplier; even and positive.
    pub multiplier: i32,
    /// Requantise left shift, 0 to 30.
    pub left_shift: u8,
    /// Zero point of the result.
    pub zero_point: i8,
    /// Memory that the kernel may use while it runs, if any; with less than [`matmul_scratch_bytes`] it is slower.
    pub scratch: Option<Slot>,
}

impl MatMul {
    /// Rows of the left side and the result.
    #[inline(always)]
    pub const fn m(&self) -> usize {
        self.a.rows()
    }

    /// Length of a dot product.
    #[inline(always)]
    pub const fn k(&self) -> usize {
        self.a.columns(self.batch)
    }

    /// Columns of the result.
    #[inline(always)]
    pub const fn n(&self) -> usize {
        self.output.columns(self.batch)
    }

    /// Multiply-accumulates of one call.
    pub const fn macs(&self) -> u64 {
        self.batch as u64 * self.m() as u64 * self.k() as u64 * self.n() as u64
    }

    /// Whether every slot is inside the arena and the shapes agree.
    #[inline(always)]
    pub const fn fits(&self, arena_bytes: usize) -> bool {
        if self.batch == 0
            || !self.a.fits(self.batch, arena_bytes)
            || !self.b.fits(self.batch, arena_bytes)
            || !self.output.fits(self.batch, arena_bytes)
        {
            return false;
        }
        let (rows, columns) = (self.b.rows(), self.b.columns(self.batch));
        let (k, n) = if self.transposed { (columns, rows) } else { (rows, columns) };
        k == self.k()
            && n == self.n()
            && self.output.rows() == self.m()
            && self.k() > 0
            && self.n() > 0
            && self.multiplier > 0
            && self.left_shift <= 30
            && scratch_fits(&self.scratch, 0, arena_bytes)
    }
}

/// Bytes of scratch with which the instruction set's kernel is fastest, for a right side of `k` rows and `n` columns.
#[inline(always)]
pub const fn matmul_scratch_bytes(isa: Isa, k: usize, n: usize) -> usize {
    match isa {
        // The packed right side, a bias and a multiplier for each column, and the convolution's own.
        Isa::ArmDsp => {
            let packing = Packing::DspPairs;
            let right = packing.bytes(n, [1, 1], k) + 8 * packing.padded_outputs(n);
            right + scratch_bytes(packing, [1, 1], k) + 8
        }
        Isa::Scalar | Isa::ArmMve | Isa::Neon | Isa::NeonDot | Isa::NeonI8mm | Isa::Avx2 | Isa::Avx512Vnni => 0,
    }
}

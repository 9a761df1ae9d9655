//! Convolution on x86-64 with AVX-512 VNNI: twelve pixels by thirty-two channels, VPDPBUSD on four products of sixteen
//! channels.
//!
//! VPDPBUSD multiplies unsigned by signed bytes: windows are gathered as `x + 128`, and `128 * sum(w)` of each channel,
//! which one more VPDPBUSD computes beside each block of pixels, is taken off again. Sums wrap and never saturate.
//!
//! The kernel is written over [`Vector`], the few operations that it needs, so that its logic is tested on processors
//! without them too ([`model`]).

mod avx512;
pub(super) mod model;
mod vector;

use core::mem::MaybeUninit;

use super::layer::Layer;
use crate::plan::{Conv, ConvTranspose, HOST_PRODUCTS};
use crate::table::lookup;
use vector::Vector;

pub(super) use avx512::{run, run_transpose};

/// Output channels of a panel: the lanes of a vector.
const NR: usize = 16;
/// Products that lie together.
const KR: usize = 4;
/// Most pixels in registers.
const MR: usize = 12;
/// Pixels whose windows are gathered at a time: with a pair of panels they fill the first-level cache.
const BLOCK: usize = 2 * MR;

/// Runs a convolution packed as [`super::AVX512_PANELS`]; `bias` is the first word of a row of the bank.
///
/// # Safety
/// `arena` must be valid for reads and writes of a number of bytes for which `step.fits(bytes)` holds, and the processor
/// have the instructions of `V`.
#[inline(always)]
unsafe fn run_with<V: Vector>(arena: *mut i8, step: &Conv<'_>, bias: *const u8) {
    // SAFETY: the same condition.
    unsafe { Kernel(Layer::of(arena, step, bias)).run::<V>(arena) }
}

/// Runs a transposed convolution packed as [`super::AVX512_PANELS`], phase by phase; `bias` is the part of the row for
/// the first phase.
///
/// # Safety
/// As [`run_with`].
#[inline(always)]
unsafe fn run_transpose_with<V: Vector>(arena: *mut i8, step: &ConvTranspose<'_>, bias: *const u8) {
    for layer in Layer::of_phases(arena, step, bias) {
        // SAFETY: the same condition.
        unsafe { Kernel(layer).run::<V>(arena) }
    }
}

/// What runs a layer.
struct Kernel<'s>(Layer<'s>);

/// Windows of neighbouring pixels in the buffer, and where their results go.
#[derive(Clone, Copy)]
struct Windows<'s> {
    /// The first byte of the first.
    first: *const u8,
    /// Bytes of one.
    products: usize,
    /// Numbers of the output pixels.
    pixels: &'s [usize],
}

impl Kernel<'_> {
    /// # Safety
    /// As [`run_with`].
    #[inline(always)]
    unsafe fn run<V: Vector>(&self, arena: *mut i8) {
        let (filter, products) = (self.0.products(), self.0.padded_products());
        let mut buffer = MaybeUninit::<[u8; HOST_PRODUCTS]>::uninit();
        let buffer = buffer.as_mut_ptr().cast::<u8>();
        let [rows, columns] = self.0.geometry.pixels;
        let most = HOST_PRODUCTS.checked_div(products).map_or(BLOCK, |windows| windows.min(BLOCK));
        let mut numbers = [0; BLOCK];
        let mut first = 0;
        while first < rows * columns {
            let count = (rows * columns - first).min(most);
            for (p, number) in numbers.iter_mut().enumerate().take(count) {
                let at = [(first + p) / columns, (first + p) % columns];
                *number = self.0.geometry.pixel(at);
                // SAFETY: `fits` keeps one window within the buffer, and `most` of them; the pixel is one of the
                // geometry.
                unsafe {
                    let window = buffer.add(p * products);
                    self.0.geometry.gather(arena, self.0.input, self.0.zero_point, at, window.cast());
                    window.add(filter).write_bytes(0, products - filter);
                    for i in 0..filter {
                        *window.add(i) ^= 0x80;
                    }
                }
            }
            // SAFETY: the windows of these pixels are in the buffer.
            unsafe { self.block::<V>(arena, Windows { first: buffer, products, pixels: &numbers[..count] }) };
            first += count;
        }
    }

    /// All channels of a block of pixels.
    ///
    /// # Safety
    /// As [`run_with`], with the windows readable and their pixels inside the output.
    #[inline(always)]
    unsafe fn block<V: Vector>(&self, arena: *mut i8, windows: Windows<'_>) {
        let panels = (self.0.output.channels as usize).div_ceil(NR);
        let mut panel = 0;
        while panel < panels {
            // SAFETY: there are weights and constants for `panels` panels.
            panel += unsafe {
                match (panels - panel, windows.pixels.len()) {
                    // One pixel has too few sums to hide the latency of a product.
                    (4.., 1) => self.panels::<V, 4>(arena, windows, panel),
                    (2.., _) => self.panels::<V, 2>(arena, windows, panel),
                    _ => self.panels::<V, 1>(arena, windows, panel),
                }
            };
        }
    }

    /// `P` panels of a block of pixels; returns `P`.
    ///
    /// # Safety
    /// As [`Self::block`], with `panel + P` at most the number of panels.
    #[inline(always)]
    unsafe fn panels<V: Vector, const P: usize>(&self, arena: *mut i8, windows: Windows<'_>, panel: usize) -> usize {
        let products = windows.products;
        // SAFETY: a panel holds `NR * products` bytes, and `NR` words of each constant.
        unsafe {
            let weights = self.0.weights.add(panel * NR * products);
            let mut constants = [Constants { bias: V::zero(), multipliers: V::zero() }; P];
            let offsets = offsets::<V, P>(weights, products);
            for (p, (constants, offset)) in constants.iter_mut().zip(offsets).enumerate() {
                let at = 4 * NR * (panel + p);
                constants.bias = V::load(self.0.bias.add(at)).minus(offset);
                constants.multipliers = V::load(self.0.epilogue.multipliers.as_ptr().add(at));
            }
            let mut done = 0;
            while done < windows.pixels.len() {
                let left = windows.pixels.len() - done;
                // Tiles of about one size.
                let tile = left.div_ceil(left.div_ceil(MR));
                let part = Windows {
                    first: windows.first.add(done * products),
                    products,
                    pixels: &windows.pixels[done..done + tile],
                };
                macro_rules! tiles {
                    ($($m:literal)*) => {
                        match tile {
                            $($m => self.tile::<V, $m, P>(arena, part, weights, panel, &constants),)*
                            _ => self.tile::<V, MR, P>(arena, part, weights, panel, &constants),
                        }
                    };
                }
                tiles!(1 2 3 4 5 6 7 8 9 10 11);
                done += tile;
            }
        }
        P
    }

    /// `M` pixels by `P` panels: accumulators, epilogue, store.
    ///
    /// # Safety
    /// As [`Self::panels`], with `M` windows.
    #[inline(always)]
    unsafe fn tile<V: Vector, const M: usize, const P: usize>(
        &self,
        arena: *mut i8,
        windows: Windows<'_>,
        weights: *const u8,
        panel: usize,
        constants: &[Constants<V>; P],
    ) {
        let products = windows.products;
        let mut acc = [[V::zero(); P]; M];
        let mut k = 0;
        while k < products {
            // SAFETY: step `k` of a panel is `NR * KR` bytes, and `KR` bytes of each window.
            unsafe {
                let mut w = [V::zero(); P];
                for (p, w) in w.iter_mut().enumerate() {
                    *w = V::load(weights.add(NR * (p * products + k)));
                }
                for (m, acc) in acc.iter_mut().enumerate() {
                    let x = V::broadcast(windows.first.add(m * products + k).cast::<i32>().read_unaligned());
                    for (acc, w) in acc.iter_mut().zip(w) {
                        *acc = acc.dot(x, w);
                    }
                }
            }
            k += KR;
        }
        for (acc, &pixel) in acc.into_iter().zip(windows.pixels) {
            for (p, (acc, constants)) in acc.into_iter().zip(constants).enumerate() {
                // SAFETY: the pixel and the panel's first channel are inside the output.
                unsafe { self.finish(arena, acc, pixel, (panel + p) * NR, constants) };
            }
        }
    }

    /// Sixteen accumulators to bytes: requantise, residual, table, store of the channels that exist.
    ///
    /// # Safety
    /// As [`run_with`], with `pixel` and channel `o` inside the output.
    #[inline(always)]
    unsafe fn finish<V: Vector>(&self, arena: *mut i8, acc: V, pixel: usize, o: usize, constants: &Constants<V>) {
        let epilogue = self.0.epilogue;
        let acc = acc.plus(constants.bias);
        let mut q = acc.requantise(epilogue.left_shift, constants.multipliers, epilogue.zero_point);
        let width = (self.0.output.channels as usize - o).min(NR);
        // SAFETY: the output's and the residual's spans hold `width` channels from `o` on of each pixel; a whole panel
        // is loaded and stored at once only where all its channels exist.
        unsafe {
            if let Some(residual) = &epilogue.residual {
                let slot = &residual.slot;
                let from = arena.add(slot.offset as usize + pixel * slot.pitch as usize + o).cast_const();
                let mut other = [0; NR];
                if width == NR {
                    other = from.cast::<[i8; NR]>().read_unaligned();
                } else {
                    other.as_mut_ptr().copy_from_nonoverlapping(from, width);
                }
                q = V::sum(q, other, &residual.params);
            }
            if let Some(table) = epilogue.table {
                q = q.map(|q| lookup(table, q));
            }
            let to = arena.add(self.0.output.offset as usize + pixel * self.0.output.pitch as usize + o);
            if width == NR {
                to.cast::<[i8; NR]>().write_unaligned(q);
            } else {
                to.copy_from_nonoverlapping(q.as_ptr(), width);
            }
        }
    }
}

/// What the epilogue of a panel needs, loaded once.
#[derive(Clone, Copy)]
struct Constants<V> {
    /// Less what the offset of the windows adds.
    bias: V,
    multipliers: V,
}

/// `128 * sum(w)` of each channel of `P` panels: what the offset of the windows adds to their accumulators.
///
/// # Safety
/// `weights` must be readable for `P * NR * products` bytes.
#[inline(always)]
unsafe fn offsets<V: Vector, const P: usize>(weights: *const u8, products: usize) -> [V; P] {
    let offset = V::broadcast(i32::from_ne_bytes([0x80; KR]));
    let mut acc = [V::zero(); P];
    let mut k = 0;
    while k < products {
        for (p, acc) in acc.iter_mut().enumerate() {
            // SAFETY: `p < P`, and step `k` of a panel is `NR * KR` bytes.
            *acc = acc.dot(offset, unsafe { V::load(weights.add(NR * (p * products + k))) });
        }
        k += KR;
    }
    acc
}

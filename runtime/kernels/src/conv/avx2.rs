//! Convolution on x86-64 with AVX2: six pixels by sixteen channels, VPMADDWD on pairs of products.
//!
//! Windows of a block of pixels are gathered and widened to 16 bits on the stack; then every panel of weights is read
//! once for all pixels of the block. VPMADDWD of widened bytes is exact, where VPMADDUBSW would saturate.

use core::arch::x86_64::*;
use core::mem::MaybeUninit;

use super::epilogue::bias_row;
use super::geometry::Geometry;
use crate::plan::{Conv, ConvTranspose, Epilogue, HOST_PRODUCTS, Slot};
use crate::table::lookup;

/// Output channels of a panel.
pub(crate) const NR: usize = 16;
/// Products that lie together.
pub(crate) const KR: usize = 2;
/// Pixels in registers.
pub(crate) const MR: usize = 6;
/// Pixels whose windows are gathered at a time.
const BLOCK: usize = 4 * MR;
/// Widened activations on the stack for most layers: stack pages that are never touched cost nothing, but each page of
/// a frame is probed.
const SMALL: usize = 16 * 1024;
/// For the others: four windows of any length.
const LARGE: usize = 4 * HOST_PRODUCTS;

/// Runs a convolution packed as [`super::AVX2_PANELS`].
///
/// # Safety
/// `arena` must be valid for reads and writes of a number of bytes for which `step.fits(bytes)` holds, `row` be less
/// than the rows of the bias bank, and the processor have AVX2.
pub(super) unsafe fn run(arena: *mut i8, step: &Conv<'_>, row: usize) {
    // SAFETY: `row` is inside the bank; the rest is the same condition.
    unsafe {
        let layer = Layer {
            geometry: Geometry::of(step),
            input: &step.input,
            output: &step.output,
            zero_point: step.input_zero_point,
            epilogue: &step.epilogue,
            weights: step.weights.as_ptr(),
            bias: bias_row(&step.epilogue, row),
        };
        layer.run(arena);
    }
}

/// Runs a transposed convolution packed as [`super::AVX2_PANELS`], phase by phase.
///
/// # Safety
/// As [`run`], with `row` less than `step.rows()`.
pub(super) unsafe fn run_transpose(arena: *mut i8, step: &ConvTranspose<'_>, row: usize) {
    for r in 0..step.stride[0] {
        for c in 0..step.stride[1] {
            let phase = r as usize * step.stride[1] as usize + c as usize;
            // SAFETY: each row of the bank has a part for each phase, and each phase has its weights.
            unsafe {
                let layer = Layer {
                    geometry: Geometry::of_phase(step, [r, c]),
                    input: &step.input,
                    output: &step.output,
                    zero_point: step.input_zero_point,
                    epilogue: &step.epilogue,
                    weights: step.weights.as_ptr().add(step.phase_offset([r, c])),
                    bias: bias_row(&step.epilogue, row * step.phases() + phase),
                };
                layer.run(arena);
            }
        }
    }
}

/// A convolution, or one phase of a transposed one.
struct Layer<'s> {
    geometry: Geometry,
    input: &'s Slot,
    output: &'s Slot,
    zero_point: i8,
    epilogue: &'s Epilogue<'s>,
    weights: *const u8,
    /// First word of the bias row.
    bias: *const u8,
}

impl Layer<'_> {
    /// # Safety
    /// As [`run`].
    unsafe fn run(&self, arena: *mut i8) {
        let products = self.products();
        // SAFETY: the same condition; the buffer holds a block's windows, or `fits` keeps one window within the large
        // one.
        unsafe {
            if BLOCK * products <= SMALL {
                self.run_buffered::<SMALL>(arena, products);
            } else {
                self.run_buffered::<LARGE>(arena, products);
            }
        }
    }

    fn products(&self) -> usize {
        let [rows, columns] = self.geometry.kernel;
        ((rows * columns) as usize * self.input.channels as usize).next_multiple_of(KR)
    }

    /// # Safety
    /// As [`run`], with `products` at most `N`.
    #[target_feature(enable = "avx2")]
    unsafe fn run_buffered<const N: usize>(&self, arena: *mut i8, products: usize) {
        let mut buffer = MaybeUninit::<[i16; N]>::uninit();
        let buffer = buffer.as_mut_ptr().cast::<i16>();
        let [rows, columns] = self.geometry.pixels;
        let total = rows * columns;
        let most = N.checked_div(products).map_or(BLOCK, |windows| windows.min(BLOCK));
        let channels = self.output.channels as usize;
        let panels = channels.div_ceil(NR);
        let (mut y, mut x, mut first) = (0, 0, 0);
        let mut pixels = [0; BLOCK];
        while first < total {
            let count = (total - first).min(most);
            for (p, pixel) in pixels.iter_mut().enumerate().take(count) {
                *pixel = self.geometry.pixel([y, x]);
                // SAFETY: `most` windows fit the buffer, and the pixel is one of the geometry.
                unsafe { self.widen(arena, [y, x], products, buffer.add(p * products)) };
                x += 1;
                if x == columns {
                    (y, x) = (y + 1, 0);
                }
            }
            for panel in 0..panels {
                // SAFETY: there are weights for `panels` panels of `products` products; every tile below lies in the
                // buffer, and the constants have a word for each padded channel.
                unsafe {
                    let weights = self.weights.add(panel * NR * products);
                    let constants = Constants::load(self, panel * NR);
                    let width = (channels - panel * NR).min(NR);
                    let mut p = 0;
                    while p < count {
                        let windows = buffer.add(p * products);
                        let places = &pixels[p..count];
                        match places.len() {
                            1 => self.tile::<1>(arena, windows, weights, products, places, panel, width, &constants),
                            2 => self.tile::<2>(arena, windows, weights, products, places, panel, width, &constants),
                            3 => self.tile::<3>(arena, windows, weights, products, places, panel, width, &constants),
                            4 => self.tile::<4>(arena, windows, weights, products, places, panel, width, &constants),
                            5 => self.tile::<5>(arena, windows, weights, products, places, panel, width, &constants),
                            _ => self.tile::<MR>(arena, windows, weights, products, places, panel, width, &constants),
                        }
                        p += MR;
                    }
                }
            }
            first += count;
        }
    }

    /// Gathers the window of a pixel as 16-bit numbers, padded to `products` with a zero.
    ///
    /// # Safety
    /// As [`run`], with the pixel one of the geometry and `into` writable for `products` numbers.
    #[target_feature(enable = "avx2")]
    #[inline]
    unsafe fn widen(&self, arena: *const i8, at: [usize; 2], products: usize, into: *mut i16) {
        let channels = self.input.channels as usize;
        let geometry = &self.geometry;
        let window = geometry.window(self.input, at);
        let [[top, bottom], [left, right]] = window.inside;
        let line = geometry.kernel[1] as usize * channels;
        let contiguous = geometry.rows_are_contiguous(self.input);
        // SAFETY: row `ky` of the window is `line` numbers of `into`; the places inside are inside the input by the
        // construction of the window.
        unsafe {
            let source = arena.add(self.input.offset as usize);
            for ky in 0..geometry.kernel[0] {
                let row = into.add(ky as usize * line);
                if ky < top || ky >= bottom || left >= right {
                    fill(row, self.zero_point, line);
                    continue;
                }
                let (before, after) = (left as usize * channels, right as usize * channels);
                fill(row, self.zero_point, before);
                fill(row.add(after), self.zero_point, line - after);
                if contiguous {
                    convert(
                        source.add(geometry.place(self.input, &window, [ky, left])),
                        row.add(before),
                        after - before,
                    );
                } else {
                    for kx in left..right {
                        let from = source.add(geometry.place(self.input, &window, [ky, kx]));
                        convert(from, row.add(kx as usize * channels), channels);
                    }
                }
            }
            let end = geometry.kernel[0] as usize * line;
            if end < products {
                into.add(end).write(0);
            }
        }
    }

    /// `M` pixels by one panel: accumulators, epilogue, store.
    ///
    /// # Safety
    /// As [`run`], with the windows of `M` pixels at `windows` and the panel's weights at `weights`.
    #[target_feature(enable = "avx2")]
    #[inline]
    #[allow(clippy::too_many_arguments)] // the loop's own registers
    unsafe fn tile<const M: usize>(
        &self,
        arena: *mut i8,
        windows: *const i16,
        weights: *const u8,
        products: usize,
        pixels: &[usize],
        panel: usize,
        width: usize,
        constants: &Constants,
    ) {
        // SAFETY: a panel holds `NR * products` bytes, a window `products` numbers; pixels and channels are inside the
        // output.
        unsafe {
            let acc = accumulate::<M>(windows, weights, products);
            for (acc, &pixel) in acc.into_iter().zip(pixels) {
                constants.finish(arena, self, acc, pixel, panel * NR, width);
            }
        }
    }
}

/// Sums of products of `M` windows with a panel of sixteen channels, as two vectors of eight.
///
/// # Safety
/// `weights` must be readable for `NR * products` bytes in the order of [`super::AVX2_PANELS`], `windows` for `M` times
/// `products` numbers; `products` is even.
#[target_feature(enable = "avx2")]
#[inline]
pub(crate) unsafe fn accumulate<const M: usize>(
    windows: *const i16,
    weights: *const u8,
    products: usize,
) -> [[__m256i; 2]; M] {
    let mut acc = [[_mm256_setzero_si256(); 2]; M];
    // SAFETY: pair `p` of the panel is `NR * KR` bytes from `p * NR * KR` on, and two numbers of each window.
    unsafe {
        for pair in 0..products / KR {
            let at = weights.add(pair * NR * KR).cast::<__m128i>();
            let low = _mm256_cvtepi8_epi16(_mm_loadu_si128(at));
            let high = _mm256_cvtepi8_epi16(_mm_loadu_si128(at.add(1)));
            for (m, acc) in acc.iter_mut().enumerate() {
                let pair = windows.add(m * products + pair * KR).cast::<i32>().read_unaligned();
                let x = _mm256_set1_epi32(pair);
                acc[0] = _mm256_add_epi32(acc[0], _mm256_madd_epi16(x, low));
                acc[1] = _mm256_add_epi32(acc[1], _mm256_madd_epi16(x, high));
            }
        }
    }
    acc
}

/// What the epilogue of a panel needs, loaded once.
struct Constants {
    bias: [__m256i; 2],
    multipliers: [__m256i; 2],
    left_shift: __m128i,
    zero_point: __m256i,
}

impl Constants {
    /// # Safety
    /// As [`run`], with `first` the first channel of a panel.
    #[target_feature(enable = "avx2")]
    #[inline]
    unsafe fn load(layer: &Layer<'_>, first: usize) -> Constants {
        // SAFETY: bias and multipliers have a word for each padded channel.
        let two = |words: *const u8| unsafe {
            let at = words.add(4 * first).cast::<__m256i>();
            [_mm256_loadu_si256(at), _mm256_loadu_si256(at.add(1))]
        };
        Constants {
            bias: two(layer.bias),
            multipliers: two(layer.epilogue.multipliers.as_ptr()),
            left_shift: _mm_cvtsi32_si128(layer.epilogue.left_shift.into()),
            zero_point: _mm256_set1_epi32(layer.epilogue.zero_point.into()),
        }
    }

    /// Sixteen accumulators to bytes: requantise, residual, table, store of the first `width`.
    ///
    /// # Safety
    /// As [`run`], with `pixel` inside the output and `o + width` at most its channels.
    #[target_feature(enable = "avx2")]
    #[inline]
    unsafe fn finish(
        &self,
        arena: *mut i8,
        layer: &Layer<'_>,
        acc: [__m256i; 2],
        pixel: usize,
        o: usize,
        width: usize,
    ) {
        let half = |i: usize| {
            let acc = _mm256_sll_epi32(_mm256_add_epi32(acc[i], self.bias[i]), self.left_shift);
            _mm256_add_epi32(multiply_high(acc, self.multipliers[i]), self.zero_point)
        };
        let mut q = narrow(half(0), half(1));
        // SAFETY: the output's and the residual's spans hold `width` channels from `o` on of each pixel; a whole panel
        // is loaded and stored at once only where all its channels exist.
        unsafe {
            if let Some(residual) = &layer.epilogue.residual {
                let slot = &residual.slot;
                let from = arena.add(slot.offset as usize + pixel * slot.pitch as usize + o).cast_const();
                let mut other = [0i8; NR];
                if width == NR {
                    other = from.cast::<[i8; NR]>().read_unaligned();
                } else {
                    other.as_mut_ptr().copy_from_nonoverlapping(from, width);
                }
                q = crate::add::avx2::sum(q, _mm_loadu_si128(other.as_ptr().cast()), &residual.params);
            }
            let to = arena.add(layer.output.offset as usize + pixel * layer.output.pitch as usize + o);
            let mut bytes = [0i8; NR];
            _mm_storeu_si128(bytes.as_mut_ptr().cast(), q);
            if let Some(table) = layer.epilogue.table {
                bytes = bytes.map(|q| lookup(table, q));
            }
            if width == NR {
                to.cast::<[i8; NR]>().write_unaligned(bytes);
            } else {
                to.copy_from_nonoverlapping(bytes.as_ptr(), width);
            }
        }
    }
}

/// `(x * m + 2^31) >> 32` of each lane: the law of [`crate::requant`].
#[target_feature(enable = "avx2")]
#[inline]
pub(crate) fn multiply_high(x: __m256i, m: __m256i) -> __m256i {
    let round = _mm256_set1_epi64x(1 << 31);
    let even = _mm256_add_epi64(_mm256_mul_epi32(x, m), round);
    let odd = _mm256_add_epi64(_mm256_mul_epi32(_mm256_srli_epi64(x, 32), _mm256_srli_epi64(m, 32)), round);
    _mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0b1010_1010)
}

/// Sixteen numbers to the nearest bytes.
#[target_feature(enable = "avx2")]
#[inline]
pub(crate) fn narrow(low: __m256i, high: __m256i) -> __m128i {
    let words = _mm256_packs_epi32(low, high);
    // Per 128-bit half: four of `low`, four of `high`.
    let words = _mm256_permute4x64_epi64(words, 0b11_01_10_00);
    _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1))
}

/// Widens `n` bytes.
///
/// # Safety
/// `from` must be readable for `n` bytes and `to` writable for `n` numbers.
#[target_feature(enable = "avx2")]
#[inline]
pub(crate) unsafe fn convert(from: *const i8, to: *mut i16, n: usize) {
    let mut i = 0;
    // SAFETY: every load and store lies within `n`.
    unsafe {
        while i + 16 <= n {
            let wide = _mm256_cvtepi8_epi16(_mm_loadu_si128(from.add(i).cast()));
            _mm256_storeu_si256(to.add(i).cast(), wide);
            i += 16;
        }
        while i < n {
            to.add(i).write(from.add(i).read().into());
            i += 1;
        }
    }
}

/// Writes `n` times `value`.
///
/// # Safety
/// `to` must be writable for `n` numbers.
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn fill(to: *mut i16, value: i8, n: usize) {
    for i in 0..n {
        // SAFETY: `i < n`.
        unsafe { to.add(i).write(value.into()) };
    }
}

//! The windows of a block of pixels, gathered and widened to 16 bits on the stack, so that every weight is read once for
//! all of them.

use core::arch::x86_64::*;
use core::mem::MaybeUninit;

use super::super::layer::Layer;
use crate::plan::HOST_PRODUCTS;

/// Most pixels of a block.
pub(super) const BLOCK: usize = 24;
/// Widened activations on the stack for most layers: stack pages that are never touched cost nothing, but each page of
/// a frame is probed.
const SMALL: usize = 16 * 1024;
/// For the others: four windows of any length.
const LARGE: usize = 4 * HOST_PRODUCTS;

/// Windows of some pixels, one after another.
#[derive(Clone, Copy)]
pub(super) struct Windows<'s> {
    /// The first number of the first.
    pub(super) first: *const i16,
    /// Numbers of each, those that pad the weights counted; the padding holds numbers.
    pub(super) products: usize,
    /// Numbers of the output pixels.
    pub(super) pixels: &'s [usize],
}

/// What computes all channels of a block of pixels.
pub(super) type Kernel = unsafe fn(*mut i8, &Layer<'_>, Windows<'_>);

/// Runs a layer block by block.
///
/// # Safety
/// As [`super::run_layer`]; `kernel` must be safe to call for the layer with windows that are readable and pixels inside
/// the output.
pub(super) unsafe fn each_block(arena: *mut i8, layer: &Layer<'_>, kernel: Kernel) {
    // SAFETY: the same condition; the buffer holds a block's windows, or `fits` keeps one window within the large one.
    unsafe {
        if BLOCK * layer.padded_products() <= SMALL {
            each_buffered::<SMALL>(arena, layer, kernel);
        } else {
            each_buffered::<LARGE>(arena, layer, kernel);
        }
    }
}

/// # Safety
/// As [`each_block`], with a window of at most `N` numbers.
#[target_feature(enable = "avx2")]
unsafe fn each_buffered<const N: usize>(arena: *mut i8, layer: &Layer<'_>, kernel: Kernel) {
    let mut buffer = MaybeUninit::<[i16; N]>::uninit();
    let buffer = buffer.as_mut_ptr().cast::<i16>();
    let products = layer.padded_products();
    let most = N.checked_div(products).map_or(BLOCK, |windows| windows.min(BLOCK));
    let geometry = &layer.geometry;
    let [rows, columns] = geometry.pixels;
    let total = rows * columns;
    let gather = Gather::of(layer, products);
    let (mut at, mut first) = ([0, 0], 0);
    let mut pixels = [0; BLOCK];
    while first < total {
        let count = (total - first).min(most);
        for (p, pixel) in pixels.iter_mut().enumerate().take(count) {
            *pixel = geometry.pixel(at);
            // SAFETY: `most` windows fit the buffer, and the pixel is one of the geometry.
            unsafe { gather.widen(arena, at, buffer.add(p * products)) };
            at[1] += 1;
            if at[1] == columns {
                at = [at[0] + 1, 0];
            }
        }
        // SAFETY: the windows of these pixels are in the buffer, and the pixels inside the output.
        unsafe { kernel(arena, layer, Windows { first: buffer, products, pixels: &pixels[..count] }) };
        first += count;
    }
}

/// How windows are gathered, decided once for a layer.
struct Gather<'s> {
    layer: &'s Layer<'s>,
    products: usize,
    /// Products of a kernel row.
    line: usize,
    /// Elements from one input row that a window reads to the next, where the kernel places of a row are one run.
    contiguous: Option<usize>,
    interior: super::super::geometry::Region,
}

impl<'s> Gather<'s> {
    fn of(layer: &'s Layer<'s>, products: usize) -> Gather<'s> {
        let (geometry, input) = (&layer.geometry, layer.input);
        let down = geometry.dilation[0] as usize * input.width as usize * input.pitch as usize;
        let one_place = geometry.kernel == [1, 1];
        Gather {
            layer,
            products,
            line: geometry.kernel[1] as usize * input.channels as usize,
            contiguous: (one_place || geometry.rows_are_contiguous(input)).then_some(down),
            interior: geometry.interior(input),
        }
    }

    /// Writes the window of a pixel, padded to `products` with zeros.
    ///
    /// # Safety
    /// As [`super::run_layer`], with the pixel one of the geometry and `into` writable for `products` numbers.
    #[target_feature(enable = "avx2")]
    #[inline]
    unsafe fn widen(&self, arena: *const i8, at: [usize; 2], into: *mut i16) {
        let (geometry, input) = (&self.layer.geometry, self.layer.input);
        let rows = geometry.kernel[0] as usize;
        let end = rows * self.line;
        // SAFETY: row `ky` of the window is `line` numbers of `into`; an interior window's rows lie in the input, `down`
        // elements apart.
        unsafe {
            let source = arena.add(input.offset as usize);
            match self.contiguous {
                Some(down) if end > 0 && self.interior.contains(at) => {
                    let from = source.add(geometry.first_place(input, at));
                    for ky in 0..rows {
                        convert(from.add(ky * down), into.add(ky * self.line), self.line);
                    }
                }
                _ => self.widen_places(source, at, into),
            }
            for i in end..self.products {
                into.add(i).write(0);
            }
        }
    }

    /// Writes the window place by place.
    ///
    /// # Safety
    /// As [`Self::widen`], with the input's first element at `source`.
    #[target_feature(enable = "avx2")]
    unsafe fn widen_places(&self, source: *const i8, at: [usize; 2], into: *mut i16) {
        let (geometry, input) = (&self.layer.geometry, self.layer.input);
        let channels = input.channels as usize;
        let window = geometry.window(input, at);
        let [[top, bottom], [left, right]] = window.inside;
        // SAFETY: row `ky` of the window is `line` numbers of `into`; the places inside are inside the input by the
        // construction of the window.
        unsafe {
            for ky in 0..geometry.kernel[0] {
                let row = into.add(ky as usize * self.line);
                if ky < top || ky >= bottom || left >= right {
                    fill(row, self.layer.zero_point, self.line);
                    continue;
                }
                let (before, after) = (left as usize * channels, right as usize * channels);
                fill(row, self.layer.zero_point, before);
                fill(row.add(after), self.layer.zero_point, self.line - after);
                if self.contiguous.is_some() {
                    let from = source.add(geometry.place(input, &window, [ky, left]));
                    convert(from, row.add(before), after - before);
                } else {
                    for kx in left..right {
                        let from = source.add(geometry.place(input, &window, [ky, kx]));
                        convert(from, row.add(kx as usize * channels), channels);
                    }
                }
            }
        }
    }
}

/// Widens `n` bytes.
///
/// # Safety
/// `from` must be readable for `n` bytes and `to` writable for `n` numbers.
#[target_feature(enable = "avx2")]
#[inline]
pub(crate) unsafe fn convert(from: *const i8, to: *mut i16, n: usize) {
    // SAFETY: every load and store lies within `n`; the last one may do again what the one before did.
    unsafe {
        let sixteen = |i: usize| {
            _mm256_storeu_si256(to.add(i).cast(), _mm256_cvtepi8_epi16(_mm_loadu_si128(from.add(i).cast())));
        };
        let eight = |i: usize| {
            _mm_storeu_si128(to.add(i).cast(), _mm_cvtepi8_epi16(_mm_loadl_epi64(from.add(i).cast())));
        };
        if n >= 16 {
            for i in (0..n - 15).step_by(16) {
                sixteen(i);
            }
            sixteen(n - 16);
        } else if n >= 8 {
            eight(0);
            eight(n - 8);
        } else {
            for i in 0..n {
                to.add(i).write(from.add(i).read().into());
            }
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

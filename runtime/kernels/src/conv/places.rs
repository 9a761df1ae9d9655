//! Where the pixels of a depthwise layer read their kernel places, for the kernels of hosts: sixteen channels at a time.

use super::geometry::{Region, Window};
use super::layer::Layer;
use crate::elements::LANES;
use crate::plan::HOST_PLACES;

/// Zero points that padding reads: enough for the channels of most layers.
pub(super) type Padding = [i8; 1024];

/// The places of `M` pixels.
pub(super) struct Places<'s, const M: usize> {
    layer: &'s Layer<'s>,
    padding: &'s Padding,
    interior: Region,
    /// From a window's first place to the others, in elements of an input that is not upsampled.
    offsets: [usize; HOST_PLACES],
    /// Sixteen channels of each place.
    pub(super) at: [[*const i8; M]; HOST_PLACES],
    /// From them to the next sixteen; zero where the place is padding, whose values serve all channels.
    step: [[usize; M]; HOST_PLACES],
    copies: [[[i8; LANES]; M]; HOST_PLACES],
}

impl<'s, const M: usize> Places<'s, M> {
    /// Of no pixels yet; `padding` is the layer's zero point.
    pub(super) fn of(layer: &'s Layer<'s>, padding: &'s Padding) -> Places<'s, M> {
        let (geometry, input) = (&layer.geometry, layer.input);
        let [rows, columns] = geometry.kernel.map(|n| n as usize);
        let [down, right] = geometry.dilation.map(|n| n as usize * input.pitch as usize);
        let mut offsets = [0; HOST_PLACES];
        let taps = (0..rows).flat_map(|ky| (0..columns).map(move |kx| (ky, kx)));
        for (offset, (ky, kx)) in offsets.iter_mut().zip(taps) {
            *offset = ky * down * input.width as usize + kx * right;
        }
        Places {
            layer,
            padding,
            interior: geometry.interior(input),
            offsets,
            at: [[padding.as_ptr(); M]; HOST_PLACES],
            step: [[0; M]; HOST_PLACES],
            copies: [[[0; LANES]; M]; HOST_PLACES],
        }
    }

    /// Finds the places of the first `count` pixels from `at` on, and lets the others read padding. Returns whether the
    /// channels of every place follow one another; if not, [`Self::advance`] goes from sixteen to sixteen.
    #[inline(always)]
    pub(super) fn find(&mut self, at @ [y, x]: [usize; 2], count: usize, arena: *const i8) -> bool {
        let are_interior = count == M
            && self.layer.geometry.upsample_shift == 0
            && self.interior.contains(at)
            && self.interior.contains([y, x + M - 1]);
        for m in 0..M {
            if are_interior {
                self.find_inside(m, [y, x + m], arena);
            } else {
                self.find_any(m, (m < count).then_some([y, x + m]), arena);
            }
        }
        are_interior || self.layer.input.channels as usize <= self.padding.len()
    }

    #[inline(always)]
    fn find_inside(&mut self, m: usize, at: [usize; 2], arena: *const i8) {
        let (geometry, input) = (&self.layer.geometry, self.layer.input);
        let taps = (geometry.kernel[0] * geometry.kernel[1]) as usize;
        let first = arena.wrapping_add(input.offset as usize + geometry.first_place(input, at));
        for (place, offset) in self.at.iter_mut().zip(&self.offsets).take(taps) {
            place[m] = first.wrapping_add(*offset);
        }
    }

    fn find_any(&mut self, m: usize, at: Option<[usize; 2]>, arena: *const i8) {
        let (geometry, input) = (&self.layer.geometry, self.layer.input);
        let [rows, columns] = geometry.kernel;
        let source = arena.wrapping_add(input.offset as usize);
        let mut places = self.at.iter_mut().zip(&mut self.step).zip(&self.offsets);
        let outside = Window { origin: [0; 2], inside: [[0; 2]; 2] };
        let window = at.map_or(outside, |at| geometry.window(input, at));
        // The first place may lie before the input; those that are read do not.
        let [y, x] = window.origin.map(|n| n as isize);
        let first = source.wrapping_offset((y * input.width as isize + x) * input.pitch as isize);
        for ky in 0..rows {
            for kx in 0..columns {
                let Some(((place, step), offset)) = places.next() else { return };
                (place[m], step[m]) = if !window.contains([ky, kx]) {
                    (self.padding.as_ptr(), 0)
                } else if geometry.upsample_shift == 0 {
                    (first.wrapping_add(*offset), LANES)
                } else {
                    (source.wrapping_add(geometry.place(input, &window, [ky, kx])), LANES)
                };
            }
        }
    }

    /// Goes on to the next sixteen channels.
    #[inline(always)]
    pub(super) fn advance(&mut self, taps: usize) {
        for (at, step) in self.at.iter_mut().zip(&self.step).take(taps) {
            for (at, step) in at.iter_mut().zip(step) {
                *at = at.wrapping_add(*step);
            }
        }
    }

    /// Copies places with fewer than sixteen channels, `count` from the `o`-th on, to where they have sixteen.
    ///
    /// # Safety
    /// The channels must be readable at every place.
    #[cold]
    pub(super) unsafe fn copy(&mut self, taps: usize, o: usize, count: usize) {
        for (at, copies) in self.at.iter_mut().zip(&mut self.copies).take(taps) {
            for (at, copy) in at.iter_mut().zip(copies) {
                // SAFETY: the caller's bound.
                unsafe { copy.as_mut_ptr().copy_from_nonoverlapping(at.wrapping_add(o), count) };
                *at = copy.as_ptr();
            }
        }
    }
}

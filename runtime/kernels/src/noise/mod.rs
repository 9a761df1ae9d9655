//! Gaussian noise that is the same bits everywhere: a counter-based generator and a fixed-point quantile.
//!
//! Element `i` (in NHWC order) of stream `s` under seed `k` takes word `i % 4` of the Philox4x32-10 block with counter
//! `(i / 4, 0, s, 0)` and key `(low half of k, high half of k)`, and maps it to a standard normal deviate in Q16.
//! Nothing is carried from one element to the next, so any part can be drawn alone.

pub mod normal;
mod normal_table;
pub mod philox;

use crate::port::quantise_finite;

/// The standard normal deviate of one element in Q16 (`65536` is one standard deviation).
///
/// ```
/// let z = flowlet_kernels::noise::element(7, 0, 0);
/// assert!(z.abs() < 7 * 65536);
/// ```
pub fn element(seed: u64, stream: u32, index: u32) -> i32 {
    let block = philox::block([index / 4, 0, stream, 0], key(seed));
    normal::from_word(block[(index % 4) as usize])
}

/// [`element`] in standard deviations, exactly.
pub fn element_f32(seed: u64, stream: u32, index: u32) -> f32 {
    real(element(seed, stream, index))
}

/// Fills an s8 tensor with noise, by the port rule on the exact f32 value of each Q16 deviate.
pub fn fill_s8(out: &mut [i8], seed: u64, stream: u32, inverse_scale: f32, zero_point: i8) {
    fill(out, seed, stream, |z| quantise_finite(real(z), inverse_scale, zero_point));
}

/// Fills an f32 tensor with the same noise, in standard deviations.
pub fn fill_f32(out: &mut [f32], seed: u64, stream: u32) {
    fill(out, seed, stream, real);
}

/// A Q16 number as f32; exact, since deviates have at most 19 bits.
#[inline(always)]
fn real(q16: i32) -> f32 {
    q16 as f32 * (1.0 / 65536.0)
}

#[inline(always)]
fn fill<T>(out: &mut [T], seed: u64, stream: u32, convert: impl Fn(i32) -> T) {
    for (index, chunk) in (0u32..).zip(out.chunks_mut(4)) {
        let words = philox::block([index, 0, stream, 0], key(seed));
        for (place, word) in chunk.iter_mut().zip(words) {
            *place = convert(normal::from_word(word));
        }
    }
}

fn key(seed: u64) -> [u32; 2] {
    [seed as u32, (seed >> 32) as u32]
}

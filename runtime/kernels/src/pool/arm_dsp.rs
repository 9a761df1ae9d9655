//! Pools on Cortex-M cores with the DSP extension: eight channels of a window at a time, their sums as pairs of 16 bits,
//! their maxima as bytes.

use crate::dsp::{add_even, add_odd, load, mac_bb, mac_tb, max_bytes, mul_high_add, pack, saturate, splat, store};
use crate::plan::{Pool, PoolKind, Slot};
use crate::requant::requantise;

/// Places whose sum of s8 values fits 16 bits.
const PLACES_OF_A_SUM: usize = 255;

/// The part of the input under one window, or of it.
#[derive(Clone, Copy)]
struct Window {
    /// First channel of the first place.
    first: *const i8,
    rows: usize,
    columns: usize,
    /// Bytes from place to place, and from row to row.
    pitch: usize,
    line: usize,
}

/// Runs the step.
///
/// # Safety
/// `arena` must be valid for reads and writes of a number of bytes for which `step.fits(bytes)` holds.
#[inline(never)]
pub unsafe fn run(arena: *mut i8, step: &Pool) {
    // SAFETY: the same condition.
    unsafe {
        match step.kind {
            PoolKind::Max => windows(arena, step, |window, out, channels| max(window, out, channels)),
            PoolKind::Average { input_zero_point, multiplier, left_shift, zero_point } => {
                windows(arena, step, |window, out, channels| {
                    let law = Law { input_zero_point, multiplier, left_shift, zero_point };
                    average(window, out, channels, &law);
                });
            }
        }
    }
}

/// Calls `pool` with every window, its pixel of the output and the number of channels.
///
/// # Safety
/// As [`run`].
#[inline(always)]
unsafe fn windows(arena: *mut i8, step: &Pool, mut pool: impl FnMut(&Window, *mut i8, usize)) {
    let (input, output): (&Slot, &Slot) = (&step.input, &step.output);
    let pitch = input.pitch as usize;
    let line = input.width as usize * pitch;
    let range = |axis: usize, at: u16, size: u16| {
        let first = at as usize * step.stride[axis] as usize;
        let pad = step.pad[axis] as usize;
        let end = (first + step.kernel[axis] as usize).saturating_sub(pad).min(size as usize);
        (first.saturating_sub(pad), end)
    };
    let mut out = arena.wrapping_add(output.offset as usize);
    for y in 0..output.height {
        let (top, bottom) = range(0, y, input.height);
        let row = arena.wrapping_add(input.offset as usize + top * line).cast_const();
        for x in 0..output.width {
            let (left, right) = range(1, x, input.width);
            let first = row.wrapping_add(left * pitch);
            let window = Window { first, rows: bottom - top, columns: right - left, pitch, line };
            pool(&window, out, output.channels as usize);
            out = out.wrapping_add(output.pitch as usize);
        }
    }
}

/// Folds `WORDS` words of channels over the places of a window that is not empty.
///
/// # Safety
/// The window's places must be readable from `channel` on for `4 * WORDS` channels.
#[inline(always)]
unsafe fn fold<S: Copy, const WORDS: usize>(
    window: &Window,
    channel: usize,
    start: S,
    step: impl Fn(S, u32) -> S,
) -> [S; WORDS] {
    let mut state = [start; WORDS];
    let mut row = window.first.wrapping_add(channel);
    // SAFETY: the caller's bound.
    let mut place = |at: *const i8| unsafe {
        for (i, state) in state.iter_mut().enumerate() {
            *state = step(*state, load(at.wrapping_add(4 * i)));
        }
    };
    for _ in 0..window.rows {
        if window.columns == 2 {
            place(row);
            place(row.wrapping_add(window.pitch));
        } else {
            let mut at = row;
            for _ in 0..window.columns {
                place(at);
                at = at.wrapping_add(window.pitch);
            }
        }
        row = row.wrapping_add(window.line);
    }
    state
}

/// Not inlined, so that its loops have the registers.
///
/// # Safety
/// The window's places must be readable and `out` writable for `channels` bytes.
#[inline(never)]
unsafe fn max(window: &Window, out: *mut i8, channels: usize) {
    // SAFETY: channels from `c` on that are read and written are below `channels`.
    unsafe {
        let mut c = 0;
        while c + 8 <= channels {
            let [a, b] = fold(window, c, splat(i8::MIN), max_bytes);
            store(out.add(c), a);
            store(out.add(c + 4), b);
            c += 8;
        }
        if c + 4 <= channels {
            let [a] = fold(window, c, splat(i8::MIN), max_bytes);
            store(out.add(c), a);
            c += 4;
        }
        while c < channels {
            let mut most = i8::MIN;
            places(window, c, |q| most = most.max(q));
            out.add(c).write(most);
            c += 1;
        }
    }
}

/// What an average becomes.
struct Law {
    input_zero_point: i8,
    multiplier: i32,
    left_shift: u8,
    zero_point: i8,
}

/// Not inlined, so that its loops have the registers.
///
/// # Safety
/// The window's places must be readable and `out` writable for `channels` bytes.
#[inline(never)]
unsafe fn average(window: &Window, out: *mut i8, channels: usize, law: &Law) {
    let places_inside = window.rows * window.columns;
    let start = (places_inside as i32).wrapping_mul(law.input_zero_point as i32).wrapping_neg();
    // SAFETY: channels from `c` on that are read and written are below `channels`.
    unsafe {
        let mut c = 0;
        while c + 8 <= channels {
            let [a, b] = sums(window, c, start as u32);
            store(out.add(c), requantise_4(a, law));
            store(out.add(c + 4), requantise_4(b, law));
            c += 8;
        }
        if c + 4 <= channels {
            let [a] = sums(window, c, start as u32);
            store(out.add(c), requantise_4(a, law));
            c += 4;
        }
        while c < channels {
            let mut sum = start;
            places(window, c, |q| sum = sum.wrapping_add(q as i32));
            out.add(c).write(requantise(sum, law.left_shift, law.multiplier, law.zero_point));
            c += 1;
        }
    }
}

/// Sums of `WORDS` times four channels, from `start` on.
///
/// # Safety
/// As [`fold`].
#[inline(always)]
unsafe fn sums<const WORDS: usize>(window: &Window, channel: usize, start: u32) -> [[u32; 4]; WORDS] {
    // SAFETY: the caller's bound.
    unsafe {
        if window.rows * window.columns <= PLACES_OF_A_SUM {
            fold(window, channel, [0; 2], add).map(|pairs| widen([start; 4], pairs))
        } else {
            sums_in_parts(window, channel, start)
        }
    }
}

/// The same for windows of any size, a part of a row after another.
///
/// # Safety
/// As [`fold`].
#[inline(never)]
unsafe fn sums_in_parts<const WORDS: usize>(window: &Window, channel: usize, start: u32) -> [[u32; 4]; WORDS] {
    let mut sums = [[start; 4]; WORDS];
    for row in 0..window.rows {
        let mut column = 0;
        while column < window.columns {
            let first = window.first.wrapping_add(row * window.line + column * window.pitch);
            let columns = (window.columns - column).min(PLACES_OF_A_SUM);
            let part = Window { first, rows: 1, columns, ..*window };
            // SAFETY: the caller's bound; a part of the window is inside it.
            let pairs: [[u32; 2]; WORDS] = unsafe { fold(&part, channel, [0; 2], add) };
            for (sums, pairs) in sums.iter_mut().zip(pairs) {
                *sums = widen(*sums, pairs);
            }
            column += columns;
        }
    }
    sums
}

/// Adds four values to two pairs of sums.
#[inline(always)]
fn add([even, odd]: [u32; 2], word: u32) -> [u32; 2] {
    [add_even(even, word), add_odd(odd, word)]
}

/// Adds two pairs of sums to the sums of four neighbouring channels.
#[inline(always)]
fn widen([a, b, c, d]: [u32; 4], [even, odd]: [u32; 2]) -> [u32; 4] {
    [mac_bb(even, 1, a), mac_bb(odd, 1, b), mac_tb(even, 1, c), mac_tb(odd, 1, d)]
}

/// The law on four sums.
#[inline(always)]
fn requantise_4(sums: [u32; 4], law: &Law) -> u32 {
    let (multiplier, zero_point) = (law.multiplier as u32, law.zero_point as i32 as u32);
    pack(sums.map(|acc| saturate(mul_high_add(acc.wrapping_shl(law.left_shift as u32), multiplier, zero_point))))
}

/// Calls `each` with the values of one channel.
///
/// # Safety
/// The window's places must be readable at `channel`.
#[inline(always)]
unsafe fn places(window: &Window, channel: usize, mut each: impl FnMut(i8)) {
    for row in 0..window.rows {
        for column in 0..window.columns {
            // SAFETY: a place of the window.
            each(unsafe { window.first.add(row * window.line + column * window.pitch + channel).read() });
        }
    }
}

//! Pools on Cortex-M cores with the DSP extension: eight channels of a window at a time, their sums as pairs of 16 bits,
//! their maxima as bytes.

use core::array::from_fn;

use crate::dsp::{
    add_even, add_odd, even, load, mac_bb, mac_tb, max_bytes, mul_high_add, odd, pack, saturate, splat, store,
};
use crate::plan::{Pool, PoolKind, Slot};
use crate::requant::requantise;

/// Places whose sum of s8 values fits 16 bits.
const PLACES_OF_A_SUM: usize = 255;
/// Left shift whose factor fits 16 bits.
const MOST_SHIFT: u8 = 14;

/// Windows of two rows and two columns.
const TWO_BY_TWO: u8 = 0;
/// Windows of no more than [`PLACES_OF_A_SUM`] places.
const SMALL: u8 = 1;
/// Windows of any size.
const LARGE: u8 = 2;

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

impl Window {
    fn shape(&self) -> u8 {
        if self.rows == 2 && self.columns == 2 {
            TWO_BY_TWO
        } else if self.rows * self.columns <= PLACES_OF_A_SUM {
            SMALL
        } else {
            LARGE
        }
    }
}

/// Runs the step.
///
/// # Safety
/// `arena` must be valid for reads and writes of a number of bytes for which `step.fits(bytes)` holds.
#[inline(never)]
pub unsafe fn run(arena: *mut i8, step: &Pool) {
    let channels = step.output.channels as usize;
    // SAFETY: the same condition; windows and pixels have as many channels.
    unsafe {
        match step.kind {
            PoolKind::Max if channels < 4 => windows(arena, step, |w, out| max_few(w, out, channels)),
            PoolKind::Max => windows(arena, step, |w, out| match w.shape() {
                TWO_BY_TWO => max::<TWO_BY_TWO>(w, out, channels),
                _ => max::<SMALL>(w, out, channels),
            }),
            PoolKind::Average { input_zero_point, multiplier, left_shift, zero_point } => {
                let law = Law {
                    input_zero_point: input_zero_point as i32,
                    multiplier,
                    left_shift: left_shift as u32,
                    zero_point: zero_point as i32,
                };
                if channels < 4 || left_shift > MOST_SHIFT {
                    windows(arena, step, |w, out| average_few(w, out, channels, &law));
                } else {
                    windows(arena, step, |w, out| match w.shape() {
                        TWO_BY_TWO => average::<TWO_BY_TWO>(w, out, channels, &law),
                        SMALL => average::<SMALL>(w, out, channels, &law),
                        _ => average::<LARGE>(w, out, channels, &law),
                    });
                }
            }
        }
    }
}

/// Calls `pool` with every window and its pixel of the output.
///
/// # Safety
/// As [`run`].
#[inline(always)]
unsafe fn windows(arena: *mut i8, step: &Pool, mut pool: impl FnMut(&Window, *mut i8)) {
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
    let mut window = Window { first: arena, rows: 0, columns: 0, pitch, line };
    for y in 0..output.height {
        let (top, bottom) = range(0, y, input.height);
        let row = arena.wrapping_add(input.offset as usize + top * line).cast_const();
        window.rows = bottom - top;
        for x in 0..output.width {
            let (left, right) = range(1, x, input.width);
            window.first = row.wrapping_add(left * pitch);
            window.columns = right - left;
            pool(&window, out);
            out = out.wrapping_add(output.pitch as usize);
        }
    }
}

/// What becomes of four channels, place by place.
trait Fold: Copy {
    /// Before the first place.
    const EMPTY: Self;

    /// Of one place.
    fn of(word: u32) -> Self;

    /// With one place more.
    fn and(self, word: u32) -> Self;
}

/// Four maxima.
#[derive(Clone, Copy)]
struct Most(u32);

impl Fold for Most {
    const EMPTY: Self = Self(splat(i8::MIN));

    #[inline(always)]
    fn of(word: u32) -> Self {
        Self(word)
    }

    #[inline(always)]
    fn and(self, word: u32) -> Self {
        Self(max_bytes(self.0, word))
    }
}

/// Four sums in 16 bits, as [`even`] and [`odd`] take a word apart.
#[derive(Clone, Copy)]
struct Sums([u32; 2]);

impl Fold for Sums {
    const EMPTY: Self = Self([0; 2]);

    #[inline(always)]
    fn of(word: u32) -> Self {
        Self([even(word), odd(word)])
    }

    #[inline(always)]
    fn and(self, word: u32) -> Self {
        Self([add_even(self.0[0], word), add_odd(self.0[1], word)])
    }
}

impl Sums {
    /// Each sum times `gain`, added to `acc` of its channel.
    #[inline(always)]
    fn widen(self, gain: u32, [a, b, c, d]: [u32; 4]) -> [u32; 4] {
        let Self([even, odd]) = self;
        [mac_bb(even, gain, a), mac_bb(odd, gain, b), mac_tb(even, gain, c), mac_tb(odd, gain, d)]
    }
}

/// Folds `WORDS` words of channels over the places of a window.
///
/// # Safety
/// The window's places must be readable from `channel` on for `4 * WORDS` channels, and the window be of this shape.
#[inline(always)]
unsafe fn fold<const SHAPE: u8, F: Fold, const WORDS: usize>(window: &Window, channel: usize) -> [F; WORDS] {
    let mut row = window.first.wrapping_add(channel);
    // SAFETY: the caller's bound.
    let place = |at: *const i8| from_fn(|i| unsafe { load(at.wrapping_add(4 * i)) });
    let and = |state: [F; WORDS], words: [u32; WORDS]| from_fn(|i| state[i].and(words[i]));
    if SHAPE == TWO_BY_TWO {
        let below = row.wrapping_add(window.line);
        let state = place(row).map(F::of);
        let state = and(state, place(row.wrapping_add(window.pitch)));
        let state = and(state, place(below));
        return and(state, place(below.wrapping_add(window.pitch)));
    }
    let mut state = [F::EMPTY; WORDS];
    for _ in 0..window.rows {
        let mut at = row;
        for _ in 0..window.columns {
            state = and(state, place(at));
            at = at.wrapping_add(window.pitch);
        }
        row = row.wrapping_add(window.line);
    }
    state
}

/// Not inlined, so that its loops have the registers. The last word overlaps the one before it where channels are no
/// multiple of four.
///
/// # Safety
/// The window's places must be readable and `out` writable for `channels` bytes, four or more, and the window be of
/// this shape.
#[inline(never)]
unsafe fn max<const SHAPE: u8>(window: &Window, out: *mut i8, channels: usize) {
    // SAFETY: channels from `c` on that are read and written are below `channels`.
    unsafe {
        let mut c = 0;
        while c + 8 <= channels {
            let [Most(a), Most(b)] = fold::<SHAPE, Most, 2>(window, c);
            store(out.add(c), a);
            store(out.add(c + 4), b);
            c += 8;
        }
        while c < channels {
            c = c.min(channels - 4);
            let [Most(a)] = fold::<SHAPE, Most, 1>(window, c);
            store(out.add(c), a);
            c += 4;
        }
    }
}

/// # Safety
/// The window's places must be readable and `out` writable for `channels` bytes.
#[inline(never)]
unsafe fn max_few(window: &Window, out: *mut i8, channels: usize) {
    for c in 0..channels {
        let mut most = i8::MIN;
        // SAFETY: `c` is below `channels`.
        unsafe {
            places(window, c, |q| most = most.max(q));
            out.add(c).write(most);
        }
    }
}

/// What an average becomes.
struct Law {
    input_zero_point: i32,
    multiplier: i32,
    left_shift: u32,
    zero_point: i32,
}

impl Law {
    /// What the sum of this window starts from.
    fn start(&self, window: &Window) -> i32 {
        ((window.rows * window.columns) as i32).wrapping_mul(self.input_zero_point).wrapping_neg()
    }
}

/// As [`max`].
///
/// # Safety
/// As [`max`].
#[inline(never)]
unsafe fn average<const SHAPE: u8>(window: &Window, out: *mut i8, channels: usize, law: &Law) {
    // SAFETY: channels from `c` on that are read and written are below `channels`.
    unsafe {
        let mut c = 0;
        while c + 8 <= channels {
            let [a, b] = averages::<SHAPE, 2>(window, c, law);
            store(out.add(c), a);
            store(out.add(c + 4), b);
            c += 8;
        }
        while c < channels {
            c = c.min(channels - 4);
            let [a] = averages::<SHAPE, 1>(window, c, law);
            store(out.add(c), a);
            c += 4;
        }
    }
}

/// For few channels and for left shifts beyond [`MOST_SHIFT`].
///
/// # Safety
/// The window's places must be readable and `out` writable for `channels` bytes.
#[inline(never)]
unsafe fn average_few(window: &Window, out: *mut i8, channels: usize, law: &Law) {
    for c in 0..channels {
        let mut sum = law.start(window);
        // SAFETY: `c` is below `channels`.
        unsafe {
            places(window, c, |q| sum = sum.wrapping_add(q as i32));
            out.add(c).write(requantise(sum, law.left_shift as u8, law.multiplier, law.zero_point as i8));
        }
    }
}

/// The law on the sums of `WORDS` times four channels, as words. The left shift is a factor where sums are widened.
///
/// # Safety
/// As [`fold`].
#[inline(always)]
unsafe fn averages<const SHAPE: u8, const WORDS: usize>(window: &Window, channel: usize, law: &Law) -> [u32; WORDS] {
    let gain = 1u32.wrapping_shl(law.left_shift);
    let start = [(law.start(window) as u32).wrapping_mul(gain); 4];
    let sums = if SHAPE == LARGE {
        let mut sums = [start; WORDS];
        for row in 0..window.rows {
            let mut column = 0;
            while column < window.columns {
                let first = window.first.wrapping_add(row * window.line + column * window.pitch);
                let columns = (window.columns - column).min(PLACES_OF_A_SUM);
                let part = Window { first, rows: 1, columns, ..*window };
                // SAFETY: the caller's bound; a part of the window is inside it.
                let pairs = unsafe { fold::<SMALL, Sums, WORDS>(&part, channel) };
                for (sums, pairs) in sums.iter_mut().zip(pairs) {
                    *sums = pairs.widen(gain, *sums);
                }
                column += columns;
            }
        }
        sums
    } else {
        // SAFETY: the caller's bound.
        unsafe { fold::<SHAPE, Sums, WORDS>(window, channel) }.map(|pairs| pairs.widen(gain, start))
    };
    let (multiplier, zero_point) = (law.multiplier as u32, law.zero_point as u32);
    sums.map(|sums| pack(sums.map(|acc| saturate(mul_high_add(acc, multiplier, zero_point)))))
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

//! What the AVX2 kernels share: the laws on vectors.

use core::arch::x86_64::*;

use crate::elements::LANES;
use crate::plan::{AddParams, Table};

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

/// The law of [`crate::requant`] with one multiplier.
#[derive(Clone, Copy)]
pub(crate) struct Requantise {
    left_shift: __m128i,
    multiplier: __m256i,
    zero_point: __m256i,
}

impl Requantise {
    #[target_feature(enable = "avx2")]
    #[inline]
    pub(crate) fn new(left_shift: u8, multiplier: i32, zero_point: i8) -> Requantise {
        Requantise {
            left_shift: _mm_cvtsi32_si128(left_shift.into()),
            multiplier: _mm256_set1_epi32(multiplier),
            zero_point: _mm256_set1_epi32(zero_point.into()),
        }
    }

    /// Eight results, not yet saturated to bytes.
    #[target_feature(enable = "avx2")]
    #[inline]
    pub(crate) fn of(&self, acc: __m256i) -> __m256i {
        _mm256_add_epi32(multiply_high(_mm256_sll_epi32(acc, self.left_shift), self.multiplier), self.zero_point)
    }
}

/// The sum of [`crate::add`].
#[derive(Clone, Copy)]
pub(crate) struct Sum {
    /// `ma` and `mb` in every word.
    gains: __m256i,
    /// The constant term with the rounding.
    constant: __m256i,
    shift: __m128i,
}

impl Sum {
    #[target_feature(enable = "avx2")]
    #[inline]
    pub(crate) fn new(params: &AddParams) -> Sum {
        let constant = params.c.wrapping_add(1i32.wrapping_shl(u32::from(params.shift).wrapping_sub(1)));
        Sum {
            gains: _mm256_set1_epi32((params.ma as u16 as u32 | (params.mb as u16 as u32) << 16) as i32),
            constant: _mm256_set1_epi32(constant),
            shift: _mm_cvtsi32_si128(params.shift.into()),
        }
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    pub(crate) fn sixteen(&self, a: __m128i, b: __m128i) -> __m128i {
        narrow(self.eight(_mm_unpacklo_epi8(a, b)), self.eight(_mm_unpackhi_epi8(a, b)))
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    fn eight(&self, pairs: __m128i) -> __m256i {
        let products = _mm256_madd_epi16(_mm256_cvtepi8_epi16(pairs), self.gains);
        _mm256_sra_epi32(_mm256_add_epi32(products, self.constant), self.shift)
    }
}

/// A table as sixteen rows of sixteen entries, each but the first of either half as its difference from the row before:
/// the exclusive or of the rows up to the value's own is the entry.
#[derive(Clone, Copy)]
pub(crate) struct Lookup([__m128i; 16]);

/// Rows of one half of the table.
const ROWS: usize = 8;

impl Lookup {
    #[target_feature(enable = "avx2")]
    #[inline]
    pub(crate) fn load(table: Table<'_>) -> Lookup {
        // SAFETY: the table has 16 rows of 16 bytes.
        let row = |i: usize| unsafe { _mm_loadu_si128(table.as_ptr().add(16 * i).cast()) };
        let mut rows = [_mm_setzero_si128(); 2 * ROWS];
        for (i, to) in rows.iter_mut().enumerate() {
            *to = if i % ROWS == 0 { row(i) } else { _mm_xor_si128(row(i), row(i - 1)) };
        }
        Lookup(rows)
    }

    /// Sixteen values.
    #[target_feature(enable = "avx2")]
    #[inline]
    pub(crate) fn sixteen(&self, q: __m128i) -> __m128i {
        _mm256_castsi256_si128(self.thirty_two(_mm256_castsi128_si256(q)))
    }

    /// Thirty-two values: VPSHUFB gives zero for negative indices, so a row counts for the values from its first on, and
    /// a half for its own values only.
    #[target_feature(enable = "avx2")]
    #[inline]
    pub(crate) fn thirty_two(&self, q: __m256i) -> __m256i {
        let step = _mm256_set1_epi8(16);
        let (mut low, mut high) = (_mm256_xor_si256(q, _mm256_set1_epi8(i8::MIN)), q);
        let (lows, highs) = self.0.split_at(ROWS);
        let mut out = _mm256_setzero_si256();
        for (&row_low, &row_high) in lows.iter().zip(highs) {
            let entry = |row: __m128i, index: __m256i| _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(row), index);
            out = _mm256_xor_si256(out, _mm256_xor_si256(entry(row_low, low), entry(row_high, high)));
            (low, high) = (_mm256_subs_epi8(low, step), _mm256_subs_epi8(high, step));
        }
        out
    }
}

/// Loads `count` bytes, at most a vector; the others are zero.
///
/// # Safety
/// `from` must be readable for `count` bytes.
#[target_feature(enable = "avx2")]
#[inline]
pub(crate) unsafe fn load(from: *const i8, count: usize) -> __m128i {
    // SAFETY: a whole vector is loaded only where all its bytes exist.
    unsafe { if count == LANES { _mm_loadu_si128(from.cast()) } else { load_part(from, count) } }
}

/// # Safety
/// As [`load`].
#[target_feature(enable = "avx2")]
#[inline(never)]
unsafe fn load_part(from: *const i8, count: usize) -> __m128i {
    let mut bytes = [0i8; LANES];
    // SAFETY: the caller's bound.
    unsafe {
        bytes.as_mut_ptr().copy_from_nonoverlapping(from, count);
        _mm_loadu_si128(bytes.as_ptr().cast())
    }
}

/// Stores the first `count` bytes.
///
/// # Safety
/// `to` must be writable for `count` bytes, at most a vector.
#[target_feature(enable = "avx2")]
#[inline]
pub(crate) unsafe fn store(to: *mut i8, count: usize, q: __m128i) {
    // SAFETY: a whole vector is stored only where all its bytes exist.
    unsafe { if count == LANES { _mm_storeu_si128(to.cast(), q) } else { store_part(to, count, q) } }
}

/// # Safety
/// As [`store`].
#[target_feature(enable = "avx2")]
#[inline(never)]
unsafe fn store_part(to: *mut i8, count: usize, q: __m128i) {
    let mut bytes = [0i8; LANES];
    // SAFETY: the caller's bound.
    unsafe {
        _mm_storeu_si128(bytes.as_mut_ptr().cast(), q);
        to.copy_from_nonoverlapping(bytes.as_ptr(), count);
    }
}

//! Multiply-accumulates a second of one core in a loop without memory: what `percent_of_peak` divides by.
//!
//! Prints `INSTRUCTION GMACS` for the best int8 instruction of this processor, one line.

use std::time::Instant;

fn main() {
    let (name, gmacs) = peak();
    println!("{name} {gmacs:.1}");
}

/// The best of several short runs: other work on the machine only makes one slower.
fn best(macs_per_round: f64, mut rounds: impl FnMut(u32)) -> f64 {
    const ROUNDS: u32 = 2_000_000;
    rounds(ROUNDS);
    let gmacs = (0..9).map(|_| {
        let start = Instant::now();
        rounds(ROUNDS);
        f64::from(ROUNDS) * macs_per_round / start.elapsed().as_secs_f64() / 1e9
    });
    gmacs.fold(0.0, f64::max)
}

#[cfg(target_arch = "x86_64")]
fn peak() -> (&'static str, f64) {
    use std::arch::x86_64::*;

    const CHAINS: usize = 12;

    #[target_feature(enable = "avx2")]
    fn madd(rounds: u32) {
        let x = std::hint::black_box(_mm256_set1_epi16(3));
        let mut acc = [_mm256_setzero_si256(); CHAINS];
        for _ in 0..rounds {
            for a in &mut acc {
                *a = _mm256_add_epi32(*a, _mm256_madd_epi16(x, *a));
            }
        }
        std::hint::black_box(acc);
    }

    #[target_feature(enable = "avx512f,avx512vnni")]
    fn dot(rounds: u32) {
        let x = std::hint::black_box(_mm512_set1_epi8(3));
        let mut acc = [_mm512_setzero_si512(); CHAINS];
        for _ in 0..rounds {
            for a in &mut acc {
                *a = _mm512_dpbusd_epi32(*a, x, x);
            }
        }
        std::hint::black_box(acc);
    }

    if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vnni") {
        // SAFETY: the processor was asked.
        ("vpdpbusd zmm", best((64 * CHAINS) as f64, |n| unsafe { dot(n) }))
    } else if is_x86_feature_detected!("avx2") {
        // SAFETY: the processor was asked.
        ("vpmaddwd ymm", best((16 * CHAINS) as f64, |n| unsafe { madd(n) }))
    } else {
        ("none", 0.0)
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn peak() -> (&'static str, f64) {
    let _ = best(0.0, |_| {});
    ("none", 0.0)
}

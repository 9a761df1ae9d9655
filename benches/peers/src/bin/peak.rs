//! Multiply-accumulates a second in a loop without memory, on one thread and on two at once: what `percent_of_peak`
//! divides by. Two are less than twice one where the processors share a core.
//!
//! Prints `PRECISION GMACS GMACS INSTRUCTION` for int8 and for f32, with the best instructions of this processor.

use std::sync::Barrier;
use std::time::Instant;

fn main() {
    for (precision, (name, [one, two])) in [("int8", int8()), ("f32", f32())] {
        println!("{precision} {one:.1} {two:.1} {name}");
    }
}

/// The best of several short runs, for one thread and for two: other work on the machine only makes one slower.
fn best(macs_per_round: f64, rounds: impl Fn(u32) + Sync) -> [f64; 2] {
    const ROUNDS: u32 = 200_000;
    rounds(ROUNDS);
    [1, 2].map(|threads| {
        let gmacs = (0..90).map(|_| {
            let start = Barrier::new(threads);
            let time = || {
                start.wait();
                let start = Instant::now();
                rounds(ROUNDS);
                start.elapsed().as_secs_f64()
            };
            let slowest = std::thread::scope(|scope| {
                let running: Vec<_> = (0..threads).map(|_| scope.spawn(time)).collect();
                running.into_iter().filter_map(|thread| thread.join().ok()).fold(0.0, f64::max)
            });
            threads as f64 * f64::from(ROUNDS) * macs_per_round / slowest / 1e9
        });
        gmacs.fold(0.0, f64::max)
    })
}

#[cfg(target_arch = "x86_64")]
fn int8() -> (&'static str, [f64; 2]) {
    use std::arch::x86_64::*;

    const CHAINS: usize = 12;

    /// Twelve independent chains; in assembly, because a compiler sees that the products never change.
    #[target_feature(enable = "avx2")]
    fn madd(rounds: u32) {
        // SAFETY: registers only.
        unsafe {
            std::arch::asm!(
                "2:",
                "vpmaddwd ymm13, ymm0, ymm14", "vpaddd ymm1, ymm1, ymm13",
                "vpmaddwd ymm15, ymm0, ymm14", "vpaddd ymm2, ymm2, ymm15",
                "vpmaddwd ymm13, ymm0, ymm14", "vpaddd ymm3, ymm3, ymm13",
                "vpmaddwd ymm15, ymm0, ymm14", "vpaddd ymm4, ymm4, ymm15",
                "vpmaddwd ymm13, ymm0, ymm14", "vpaddd ymm5, ymm5, ymm13",
                "vpmaddwd ymm15, ymm0, ymm14", "vpaddd ymm6, ymm6, ymm15",
                "vpmaddwd ymm13, ymm0, ymm14", "vpaddd ymm7, ymm7, ymm13",
                "vpmaddwd ymm15, ymm0, ymm14", "vpaddd ymm8, ymm8, ymm15",
                "vpmaddwd ymm13, ymm0, ymm14", "vpaddd ymm9, ymm9, ymm13",
                "vpmaddwd ymm15, ymm0, ymm14", "vpaddd ymm10, ymm10, ymm15",
                "vpmaddwd ymm13, ymm0, ymm14", "vpaddd ymm11, ymm11, ymm13",
                "vpmaddwd ymm15, ymm0, ymm14", "vpaddd ymm12, ymm12, ymm15",
                "dec {n:e}",
                "jnz 2b",
                n = inout(reg) rounds => _,
                out("ymm0") _, out("ymm1") _, out("ymm2") _, out("ymm3") _, out("ymm4") _, out("ymm5") _,
                out("ymm6") _, out("ymm7") _, out("ymm8") _, out("ymm9") _, out("ymm10") _, out("ymm11") _,
                out("ymm12") _, out("ymm13") _, out("ymm14") _, out("ymm15") _,
                options(nomem, nostack),
            );
        }
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
        ("none", [0.0; 2])
    }
}

#[cfg(target_arch = "x86_64")]
fn f32() -> (&'static str, [f64; 2]) {
    use std::arch::x86_64::*;

    const CHAINS: usize = 12;

    #[target_feature(enable = "avx2,fma")]
    fn fma(rounds: u32) {
        let x = std::hint::black_box(_mm256_set1_ps(0.5));
        let mut acc = [_mm256_setzero_ps(); CHAINS];
        for _ in 0..rounds {
            for a in &mut acc {
                *a = _mm256_fmadd_ps(x, x, *a);
            }
        }
        std::hint::black_box(acc);
    }

    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        // SAFETY: the processor was asked.
        ("vfmadd ymm", best((8 * CHAINS) as f64, |n| unsafe { fma(n) }))
    } else {
        ("none", [0.0; 2])
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn int8() -> (&'static str, [f64; 2]) {
    let _ = best(0.0, |_| {});
    ("none", [0.0; 2])
}

#[cfg(not(target_arch = "x86_64"))]
fn f32() -> (&'static str, [f64; 2]) {
    ("none", [0.0; 2])
}

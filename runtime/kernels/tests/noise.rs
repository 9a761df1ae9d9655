//! The noise generator against published answers and the normal distribution.

use flowlet_kernels::noise::{self, normal, philox};
use flowlet_kernels::port::quantise;

/// Known answers of philox4x32 with 10 rounds, from the Random123 distribution's `kat_vectors`.
#[test]
fn philox_known_answers() {
    let ones = u32::MAX;
    assert_eq!(philox::block([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
    assert_eq!(philox::block([ones; 4], [ones; 2]), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
    assert_eq!(
        philox::block([0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344], [0xa409_3822, 0x299f_31d0]),
        [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
    );
}

/// The counts beyond whole standard deviations, and the moments, of 10^7 draws lie within five standard errors.
#[test]
#[cfg_attr(miri, ignore)]
fn ten_million_draws_are_normal() {
    const DRAWS: u32 = 10_000_000;
    let (mut above, mut below) = ([0u32; 6], [0u32; 6]);
    let (mut sum, mut squares, mut fourth) = (0.0, 0.0, 0.0);
    for block in 0..DRAWS / 4 {
        for word in philox::block([block, 0, 3, 0], [2024, 7]) {
            let q16 = normal::from_word(word);
            for k in 0..6 {
                above[k] += u32::from(q16 > (k as i32) << 16);
                below[k] += u32::from(-q16 > (k as i32) << 16);
            }
            let z = f64::from(q16) / 65536.0;
            (sum, squares, fourth) = (sum + z, squares + z * z, fourth + z * z * z * z);
        }
    }
    let n = f64::from(DRAWS);
    for k in 0..6 {
        let p = 0.5 * libm::erfc(k as f64 / std::f64::consts::SQRT_2);
        let allowed = 5.0 * (n * p * (1.0 - p)).sqrt() + 1.0;
        for count in [above[k], below[k]] {
            assert!((f64::from(count) - n * p).abs() < allowed, "beyond {k}: {count}, expected {}", n * p);
        }
    }
    assert!((sum / n).abs() < 5.0 / n.sqrt());
    assert!((squares / n - 1.0).abs() < 5.0 * (2.0 / n).sqrt());
    assert!((fourth / n - 3.0).abs() < 5.0 * (96.0 / n).sqrt());
}

#[test]
fn the_quantile_is_monotonic_and_odd() {
    let step = if cfg!(miri) { 1 << 24 } else { 1 << 10 };
    let mut last = i32::MAX;
    for v in (0..1u32 << 31).step_by(step) {
        let z = normal::from_word(v);
        assert!(z <= last && z >= 0, "{v}");
        assert_eq!(normal::from_word(v | 1 << 31), -z);
        last = z;
    }
    // The ends of the range: p = 2^-33 and just under 1/2.
    assert_eq!(normal::from_word(0) >> 16, 6);
    assert_eq!(normal::from_word((1 << 31) - 1), 0);
}

#[test]
fn fills_are_the_elements() {
    let mut reals = [0.0; 23];
    noise::fill_f32(&mut reals, 0x0123_4567_89ab_cdef, 5);
    let mut bytes = [0; 23];
    noise::fill_s8(&mut bytes, 0x0123_4567_89ab_cdef, 5, 31.7, -9);
    for i in 0..23 {
        let q16 = noise::element(0x0123_4567_89ab_cdef, 5, i as u32);
        assert_eq!(reals[i], q16 as f32 / 65536.0);
        assert_eq!(f64::from(reals[i]), f64::from(q16) / 65536.0);
        assert_eq!(Some(bytes[i]), quantise(reals[i], 31.7, -9));
        let words = philox::block([i as u32 / 4, 0, 5, 0], [0x89ab_cdef, 0x0123_4567]);
        assert_eq!(q16, normal::from_word(words[i % 4]));
    }
    // A prefix does not depend on the length, and streams and seeds differ.
    let draw = |seed, stream| {
        let mut few = [0.0; 5];
        noise::fill_f32(&mut few, seed, stream);
        few
    };
    assert_eq!(draw(0x0123_4567_89ab_cdef, 5), reals[..5]);
    assert_ne!(draw(1, 0), draw(1, 1));
    assert_ne!(draw(1, 0), draw(1 << 32, 0));
}

//! A board program whose every figure is known beforehand.
//!
//! Prints four images of 64 bytes; each one's region executes exactly 3 x 1000 + 1 instructions
//! of its own loop. The runner's tests compare what they measure with that.
#![no_std]
#![no_main]

use core::arch::asm;
use core::hint::black_box;

use flowlet_board_support::{Line, count, entry, exit, stack};

const BYTES: usize = 64;

/// Executes one instruction, then three for each of `rounds`.
fn spin(rounds: u32) {
    // SAFETY: counts a register of its own down to zero; touches no memory.
    unsafe {
        asm!("mov {n}, {rounds}", "2:", "nop", "subs {n}, #1", "bne 2b",
             rounds = in(reg) rounds, n = out(reg) _, options(nomem, nostack));
    }
}

/// Fills `image` by a rule that a host repeats easily.
fn draw(image: &mut [u8; BYTES], seed: u32) {
    for (byte, at) in image.iter_mut().zip(0u8..) {
        *byte = at.wrapping_mul(7).wrapping_add(seed as u8);
    }
}

/// Uses 512 bytes of stack and a little more.
#[inline(never)]
fn deep() -> u8 {
    let room = black_box([3u8; 512]);
    room.first().copied().unwrap_or_default()
}

#[entry]
fn main() -> ! {
    for seed in 0..4 {
        let rounds = if cfg!(feature = "planted-branch") { 1000 + seed } else { 1000 };
        count::region(|| spin(rounds));
        let mut image = [0; BYTES];
        draw(&mut image, seed);
        Line::new("image")
            .text("model", "selftest")
            .number("seed", seed)
            .number("label", 0)
            .number("bytes", BYTES as u32)
            .hex("hex", &image)
            .end();
    }
    let (_, used) = stack::measure(deep);
    Line::new("stack").text("model", "selftest").number("used", used).end();
    #[cfg(feature = "planted-panic")]
    Line::new("planted").number("byte", u32::from([1u8, 2, 3][black_box(1usize)])).end();
    Line::new("done").text("model", "selftest").number("images", 4).end();
    exit(0)
}

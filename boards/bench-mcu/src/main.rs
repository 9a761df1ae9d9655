//! Runs the layer table of `cargo xtask bench-mcu`, each layer once in a counted region, and names them in order.
#![no_std]
#![no_main]

mod constants;
mod layers;
mod operators;

use flowlet_board_support::{Line, count, entry, exit};

/// The largest layer's working memory.
const ARENA_BYTES: usize = 112 * 1024;

/// The working memory of one layer after the other.
type Arena = flowlet::Arena<ARENA_BYTES>;

/// Runs one layer on random bytes in a counted region and names it.
fn bench(arena: &mut Arena, name: &str, layer: impl FnOnce(&mut Arena)) {
    let mut state = 1u32;
    for byte in arena.bytes() {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *byte = (state >> 24) as i8;
    }
    count::region(|| layer(arena));
    Line::new("layer").text("name", name).end();
}

/// Runs a convolution that the compiler lowered.
macro_rules! lowered {
    ($arena:expr, $name:ident) => {
        crate::bench($arena, stringify!($name), |arena| {
            $name::Model::new(arena).generate();
        })
    };
}

include!(concat!(env!("OUT_DIR"), "/convolutions.rs"));

#[entry]
fn main() -> ! {
    static mut ARENA: Arena = Arena::new();
    convolutions(ARENA);
    layers::run(ARENA);
    operators::run(ARENA);
    Line::new("done").text("bench", "mcu").end();
    exit(0)
}

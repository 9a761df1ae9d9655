//! Draws 8 pictures of each of the 10 classes with `fashion-tiny`.
#![no_std]
#![no_main]

#[allow(missing_docs)]
mod model {
    include!(concat!(env!("OUT_DIR"), "/fashion_tiny.rs"));
}

flowlet_board_qemu_mps::draw!("fashion-tiny", 8);

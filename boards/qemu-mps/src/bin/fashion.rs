//! Draws 4 pictures of each of the 10 classes with `fashion`.
#![no_std]
#![no_main]

#[allow(missing_docs)]
mod model {
    include!(concat!(env!("OUT_DIR"), "/fashion.rs"));
}

flowlet_board_qemu_mps::draw!("fashion", 4);

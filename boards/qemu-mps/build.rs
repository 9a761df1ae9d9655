//! Lowers the committed models for the board that the features name.

use std::env;

const BOARDS: [&str; 4] = ["mps2-an386", "mps2-an500", "mps2-an505", "mps3-an547"];

fn main() -> Result<(), flowlet_build::Error> {
    let feature = |board: &str| format!("CARGO_FEATURE_{}", board.to_uppercase().replace('-', "_"));
    let board = BOARDS.into_iter().find(|board| env::var_os(feature(board)).is_some()).unwrap_or(BOARDS[0]);
    let model = |path| flowlet_build::Model::from_flq(path).target(&format!("qemu-{board}"));
    model("../../models/fashion-tiny/fashion-tiny.flq").emit("fashion_tiny")?;
    model("../../models/fashion/fashion.flq").emit("fashion")
}

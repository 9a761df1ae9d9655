//! Gives the linker the memory map of the board that the features name.

use std::path::PathBuf;
use std::{env, fs};

const BOARDS: [&str; 4] = ["mps2-an386", "mps2-an500", "mps2-an505", "mps3-an547"];

fn main() -> Result<(), String> {
    let feature = |board: &str| format!("CARGO_FEATURE_{}", board.to_uppercase().replace('-', "_"));
    let chosen: Vec<_> = BOARDS.into_iter().filter(|board| env::var_os(feature(board)).is_some()).collect();
    let [board] = chosen.as_slice() else {
        return Err(format!("set exactly one board as a feature, of {BOARDS:?}; set are {chosen:?}"));
    };
    let map = PathBuf::from("memory").join(board).with_extension("x");
    println!("cargo:rerun-if-changed={}", map.display());
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("no OUT_DIR: started without cargo")?);
    fs::copy(&map, out.join("memory.x")).map_err(|why| format!("{}: {why}", map.display()))?;
    println!("cargo:rustc-link-search={}", out.display());
    Ok(())
}

//! Lowers the committed programs for the board that the features name, and reads the pictures that some of them start from.

use std::{env, fs, io, path::Path};

const BOARDS: [&str; 4] = ["mps2-an386", "mps2-an500", "mps2-an505", "mps3-an547"];
const PROGRAMS: [(&str, &str); 21] = [
    ("digits", "euler_4"),
    ("digits", "guided_4"),
    ("digits", "heun_4"),
    ("digits", "midpoint_4"),
    ("digits", "reanchor_4"),
    ("digits", "stochastic_4"),
    ("digits", "stream_4"),
    ("digits", "edit_4"),
    ("digits", "rfedit_4"),
    ("digits", "inpaint_8"),
    ("digits", "enlarge_8"),
    ("digits", "deblur_8"),
    ("digits", "chain_2"),
    ("digits", "critic_2"),
    ("digits-a", "cycle_8"),
    ("digits-unet", "turbo_4"),
    ("fashion-teacher", "euler_4"),
    ("fashion-teacher", "heun_4"),
    ("fashion-teacher", "bellman_4"),
    ("fashion-teacher", "turbo_4"),
    ("fashion-teacher", "inpaint_8"),
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let feature = |board: &str| format!("CARGO_FEATURE_{}", board.to_uppercase().replace('-', "_"));
    let board = BOARDS.into_iter().find(|board| env::var_os(feature(board)).is_some()).unwrap_or(BOARDS[0]);
    for (model, name) in PROGRAMS {
        let path = format!("../../models/{model}/programs/{name}.flp");
        flowlet_build::Program::from_flp(path)
            .target(&format!("qemu-{board}"))
            .emit(&format!("{}_{name}", model.replace('-', "_")))?;
    }
    let digits = pictures::<64>("DIGITS", Path::new("../../models/digits/held-out/images.npy"))?;
    let garments = pictures::<784>("GARMENTS", Path::new("../../models/fashion-teacher/held-out/images.npy"))?;
    let out = env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?;
    fs::write(Path::new(&out).join("pictures.rs"), digits + &garments)?;
    Ok(())
}

/// The first two pictures of an array as Rust.
fn pictures<const N: usize>(name: &str, path: &Path) -> Result<String, Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed={}", path.display());
    let bytes = fs::read(path).map_err(|e| io::Error::other(format!("cannot read {}: {e}", path.display())))?;
    let header = bytes.get(8..10).map_or(0, |b| 10 + usize::from(u16::from_le_bytes([b[0], b[1]])));
    let values: Vec<f32> =
        bytes[header..].chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    let first: Vec<&[f32]> = values.chunks_exact(N).take(2).collect();
    Ok(format!("pub static {name}: [[f32; {N}]; {}] = {first:?};\n", first.len()))
}

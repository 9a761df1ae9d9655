//! One quantised graph a convolution, lowered for the board that the features name: the packing is the one that
//! lowering picks.

use std::path::PathBuf;
use std::{env, fs};

const BOARDS: [&str; 4] = ["mps2-an386", "mps2-an500", "mps2-an505", "mps3-an547"];

/// A convolution of a picture of `[height, width, inputs]`, padded to give `height / stride` rows.
struct Layer {
    name: &'static str,
    picture: [usize; 3],
    outputs: usize,
    kernel: usize,
    stride: usize,
}

const fn conv(name: &'static str, picture: [usize; 3], outputs: usize, kernel: usize, stride: usize) -> Layer {
    Layer { name, picture, outputs, kernel, stride }
}

/// A fully connected layer of `rows` inputs.
const fn dense(name: &'static str, inputs: usize, outputs: usize, rows: usize) -> Layer {
    conv(name, [rows, 1, inputs], outputs, 1, 1)
}

const LAYERS: &[Layer] = &[
    conv("conv3x3_28x28x32_32", [28, 28, 32], 32, 3, 1),
    conv("conv3x3_14x14x64_64", [14, 14, 64], 64, 3, 1),
    conv("conv3x3_7x7x128_128", [7, 7, 128], 128, 3, 1),
    conv("conv3x3_28x28x1_32", [28, 28, 1], 32, 3, 1),
    conv("conv3x3_28x28x3_32", [28, 28, 3], 32, 3, 1),
    conv("conv3x3_28x28x32_1", [28, 28, 32], 1, 3, 1),
    conv("conv3x3s2_28x28x32_64", [28, 28, 32], 64, 3, 2),
    conv("conv1x1_14x14x64_64", [14, 14, 64], 64, 1, 1),
    conv("conv1x1_28x28x32_32", [28, 28, 32], 32, 1, 1),
    conv("conv1x1_7x7x128_128", [7, 7, 128], 128, 1, 1),
    conv("conv1x1s2_28x28x32_64", [28, 28, 32], 64, 1, 2),
    dense("fc_256_256_b1", 256, 256, 1),
    dense("fc_64_64_b1", 64, 64, 1),
    dense("fc_512_10_b1", 512, 10, 1),
    dense("fc_256_256_b16", 256, 256, 16),
];

impl Layer {
    /// As a graph in the compiler's text form.
    fn graph(&self) -> String {
        let Layer { name, picture: [height, width, inputs], outputs, kernel, stride } = *self;
        let [rows, columns] = [height, width].map(|size| size.div_ceil(stride));
        let pad = |size: usize, out: usize| ((out - 1) * stride + kernel).saturating_sub(size);
        let (down, across) = (pad(height, rows), pad(width, columns));
        let [top, left] = [down / 2, across / 2];
        let [bottom, right] = [down - top, across - left];
        format!(
            "graph \"{name}\" (%x: s8[1,{inputs},{height},{width}] q(0.05,7)) -> (%y) {{
  const @w: s8[{outputs},{inputs},{kernel},{kernel}] = random 1
  const @m: i32[{outputs}] = splat 2000000
  const @b: i32[1,{outputs}] = random 2
  %y = qconv %x, @w, @m, @b {{stride=[{stride},{stride}], pad=[{top},{left},{bottom},{right}], \
             left_shift=1, zero_point=-3}} : s8[1,{outputs},{rows},{columns}] q(0.05,-3) from \"{name}\"
}}
"
        )
    }
}

fn main() -> Result<(), String> {
    let feature = |board: &str| format!("CARGO_FEATURE_{}", board.to_uppercase().replace('-', "_"));
    let board = BOARDS.into_iter().find(|board| env::var_os(feature(board)).is_some()).unwrap_or(BOARDS[0]);
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("no OUT_DIR: started without cargo")?);
    let mut modules = String::new();
    for layer in LAYERS {
        let path = out.join(layer.name).with_extension("ir");
        let graph = layer.graph();
        // A file with a new time of change would build everything again.
        if fs::read_to_string(&path).ok().as_ref() != Some(&graph) {
            fs::write(&path, graph).map_err(|why| format!("{}: {why}", path.display()))?;
        }
        flowlet_build::Model::from_text(&path)
            .target(&format!("qemu-{board}"))
            .emit(layer.name)
            .map_err(|why| format!("{}: {why}", layer.name))?;
        modules += &format!(
            "#[allow(missing_docs)]\nmod {0} {{\n    include!(concat!(env!(\"OUT_DIR\"), \"/{0}.rs\"));\n}}\n",
            layer.name
        );
    }
    let calls: String = LAYERS.iter().map(|layer| format!("    lowered!(arena, {});\n", layer.name)).collect();
    println!("cargo::rerun-if-changed=build.rs");
    let text = format!("{modules}\nfn convolutions(arena: &mut Arena) {{\n{calls}}}\n");
    fs::write(out.join("convolutions.rs"), text).map_err(|why| format!("convolutions.rs: {why}"))
}

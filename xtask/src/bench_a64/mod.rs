//! `cargo xtask bench-a64`: executed instructions of single layers on emulated AArch64 processors, beside what
//! onnxruntime executes for the same layers.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use flowlet_board_runner::plugin;
use flowlet_compiler::codegen::grouped;
use serde_json::{Value, json};

use crate::setup::{self, Need};
use crate::{aarch64, cargo};

/// The emulated processors, in the order of the recorded figures.
const PROCESSORS: [&str; 2] = ["cortex-a72", "cortex-a76"];

/// Whose figures are recorded: `QLinearConv` of onnxruntime's aarch64 wheel, int8, one thread, one call from Python, under
/// the same emulator (QEMU 7.2.22) with the same plugin.
const PEER: &str = "onnxruntime 1.32.0";
/// Of these, what a call costs that is no layer's: one layer less the slope of a chain of four.
const PEER_CALL: [u64; 2] = [2_280_683 - 2_210_046, 811_796 - 741_019];

/// What a count of instructions does not say.
const HIDDEN: &str = "\
Counted are executed instructions under QEMU: not cycles and not time. The recorded figures of the peer are less what a call
of it costs that is no layer's; ours are whole calls of the executor, writing of the input counted.";

/// A convolution of a picture of `[height, width, inputs]` that keeps its size.
pub struct Layer {
    /// What it is called.
    pub name: &'static str,
    picture: [usize; 3],
    outputs: usize,
    kernel: usize,
    groups: usize,
    /// Instructions of the peer on each processor, where they were recorded.
    peer: [Option<u64>; 2],
}

/// The table.
pub const LAYERS: &[Layer] = &[
    Layer {
        name: "conv3x3_28x28x32_32",
        picture: [28, 28, 32],
        outputs: 32,
        kernel: 3,
        groups: 1,
        peer: [None, Some(1_052_395)],
    },
    Layer {
        name: "conv3x3_14x14x64_64",
        picture: [14, 14, 64],
        outputs: 64,
        kernel: 3,
        groups: 1,
        peer: [Some(2_280_683), Some(811_796)],
    },
    Layer {
        name: "conv3x3_7x7x128_128",
        picture: [7, 7, 128],
        outputs: 128,
        kernel: 3,
        groups: 1,
        peer: [None, Some(783_909)],
    },
    Layer {
        name: "conv1x1_14x14x64_64",
        picture: [14, 14, 64],
        outputs: 64,
        kernel: 1,
        groups: 1,
        peer: [Some(389_986), Some(193_291)],
    },
    Layer {
        name: "dw3x3_14x14x64",
        picture: [14, 14, 64],
        outputs: 64,
        kernel: 3,
        groups: 64,
        peer: [Some(173_812), Some(172_881)],
    },
];

impl Layer {
    /// As a graph in the compiler's text form.
    pub fn graph(&self) -> String {
        let Layer { name, picture: [height, width, inputs], outputs, kernel, groups, .. } = *self;
        let (own, pad) = (inputs / groups, kernel / 2);
        format!(
            "graph \"{name}\" (%x: s8[1,{inputs},{height},{width}] q(0.05,7)) -> (%y) {{
  const @w: s8[{outputs},{own},{kernel},{kernel}] = random 1
  const @m: i32[{outputs}] = splat 4000000
  const @b: i32[1,{outputs}] = random 2
  %y = qconv %x, @w, @m, @b {{pad=[{pad},{pad},{pad},{pad}], groups={groups}, left_shift=0, zero_point=-3}} : \
             s8[1,{outputs},{height},{width}] q(0.05,-3) from \"{name}\"
}}
"
        )
    }

    fn macs(&self) -> u64 {
        let [height, width, inputs] = self.picture;
        (height * width * self.outputs * self.kernel * self.kernel * (inputs / self.groups)) as u64
    }
}

/// Runs the command.
pub fn command(install: bool) -> ExitCode {
    let needs = [Need::AARCH64, &[Need::CCompiler]].concat();
    if !setup::ensure(&needs, install).is_empty() {
        return ExitCode::from(3);
    }
    match table() {
        Ok(path) => {
            println!("\n{HIDDEN}\n\nwritten to {path}");
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("error: {why}");
            ExitCode::FAILURE
        }
    }
}

fn table() -> Result<String, String> {
    let program = aarch64::build()?;
    let counter = plugin::build(&cargo::target().join("icount")).map_err(|why| why.to_string())?;
    let mut rows = Vec::new();
    for (place, processor) in PROCESSORS.into_iter().enumerate() {
        println!("\n{processor}; recorded: {PEER}");
        println!(
            "{:<26} {:>10} {:>12} {:>8} {:>12} {:>6}",
            "layer", "MACs", "instructions", "for each", "recorded", "ratio"
        );
        for layer in LAYERS {
            let instructions = count(&program, &counter, processor, layer)?;
            rows.push(line(layer, processor, instructions, layer.peer[place].map(|peer| peer - PEER_CALL[place])));
        }
    }
    write(&rows)
}

fn line(layer: &Layer, processor: &str, instructions: u64, peer: Option<u64>) -> Value {
    let macs = layer.macs();
    let each = instructions as f64 / macs as f64;
    let ratio = peer.map(|peer| instructions as f64 / peer as f64);
    println!(
        "{:<26} {:>10} {:>12} {each:>8.3} {:>12} {:>6}",
        layer.name,
        grouped(macs),
        grouped(instructions),
        peer.map_or("-".to_owned(), grouped),
        ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.3}"))
    );
    json!({
        "core": processor, "layer": layer.name, "macs": macs, "instructions": instructions, "per_mac": each,
        "peer": format!("{PEER}, recorded"), "peer_instructions": peer, "ratio": ratio,
    })
}

/// Instructions of one call: of three calls less those of one, so that what happens once is not counted.
fn count(program: &Path, counter: &Path, processor: &str, layer: &Layer) -> Result<u64, String> {
    let total = |calls: &str| {
        let mut command = aarch64::emulated(program, processor, &["layer", layer.name, calls]);
        let loaded = format!("{},markers=off", counter.display());
        let output = command.env("QEMU_PLUGIN", loaded).output().map_err(|why| format!("{}: {why}", aarch64::QEMU))?;
        let said = String::from_utf8_lossy(&output.stderr);
        let total = said.lines().find_map(|line| line.strip_prefix("icount total ")?.parse::<u64>().ok());
        total.filter(|_| output.status.success()).ok_or(format!("{} on {processor}: {said}", layer.name))
    };
    Ok((total("3")? - total("1")?) / 2)
}

fn write(rows: &[Value]) -> Result<String, String> {
    let path = cargo::root().join("target").join("bench-a64.json");
    let emulator = cargo::answer(aarch64::QEMU, &["--version"]).unwrap_or_default();
    let emulator = emulator.lines().next().unwrap_or_default();
    let report = json!({ "counts": "executed instructions", "emulator": emulator, "rows": rows });
    fs::create_dir_all(cargo::root().join("target"))
        .and_then(|()| fs::write(&path, format!("{report:#}\n")))
        .map_err(|why| format!("cannot write {}: {why}", path.display()))?;
    Ok(path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_layer_is_a_graph_of_its_size() {
        for layer in LAYERS {
            let graph = flowlet_compiler::ir::parse(&layer.graph(), &[]).unwrap_or_else(|why| panic!("{why}"));
            let lowered = flowlet_compiler::lower::lower(&graph, [0; 32], &flowlet_compiler::target::Target::host());
            assert_eq!(lowered.map(|lowered| lowered.macs()).ok(), Some(layer.macs()), "{}", layer.name);
        }
    }
}

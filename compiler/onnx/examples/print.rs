//! Prints the graph of a model: `cargo run --release --example print -- MODEL.onnx [--passes] [--set NAME=NUMBER ...]
//! [NAME=1x3x32x32 ...]`. With `--passes` or `--set` the float passes run first.

use flowlet_compiler::compile::optimise;
use flowlet_compiler::ir::{ConstStyle, Tensor, print};
use flowlet_compiler::passes::Options;
use flowlet_onnx::{ImportOptions, import};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or("usage: print MODEL.onnx [--passes] [--set NAME=NUMBER] [NAME=1x3x32x32 ...]")?;
    let mut import_options = ImportOptions::default();
    let mut passes: Option<Options> = None;
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--passes" => passes = Some(passes.unwrap_or_default()),
            "--set" => {
                let word = arguments.next().ok_or("--set needs NAME=NUMBER")?;
                let (name, number) = word.split_once('=').ok_or("--set needs NAME=NUMBER")?;
                let options = passes.get_or_insert_default();
                options.set.push((name.to_owned(), Tensor::f32(&[], vec![number.parse()?])));
            }
            shape => {
                let (name, dims) = shape.split_once('=').ok_or("a shape reads NAME=1x3x32x32")?;
                let dims = dims.split('x').map(str::parse).collect::<Result<_, _>>()?;
                import_options.shapes.insert(name.to_owned(), dims);
            }
        }
    }
    let mut graph = import(&std::fs::read(path)?, &import_options)?;
    if let Some(options) = passes {
        graph = optimise(graph, &options)?;
    }
    print!("{}", print(&graph, ConstStyle::Short));
    Ok(())
}

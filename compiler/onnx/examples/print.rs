//! Prints the graph of a model: `cargo run --release --example print -- MODEL.onnx [NAME=1x3x32x32 ...]`.

use flowlet_compiler::ir::{ConstStyle, print};
use flowlet_onnx::{ImportOptions, import};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or("usage: print MODEL.onnx [NAME=1x3x32x32 ...]")?;
    let mut options = ImportOptions::default();
    for shape in arguments {
        let (name, dims) = shape.split_once('=').ok_or("a shape reads NAME=1x3x32x32")?;
        let dims = dims.split('x').map(str::parse).collect::<Result<_, _>>()?;
        options.shapes.insert(name.to_owned(), dims);
    }
    print!("{}", print(&import(&std::fs::read(path)?, &options)?, ConstStyle::Short));
    Ok(())
}

//! Lowers the committed models for this board.

fn main() -> Result<(), flowlet_build::Error> {
    println!("cargo:rustc-link-search={}", env!("CARGO_MANIFEST_DIR"));
    println!("cargo:rerun-if-changed=memory.x");
    let model = |path| flowlet_build::Model::from_flq(path).target("qemu-mps2-an386");
    model("../../models/fashion-tiny/fashion-tiny.flq").emit("fashion_tiny")?;
    model("../../models/fashion/fashion.flq").emit("fashion")
}

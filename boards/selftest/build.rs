//! Tells the linker where `memory.x` is.

fn main() {
    println!("cargo:rustc-link-search={}/../qemu-mps2-an386", env!("CARGO_MANIFEST_DIR"));
    println!("cargo:rerun-if-changed=../qemu-mps2-an386/memory.x");
}

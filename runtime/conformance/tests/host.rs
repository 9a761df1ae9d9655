//! The suite on this host.
#![allow(clippy::unwrap_used)]

use flowlet_conformance::{Limit, Memory, run};
use flowlet_kernels::plan::Isa;

#[test]
fn every_kernel_of_this_host_equals_its_reference() {
    // AArch64 is mostly emulated.
    let (cases, macs) = match (cfg!(miri), cfg!(target_arch = "aarch64")) {
        (true, _) => (3, 300),
        (_, true) => (1_500, 50_000),
        _ => (4_000, 200_000),
    };
    let mut memory = Box::new(Memory::new());
    let mut rows = Vec::new();
    let mismatches = run(&mut memory, cases, Limit { macs }, |row| {
        println!("{:<22} {:<12} {:>5} cases, {} mismatches", row.op, row.isa.name(), row.cases, row.mismatches);
        rows.push(*row);
    });
    let ran = |isa| rows.iter().any(|row| row.isa == isa && !row.op.ends_with("(model)"));
    if cfg!(target_arch = "x86_64") && !ran(Isa::Avx512Vnni) {
        println!("{}: compiled, model-tested, NOT RUN on this processor", Isa::Avx512Vnni.name());
    }
    assert_eq!(mismatches, 0, "{rows:#?}");
    assert!(rows.iter().all(|row| row.cases == cases), "too few cases: {rows:#?}");
}

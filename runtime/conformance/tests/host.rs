//! The suite on this host.
#![allow(clippy::unwrap_used)]

use flowlet_conformance::{Limit, Memory, run};

#[test]
fn every_kernel_of_this_host_equals_its_reference() {
    let (cases, macs) = if cfg!(miri) { (3, 300) } else { (4_000, 200_000) };
    let mut memory = Box::new(Memory::new());
    let mut rows = Vec::new();
    let mismatches = run(&mut memory, cases, Limit { macs }, |row| {
        println!("{:<15} {:<12} {:>5} cases, {} mismatches", row.op, row.isa.name(), row.cases, row.mismatches);
        rows.push(*row);
    });
    assert_eq!(mismatches, 0, "{rows:#?}");
    assert!(rows.iter().all(|row| row.cases == cases), "too few cases: {rows:#?}");
}

//! The generated source is a reviewed artefact: its text is held here, and `tests/` compiles and runs it.

use super::*;
use crate::ir::parse;
use crate::lower::lower;
use crate::target::Target;

/// One of every kernel, two index inputs and a pixel output.
const TINY: &str = include_str!("tests/tiny.ir");

fn generated(target: &Target) -> Generated {
    let graph = parse(TINY, &[]).unwrap();
    let lowered = lower(&graph, [0xab; 32], target).unwrap();
    generate(&lowered, &Options::default())
}

#[test]
fn the_source_is_as_reviewed() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/codegen/tests/tiny.rs.expected");
    let source = generated(&Target::named("qemu-mps2-an386").unwrap()).source;
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(path, &source).unwrap();
    }
    let expected = std::fs::read_to_string(path).unwrap_or_default();
    assert_eq!(source, expected, "run again with BLESS=1 if the change is meant");
    assert_eq!(source, generated(&Target::named("qemu-mps2-an386").unwrap()).source);
}

#[test]
fn a_target_without_sections_needs_no_unsafe() {
    let source = generated(&Target::host()).source;
    assert!(!source.contains("unsafe") && !source.contains("compile_error"));
}

#[test]
fn a_missing_feature_says_what_to_add() {
    let target = Target { features: &["isa-dsp"], ..Target::host() };
    let source = generated(&target).source;
    assert!(source.contains("kernels::has_feature(\"isa-dsp\"),\n"));
    assert!(source.contains("add `features = [\\\"isa-dsp\\\"]` to flowlet"));
}

/// A part whose first flash is too small for the weights.
const SPLIT: &str = "name = \"part\"\nisa = \"scalar\"\n\
    [[memory]]\nname = \"tcm\"\nkind = \"ram\"\nbytes = 65536\nsection = \".tcm\"\n\
    [[memory]]\nname = \"rom\"\nkind = \"flash\"\nbytes = 1024\nsection = \".rodata.rom\"\n\
    [[memory]]\nname = \"spi\"\nkind = \"flash\"\nbytes = 65536\nsection = \".spi\"\n";

#[test]
fn weights_of_two_memories_are_two_statics() {
    let source = generated(&Target::parse(SPLIT).unwrap()).source;
    for wanted in [
        "// place the arena in tcm: #[unsafe(link_section = \".tcm\")] on your static\n",
        "#[unsafe(link_section = \".rodata.rom\")]\nstatic WEIGHTS: ",
        "#[unsafe(link_section = \".spi\")]\nstatic OUTER_WEIGHTS: ",
        "    weights(offset).split_at(len).0\n",
    ] {
        assert!(source.contains(wanted), "{wanted}\n{source}");
    }
    assert_eq!(source.matches("include_bytes!").count(), 1);
}

#[test]
fn rustfmt_has_nothing_to_change() {
    rustfmt_agrees(&generated(&Target::named("qemu-mps2-an386").unwrap()).source);
    rustfmt_agrees(&generated(&Target::parse(SPLIT).unwrap()).source);
}

fn rustfmt_agrees(source: &str) {
    use std::io::Write as _;
    use std::process::{Command, Stdio};
    let arguments = ["--edition", "2024", "--config", "max_width=100,use_small_heuristics=Default"];
    let child = Command::new("rustfmt").args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let Ok(mut child) = child else {
        eprintln!("not run: there is no rustfmt");
        return;
    };
    child.stdin.take().unwrap().write_all(source.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), source);
}

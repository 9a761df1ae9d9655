//! The conformance suite on a board: one line a kernel, then how many there were.
#![no_std]
#![no_main]

use flowlet_board_support::{Line, entry, exit};
use flowlet_conformance::{Limit, Memory, Row, run};
use flowlet_plan::{Packing, Run};

/// Cases of each kernel.
const CASES: u32 = 500;
/// The limit on one case: emulated cores are slow.
const LIMIT: Limit = Limit { macs: 20_000 };

#[entry]
fn main() -> ! {
    static mut MEMORY: Memory = Memory::new();
    let mut kernels = 0;
    let mismatches = run(MEMORY, CASES, LIMIT, |row| {
        kernels += 1;
        tell(row);
    });
    Line::new("conformance").number("kernels", kernels).number("cases", CASES).number("mismatches", mismatches).end();
    exit(0)
}

fn tell(row: &Row) {
    let line = Line::new("kernel").text("op", row.op).text("isa", row.isa.name());
    let line = match row.packing {
        None => line.text("packing", "none"),
        Some(Packing::Ohwi) => line.text("packing", "ohwi"),
        Some(Packing::DspPairs) => line.text("packing", "dsp-pairs"),
        Some(Packing::DspDepthwise) => line.text("packing", "dsp-depthwise"),
        Some(Packing::Depthwise { nr, .. }) => line.text("packing", "depthwise").number("nr", nr.into()),
        Some(Packing::Panels(panels)) => {
            let run = match panels.run {
                Run::Filter => "filter",
                Run::Row => "row",
                Run::Tap => "tap",
            };
            line.text("packing", "panels")
                .text("run", run)
                .number("nr", panels.nr.into())
                .number("kr", panels.kr.into())
        }
    };
    let line = line.number("cases", row.cases).number("mismatches", row.mismatches);
    match row.first {
        Some(first) => line.number("first", first).end(),
        None => line.end(),
    }
}

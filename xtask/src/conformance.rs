//! Kernels against their references on the emulated boards, and which of them really ran.

use std::collections::BTreeSet;

use flowlet::plan::Isa;
use flowlet_board_runner::Board;
use flowlet_board_runner::conformance::Kernel;

use crate::boards::CONFORMANCE;

/// What ran so far.
#[derive(Debug, Default)]
pub struct Executed {
    kernels: Vec<(&'static str, Kernel)>,
}

impl Executed {
    /// Builds the suite for a board and runs it; passes when no kernel differed.
    pub fn on_board(&mut self, board: &'static Board) -> Result<String, String> {
        let kernels = CONFORMANCE.on(board).build()?.run_conformance()?;
        for kernel in &kernels {
            println!("{kernel}");
        }
        let wrong: Vec<_> = kernels.iter().filter(|kernel| kernel.mismatches > 0).collect();
        if let Some(kernel) = wrong.first() {
            return Err(format!("{} of {} kernels differ from their references: {kernel}", wrong.len(), kernels.len()));
        }
        let cases: u64 = kernels.iter().map(|kernel| kernel.cases).sum();
        let summary = format!("{} kernels, {cases} cases equal", kernels.len());
        self.kernels.extend(kernels.into_iter().map(|kernel| (board.core, kernel)));
        Ok(summary)
    }

    /// Whether kernels of this instruction set ran.
    pub fn has(&self, isa: &str) -> bool {
        self.kernels.iter().any(|(_, kernel)| kernel.isa == isa)
    }

    /// Prints the kernels that ran, by core and instruction set, and the instruction sets of which none did.
    pub fn print(&self) {
        println!("\nkernels that ran on emulated boards:");
        let groups: BTreeSet<_> = self.kernels.iter().map(|(core, kernel)| (*core, kernel.isa.as_str())).collect();
        for (core, isa) in groups {
            let names: Vec<_> = self
                .kernels
                .iter()
                .filter(|(c, kernel)| *c == core && kernel.isa == isa)
                .map(|(_, kernel)| match kernel.packing.as_str() {
                    "none" => kernel.op.clone(),
                    packing => format!("{} ({packing})", kernel.op),
                })
                .collect();
            println!("  {core}, {isa}: {}", names.join(", "));
        }
        let missing: Vec<_> = Isa::ALL.iter().map(|isa| isa.name()).filter(|isa| !self.has(isa)).collect();
        println!("instruction sets whose kernels did not run on a board: {}", missing.join(", "));
    }
}

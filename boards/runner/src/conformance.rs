//! What the conformance firmware said: one line a kernel.

use std::fmt;

use crate::launch::{last_words, launch};
use crate::line::{Line, LineError};
use crate::{Error, Launch};

/// What one kernel did on the board.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kernel {
    /// The operator.
    pub op: String,
    /// The instruction set whose kernel ran.
    pub isa: String,
    /// The order of the weights it read.
    pub packing: String,
    /// Cases that ran.
    pub cases: u64,
    /// Cases that differed from the reference.
    pub mismatches: u64,
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { op, isa, packing, cases, mismatches } = self;
        write!(f, "{op:<15} {isa:<10} {packing:<22} {cases:>5} cases, {mismatches} mismatches")
    }
}

/// Runs the conformance firmware and returns its kernels.
///
/// # Errors
/// When the emulator cannot be started or ends badly, a line is malformed, the closing line never came or counts other
/// kernels or mismatches, or a kernel ran fewer cases than that line says.
pub fn run(what: &Launch<'_>) -> Result<Vec<Kernel>, Error> {
    let output = launch(what)?;
    if output.code != Some(0) {
        return Err(Error::new("the conformance firmware failed")
            .at(what.elf)
            .help(last_words(&output.stdout, &output.stderr)));
    }
    collect(&output.stdout).map_err(|why| why.at(what.elf).help(last_words(&output.stdout, &output.stderr)))
}

fn collect(text: &str) -> Result<Vec<Kernel>, Error> {
    let mut kernels = Vec::new();
    let mut closing = None;
    for line in text.lines() {
        let refused = |why: LineError| Error::new(format!("a line that cannot be read: {why}"));
        match line.split(' ').next() {
            Some("kernel") => kernels.push(kernel(&Line::parse(line).map_err(refused)?).map_err(refused)?),
            Some("conformance") => {
                let line = Line::parse(line).map_err(refused)?;
                let number = |key| line.number(key).map_err(refused);
                closing = Some(([number("kernels")?, number("mismatches")?], number("cases")?));
            }
            _ => {}
        }
    }
    let found = [kernels.len() as u64, kernels.iter().map(|kernel| kernel.mismatches).sum()];
    match closing {
        Some((said, cases)) if said == found => match kernels.iter().find(|kernel| kernel.cases != cases) {
            Some(kernel) => Err(Error::new(format!("not {cases} cases: {kernel}"))),
            None => Ok(kernels),
        },
        Some(([said, wrong], _)) => {
            Err(Error::new(format!("it says {said} kernels and {wrong} mismatches, its lines {found:?}")))
        }
        None => Err(Error::new("its closing line never came")),
    }
}

fn kernel(line: &Line<'_>) -> Result<Kernel, LineError> {
    let mut packing = line.text("packing")?.to_owned();
    if let (Ok(nr), Ok(kr), Ok(run)) = (line.number("nr"), line.number("kr"), line.text("run")) {
        packing = format!("{packing} {nr}x{kr} by {run}");
    } else if let Ok(nr) = line.number("nr") {
        packing = format!("{packing} {nr}");
    }
    Ok(Kernel {
        op: line.text("op")?.to_owned(),
        isa: line.text("isa")?.to_owned(),
        packing,
        cases: line.number("cases")?,
        mismatches: line.number("mismatches")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const KERNEL: &str = "kernel op=conv isa=arm_mve packing=panels run=row nr=2 kr=16 cases=5 mismatches=1\n";

    #[test]
    fn a_whole_run() {
        let kernels = collect(&format!("{KERNEL}hello\nconformance kernels=1 cases=5 mismatches=1\n")).unwrap();
        assert_eq!(kernels[0].packing, "panels 2x16 by row");
        assert_eq!((kernels[0].cases, kernels[0].mismatches), (5, 1));
    }

    #[test]
    fn what_is_refused() {
        for text in [KERNEL.to_owned(), format!("{KERNEL}conformance kernels=2 mismatches=1\n"), "kernel op=\n".into()]
        {
            assert!(collect(&text).is_err(), "{text}");
        }
    }
}

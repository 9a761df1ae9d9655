//! Elements that only change their place.

/// Neighbours that stay neighbours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub operand: u32,
    pub from: u32,
    pub to: u32,
    pub length: u32,
}

/// The runs of a result whose element `i` is element `sources[i].1` of operand `sources[i].0`.
pub(crate) fn runs(sources: &[(u32, u32)]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for (to, &(operand, from)) in sources.iter().enumerate() {
        match runs.last_mut() {
            Some(run) if run.operand == operand && run.from + run.length == from => run.length += 1,
            _ => runs.push(Run { operand, from, to: to as u32, length: 1 }),
        }
    }
    runs
}

/// Copies all runs.
pub(crate) fn copy<'x>(runs: &[Run], operand: impl Fn(usize) -> &'x [f32], out: &mut [f32]) {
    for run in runs {
        let (from, to, length) = (run.from as usize, run.to as usize, run.length as usize);
        let x = operand(run.operand as usize);
        if length == 1 {
            out[to] = x[from];
        } else {
            out[to..to + length].copy_from_slice(&x[from..from + length]);
        }
    }
}

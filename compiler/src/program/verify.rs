//! What every program holds: names, sizes, frames, rows and the order of writing and reading.

use super::{At, Instruction, LaneKind, Num, Program, Row};
use flowlet_plan::program::MAX_LANES;
use std::collections::HashSet;

/// Why a program is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramError {
    /// Where: entry point and instruction, or the thing itself.
    pub place: String,
    /// What does not fit, with the names of both sides, and what to do.
    pub message: String,
}

impl std::fmt::Display for ProgramError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

impl std::error::Error for ProgramError {}

pub(super) fn error(place: impl Into<String>, message: impl Into<String>) -> ProgramError {
    ProgramError { place: place.into(), message: message.into() }
}

/// Most rounds of a block, rows of a table, and sizes that a plan can count.
const LIMIT: usize = u16::MAX as usize;

/// Verifies a program.
///
/// # Errors
/// The first thing that does not fit.
pub fn verify(program: &Program) -> Result<(), ProgramError> {
    names(program)?;
    derived_ports(program)?;
    if program.labels > LIMIT {
        return Err(error("labels", format!("{} are more than {LIMIT}", program.labels)));
    }
    for lane in &program.lanes {
        if lane.len == 0 || lane.frames == 0 || lane.len.saturating_mul(lane.frames) > i32::MAX as usize {
            let message = format!("{} elements in {} frames: give between 1 and 2^31", lane.len, lane.frames);
            return Err(error(format!("lane '{}'", lane.name), message));
        }
    }
    let named = program.lanes.iter().filter(|l| !matches!(l.kind, LaneKind::Local | LaneKind::Held)).count();
    if named > MAX_LANES {
        return Err(error("lanes", format!("{named} have a role outside the program; {MAX_LANES} can")));
    }
    for bank in &program.banks {
        let place = || format!("bank '{}'", bank.name);
        if bank.width == 0 || bank.values.is_empty() || !bank.values.len().is_multiple_of(bank.width) {
            return Err(error(place(), format!("{} numbers are no rows of {}", bank.values.len(), bank.width)));
        }
        if let Some(i) = bank.values.iter().position(|v| !v.is_finite()) {
            return Err(error(place(), format!("number {i} is {}", bank.values[i])));
        }
    }
    if program.entries.is_empty() {
        return Err(error(format!("program '{}'", program.name), "it has no entry point"));
    }
    for entry in &program.entries {
        if entry.blocks.is_empty() {
            return Err(error(format!("entry '{}'", entry.name), "it does nothing"));
        }
        for (number, block) in entry.blocks.iter().enumerate() {
            let place = format!("entry '{}', block {number}", entry.name);
            if block.rounds == 0 || block.rounds > LIMIT {
                return Err(error(place, format!("{} rounds: give between 1 and {LIMIT}", block.rounds)));
            }
            for (at, instruction) in block.code.iter().enumerate() {
                let checker = Checker { program, rounds: block.rounds };
                checker.instruction(instruction).map_err(|m| error(format!("{place}, instruction {at}"), m))?;
            }
        }
    }
    flow(program)
}

fn names(program: &Program) -> Result<(), ProgramError> {
    let lists: [(&str, Vec<&String>); 4] = [
        ("net", program.nets.iter().map(|n| &n.name).collect()),
        ("lane", program.lanes.iter().map(|l| &l.name).collect()),
        ("bank", program.banks.iter().map(|b| &b.name).collect()),
        ("entry", program.entries.iter().map(|e| &e.name).collect()),
    ];
    let ports = program.nets.iter().flat_map(|n| n.inputs.iter().chain(&n.outputs)).map(|(name, _)| name);
    let units = program.lanes.iter().map(|l| &l.unit);
    let facts = program.meta.iter().flat_map(|(key, value)| [key, value]);
    for text in ports.chain(units).chain(facts).chain([&program.name]) {
        if text.chars().any(|c| c.is_control() && c != '\n') {
            return Err(error(format!("{text:?}"), "a text holds a control character"));
        }
    }
    for (what, list) in lists {
        let mut seen = HashSet::new();
        for name in list {
            let word = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            let first = name.chars().next().is_some_and(|c| c.is_ascii_alphabetic());
            if !word || !first || name == "r" {
                let message = "a name is a letter, then letters, digits and '_', and not 'r'";
                return Err(error(format!("{what} '{name}'"), message));
            }
            if !seen.insert(name) {
                return Err(error(format!("{what} '{name}'"), "the name is given twice"));
            }
        }
    }
    Ok(())
}

/// A derived network has the inputs, outputs and rows of its base, then its own inputs and outputs.
fn derived_ports(program: &Program) -> Result<(), ProgramError> {
    for (number, net) in program.nets.iter().enumerate() {
        let place = || format!("network '{}'", net.name);
        let Some(of) = &net.of else {
            if net.twin {
                return Err(error(place(), "it is a twin and derived from no network"));
            }
            continue;
        };
        let Some(base) = program.nets[..number].iter().find(|n| n.name == *of) else {
            return Err(error(place(), format!("it is derived from '{of}', which is no network before it")));
        };
        if let Some(first) = &base.of {
            return Err(error(place(), format!("it is derived from '{of}', which is derived itself: use '{first}'")));
        }
        if net.rows != base.rows {
            return Err(error(place(), format!("it has {} rows and '{of}' has {}", net.rows, base.rows)));
        }
        if net.twin && base.rows == 0 {
            return Err(error(place(), format!("it is the twin of '{of}', which has no rows to choose two of")));
        }
        for (what, own, from) in [("input", &net.inputs, &base.inputs), ("output", &net.outputs, &base.outputs)] {
            for (i, (name, len)) in from.iter().enumerate() {
                if own.get(i) != Some(&(name.clone(), *len)) {
                    let found = own.get(i).map_or_else(|| "none".to_owned(), |(n, len)| format!("'{n}' of {len}"));
                    let message = format!("{what} {i} is {found} and '{of}' has '{name}' of {len} elements there");
                    return Err(error(place(), message));
                }
            }
        }
    }
    Ok(())
}

struct Checker<'p> {
    program: &'p Program,
    rounds: usize,
}

impl Checker<'_> {
    fn instruction(&self, instruction: &Instruction) -> Result<(), String> {
        match instruction {
            Instruction::Call { net, reads, rows, writes } => self.call(*net, reads, rows, writes),
            Instruction::Combine { out, terms } => {
                self.words(*out)?;
                if terms.is_empty() {
                    return Err(format!("the sum for '{}' has no term", self.name(*out)));
                }
                for (factor, of) in terms {
                    self.number(*factor, 1)?;
                    self.elementwise(*out, *of)?;
                }
                Ok(())
            }
            Instruction::Product { out, a, b } => {
                self.elementwise(*out, *a)?;
                self.elementwise(*out, *b)
            }
            Instruction::Matrix { out, of, matrix } => {
                self.apart(*out, *of)?;
                self.number(*matrix, self.len(*out) * self.len(*of))
            }
            Instruction::Average { out, of, image, factor } => {
                self.apart(*out, *of)?;
                self.scaled(*image, *factor, *of, *out)
            }
            Instruction::Repeat { out, of, image, factor } => {
                self.apart(*out, *of)?;
                self.scaled(*image, *factor, *out, *of)
            }
            Instruction::Blur { out, of, image, kernel, radius } => {
                self.apart(*out, *of)?;
                let side = 2 * usize::from(*radius) + 1;
                self.number(*kernel, side * side)?;
                match (self.len(*out), self.len(*of), image.elements()) {
                    (a, b, c) if a == b && b == c => Ok(()),
                    (a, b, c) => Err(format!(
                        "'{}' has {a} elements, '{}' has {b} and the picture {c}",
                        self.name(*out),
                        self.name(*of)
                    )),
                }
            }
            Instruction::Noise { out, .. } => self.words(*out),
            Instruction::Dot { out, a, b } => {
                self.apart(*out, *a)?;
                self.apart(*out, *b)?;
                self.scalar(*out)?;
                self.alike(*a, *b)
            }
            Instruction::Select { out, when, yes, no } => {
                self.apart(*out, *when)?;
                self.scalar(*when)?;
                self.elementwise(*out, *yes)?;
                self.elementwise(*out, *no)
            }
        }
    }

    fn call(&self, net: usize, reads: &[(usize, At)], rows: &[Row], writes: &[(usize, At)]) -> Result<(), String> {
        let Some(net) = self.program.nets.get(net) else { return Err(format!("there is no network {net}")) };
        for row in rows {
            let moved = row.base as i64 + i64::from(row.step) * (self.rounds as i64 - 1);
            let label = if row.label { self.program.labels.max(1) - 1 } else { 0 };
            let most = moved.max(row.base as i64) + label as i64;
            if moved < 0 || most >= net.rows.max(1) as i64 {
                return Err(format!(
                    "rows {} to {moved} of '{}' are needed in {} rounds, for {} labels, and it has {}",
                    row.base,
                    net.name,
                    self.rounds,
                    label + 1,
                    net.rows
                ));
            }
            if row.label && self.program.labels == 0 {
                return Err(format!("'{}' is called with the label and the program takes none", net.name));
            }
        }
        for (number, (name, _)) in net.inputs.iter().enumerate() {
            if reads.iter().filter(|(port, _)| *port == number).count() != 1 {
                return Err(format!("input '{name}' of '{}' must be given once", net.name));
            }
        }
        for (list, ports, what) in [(reads, &net.inputs, "input"), (writes, &net.outputs, "output")] {
            for (port, at) in list {
                let Some((name, len)) = ports.get(*port) else {
                    return Err(format!("'{}' has no {what} {port}", net.name));
                };
                self.inside(*at)?;
                if self.len(*at) != *len {
                    return Err(format!(
                        "{what} '{name}' of '{}' has {len} elements and lane '{}' has {}",
                        net.name,
                        self.name(*at),
                        self.len(*at)
                    ));
                }
            }
        }
        Ok(())
    }

    fn name(&self, at: At) -> &str {
        self.program.lanes.get(at.lane).map_or("?", |lane| &lane.name)
    }

    fn len(&self, at: At) -> usize {
        self.program.lanes.get(at.lane).map_or(0, |lane| lane.len)
    }

    fn inside(&self, at: At) -> Result<(), String> {
        let Some(lane) = self.program.lanes.get(at.lane) else { return Err(format!("there is no lane {}", at.lane)) };
        let last = at.first as i64 + i64::from(at.step) * (self.rounds as i64 - 1);
        if at.first >= lane.frames || last < 0 || last >= lane.frames as i64 {
            return Err(format!(
                "lane '{}' has {} frames and frames {} to {last} are used in {} rounds",
                lane.name, lane.frames, at.first, self.rounds
            ));
        }
        Ok(())
    }

    fn words(&self, at: At) -> Result<(), String> {
        self.inside(at)?;
        match self.program.lanes[at.lane].kind {
            LaneKind::Held => Err(format!("lane '{}' holds bytes: only a call reads or writes it", self.name(at))),
            LaneKind::Local | LaneKind::Input | LaneKind::Output | LaneKind::State | LaneKind::Kept => Ok(()),
        }
    }

    fn alike(&self, a: At, b: At) -> Result<(), String> {
        self.words(a)?;
        self.words(b)?;
        if self.len(a) == self.len(b) {
            return Ok(());
        }
        Err(format!("'{}' has {} elements and '{}' has {}", self.name(a), self.len(a), self.name(b), self.len(b)))
    }

    fn elementwise(&self, out: At, of: At) -> Result<(), String> {
        self.alike(out, of)?;
        if out.lane == of.lane && out != of && (0..self.rounds).any(|r| self.frame(out, r) == self.frame(of, r)) {
            return Err(format!("'{}' is read and written in the same frame by different rules", self.name(out)));
        }
        Ok(())
    }

    fn apart(&self, out: At, of: At) -> Result<(), String> {
        self.words(out)?;
        self.words(of)?;
        if out.lane == of.lane && (0..self.rounds).any(|r| self.frame(out, r) == self.frame(of, r)) {
            return Err(format!("'{}' cannot be written while it is read: use another lane", self.name(out)));
        }
        Ok(())
    }

    fn frame(&self, at: At, round: usize) -> i64 {
        at.first as i64 + i64::from(at.step) * round as i64
    }

    fn scalar(&self, at: At) -> Result<(), String> {
        match self.len(at) {
            1 => Ok(()),
            n => Err(format!("'{}' has {n} elements where one is needed", self.name(at))),
        }
    }

    fn number(&self, num: Num, width: usize) -> Result<(), String> {
        let Some(bank) = self.program.banks.get(num.bank) else { return Err(format!("there is no bank {}", num.bank)) };
        let last = num.first + num.step * (self.rounds - 1);
        if bank.width != width || last >= bank.rows() {
            return Err(format!(
                "bank '{}' has {} rows of {} numbers; row {last} of {width} is needed in the last of {} rounds",
                bank.name,
                bank.rows(),
                bank.width,
                self.rounds
            ));
        }
        Ok(())
    }

    fn scaled(&self, image: super::Image, factor: u16, large: At, small: At) -> Result<(), String> {
        let divides = factor > 0 && image.height.is_multiple_of(factor) && image.width.is_multiple_of(factor);
        let share = usize::from(factor).pow(2);
        if divides && self.len(large) == image.elements() && self.len(small) * share == image.elements() {
            return Ok(());
        }
        Err(format!(
            "a picture of {}x{}x{} in '{}' ({}) and a factor of {factor} do not give '{}' ({})",
            image.height,
            image.width,
            image.channels,
            self.name(large),
            self.len(large),
            self.name(small),
            self.len(small)
        ))
    }
}

/// Lanes that an entry point reads before it writes them, and those that it writes.
pub(super) fn needs_and_gives(program: &Program, entry: &super::Entry) -> (Vec<usize>, Vec<usize>) {
    let mut written: HashSet<(usize, i64)> = HashSet::new();
    let (mut needs, mut gives) = (Vec::new(), Vec::new());
    for block in &entry.blocks {
        for round in 0..block.rounds {
            let frame = |at: &At| (at.lane, at.first as i64 + i64::from(at.step) * round as i64);
            for instruction in &block.code {
                for at in instruction.reads() {
                    if !written.contains(&frame(&at)) && !needs.contains(&at.lane) {
                        needs.push(at.lane);
                    }
                }
                for at in instruction.writes() {
                    written.insert(frame(&at));
                    if !gives.contains(&at.lane) {
                        gives.push(at.lane);
                    }
                }
            }
        }
    }
    let whole = |&lane: &usize| (0..program.lanes[lane].frames).all(|f| written.contains(&(lane, f as i64)));
    gives.retain(whole);
    (needs, gives)
}

/// Every lane that an entry point reads was written by it, by the caller, or by another entry point for it.
fn flow(program: &Program) -> Result<(), ProgramError> {
    let flows: Vec<_> = program.entries.iter().map(|e| needs_and_gives(program, e)).collect();
    for (entry, (needs, _)) in program.entries.iter().zip(&flows) {
        for &number in needs {
            let lane = &program.lanes[number];
            let place = || format!("entry '{}'", entry.name);
            let given = || flows.iter().any(|(_, gives)| gives.contains(&number));
            let problem = match lane.kind {
                LaneKind::Input | LaneKind::State => continue,
                LaneKind::Kept | LaneKind::Held if given() => continue,
                LaneKind::Kept | LaneKind::Held => "and no entry point writes all of it",
                LaneKind::Local => "before it writes it; make it an input, a state or a kept lane",
                LaneKind::Output => "which is an output, before it writes it",
            };
            return Err(error(place(), format!("it reads lane '{}', {problem}", lane.name)));
        }
    }
    for (number, lane) in program.lanes.iter().enumerate() {
        let written = flows.iter().any(|(_, gives)| gives.contains(&number));
        match lane.kind {
            LaneKind::Output if !written => {
                return Err(error(
                    format!("lane '{}'", lane.name),
                    "it is an output and no entry point writes all of it",
                ));
            }
            LaneKind::State if !written => {
                let message = "it is carried state and no entry point writes it: make it an input";
                return Err(error(format!("lane '{}'", lane.name), message));
            }
            LaneKind::Output
            | LaneKind::State
            | LaneKind::Local
            | LaneKind::Input
            | LaneKind::Kept
            | LaneKind::Held => {}
        }
    }
    Ok(())
}

//! The text form of a program: it prints and parses, and is what a program file holds.
//!
//! ```text
//! program "euler" labels 11
//! meta "sampler" "euler"
//! net velocity (noise[64]) -> (velocity[64]) rows 44
//! lane noise[64] input "standard deviations"
//! lane x[64] local ""
//! bank h[1] = [0.25, 0.25, 0.25, 0.25]
//! entry generate {
//!   repeat 1 {
//!     x = 1.0*noise
//!   }
//!   repeat 4 {
//!     call velocity (noise = x) row 0+11*r+label -> (velocity = v)
//!     x = 1.0*x + h[0+1*r]*v
//!   }
//! }
//! ```
//!
//! `net own (...) -> (...) rows 44 of velocity` is `velocity` with further inputs and outputs, which are tensors inside it;
//! `twin of velocity` computes it for two rows at once, and calls of it name both: `row 0+11*r+label, 10+11*r`.
//! `name[first+step*r]` is a frame of a lane, or a row of a bank, in round `r`; frame 0 in every round is the bare name. A
//! bank of one number is written as the number.

use super::verify::error;
use super::{
    At, Bank, Block, Entry, INDICES, Image, Instruction, Lane, LaneKind, Net, Num, Program, ProgramError, Row, verify,
};
use std::fmt::Write;

/// Prints a program. The same program always gives the same text.
pub fn print(program: &Program) -> String {
    let mut out = format!("program {} labels {}\n", quoted(&program.name), program.labels);
    for (key, value) in &program.meta {
        let _ = writeln!(out, "meta {} {}", quoted(key), quoted(value));
    }
    let ports = |list: &[(String, usize)]| {
        list.iter().map(|(name, len)| format!("{}[{len}]", quoted(name))).collect::<Vec<_>>().join(", ")
    };
    for net in &program.nets {
        let (inputs, outputs) = (ports(&net.inputs), ports(&net.outputs));
        let twin = if net.twin { " twin" } else { "" };
        let of = net.of.as_ref().map_or_else(String::new, |base| format!("{twin} of {base}"));
        let _ = writeln!(out, "net {} ({inputs}) -> ({outputs}) rows {}{of}", net.name, net.rows);
    }
    for lane in &program.lanes {
        let frames = if lane.frames == 1 { String::new() } else { format!(" x {}", lane.frames) };
        let _ =
            writeln!(out, "lane {}[{}]{frames} {} {}", lane.name, lane.len, kind_name(lane.kind), quoted(&lane.unit));
    }
    for bank in &program.banks {
        let values: Vec<String> = bank.values.iter().map(|v| format!("{v:?}")).collect();
        let _ = writeln!(out, "bank {}[{}] = [{}]", bank.name, bank.width, values.join(", "));
    }
    for entry in &program.entries {
        let _ = writeln!(out, "entry {} {{", entry.name);
        for block in &entry.blocks {
            let _ = writeln!(out, "  repeat {} {{", block.rounds);
            for instruction in &block.code {
                let _ = writeln!(out, "    {}", show(program, instruction));
            }
            let _ = writeln!(out, "  }}");
        }
        let _ = writeln!(out, "}}");
    }
    out
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

const KINDS: [(LaneKind, &str); 6] = [
    (LaneKind::Local, "local"),
    (LaneKind::Input, "input"),
    (LaneKind::Output, "output"),
    (LaneKind::State, "state"),
    (LaneKind::Kept, "kept"),
    (LaneKind::Held, "held"),
];

fn kind_name(kind: LaneKind) -> &'static str {
    KINDS.iter().find(|(k, _)| *k == kind).map_or("local", |(_, name)| name)
}

fn show(program: &Program, instruction: &Instruction) -> String {
    let moving = |name: &str, first: usize, step: i64| match (first, step) {
        (0, 0) => name.to_owned(),
        _ => format!("{name}[{first}{step:+}*r]"),
    };
    let lane = |at: &At| moving(&program.lanes[at.lane].name, at.first, at.step.into());
    let number = |num: &Num| {
        let bank = &program.banks[num.bank];
        match bank.values[..] {
            [value] => format!("{value:?}"),
            _ => moving(&bank.name, num.first, num.step as i64),
        }
    };
    let size = |image: &Image| format!("{} {} {}", image.height, image.width, image.channels);
    match instruction {
        Instruction::Call { net, reads, rows, writes } => {
            let net = &program.nets[*net];
            let list = |transfers: &[(usize, At)], ports: &[(String, usize)]| {
                transfers
                    .iter()
                    .map(|(p, at)| format!("{} = {}", quoted(&ports[*p].0), lane(at)))
                    .collect::<Vec<_>>()
                    .join(", ")
            };
            let row = |row: &Row| format!("{}{:+}*r{}", row.base, row.step, if row.label { "+label" } else { "" });
            let last = if net.twin { INDICES } else { 1 };
            format!(
                "call {} ({}) row {} -> ({})",
                net.name,
                list(reads, &net.inputs),
                rows[..last].iter().map(row).collect::<Vec<_>>().join(", "),
                list(writes, &net.outputs)
            )
        }
        Instruction::Combine { out, terms } => {
            let terms: Vec<String> = terms.iter().map(|(f, of)| format!("{}*{}", number(f), lane(of))).collect();
            format!("{} = {}", lane(out), terms.join(" + "))
        }
        Instruction::Product { out, a, b } => format!("{} = product {}, {}", lane(out), lane(a), lane(b)),
        Instruction::Matrix { out, of, matrix } => {
            format!("{} = matrix {}, {}", lane(out), number(matrix), lane(of))
        }
        Instruction::Average { out, of, image, factor } => {
            format!("{} = average {}, {}, {factor}", lane(out), lane(of), size(image))
        }
        Instruction::Repeat { out, of, image, factor } => {
            format!("{} = repeat {}, {}, {factor}", lane(out), lane(of), size(image))
        }
        Instruction::Blur { out, of, image, kernel, radius } => {
            format!("{} = blur {}, {}, {}, {radius}", lane(out), lane(of), size(image), number(kernel))
        }
        Instruction::Noise { out, first, step } => format!("{} = noise {first}+{step}*r", lane(out)),
        Instruction::Dot { out, a, b } => format!("{} = dot {}, {}", lane(out), lane(a), lane(b)),
        Instruction::Select { out, when, yes, no } => {
            format!("{} = select {}, {}, {}", lane(out), lane(when), lane(yes), lane(no))
        }
    }
}

/// Parses and verifies a program. The text is untrusted.
///
/// # Errors
/// What is wrong, and in which line.
pub fn parse(text: &str) -> Result<Program, ProgramError> {
    let mut program = Program::default();
    let mut state = State::Top;
    for (number, line) in text.lines().enumerate() {
        let mut tokens = tokens(line).map_err(|m| error(format!("line {}", number + 1), m))?;
        if tokens.is_empty() {
            continue;
        }
        tokens.reverse();
        let mut parser = Parser { program: &mut program, tokens };
        state = parser.line(state).map_err(|m| error(format!("line {}", number + 1), m))?;
        if let Some(token) = parser.tokens.pop() {
            return Err(error(format!("line {}", number + 1), format!("{} is left over", token.shown())));
        }
    }
    if state != State::Top {
        return Err(error("the end of the text", "a '}' is missing"));
    }
    verify(&program)?;
    Ok(program)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Top,
    Entry,
    Block,
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Word(String),
    Text(String),
    Number(String),
    Sign(char),
    Arrow,
}

impl Token {
    fn shown(&self) -> String {
        match self {
            Token::Word(w) | Token::Number(w) => format!("'{w}'"),
            Token::Text(t) => format!("{t:?}"),
            Token::Sign(c) => format!("'{c}'"),
            Token::Arrow => "'->'".to_owned(),
        }
    }
}

fn tokens(line: &str) -> Result<Vec<Token>, String> {
    let chars: Vec<char> = line.chars().collect();
    let mut out = Vec::new();
    let mut at = 0;
    let run = |from: usize, keep: &dyn Fn(usize, char) -> bool| {
        (from..chars.len()).take_while(|&i| keep(i, chars[i])).last().map_or(from, |i| i + 1)
    };
    while at < chars.len() {
        let c = chars[at];
        let next = chars.get(at + 1).copied().unwrap_or(' ');
        if c.is_whitespace() {
            at += 1;
        } else if c == '"' {
            let (mut text, mut i) = (String::new(), at + 1);
            loop {
                match (chars.get(i), chars.get(i + 1)) {
                    (Some('"'), _) => break,
                    (Some('\\'), Some(&escaped)) if matches!(escaped, '"' | '\\' | 'n') => {
                        text.push(if escaped == 'n' { '\n' } else { escaped });
                        i += 2;
                    }
                    (Some(&c), _) if c != '\\' => {
                        text.push(c);
                        i += 1;
                    }
                    _ => return Err("a text is not closed, or has an escape other than \\\", \\\\ and \\n".to_owned()),
                }
            }
            out.push(Token::Text(text));
            at = i + 1;
        } else if c == '-' && next == '>' {
            out.push(Token::Arrow);
            at += 2;
        } else if c.is_ascii_digit() || (c == '-' && next.is_ascii_digit()) {
            let start = at;
            at = run(at + 1, &|i, c| {
                c.is_ascii_digit() || c == '.' || c == 'e' || (matches!(c, '-' | '+') && chars[i - 1] == 'e')
            });
            out.push(Token::Number(chars[start..at].iter().collect()));
        } else if c.is_ascii_alphabetic() {
            let start = at;
            at = run(at + 1, &|_, c| c.is_ascii_alphanumeric() || c == '_');
            out.push(Token::Word(chars[start..at].iter().collect()));
        } else {
            out.push(Token::Sign(c));
            at += 1;
        }
    }
    Ok(out)
}

/// Largest count that the text may state: what memory is asked for follows from it.
const COUNT: usize = 1 << 24;

struct Parser<'p> {
    program: &'p mut Program,
    /// What is left of the line, last first.
    tokens: Vec<Token>,
}

impl Parser<'_> {
    fn line(&mut self, state: State) -> Result<State, String> {
        if self.tokens.last() == Some(&Token::Sign('}')) {
            self.tokens.pop();
            return match state {
                State::Top => Err("there is no block to close".to_owned()),
                State::Entry => Ok(State::Top),
                State::Block => Ok(State::Entry),
            };
        }
        match state {
            State::Top => self.top(),
            State::Entry => {
                self.keyword("repeat")?;
                let rounds = self.count()?;
                self.sign('{')?;
                let entry = self.program.entries.last_mut().ok_or("there is no entry")?;
                entry.blocks.push(Block { rounds, code: Vec::new() });
                Ok(State::Block)
            }
            State::Block => {
                let instruction = self.instruction()?;
                let block = self.program.entries.last_mut().and_then(|e| e.blocks.last_mut());
                block.ok_or("there is no block")?.code.push(instruction);
                Ok(State::Block)
            }
        }
    }

    fn top(&mut self) -> Result<State, String> {
        match self.word()?.as_str() {
            "program" => {
                self.program.name = self.text()?;
                self.keyword("labels")?;
                self.program.labels = self.count()?;
            }
            "meta" => {
                let key = self.text()?;
                let value = self.text()?;
                self.program.meta.push((key, value));
            }
            "net" => {
                let name = self.word()?;
                let inputs = self.ports()?;
                self.take(&Token::Arrow)?;
                let outputs = self.ports()?;
                self.keyword("rows")?;
                let rows = self.count()?;
                let (mut of, mut twin) = (None, false);
                if !self.tokens.is_empty() {
                    let word = self.word()?;
                    twin = word == "twin";
                    if twin {
                        self.keyword("of")?;
                    } else if word != "of" {
                        return Err(format!("'of' or 'twin of' is wanted and '{word}' found"));
                    }
                    of = Some(self.word()?);
                }
                self.program.nets.push(Net { name, inputs, outputs, rows, of, twin });
            }
            "lane" => {
                let name = self.word()?;
                let len = self.bracketed()?;
                let mut word = self.word()?;
                let mut frames = 1;
                if word == "x" {
                    frames = self.count()?;
                    word = self.word()?;
                }
                let kind = KINDS.iter().find(|(_, name)| *name == word).map(|(kind, _)| *kind);
                let kind = kind.ok_or_else(|| format!("'{word}' is no kind of lane"))?;
                let unit = self.text()?;
                self.program.lanes.push(Lane { name, len, frames, kind, unit });
            }
            "bank" => {
                let name = self.word()?;
                let width = self.bracketed()?;
                self.sign('=')?;
                self.sign('[')?;
                let mut values = vec![self.float()?];
                while self.accept(',') {
                    values.push(self.float()?);
                }
                self.sign(']')?;
                self.program.banks.push(Bank { name, width, values });
            }
            "entry" => {
                let name = self.word()?;
                self.sign('{')?;
                self.program.entries.push(Entry { name, blocks: Vec::new() });
                return Ok(State::Entry);
            }
            other => return Err(format!("'{other}' begins no line here")),
        }
        Ok(State::Top)
    }

    fn instruction(&mut self) -> Result<Instruction, String> {
        let first = self.word()?;
        if first == "call" {
            return self.call();
        }
        let out = self.lane_named(&first)?;
        self.sign('=')?;
        if let Some(Token::Number(_)) = self.tokens.last() {
            return self.combine(out);
        }
        let word = self.word()?;
        Ok(match word.as_str() {
            "product" => Instruction::Product { out, a: self.lane()?, b: self.next_lane()? },
            "matrix" => Instruction::Matrix { out, matrix: self.number()?, of: self.next_lane()? },
            "average" => {
                let (of, image) = (self.lane()?, self.image()?);
                Instruction::Average { out, of, image, factor: self.next_small()? }
            }
            "repeat" => {
                let (of, image) = (self.lane()?, self.image()?);
                Instruction::Repeat { out, of, image, factor: self.next_small()? }
            }
            "blur" => {
                let (of, image) = (self.lane()?, self.image()?);
                self.sign(',')?;
                Instruction::Blur { out, of, image, kernel: self.number()?, radius: self.next_small()? }
            }
            "noise" => {
                let first = self.count()? as u32;
                self.sign('+')?;
                let step = self.count()? as u32;
                self.round()?;
                Instruction::Noise { out, first, step }
            }
            "dot" => Instruction::Dot { out, a: self.lane()?, b: self.next_lane()? },
            "select" => Instruction::Select { out, when: self.lane()?, yes: self.next_lane()?, no: self.next_lane()? },
            _ => {
                self.tokens.push(Token::Word(word));
                return self.combine(out);
            }
        })
    }

    fn combine(&mut self, out: At) -> Result<Instruction, String> {
        let mut terms = Vec::new();
        loop {
            let factor = self.number()?;
            self.sign('*')?;
            terms.push((factor, self.lane()?));
            if !self.accept('+') {
                return Ok(Instruction::Combine { out, terms });
            }
        }
    }

    fn call(&mut self) -> Result<Instruction, String> {
        let name = self.word()?;
        let net = self.program.nets.iter().position(|n| n.name == name);
        let net = net.ok_or_else(|| format!("there is no network '{name}'"))?;
        let reads = self.transfers(net, true)?;
        self.keyword("row")?;
        let mut rows = [self.row()?, Row::default()];
        if self.program.nets[net].twin {
            self.sign(',')?;
            rows[1] = self.row()?;
        }
        self.take(&Token::Arrow)?;
        let writes = self.transfers(net, false)?;
        Ok(Instruction::Call { net, reads, rows, writes })
    }

    fn row(&mut self) -> Result<Row, String> {
        let base = self.count()?;
        let step = self.signed()?;
        self.round()?;
        let label = self.accept('+');
        if label {
            self.keyword("label")?;
        }
        Ok(Row { base, step, label })
    }

    fn transfers(&mut self, net: usize, input: bool) -> Result<Vec<(usize, At)>, String> {
        self.sign('(')?;
        let mut out = Vec::new();
        while !self.accept(')') {
            if !out.is_empty() {
                self.sign(',')?;
            }
            let port = self.text()?;
            let net = &self.program.nets[net];
            let ports = if input { &net.inputs } else { &net.outputs };
            let number = ports.iter().position(|(name, _)| *name == port);
            let number = number.ok_or_else(|| format!("network '{}' has no port '{port}'", net.name))?;
            self.sign('=')?;
            out.push((number, self.lane()?));
        }
        Ok(out)
    }

    fn ports(&mut self) -> Result<Vec<(String, usize)>, String> {
        self.sign('(')?;
        let mut out = Vec::new();
        while !self.accept(')') {
            if !out.is_empty() {
                self.sign(',')?;
            }
            let name = self.text()?;
            out.push((name, self.bracketed()?));
        }
        Ok(out)
    }

    fn image(&mut self) -> Result<Image, String> {
        self.sign(',')?;
        Ok(Image { height: self.small()?, width: self.small()?, channels: self.small()? })
    }

    fn next_lane(&mut self) -> Result<At, String> {
        self.sign(',')?;
        self.lane()
    }

    fn next_small(&mut self) -> Result<u16, String> {
        self.sign(',')?;
        self.small()
    }

    fn small(&mut self) -> Result<u16, String> {
        u16::try_from(self.count()?).map_err(|_| "a size is above 65535".to_owned())
    }

    fn lane(&mut self) -> Result<At, String> {
        let name = self.word()?;
        self.lane_named(&name)
    }

    fn lane_named(&mut self, name: &str) -> Result<At, String> {
        let lane = self.program.lane(name).ok_or_else(|| format!("there is no lane '{name}'"))?;
        let (first, step) = self.moving()?;
        Ok(At { lane, first, step })
    }

    fn number(&mut self) -> Result<Num, String> {
        if let Some(Token::Number(_)) = self.tokens.last() {
            let value = self.float()?;
            let same = |b: &Bank| b.values.len() == 1 && b.values[0].to_bits() == value.to_bits();
            let bank = self.program.banks.iter().position(same);
            let bank = bank.ok_or_else(|| format!("no bank holds {value:?} alone"))?;
            return Ok(Num { bank, first: 0, step: 0 });
        }
        let name = self.word()?;
        let bank = self.program.banks.iter().position(|b| b.name == name);
        let bank = bank.ok_or_else(|| format!("there is no bank '{name}'"))?;
        let (first, step) = self.moving()?;
        let step = usize::try_from(step).map_err(|_| "rows of a bank move forward".to_owned())?;
        Ok(Num { bank, first, step })
    }

    /// `[first+step*r]`, or nothing.
    fn moving(&mut self) -> Result<(usize, i32), String> {
        if !self.accept('[') {
            return Ok((0, 0));
        }
        let first = self.count()?;
        let step = self.signed()?;
        self.round()?;
        self.sign(']')?;
        Ok((first, step))
    }

    /// `+N` or `-N`.
    fn signed(&mut self) -> Result<i32, String> {
        match self.tokens.last() {
            Some(Token::Number(n)) if n.starts_with('-') => {
                let step = n.parse().ok().filter(|&n: &i32| n.unsigned_abs() as usize <= COUNT);
                let step = step.ok_or_else(|| format!("'{n}' is no step"))?;
                self.tokens.pop();
                Ok(step)
            }
            _ => {
                self.sign('+')?;
                i32::try_from(self.count()?).map_err(|_| "too large a step".to_owned())
            }
        }
    }

    fn round(&mut self) -> Result<(), String> {
        self.sign('*')?;
        self.keyword("r")
    }

    fn bracketed(&mut self) -> Result<usize, String> {
        self.sign('[')?;
        let n = self.count()?;
        self.sign(']')?;
        Ok(n)
    }

    fn next(&mut self) -> Result<Token, String> {
        self.tokens.pop().ok_or_else(|| "the line ends too early".to_owned())
    }

    fn take(&mut self, wanted: &Token) -> Result<(), String> {
        let token = self.next()?;
        if token == *wanted { Ok(()) } else { Err(format!("{} is wanted and {} found", wanted.shown(), token.shown())) }
    }

    fn sign(&mut self, c: char) -> Result<(), String> {
        self.take(&Token::Sign(c))
    }

    fn keyword(&mut self, word: &str) -> Result<(), String> {
        self.take(&Token::Word(word.to_owned()))
    }

    fn accept(&mut self, c: char) -> bool {
        let found = self.tokens.last() == Some(&Token::Sign(c));
        if found {
            self.tokens.pop();
        }
        found
    }

    fn word(&mut self) -> Result<String, String> {
        match self.next()? {
            Token::Word(word) => Ok(word),
            other => Err(format!("a name is wanted and {} found", other.shown())),
        }
    }

    fn text(&mut self) -> Result<String, String> {
        match self.next()? {
            Token::Text(text) => Ok(text),
            other => Err(format!("a text is wanted and {} found", other.shown())),
        }
    }

    fn count(&mut self) -> Result<usize, String> {
        match self.next()? {
            Token::Number(n) => {
                n.parse().ok().filter(|&n| n <= COUNT).ok_or_else(|| format!("'{n}' is no count up to {COUNT}"))
            }
            other => Err(format!("a count is wanted and {} found", other.shown())),
        }
    }

    fn float(&mut self) -> Result<f32, String> {
        match self.next()? {
            Token::Number(n) => n.parse().map_err(|_| format!("'{n}' is no number")),
            other => Err(format!("a number is wanted and {} found", other.shown())),
        }
    }
}

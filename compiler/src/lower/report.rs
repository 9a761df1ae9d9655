//! Where every tensor lies and how long, as a table and as a picture.

use super::draft::Draft;
use super::plan_memory::{Layout, Placed};
use std::fmt::Write;

/// The arena over time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryReport {
    /// Size of the arena.
    pub arena_bytes: usize,
    /// What no layout with this order of steps can go below.
    pub lower_bound_bytes: usize,
    /// Name of the value that each step computes.
    pub steps: Vec<String>,
    /// Tensors, in the order in which they come to life; operands that lie inside a concatenation follow it.
    pub tensors: Vec<TensorRange>,
}

/// One tensor in the arena.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorRange {
    /// Name of the value.
    pub name: String,
    /// First byte.
    pub offset: usize,
    /// Bytes that it takes.
    pub bytes: usize,
    /// First step that writes it, or 0.
    pub first: usize,
    /// Last step that reads it; the number of steps for an output.
    pub last: usize,
    /// It is written before the first step.
    pub input: bool,
    /// The concatenation whose channels it is.
    pub inside: Option<String>,
    /// The tensor that it overwrites in place at its first step.
    pub over: Option<String>,
    /// Where the picture draws it. Channels of a concatenation interleave pixel by pixel; a band shows their share.
    band: usize,
}

pub(super) fn build(draft: &Draft, layout: &Layout) -> MemoryReport {
    let name = |t: usize| draft.tensors[t].name.clone();
    let step = |placed: &Placed| match *placed {
        Placed::Op(i) => draft.ops[i].name.clone(),
        Placed::Copy { op, part } => format!("copy of {}", name(draft.ops[op].reads[part].tensor)),
    };
    let written = |t: usize| {
        let writes = |placed: &Placed| matches!(*placed, Placed::Op(i) if draft.ops[i].write == t);
        layout.steps.iter().position(writes)
    };
    let range = |t: usize| {
        let place = &layout.places[t];
        let inside = place.root != t;
        let owner = layout.places[place.root].offset;
        let own_first = if inside { written(t) } else { None };
        TensorRange {
            name: name(t),
            offset: place.offset,
            bytes: draft.tensors[t].shape.elements(),
            first: own_first.unwrap_or(place.first),
            last: place.last,
            input: draft.inputs.iter().any(|p| p.view.tensor == t),
            inside: inside.then(|| name(place.root)),
            over: place.over.map(name),
            band: owner + (place.offset - owner) * draft.tensors[place.root].shape.pixels(),
        }
    };
    let mut order: Vec<usize> = (0..draft.tensors.len()).collect();
    order.sort_by_key(|&t| {
        let place = &layout.places[t];
        let input = draft.inputs.iter().any(|p| p.view.tensor == t);
        (place.first, !input, layout.places[place.root].offset, place.root, place.root != t, t)
    });
    MemoryReport {
        arena_bytes: layout.arena_bytes,
        lower_bound_bytes: layout.lower_bound_bytes,
        steps: layout.steps.iter().map(step).collect(),
        tensors: order.into_iter().map(range).collect(),
    }
}

impl TensorRange {
    fn lives_at(&self, step: usize) -> bool {
        self.inside.is_none() && self.first <= step && step <= self.last
    }
}

impl MemoryReport {
    /// How far the arena is above the lower bound, in per cent.
    pub fn gap_percent(&self) -> f64 {
        let bound = self.lower_bound_bytes.max(1) as f64;
        (self.arena_bytes as f64 - bound).max(0.0) * 100.0 / bound
    }

    /// The tensors that live at the fullest step, with their bytes.
    pub fn fullest(&self) -> Vec<(String, usize)> {
        let live = |step: usize| {
            let all: Vec<&TensorRange> = self.tensors.iter().filter(|t| t.lives_at(step)).collect();
            let taken = |t: &&&TensorRange| t.first == step && all.iter().any(|o| Some(&o.name) == t.over.as_ref());
            all.iter().filter(|t| !taken(t)).map(|t| (t.name.clone(), t.bytes)).collect::<Vec<_>>()
        };
        let total = |list: &Vec<(String, usize)>| list.iter().map(|(_, bytes)| bytes).sum::<usize>();
        (0..=self.steps.len()).map(live).max_by_key(total).unwrap_or_default()
    }

    /// One line a tensor.
    pub fn table(&self) -> String {
        let mut out = format!(
            "arena {} bytes; no layout of these steps needs less than {} ({:.1} % above)\n",
            self.arena_bytes,
            self.lower_bound_bytes,
            self.gap_percent()
        );
        let _ = writeln!(out, "{:>8} {:>8} {:>9}  tensor", "offset", "bytes", "steps");
        for t in &self.tensors {
            let last = if t.last == self.steps.len() { "end".to_owned() } else { t.last.to_string() };
            let first = if t.input { "in".to_owned() } else { t.first.to_string() };
            let note = match (&t.inside, &t.over) {
                (Some(owner), _) => format!(" (channels of {owner})"),
                (None, Some(old)) => format!(" (in place of {old})"),
                (None, None) => String::new(),
            };
            let _ = writeln!(out, "{:>8} {:>8} {:>9}  {}{note}", t.offset, t.bytes, format!("{first}..{last}"), t.name);
        }
        out
    }
}

const LEFT: f64 = 84.0;
const TOP: f64 = 58.0;
const HEIGHT: f64 = 360.0;
const COLUMN: f64 = 34.0;
const BELOW: f64 = 116.0;

/// A picture of the arena: steps to the right, addresses upwards, one rectangle a tensor.
pub fn svg(report: &MemoryReport) -> String {
    let columns = report.steps.len() + 2;
    let width = LEFT + columns as f64 * COLUMN + 24.0;
    let height = TOP + HEIGHT + BELOW;
    let scale = HEIGHT / report.arena_bytes.max(1) as f64;
    let y = |bytes: usize| TOP + HEIGHT - bytes as f64 * scale;
    let x = |column: f64| LEFT + column * COLUMN;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
         viewBox=\"0 0 {width:.0} {height:.0}\" font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n\
         <text x=\"{LEFT}\" y=\"22\" font-size=\"15\" fill=\"#222222\">Arena over time: {} bytes</text>\n\
         <text x=\"{LEFT}\" y=\"40\" fill=\"#555555\">lower bound {} bytes, gap {:.1} %; \
         a darker band is an operand inside its concatenation</text>\n",
        report.arena_bytes,
        report.lower_bound_bytes,
        report.gap_percent()
    );
    for quarter in 0..=4 {
        let bytes = report.arena_bytes * quarter / 4;
        let at = y(bytes);
        let _ = writeln!(
            out,
            "<path d=\"M{LEFT} {at:.1}H{:.1}\" stroke=\"#dddddd\"/><text x=\"{:.1}\" y=\"{:.1}\" \
             text-anchor=\"end\" fill=\"#555555\">{bytes}</text>",
            x(columns as f64),
            LEFT - 8.0,
            at + 4.0
        );
    }
    for (i, t) in report.tensors.iter().enumerate() {
        tensor(&mut out, report, i, t, &x, &y);
    }
    let bound = y(report.lower_bound_bytes.min(report.arena_bytes));
    let _ = writeln!(
        out,
        "<path d=\"M{LEFT} {bound:.1}H{:.1}\" stroke=\"#b00020\" stroke-dasharray=\"6 4\" fill=\"none\"/>",
        x(columns as f64)
    );
    let names = std::iter::once("inputs").chain(report.steps.iter().map(String::as_str)).chain(["outputs"]);
    for (column, name) in names.enumerate() {
        let (at, base) = (x(column as f64 + 0.5), TOP + HEIGHT + 12.0);
        let _ = writeln!(
            out,
            "<text transform=\"translate({at:.1} {base:.1}) rotate(-55)\" text-anchor=\"end\" fill=\"#333333\">{}</text>",
            escape(&shorten(name, 22))
        );
    }
    out.push_str("</svg>\n");
    out
}

fn tensor(
    out: &mut String,
    report: &MemoryReport,
    number: usize,
    t: &TensorRange,
    x: &impl Fn(f64) -> f64,
    y: &impl Fn(usize) -> f64,
) {
    let taken_over = report.tensors.iter().any(|o| o.over.as_ref() == Some(&t.name));
    let start = if t.input { 0.0 } else { t.first as f64 + if t.over.is_some() { 1.5 } else { 1.0 } };
    let end = t.last as f64 + if taken_over { 1.5 } else { 2.0 };
    let (left, right, top, bottom) = (x(start), x(end), y(t.band + t.bytes), y(t.band));
    let hue = (number * 137) % 360;
    let style = match t.inside {
        Some(_) => "fill=\"#000000\" fill-opacity=\"0.16\" stroke=\"none\"".to_owned(),
        None => format!("fill=\"hsl({hue},62%,78%)\" stroke=\"hsl({hue},45%,40%)\""),
    };
    let title = format!("{}: {} bytes at {}, steps {} to {}", t.name, t.bytes, t.offset, t.first, t.last);
    let _ = writeln!(
        out,
        "<rect x=\"{left:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{:.1}\" {style}><title>{}</title></rect>",
        right - left,
        bottom - top,
        escape(&title)
    );
    let room = ((right - left - 8.0) / 6.2) as usize;
    let covered = t.inside.is_none() && report.tensors.iter().any(|o| o.inside.as_ref() == Some(&t.name));
    if bottom - top >= 13.0 && room >= 3 && !covered {
        let _ = writeln!(
            out,
            "<text x=\"{:.1}\" y=\"{:.1}\" fill=\"#111111\">{}</text>",
            left + 4.0,
            (top + bottom) / 2.0 + 4.0,
            escape(&shorten(&t.name, room))
        );
    }
}

fn shorten(text: &str, room: usize) -> String {
    let length = text.chars().count();
    if length <= room {
        return text.to_owned();
    }
    let tail: String = text.chars().skip(length - room.saturating_sub(1)).collect();
    format!("…{tail}")
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

//! The error of each attempt of a search as a picture.

use super::budget::{Budget, Kind};
use flowlet_compiler::quantize::Measured;
use std::fmt::Write;

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 320.0;
const LEFT: f64 = 60.0;
const BOTTOM: f64 = 40.0;
const TOP: f64 = 30.0;

/// An SVG with the mean and the worst sample of every attempt, and the budget as a line.
pub(super) fn svg(budget: &Budget, attempts: &[(Measured, f64)]) -> String {
    let series: [(&str, &str, Vec<f64>); 2] = [
        ("mean", "#1b6ca8", attempts.iter().map(|m| value(budget, m, false)).collect()),
        ("worst sample", "#c0392b", attempts.iter().map(|m| value(budget, m, true)).collect()),
    ];
    let all = || series.iter().flat_map(|(_, _, v)| v.iter().copied()).chain([budget.limit]).filter(|v| v.is_finite());
    let (low, high) = (all().fold(f64::INFINITY, f64::min), all().fold(f64::NEG_INFINITY, f64::max));
    let margin = ((high - low) * 0.1).max(high.abs() * 1e-3);
    let (low, high) = (low - margin, high + margin);
    let y = |v: f64| TOP + (HEIGHT - TOP - BOTTOM) * (high - v) / (high - low);
    let x = |i: usize| LEFT + (WIDTH - LEFT - 20.0) * (i as f64 + 0.5) / attempts.len().max(1) as f64;
    let unit = match budget.kind {
        Kind::Snr => "SQNR, dB",
        Kind::Linf(_) => "largest error",
        Kind::Distance => "Frechet distance over f32",
    };
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#fff\"/>\n\
         <text x=\"{LEFT}\" y=\"18\">{unit}; budget {}</text>\n",
        budget.limit
    );
    for i in 0..=4 {
        let v = low + (high - low) * f64::from(i) / 4.0;
        let (at, right) = (y(v), WIDTH - 20.0);
        let _ = writeln!(
            out,
            "<line x1=\"{LEFT}\" x2=\"{right}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{v:.3}</text>",
            LEFT - 6.0,
            at + 4.0
        );
    }
    let at = y(budget.limit);
    let _ = writeln!(
        out,
        "<line x1=\"{LEFT}\" x2=\"{}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#333\" stroke-dasharray=\"6 4\"/>",
        WIDTH - 20.0
    );
    for (number, (name, colour, values)) in series.iter().enumerate() {
        for (i, &v) in values.iter().enumerate().filter(|(_, v)| v.is_finite()) {
            let _ = writeln!(out, "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3.5\" fill=\"{colour}\"/>", x(i), y(v));
        }
        let _ = writeln!(
            out,
            "<text x=\"{:.1}\" y=\"18\" fill=\"{colour}\">{name}</text>",
            WIDTH - 200.0 + 60.0 * number as f64
        );
    }
    let _ = writeln!(
        out,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">attempts</text>",
        WIDTH / 2.0,
        HEIGHT - 12.0
    );
    out.push_str("</svg>\n");
    out
}

/// What the budget bounds, of the worst output.
fn value(budget: &Budget, (measured, used): &(Measured, f64), worst: bool) -> f64 {
    let outputs = measured.outputs.iter();
    match &budget.kind {
        Kind::Snr => outputs.map(|o| if worst { o.worst_db } else { o.snr_db }).fold(f64::INFINITY, f64::min),
        Kind::Linf(name) => outputs
            .filter(|o| name.as_ref().is_none_or(|n| *n == o.name))
            .map(|o| if worst { o.worst_linf } else { o.linf })
            .fold(0.0, f64::max),
        // A set of pictures has one distance.
        Kind::Distance if worst => f64::NAN,
        Kind::Distance => used * budget.limit,
    }
}

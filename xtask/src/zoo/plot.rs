//! Scatter plots as inline SVG: a cost on a logarithmic axis, a score on a linear one.

use super::page::escape;
use std::fmt::Write;

/// One model in a plot.
#[derive(Clone, Debug)]
pub struct Point {
    /// The name beside the point.
    pub name: String,
    /// The cost; above 0.
    pub x: f64,
    /// The score.
    pub y: f64,
    /// Half of the confidence interval's width, if it is known.
    pub half_width: Option<f64>,
}

const WIDTH: f64 = 380.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 44.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 42.0;
/// Width of a character and height of a line of a label, in the plot's units.
const CHARACTER: f64 = 6.4;
const LINE: f64 = 12.0;
const RADIUS: f64 = 4.5;

/// A rectangle: left, top, right, bottom.
type Rectangle = [f64; 4];

/// A plot of `points`, which are not empty; `x` and `y` are the titles of the axes.
pub fn scatter(x: &str, y: &str, points: &[Point]) -> String {
    let (low, high) = range(points.iter().map(|p| p.x));
    let (low, high) = (low / 1.25, high * 1.25);
    let top = points.iter().map(|p| p.y + p.half_width.unwrap_or(0.0)).fold(0.0, f64::max) * 1.1;
    let step = nice_step(top);
    let top = (top / step).ceil() * step;
    let at_x = |v: f64| LEFT + (v / low).ln() / (high / low).ln() * (WIDTH - LEFT - RIGHT);
    let at_y = |v: f64| HEIGHT - BOTTOM - v / top * (HEIGHT - TOP - BOTTOM);

    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{} against {}\">\n<g class=\"grid\">\n",
        escape(y),
        escape(x)
    );
    let (bottom, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
    let mut labels = String::new();
    for i in 0..=(top / step).round() as usize {
        let value = i as f64 * step;
        let at = at_y(value);
        let _ = writeln!(svg, "<path d=\"M{LEFT} {at:.1}H{right}\"/>");
        let _ = writeln!(
            labels,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            LEFT - 6.0,
            at + 4.0,
            short(value)
        );
    }
    for value in ticks(low, high) {
        let at = at_x(value);
        let _ = writeln!(svg, "<path d=\"M{at:.1} {TOP}V{bottom}\"/>");
        let _ = writeln!(
            labels,
            "<text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            bottom + 15.0,
            short(value)
        );
    }
    let _ = write!(svg, "</g>\n<g class=\"ticks\">\n{labels}");
    let _ = writeln!(
        svg,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
        (LEFT + right) / 2.0,
        HEIGHT - 8.0,
        escape(x)
    );
    let middle = (TOP + bottom) / 2.0;
    let _ = writeln!(
        svg,
        "<text transform=\"translate(11 {middle:.1}) rotate(-90)\" text-anchor=\"middle\">{}</text>\n</g>",
        escape(y)
    );

    let centres: Vec<(f64, f64)> = points.iter().map(|p| (at_x(p.x), at_y(p.y))).collect();
    let mut taken: Vec<Rectangle> =
        centres.iter().map(|(x, y)| [x - RADIUS, y - RADIUS, x + RADIUS, y + RADIUS]).collect();
    for (point, &(cx, cy)) in points.iter().zip(&centres) {
        let name = escape(&point.name);
        let _ = writeln!(
            svg,
            "<g class=\"point\"><title>{name}: {} {}, {} {}</title>",
            escape(y),
            short(point.y),
            escape(x),
            short(point.x)
        );
        if let Some(half) = point.half_width {
            let (from, to) = (at_y(point.y - half), at_y(point.y + half));
            let _ = writeln!(svg, "<path d=\"M{cx:.1} {from:.1}V{to:.1}\"/>");
        }
        let label = place(cx, cy, point.name.chars().count() as f64 * CHARACTER, &taken);
        let _ = writeln!(
            svg,
            "<circle cx=\"{cx:.1}\" cy=\"{cy:.1}\" r=\"{RADIUS}\"/><text x=\"{:.1}\" y=\"{:.1}\">{name}</text></g>",
            label[0],
            label[3] - 3.0
        );
        taken.push(label);
    }
    svg.push_str("</svg>\n");
    svg
}

/// Where a label of this width goes: beside the point, on the first side where it covers nothing and stays inside.
fn place(x: f64, y: f64, width: f64, taken: &[Rectangle]) -> Rectangle {
    let gap = RADIUS + 3.0;
    let at = |left: f64, top: f64| [left, top, left + width, top + LINE];
    let mut candidates = vec![at(x + gap, y - LINE / 2.0), at(x - gap - width, y - LINE / 2.0)];
    for row in 0..4 {
        let shift = f64::from(row) * LINE;
        for left in [x - width / 2.0, x + 2.0, x - width - 2.0] {
            candidates.extend([at(left, y - gap - LINE - shift), at(left, y + gap + shift)]);
        }
    }
    let inside = |r: &Rectangle| r[0] >= LEFT && r[1] >= TOP && r[2] <= WIDTH - 2.0 && r[3] <= HEIGHT - BOTTOM;
    let overlap = |a: &Rectangle, b: &Rectangle| {
        ((a[2].min(b[2]) - a[0].max(b[0])).max(0.0)) * ((a[3].min(b[3]) - a[1].max(b[1])).max(0.0))
    };
    let cost = |r: &Rectangle| taken.iter().map(|t| overlap(r, t)).sum::<f64>() + if inside(r) { 0.0 } else { 1e6 };
    candidates.into_iter().min_by(|a, b| cost(a).total_cmp(&cost(b))).unwrap_or_else(|| at(x, y))
}

fn range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    values.fold((f64::INFINITY, 0.0), |(low, high), v| (f64::min(low, v), f64::max(high, v)))
}

/// 1, 2 or 5 times a power of ten, so that about four steps reach `top`.
fn nice_step(top: f64) -> f64 {
    let power = 10f64.powf((top.max(f64::MIN_POSITIVE) / 4.0).log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|f| f * power * 4.5 >= top).unwrap_or(10.0);
    factor * power
}

/// Round numbers from `low` to `high`: as few to a power of ten as give three of them.
fn ticks(low: f64, high: f64) -> Vec<f64> {
    const FINEST: &[f64] = &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0];
    let powers = low.log10().floor() as i32..=high.log10().ceil() as i32;
    let of = |factors: &[f64]| -> Vec<f64> {
        let all = powers.clone().flat_map(|e| factors.iter().map(move |f| f * 10f64.powi(e)));
        all.filter(|v| (low..=high).contains(v)).collect()
    };
    let coarse = [&[1.0][..], &[1.0, 2.0, 5.0], &[1.0, 1.5, 2.0, 3.0, 5.0, 7.0]];
    coarse.into_iter().map(of).find(|t| t.len() >= 3).unwrap_or_else(|| of(FINEST))
}

/// A number in few characters.
fn short(value: f64) -> String {
    let (value, unit) = match value {
        v if v >= 1e6 => (v / 1e6, " M"),
        v if v >= 1e3 => (v / 1e3, " k"),
        v => (v, ""),
    };
    let text = format!("{value:.2}");
    format!("{}{unit}", text.trim_end_matches('0').trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_numbers() {
        assert_eq!(ticks(8e6, 3.5e7), [1e7, 1.5e7, 2e7, 3e7]);
        assert_eq!(ticks(6e5, 9.9e5), [6e5, 7e5, 8e5, 9e5]);
        assert_eq!(ticks(5.0, 2e4), [10.0, 100.0, 1e3, 1e4]);
        assert_eq!((nice_step(4.4), nice_step(0.8), nice_step(8.0)), (1.0, 0.2, 2.0));
        assert_eq!((short(2e7), short(0.5), short(1500.0)), ("20 M".to_owned(), "0.5".to_owned(), "1.5 k".to_owned()));
    }

    #[test]
    fn labels_do_not_cover_each_other_or_leave_the_frame() {
        let mut taken = vec![[196.0, 96.0, 204.0, 104.0]];
        for _ in 0..6 {
            let label = place(200.0, 100.0, 60.0, &taken);
            for other in &taken {
                let apart =
                    label[2] <= other[0] || other[2] <= label[0] || label[3] <= other[1] || other[3] <= label[1];
                assert!(apart, "{label:?} covers {other:?}");
            }
            taken.push(label);
        }
        let label = place(WIDTH - RIGHT, 100.0, 60.0, &[]);
        assert!(label[2] <= WIDTH, "{label:?}");
    }

    #[test]
    fn names_are_escaped() {
        let point = Point { name: "a<b".to_owned(), x: 10.0, y: 1.0, half_width: Some(0.1) };
        let svg = scatter("MACs", "FD", &[point]);
        assert!(svg.contains("a&lt;b") && !svg.contains("a<b"), "{svg}");
    }
}

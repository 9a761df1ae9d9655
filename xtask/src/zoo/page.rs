//! `index.html`: one file without a reference to any other.

use std::collections::BTreeMap;
use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flowlet_compiler::codegen::grouped;

use super::plot::{Point, scatter};
use super::records::{Model, Network, PLOTTED, Score};

const STYLE: &str = include_str!("style.css");

/// The page of all models; `results` is `models/RESULTS.md`.
pub fn html(models: &[Model], results: &str) -> String {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\">\n<meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>flowlet: models</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<header>\n<h1>flowlet: models</h1>\n\
         <p>Every model of this repository, with its pictures, its scores and what it costs. Written by \
         <code>cargo xtask zoo</code> of version {}; the same files give the same page.</p>\n",
        env!("CARGO_PKG_VERSION")
    );
    page.push_str("<nav>");
    for model in models {
        let name = escape(&model.name);
        let _ = write!(page, "<a href=\"#{name}\">{name}</a> ");
    }
    page.push_str("</nav>\n</header>\n<main>\n");
    overview(&mut page, models);
    trade_offs(&mut page, models);
    models.iter().for_each(|model| section(&mut page, model));
    if !results.is_empty() {
        let _ = write!(
            page,
            "<section>\n<h2>Training results</h2>\n<details><summary>All recorded results of the recipes</summary>\n{}</details>\n</section>\n",
            markdown(results)
        );
    }
    page.push_str(DEFINITIONS);
    page.push_str("</main>\n</body>\n</html>\n");
    page
}

const DEFINITIONS: &str = "<section>\n<h2>What the numbers are</h2>\n<ul>\n\
<li><b>FD</b>: Frechet distance between Gaussians fitted to features of generated and of real samples, in a small network \
of this repository. Lower is better. It depends on that network and on the number of samples, and compares with no other \
publication's FID.</li>\n\
<li><b>Accuracy</b>: share of samples that a classifier gives to the class asked for. No loss uses that classifier.</li>\n\
<li><b>Success</b>: share of held-out scenes that a policy ends well, in closed loop.</li>\n\
<li><b>&#177;</b>: half of the 95 % confidence interval of the mean over independent draws of noise (Student). It does not \
cover another training run.</li>\n\
<li><b>Weights</b> are the bytes that the model puts into flash, without program; <b>arena</b> is all memory that a call \
needs for tensors. Both are the compiler's, for that target.</li>\n\
<li><b>int8</b> scores are drawn on a host by the integer plan, whose bytes are those of every board.</li>\n\
</ul>\n</section>\n";

/// One line for each model: its most telling score, and its cost.
fn overview(page: &mut String, models: &[Model]) {
    page.push_str("<section>\n<h2>Overview</h2>\n");
    let mut table = Table::new(&[
        "model",
        "scored as",
        "calls",
        "samples",
        "FD",
        "accuracy",
        "success",
        "MACs",
        "weights, bytes",
        "arena, bytes",
    ]);
    for model in models {
        let network = model.networks.first();
        let cost = network.and_then(Network::plotted);
        let mut cells = vec![format!("<a href=\"#{0}\">{0}</a>", escape(&model.name))];
        match representative(model) {
            Some(score) => {
                cells.extend(draw_cells(score));
                cells.push(score_cell(score, "fd", score.fd));
                cells.push(score_cell(score, "accuracy", score.accuracy));
                cells.push(score_cell(score, "success", score.success));
            }
            None => cells.extend(std::iter::repeat_with(missing).take(6)),
        }
        cells.push(network.map_or_else(missing, |n| grouped(n.macs)));
        cells.push(cost.map_or_else(missing, |c| grouped(c.weights_bytes as u64)));
        cells.push(cost.map_or_else(missing, |c| grouped(c.arena_bytes as u64)));
        table.row(cells);
    }
    page.push_str(&table.html());
    let _ = write!(
        page,
        "<p class=\"note\">Cost on {PLOTTED} (Cortex-M4F), whether or not the model fits that part. A dash: not on record, or not compiled yet.</p>\n</section>\n"
    );
}

/// The score that stands for a model: the deployed arithmetic with an interval, else without, else another of the model
/// itself; never its teacher's. Of several, as one pass and programs are, that of the least distance.
fn representative(model: &Model) -> Option<&Score> {
    let own = model.scores.iter().filter(|s| !s.variant.starts_with("teacher"));
    let rank = |s: &Score| (!s.variant.contains("int8"), s.interval.is_none());
    let distance = |s: &Score| s.fd.unwrap_or(f64::INFINITY);
    own.min_by(|a, b| rank(a).cmp(&rank(b)).then(distance(a).total_cmp(&distance(b))))
}

/// Variant, steps, samples.
fn draw_cells(score: &Score) -> Vec<String> {
    let samples = score.samples.map_or_else(missing, |n| {
        if score.draws > 1 { format!("{} &#215; {}", score.draws, grouped(n)) } else { grouped(n) }
    });
    vec![escape(&score.variant), score.steps.map_or_else(missing, |n| n.to_string()), samples]
}

/// One score and its interval.
fn score_cell(score: &Score, field: &str, value: Option<f64>) -> String {
    let Some(value) = value else { return missing() };
    let interval = score.interval_of(field, 3);
    let interval = interval.map_or_else(String::new, |i| format!(" <span class=\"interval\">{i}</span>"));
    format!("{value:.3}{interval}")
}

fn missing() -> String {
    "&#8211;".to_owned()
}

/// Plots of FD against cost: one row for each feature network, since distances in two networks do not compare.
fn trade_offs(page: &mut String, models: &[Model]) {
    let mut groups: BTreeMap<&str, Vec<(&str, &Network, &Score)>> = BTreeMap::new();
    for model in models {
        for network in &model.networks {
            let drawn = |s: &&Score| s.variant == "int8" && s.draws > 1 && s.fd.is_some();
            if let (Some(score), true) = (model.scores.iter().find(drawn), network.name == model.name) {
                groups.entry(score.features.as_deref().unwrap_or("")).or_default().push((&model.name, network, score));
            }
        }
    }
    groups.retain(|_, members| members.len() > 1);
    if groups.is_empty() {
        return;
    }
    page.push_str("<section>\n<h2>Trade-offs</h2>\n");
    for (features, members) in &groups {
        let _ = writeln!(page, "<h3>Distances in <code>{}</code></h3>\n<div class=\"plots\">", escape(features));
        type Pick = fn(&Network) -> Option<f64>;
        let axes: [(&str, Pick); 3] = [
            ("multiply-accumulates of a call", |n| Some(n.macs as f64)),
            ("weights in flash, bytes", |n| n.plotted().map(|c| c.weights_bytes as f64)),
            ("arena, bytes", |n| n.plotted().map(|c| c.arena_bytes as f64)),
        ];
        for (title, pick) in axes {
            let points: Vec<Point> = members
                .iter()
                .filter_map(|(name, network, score)| {
                    let half_width = score.interval.as_ref().and_then(|i| i.get("fd")?.as_f64());
                    let x = pick(network).filter(|x| *x > 0.0)?;
                    Some(Point { name: (*name).to_owned(), x, y: score.fd?, half_width })
                })
                .collect();
            if !points.is_empty() {
                let _ = write!(page, "<figure>\n{}</figure>\n", scatter(title, "FD of int8, one call", &points));
            }
        }
        page.push_str("</div>\n");
    }
    let _ = write!(
        page,
        "<p class=\"note\">Bars are 95 % confidence intervals over draws; many are shorter than the dot. Costs on {PLOTTED}.</p>\n</section>\n"
    );
}

fn section(page: &mut String, model: &Model) {
    let name = escape(&model.name);
    let _ = write!(
        page,
        "<section id=\"{name}\">\n<h2>{name}</h2>\n{}<div class=\"model\">\n<div>\n",
        markdown(&model.summary)
    );
    for (file, png) in &model.pictures {
        let (file, data) = (escape(file), STANDARD.encode(png));
        let _ = writeln!(
            page,
            "<figure><img alt=\"{name}: {file}\" src=\"data:image/png;base64,{data}\"><figcaption>{file}.png</figcaption></figure>"
        );
    }
    page.push_str("</div>\n<div>\n");
    scores(page, model);
    if model.stale {
        page.push_str(
            "<p class=\"note\">The recorded draws are those of another .flq: <code>cargo xtask zoo --score</code>.</p>\n",
        );
    }
    model.networks.iter().for_each(|network| cost(page, network));
    if model.networks.is_empty() {
        page.push_str("<p class=\"note\">There is no .flq of it yet, so that its cost is not known.</p>\n");
    }
    if let Some(licence) = &model.licence {
        let _ = writeln!(page, "<p class=\"note\">Licence of the weights: {}</p>", escape(licence));
    }
    page.push_str("</div>\n</div>\n");
    if !model.card.is_empty() {
        let _ = writeln!(page, "<details><summary>Model card</summary>\n{}</details>", markdown(&model.card));
    }
    page.push_str("</section>\n");
}

/// Every score of a model that is on record.
fn scores(page: &mut String, model: &Model) {
    if model.scores.is_empty() {
        page.push_str("<p class=\"note\">No score of it is on record.</p>\n");
        return;
    }
    type Pick = fn(&Score) -> Option<f64>;
    let columns: [(&str, &str, Pick); 5] = [
        ("FD", "fd", |s| s.fd),
        ("accuracy", "accuracy", |s| s.accuracy),
        ("success", "success", |s| s.success),
        ("precision", "precision", |s| s.precision),
        ("recall", "recall", |s| s.recall),
    ];
    let shown: Vec<_> = columns.iter().filter(|(.., pick)| model.scores.iter().any(|s| pick(s).is_some())).collect();
    let mut titles = vec!["scored", "calls", "samples"];
    titles.extend(shown.iter().map(|(title, ..)| title));
    titles.push("on record in");
    let mut table = Table::new(&titles);
    for score in &model.scores {
        let mut cells = draw_cells(score);
        cells.extend(shown.iter().map(|(_, field, pick)| score_cell(score, field, pick(score))));
        cells.push(format!("<code>{}</code>", escape(&score.source)));
        table.row(cells);
    }
    let _ = write!(page, "<h3>Scores</h3>\n{}", table.html());
}

/// What a network costs on each target.
fn cost(page: &mut String, network: &Network) {
    let mut table = Table::new(&["target", "weights, bytes", "arena, bytes", "fits"]);
    for cost in &network.costs {
        let first_line = |why: &String| format!("no: {}", escape(why.lines().next().unwrap_or_default()));
        let fits = cost.refused.as_ref().map_or_else(|| "yes".to_owned(), first_line);
        let (weights, arena) = (grouped(cost.weights_bytes as u64), grouped(cost.arena_bytes as u64));
        table.row([escape(&cost.target), weights, arena, fits]);
    }
    let (macs, parameters) = (grouped(network.macs), grouped(network.parameters as u64));
    let _ = write!(
        page,
        "<h3>Cost of <code>{}.flq</code></h3>\n<p>{parameters} parameters, {macs} multiply-accumulates a call.</p>\n{}",
        escape(&network.name),
        table.html()
    );
}

/// A table that scrolls sideways where the screen is narrow; all columns but the first hold numbers. Cells are HTML.
struct Table {
    html: String,
}

impl Table {
    fn new(titles: &[&str]) -> Self {
        let mut html = "<div class=\"wide\"><table>\n<thead><tr>".to_owned();
        titles.iter().for_each(|t| html.push_str(&format!("<th>{}</th>", escape(t))));
        html.push_str("</tr></thead>\n<tbody>\n");
        Table { html }
    }

    fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.html.push_str("<tr>");
        cells.into_iter().for_each(|c| self.html.push_str(&format!("<td>{c}</td>")));
        self.html.push_str("</tr>\n");
    }

    fn html(mut self) -> String {
        self.html.push_str("</tbody></table></div>\n");
        self.html
    }
}

/// Markdown as HTML below this page's headings, without pictures, comments, and links to other files of the repository,
/// which this page cannot reach.
fn markdown(text: &str) -> String {
    let kept: Vec<&str> = text.lines().filter(|line| !line.starts_with("![") && !line.starts_with("<!--")).collect();
    let html = markdown::to_html_with_options(&kept.join("\n"), &markdown::Options::gfm()).unwrap_or_default();
    let mut html = html.replace("<table>", "<div class=\"wide\"><table>").replace("</table>", "</table></div>");
    for (from, to) in [("h3>", "h6>"), ("h2>", "h5>"), ("h1>", "h4>")] {
        html = html.replace(&format!("<{from}"), &format!("<{to}")).replace(&format!("</{from}"), &format!("</{to}"));
    }
    without_local_links(&html)
}

/// Leaves the text of links that do not lead into the web.
fn without_local_links(html: &str) -> String {
    const OPEN: &str = "<a href=\"";
    let mut out = String::new();
    let mut rest = html;
    while let Some(at) = rest.find(OPEN) {
        let (before, link) = rest.split_at(at);
        out.push_str(before);
        let local = !link[OPEN.len()..].starts_with("http");
        match (local, link.find('>'), link.find("</a>")) {
            (true, Some(opened), Some(closed)) if opened < closed => {
                out.push_str(&link[opened + 1..closed]);
                rest = &link[closed + "</a>".len()..];
            }
            _ => {
                out.push_str(OPEN);
                rest = &link[OPEN.len()..];
            }
        }
    }
    out + rest
}

/// Text inside HTML and its attributes.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cards_lose_pictures_and_local_links_and_keep_tables() {
        let html = markdown(
            "# a\n\n<!-- c -->\n![x](x.png)\n\n[b](../b.md) [c](https://c.d/)\n\n| x | y |\n|---|---|\n| 1 | <i> |\n",
        );
        assert!(html.contains("<h4>a</h4>") && html.contains("b <a href=\"https://c.d/\">c</a>"), "{html}");
        assert!(html.contains("<div class=\"wide\"><table>") && html.contains("&lt;i&gt;"), "{html}");
        assert!(!html.contains("x.png") && !html.contains("--") && !html.contains("../b.md"), "{html}");
    }
}

//! The side-by-side table and its JSON.

use serde_json::{Value, json};

/// One peer on one model.
pub struct Row {
    /// The network.
    pub model: String,
    /// Threads of both.
    pub threads: usize,
    /// Our arithmetic.
    pub our_precision: String,
    /// The peer's.
    pub precision: String,
    /// The peer.
    pub peer: String,
    /// Its version.
    pub peer_version: String,
    /// Our median of each round, in milliseconds.
    pub ours: Vec<f64>,
    /// The peer's.
    pub theirs: Vec<f64>,
    /// Our signal-to-noise ratio against f32.
    pub ours_snr_db: Option<f64>,
    /// The peer's.
    pub peer_snr_db: Option<f64>,
    /// Multiply-accumulates of one call.
    pub macs: Option<f64>,
    /// Which of the two did not run.
    pub refused: Option<Refusal>,
}

/// An engine that did not run a model.
#[derive(Clone, PartialEq)]
pub struct Refusal {
    /// Engine and precision.
    pub engine: String,
    /// Its reason.
    pub why: String,
}

/// A peer's output counts as close as ours down to so many decibels below.
const CLOSE_DB: f64 = 6.0;
/// Most letters of a reason in the list below the table; the JSON has all.
const MOST_LETTERS: usize = 160;

/// What this processor does at most in one arithmetic.
pub struct Peak {
    /// The arithmetic.
    pub precision: String,
    /// The instructions.
    pub instruction: String,
    /// Multiply-accumulates, in 10^9 a second, of one thread and of two at once.
    pub gmacs: [f64; 2],
}

impl Peak {
    /// From `PRECISION GMACS GMACS INSTRUCTION...`.
    pub fn parse(line: &str) -> Option<Peak> {
        let mut words = line.split_whitespace();
        let precision = words.next()?.to_owned();
        let gmacs = [words.next()?.parse().ok()?, words.next()?.parse().ok()?];
        Some(Peak { precision, instruction: words.collect::<Vec<_>>().join(" "), gmacs })
    }
}

/// All rows of a run.
pub struct Table {
    rows: Vec<Row>,
    load: f64,
    peaks: Vec<Peak>,
    cpu: String,
}

impl Table {
    /// An empty table of a run that began under this load, with the peaks of this processor.
    pub fn new(load: f64, peaks: Vec<Peak>) -> Self {
        let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let cpu = info.lines().find_map(|l| l.strip_prefix("model name")).unwrap_or("unknown");
        let cpu = cpu.trim_start_matches([' ', '\t', ':']).to_owned();
        Table { rows: Vec::new(), load, peaks, cpu }
    }

    /// Adds a row.
    pub fn push(&mut self, row: Row) {
        self.rows.push(row);
    }

    /// Prints both tables as Markdown, and what did not run below them.
    pub fn print(&self) {
        println!("\n{}, load {:.2} at the start\n", self.cpu, self.load);
        for Peak { precision, instruction, gmacs: [one, two] } in &self.peaks {
            println!("peak in {precision}: {one:.1} GMAC/s on one thread, {two:.1} on two ({instruction})\n");
        }
        println!("| model | threads | flowlet ms (SNR dB, % of peak) | peer | peer ms (SNR dB) | ratio (spread) |");
        println!("|---|---|---|---|---|---|");
        for row in self.rows.iter().filter(|row| row.refused.is_none()) {
            let db = |snr: Option<f64>| snr.map_or("-".to_owned(), |snr| format!("{snr:.0}"));
            let (ratio, low, high) = row.ratio();
            println!(
                "| {} | {} | {} {:.3} ({}, {:.0} %) | {} {} {} | {:.3} ({}) | {ratio:.2} ({low:.2} to {high:.2}) |",
                row.model,
                row.threads,
                row.our_precision,
                median(&row.ours),
                db(row.ours_snr_db),
                row.percent_of_peak(&self.peaks).unwrap_or(f64::NAN),
                row.peer,
                row.peer_version,
                row.precision,
                median(&row.theirs),
                db(row.peer_snr_db),
            );
        }
        println!(
            "\n| model | threads | flowlet | ms | SNR dB | of peak | fastest peer as close to f32 | ratio | fastest of all | ratio |"
        );
        println!("|---|---|---|---|---|---|---|---|---|---|");
        self.digest().iter().for_each(|line| println!("{line}"));
        let lines = self.refusals();
        if !lines.is_empty() {
            println!("\nNot run:\n");
            lines.iter().for_each(|line| println!("- {line}"));
        }
    }

    /// For each model, number of threads and arithmetic of ours: ours, the fastest peer that is as close to f32, and the
    /// fastest of all.
    fn digest(&self) -> Vec<String> {
        let ran = || self.rows.iter().filter(|row| row.refused.is_none());
        let mut lines: Vec<String> = Vec::new();
        let mut seen: Vec<(&str, usize, &str)> = Vec::new();
        for row in ran() {
            let key = (row.model.as_str(), row.threads, row.our_precision.as_str());
            if seen.contains(&key) {
                continue;
            }
            seen.push(key);
            let fastest = |close: bool| {
                ran()
                    .filter(|r| {
                        (r.model.as_str(), r.threads, r.our_precision.as_str()) == key && (!close || r.is_as_close())
                    })
                    .min_by(|a, b| a.ratio().0.total_cmp(&b.ratio().0))
                    .map_or("- | -".to_owned(), |r| format!("{} {} | {:.2}", r.peer, r.precision, r.ratio().0))
            };
            lines.push(format!(
                "| {} | {} | {} | {:.3} | {} | {:.0} % | {} | {} |",
                row.model,
                row.threads,
                row.our_precision,
                median(&row.ours),
                row.ours_snr_db.map_or("-".to_owned(), |snr| format!("{snr:.0}")),
                row.percent_of_peak(&self.peaks).unwrap_or(f64::NAN),
                fastest(true),
                fastest(false),
            ));
        }
        lines
    }

    /// One line for each engine and reason, with the models and threads.
    fn refusals(&self) -> Vec<String> {
        let mut all: Vec<(&Refusal, Vec<String>)> = Vec::new();
        for row in &self.rows {
            let Some(refusal) = &row.refused else { continue };
            let place = format!("{} on {}", row.model, row.threads);
            match all.iter_mut().find(|(known, _)| *known == refusal) {
                Some((_, places)) if places.contains(&place) => {}
                Some((_, places)) => places.push(place),
                None => all.push((refusal, vec![place])),
            }
        }
        let line = |(refusal, places): &(&Refusal, Vec<String>)| {
            format!("{} ({} threads): {}", refusal.engine, places.join(", "), shortened(&refusal.why))
        };
        all.iter().map(line).collect()
    }

    /// The same for programs.
    pub fn to_json(&self) -> String {
        let rows: Vec<Value> = self.rows.iter().map(|row| row.to_json(&self.peaks)).collect();
        let peak = |peak: &Peak| {
            let Peak { precision, instruction, gmacs } = peak;
            json!({ "precision": precision, "instruction": instruction, "gmacs_1_and_2_threads": gmacs })
        };
        let peaks: Vec<Value> = self.peaks.iter().map(peak).collect();
        let all = json!({
            "cpu": self.cpu, "load": self.load, "peaks": peaks, "rows": rows,
        });
        format!("{all:#}\n")
    }
}

impl Row {
    /// Median, least and largest of the rounds' ratios: above 1 we are faster.
    fn ratio(&self) -> (f64, f64, f64) {
        let ratios: Vec<f64> = self.theirs.iter().zip(&self.ours).map(|(theirs, ours)| theirs / ours).collect();
        let low = ratios.iter().copied().fold(f64::INFINITY, f64::min);
        (median(&ratios), low, ratios.iter().copied().fold(0.0, f64::max))
    }

    /// Whether the peer's output is as close to f32 as ours, to [`CLOSE_DB`].
    fn is_as_close(&self) -> bool {
        match (self.peer_snr_db, self.ours_snr_db) {
            (Some(theirs), Some(ours)) => theirs + CLOSE_DB >= ours,
            // The yardstick itself, or one without outputs to compare.
            _ => true,
        }
    }

    /// Of the peak in the same arithmetic: that of f32 for weights in f16.
    fn percent_of_peak(&self, peaks: &[Peak]) -> Option<f64> {
        let precision = if self.our_precision == "int8" { "int8" } else { "f32" };
        let [one, two] = peaks.iter().find(|peak| peak.precision == precision)?.gmacs;
        let gmacs = self.macs? / median(&self.ours) / 1e6;
        Some(100.0 * gmacs / if self.threads == 1 { one } else { two })
    }

    fn to_json(&self, peaks: &[Peak]) -> Value {
        let (ratio, low, high) = self.ratio();
        let ran = self.refused.is_none();
        let known = |value: f64| (ran && value.is_finite()).then_some(value);
        json!({
            "model": self.model,
            "threads": self.threads,
            "our_precision": self.our_precision,
            "precision": self.precision,
            "ours_ms": known(median(&self.ours)),
            "ours_snr_db": self.ours_snr_db,
            "peer": self.peer,
            "peer_version": self.peer_version,
            "peer_ms": known(median(&self.theirs)),
            "peer_snr_db": self.peer_snr_db.filter(|snr| snr.is_finite()),
            "ratio": known(ratio),
            "spread": [known(low), known(high)],
            "percent_of_peak": self.percent_of_peak(peaks).filter(|p| p.is_finite()),
            "not_run": self.refused.as_ref().map(|refusal| format!("{}: {}", refusal.engine, refusal.why)),
        })
    }
}

/// A reason of at most [`MOST_LETTERS`], cut between words.
fn shortened(why: &str) -> String {
    let mut short = String::new();
    for word in why.split_whitespace() {
        if short.chars().count() + word.chars().count() >= MOST_LETTERS {
            return short + " ...";
        }
        if !short.is_empty() {
            short.push(' ');
        }
        short.push_str(word);
    }
    short
}

/// The middle of the values; NaN of none.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Signal-to-noise ratio in decibels; `None` for different sizes.
pub fn snr_db(wanted: &[f32], found: &[f32]) -> Option<f64> {
    if wanted.len() != found.len() {
        return None;
    }
    let square = |x: f64| x * x;
    let signal: f64 = wanted.iter().map(|&w| square(w.into())).sum();
    let noise: f64 = wanted.iter().zip(found).map(|(&w, &f)| square(f64::from(w) - f64::from(f))).sum();
    Some(10.0 * (signal / noise.max(f64::MIN_POSITIVE)).log10())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timed(peer: &str, theirs: f64, peer_snr_db: f64) -> Row {
        Row {
            ours: vec![1.0],
            theirs: vec![theirs],
            ours_snr_db: Some(20.0),
            peer_snr_db: Some(peer_snr_db),
            macs: Some(1e6),
            refused: None,
            ..refused("a", peer, "")
        }
    }

    #[test]
    fn a_fast_peer_that_is_far_from_f32_does_not_count_as_close() {
        let mut table = Table::new(0.0, Peak::parse("int8 2 4 none").into_iter().collect());
        table.push(timed("rough", 1.5, 13.9));
        table.push(timed("fair", 1.75, 14.0));
        table.push(timed("exact", 2.0, f64::INFINITY));
        assert_eq!(table.digest(), ["| a | 1 | int8 | 1.000 | 20 | 50 % | fair f32 | 1.75 | rough f32 | 1.50 |"]);
    }

    fn refused(model: &str, engine: &str, why: &str) -> Row {
        Row {
            model: model.to_owned(),
            threads: 1,
            our_precision: "int8".to_owned(),
            precision: "f32".to_owned(),
            peer: engine.to_owned(),
            peer_version: String::new(),
            ours: Vec::new(),
            theirs: Vec::new(),
            ours_snr_db: None,
            peer_snr_db: None,
            macs: None,
            refused: Some(Refusal { engine: engine.to_owned(), why: why.to_owned() }),
        }
    }

    #[test]
    fn a_peak_is_a_line() {
        let peak = Peak::parse("int8 83.5 167.0 vpmaddwd ymm").unwrap();
        assert_eq!((peak.precision.as_str(), peak.gmacs), ("int8", [83.5, 167.0]));
        assert_eq!(peak.instruction, "vpmaddwd ymm");
        assert!(Peak::parse("none").is_none());
    }

    #[test]
    fn a_reason_is_listed_once_and_cut_between_words() {
        let mut table = Table::new(0.0, Vec::new());
        let long = "word ".repeat(100);
        table.push(refused("a", "slow f32", "no converter"));
        table.push(refused("b", "slow f32", "no converter"));
        table.push(refused("b", "slow f32", "no converter"));
        table.push(refused("a", "other f32", &long));
        let lines = table.refusals();
        assert_eq!(lines[0], "slow f32 (a on 1, b on 1 threads): no converter");
        assert!(lines.len() == 2 && lines[1].ends_with("word ...") && lines[1].len() < MOST_LETTERS + 40);
    }
}

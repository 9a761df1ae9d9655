//! The side-by-side table and its JSON.

use serde_json::{Value, json};

/// One peer on one model.
pub struct Row {
    /// The network.
    pub model: String,
    /// Threads of both.
    pub threads: usize,
    /// The peer's arithmetic; ours is int8.
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
    /// Why one of the two did not run.
    pub refused: Option<String>,
}

/// All rows of a run.
pub struct Table {
    rows: Vec<Row>,
    load: f64,
    instruction: String,
    peak_gmacs: f64,
    cpu: String,
}

impl Table {
    /// An empty table of a run that began under this load, with the peak of one core.
    pub fn new(load: f64, instruction: &str, peak_gmacs: f64) -> Self {
        let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let cpu = info.lines().find_map(|l| l.strip_prefix("model name")).unwrap_or("unknown");
        let cpu = cpu.trim_start_matches([' ', '\t', ':']).to_owned();
        Table { rows: Vec::new(), load, instruction: instruction.to_owned(), peak_gmacs, cpu }
    }

    /// Adds a row.
    pub fn push(&mut self, row: Row) {
        self.rows.push(row);
    }

    /// Prints the table as Markdown.
    pub fn print(&self) {
        println!(
            "\n{}, load {:.2} at the start, peak {:.1} GMAC/s a core ({})\n",
            self.cpu, self.load, self.peak_gmacs, self.instruction
        );
        println!(
            "| model | threads | flowlet int8 ms (SNR dB, % of peak) | peer | peer ms (SNR dB) | ratio (spread) |"
        );
        println!("|---|---|---|---|---|---|");
        for row in &self.rows {
            let db = |snr: Option<f64>| snr.map_or("-".to_owned(), |snr| format!("{snr:.0}"));
            let head = format!("| {} | {}", row.model, row.threads);
            let peer = format!("{} {} {}", row.peer, row.peer_version, row.precision);
            if let Some(why) = &row.refused {
                println!("{head} | | {peer} | not run: {why} | |");
                continue;
            }
            let (ratio, low, high) = row.ratio();
            println!(
                "{head} | {:.3} ({}, {:.0} %) | {peer} | {:.3} ({}) | {ratio:.2} ({low:.2} to {high:.2}) |",
                median(&row.ours),
                db(row.ours_snr_db),
                row.percent_of_peak(self.peak_gmacs).unwrap_or(f64::NAN),
                median(&row.theirs),
                db(row.peer_snr_db),
            );
        }
    }

    /// The same for programs.
    pub fn to_json(&self) -> String {
        let rows: Vec<Value> = self.rows.iter().map(|row| row.to_json(self.peak_gmacs)).collect();
        let all = json!({
            "cpu": self.cpu, "load": self.load, "peak_gmacs": self.peak_gmacs, "peak_instruction": self.instruction,
            "rows": rows,
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

    fn percent_of_peak(&self, peak_gmacs: f64) -> Option<f64> {
        let gmacs = self.macs? / median(&self.ours) / 1e6;
        Some(100.0 * gmacs / (peak_gmacs * self.threads as f64))
    }

    fn to_json(&self, peak_gmacs: f64) -> Value {
        let (ratio, low, high) = self.ratio();
        let ran = self.refused.is_none();
        let known = |value: f64| (ran && value.is_finite()).then_some(value);
        json!({
            "model": self.model,
            "threads": self.threads,
            "precision": self.precision,
            "ours_ms": known(median(&self.ours)),
            "ours_snr_db": self.ours_snr_db,
            "peer": self.peer,
            "peer_version": self.peer_version,
            "peer_ms": known(median(&self.theirs)),
            "peer_snr_db": self.peer_snr_db.filter(|snr| snr.is_finite()),
            "ratio": known(ratio),
            "spread": [known(low), known(high)],
            "percent_of_peak": self.percent_of_peak(peak_gmacs).filter(|p| p.is_finite()),
            "not_run": self.refused,
        })
    }
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

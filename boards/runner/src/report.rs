//! What a run said, checked for completeness.

use std::fmt;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::launch::last_words;
use crate::line::{Line, LineError, shorten};
use crate::{Error, Footprint, Launch, Output};

/// One picture that a board drew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The seed of its noise.
    pub seed: u64,
    /// The class that was asked for.
    pub label: u64,
    /// The output port's bytes.
    pub bytes: Vec<u8>,
    /// The instructions that the model's step executed, when they were counted.
    pub instructions: Option<u64>,
}

/// The least and the greatest count over all images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instructions {
    /// Of the image that took the fewest.
    pub least: u64,
    /// Of the image that took the most.
    pub most: u64,
}

impl Instructions {
    /// Whether every image took the same number.
    #[must_use]
    pub fn identical(self) -> bool {
        self.least == self.most
    }
}

/// What a board said of one model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelReport {
    /// The model's name.
    pub model: String,
    /// The pictures in the order in which they were drawn.
    pub images: Vec<Image>,
    /// SHA-256 over all pictures' bytes in that order, in hexadecimal.
    pub digest: String,
    /// Stack that the model's step used below its caller, if the firmware measured it.
    pub stack_bytes: Option<u64>,
}

impl ModelReport {
    /// The spread of executed instructions, when they were counted.
    #[must_use]
    pub fn instructions(&self) -> Option<Instructions> {
        let counts: Option<Vec<u64>> = self.images.iter().map(|image| image.instructions).collect();
        let counts = counts?;
        Some(Instructions { least: *counts.iter().min()?, most: *counts.iter().max()? })
    }
}

/// Everything about one run of a firmware image.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// The board's name.
    pub board: &'static str,
    /// The board's core.
    pub core: &'static str,
    /// Bytes of flash and RAM.
    pub footprint: Footprint,
    /// One entry a model, in the order of their first line.
    pub models: Vec<ModelReport>,
    /// Instructions from reset to exit, when they were counted.
    pub total_instructions: Option<u64>,
    /// Lines that are no report lines of ours, for people.
    pub remarks: Vec<String>,
    /// Seconds on this host. Says nothing of the emulated part.
    pub host_seconds: f64,
}

/// Reads a run's output.
///
/// # Errors
/// When the firmware panicked or failed, a report line is malformed, an image is missing or comes
/// twice, or the counted regions are not one an image.
pub fn collect(launch: &Launch<'_>, footprint: Footprint, output: &Output) -> Result<Report, Error> {
    let drafts = read_lines(&output.stdout).map_err(|why| why.at(launch.elf))?;
    let Drafts { mut models, order, remarks, panic } = drafts;
    if let Some(place) = panic {
        return Err(Error::new(format!("the firmware panicked at {place}")).at(launch.elf));
    }
    if output.code != Some(0) {
        let code = output.code.map_or("a signal".to_owned(), |code| format!("exit code {code}"));
        return Err(Error::new(format!("the firmware ended with {code}, not 0"))
            .at(launch.elf)
            .help(last_words(&output.stdout, &output.stderr)));
    }
    let mut total_instructions = None;
    if launch.plugin.is_some() {
        let counts = Counts::read(&output.stderr);
        total_instructions = counts.total;
        assign(&mut models, &order, &counts).map_err(|why| why.at(launch.elf))?;
    }
    let models: Result<Vec<_>, Error> = models.into_iter().map(Draft::finish).collect();
    Ok(Report {
        board: launch.board.name,
        core: launch.board.core,
        footprint,
        models: models.map_err(|why| why.at(launch.elf).help(last_words(&output.stdout, &output.stderr)))?,
        total_instructions,
        remarks,
        host_seconds: output.elapsed.as_secs_f64(),
    })
}

/// A model's report while its lines come in.
#[derive(Debug, Default)]
struct Draft {
    model: String,
    images: Vec<Image>,
    stack_bytes: Option<u64>,
    done: Option<u64>,
}

impl Draft {
    fn finish(self) -> Result<ModelReport, Error> {
        let found = self.images.len();
        match self.done {
            Some(said) if said == found as u64 => {}
            Some(said) => {
                let model = self.model;
                return Err(Error::new(format!(
                    "`{model}` says that it drew {said} images, and {found} image lines came"
                )));
            }
            None => {
                return Err(Error::new(format!("the `done` line of `{}` never came", self.model)));
            }
        }
        let mut digest = Sha256::new();
        self.images.iter().for_each(|image| digest.update(&image.bytes));
        let digest = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        let Self { model, images, stack_bytes, .. } = self;
        Ok(ModelReport { model, images, digest, stack_bytes })
    }
}

/// All lines of a run, sorted.
#[derive(Debug, Default)]
struct Drafts {
    models: Vec<Draft>,
    /// For each image in the order of printing: its model, and its place there.
    order: Vec<(usize, usize)>,
    remarks: Vec<String>,
    panic: Option<String>,
}

impl Drafts {
    fn model(&mut self, name: &str) -> usize {
        self.models.iter().position(|draft| draft.model == name).unwrap_or_else(|| {
            self.models.push(Draft { model: name.to_owned(), ..Draft::default() });
            self.models.len() - 1
        })
    }

    /// Takes one line in; one that is not of a kind we know is a remark.
    fn take(&mut self, text: &str) -> Result<(), LineError> {
        let kind = text.split(' ').next().unwrap_or_default();
        if !matches!(kind, "image" | "stack" | "done" | "panic") {
            if !text.trim().is_empty() {
                self.remarks.push(text.to_owned());
            }
            return Ok(());
        }
        let line = Line::parse(text)?;
        if kind == "panic" {
            self.panic = Some(format!("{} line {}", line.text("file")?, line.number("line")?));
            return Ok(());
        }
        let at = self.model(line.text("model")?);
        match kind {
            "stack" => self.models[at].stack_bytes = Some(line.number("used")?),
            "done" => self.models[at].done = Some(line.number("images")?),
            _ => {
                let bytes = line.hex("hex")?;
                let said = line.number("bytes")?;
                if said != bytes.len() as u64 {
                    return Err(LineError::Length { said, found: bytes.len() });
                }
                let (seed, label) = (line.number("seed")?, line.number("label")?);
                let images = &mut self.models[at].images;
                if images.iter().any(|image| (image.seed, image.label) == (seed, label)) {
                    return Err(LineError::Twice(format!("seed={seed} label={label}")));
                }
                self.order.push((at, images.len()));
                images.push(Image { seed, label, bytes, instructions: None });
            }
        }
        Ok(())
    }
}

fn read_lines(stdout: &str) -> Result<Drafts, Error> {
    let mut drafts = Drafts::default();
    for (number, text) in stdout.lines().enumerate() {
        drafts
            .take(text)
            .map_err(|why| Error::new(format!("report line {}: {why}: `{}`", number + 1, shorten(text))))?;
    }
    Ok(drafts)
}

/// What the counting plugin printed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) regions: Vec<u64>,
    total: Option<u64>,
}

impl Counts {
    pub(crate) fn read(stderr: &str) -> Self {
        let mut counts = Self::default();
        for line in stderr.lines() {
            match line.split(' ').collect::<Vec<_>>().as_slice() {
                ["icount", "region", _, count] => counts.regions.extend(count.parse::<u64>().ok()),
                ["icount", "total", count] => counts.total = count.parse().ok(),
                _ => {}
            }
        }
        counts
    }
}

/// Gives each image its region: there is one an image, in the same order.
fn assign(models: &mut [Draft], order: &[(usize, usize)], counts: &Counts) -> Result<(), Error> {
    let regions = &counts.regions;
    if counts.total.is_none() {
        return Err(Error::new("the counting plugin printed no total: it did not load or was cut off"));
    }
    if regions.len() != order.len() {
        return Err(Error::new(format!(
            "{} regions were counted for {} images: there must be one `count::region` an image",
            regions.len(),
            order.len()
        )));
    }
    for (&(model, image), &count) in order.iter().zip(regions) {
        models[model].images[image].instructions = Some(count);
    }
    Ok(())
}

impl Report {
    /// The report for programs: one object. Pictures are left out, their digest is in.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let models: Vec<Value> = self.models.iter().map(ModelReport::to_json).collect();
        json!({
            "board": self.board,
            "core": self.core,
            "flash_bytes": self.footprint.flash,
            "flash_limit": self.footprint.flash_limit,
            "ram_static_bytes": self.footprint.ram_static,
            "ram_limit": self.footprint.ram_limit,
            "models": models,
            "total_instructions": self.total_instructions,
            "host_seconds": self.host_seconds,
        })
    }
}

impl ModelReport {
    fn to_json(&self) -> Value {
        let instructions = self.instructions();
        json!({
            "model": self.model,
            "images": self.images.len(),
            "digest": self.digest,
            "stack_bytes": self.stack_bytes,
            "instructions": instructions.map(|count| count.most),
            "instructions_least": instructions.map(|count| count.least),
            "instructions_identical": instructions.map(Instructions::identical),
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "board         {} ({})", self.board, self.core)?;
        writeln!(f, "{}", self.footprint)?;
        for model in &self.models {
            writeln!(f, "model         {}: {} images", model.model, model.images.len())?;
            writeln!(f, "  digest      {}", model.digest)?;
            match model.stack_bytes {
                Some(bytes) => writeln!(f, "  stack       {bytes} B")?,
                None => writeln!(f, "  stack       not measured")?,
            }
            match model.instructions() {
                Some(count) if count.identical() => {
                    writeln!(f, "  executed    {} instructions, the same for every image", count.most)?;
                }
                Some(count) => writeln!(
                    f,
                    "  executed    {} to {} instructions: NOT the same for every image",
                    count.least, count.most
                )?,
                None => writeln!(f, "  executed    not counted")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use super::*;
    use crate::board::BOARDS;

    const GOOD: &str = "hello\nimage model=m seed=0 label=1 bytes=2 hex=00ff\n\
        image model=m seed=0 label=2 bytes=2 hex=0102\nstack model=m used=40\ndone model=m images=2\n";

    fn collected(stdout: &str, stderr: &str, code: i32, plugin: bool) -> Result<Report, Error> {
        let launch = Launch {
            board: &BOARDS[0],
            elf: Path::new("m.elf"),
            plugin: plugin.then_some(Path::new("p.so")),
            timeout: Duration::from_secs(1),
        };
        let output =
            Output { stdout: stdout.to_owned(), stderr: stderr.to_owned(), code: Some(code), ..Output::default() };
        collect(&launch, Footprint::default(), &output)
    }

    fn refused(stdout: &str, code: i32, why: &str) {
        let error = collected(stdout, "", code, false).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }

    #[test]
    fn a_good_run() {
        let report = collected(GOOD, "", 0, false).unwrap();
        let [model] = report.models.as_slice() else { panic!("one model") };
        assert_eq!(model.images[0].bytes, [0, 255]);
        assert_eq!(model.stack_bytes, Some(40));
        assert_eq!(model.instructions(), None);
        // printf '\x00\xff\x01\x02' | sha256sum
        assert_eq!(model.digest, "2f87beacb6a71f75e3243ce005faf5d99405e02b5e729c7c9c216ef2e2a0544a");
        assert_eq!(report.remarks, ["hello"]);
    }

    #[test]
    fn counts_belong_to_images() {
        let stderr = "icount region 0 70\nnoise\nicount region 1 71\nicount total 900\n";
        let report = collected(GOOD, stderr, 0, true).unwrap();
        assert_eq!(report.models[0].images[1].instructions, Some(71));
        let spread = report.models[0].instructions().unwrap();
        assert_eq!((spread.least, spread.most, spread.identical()), (70, 71, false));
        assert_eq!(report.total_instructions, Some(900));
        for short in ["", "icount region 0 70\nicount total 900\n"] {
            assert!(collected(GOOD, short, 0, true).is_err());
        }
    }

    #[test]
    fn bad_runs_say_why() {
        refused("", 1, "exit code 1");
        refused("panic file=src/main.rs line=7\n", 101, "panicked at src/main.rs line 7");
        refused(&GOOD.replace("images=2", "images=3"), 0, "says that it drew 3 images");
        refused(&GOOD.replace("done", "dome"), 0, "never came");
        refused(&GOOD.replace("bytes=2 hex=00ff", "bytes=3 hex=00ff"), 0, "line 2");
        refused(&GOOD.replace("label=2", "label=1"), 0, "twice");
        refused(&GOOD.replace("hex=0102", "hex=010"), 0, "hexadecimal");
    }

    #[test]
    fn a_run_cut_off_anywhere_is_refused() {
        for end in 0..GOOD.len() - 1 {
            let report = collected(&GOOD[..end], "", 0, false);
            assert!(report.is_err() || report.is_ok_and(|report| report.models.is_empty()));
        }
    }
}

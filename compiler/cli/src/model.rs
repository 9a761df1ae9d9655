//! From a file to a graph that runs.

use crate::calibrate::{Calibrate, calibration};
use crate::import::{import, operators};
use crate::model_toml::ModelToml;
use crate::options::{ModelArgs, Precision, read};
use crate::progress::Bar;
use crate::report::hex;
use anyhow::{Context, anyhow, bail};
use flowlet_compiler::coverage::Operator;
use flowlet_compiler::flow::Prediction;
use flowlet_compiler::ir::{Graph, Stage, verify};
use flowlet_compiler::passes::Options;
use flowlet_compiler::quantize::{Calibration, Quantizer, Settings, needs_calibration};
use flowlet_compiler::{compile, flq};
use std::borrow::Cow;
use std::path::PathBuf;

/// A model that was read, folded if it came as ONNX.
#[derive(Clone, Debug)]
pub struct Model {
    /// Where it was read from.
    pub path: PathBuf,
    /// The graph as the file holds it, of an ONNX file.
    pub imported: Option<Graph>,
    /// The operators of the file, of an ONNX file.
    pub operators: Vec<Operator>,
    /// What was decided about it, of an ONNX file.
    pub options: Options,
    /// The static graph: f32, or int8 from a `.flq` that holds that.
    pub graph: Graph,
    /// Size of the file.
    pub file_bytes: usize,
    /// What verification accepts, if `model.toml` says it.
    pub tolerance: Option<f64>,
    /// Inputs that change more slowly than the others, as `model.toml` says.
    pub slow: Vec<String>,
    /// SHA-256 of the file.
    pub file_hash: [u8; 32],
}

/// A graph in the arithmetic that was asked for, with the identity of its `.flq`.
#[derive(Clone, Debug)]
pub struct Prepared<'m> {
    /// The graph.
    pub graph: Cow<'m, Graph>,
    /// SHA-256 of its `.flq`.
    pub hash: [u8; 32],
}

impl Model {
    /// Reads a `.flq`, or imports and folds an ONNX file.
    ///
    /// # Errors
    /// What is wrong with the file or the options.
    pub fn load(args: &ModelArgs) -> anyhow::Result<Self> {
        Self::load_with(args, &|_| {})
    }

    /// As [`Model::load`]; `change` has the last word on what the passes of an ONNX file do.
    ///
    /// # Errors
    /// As [`Model::load`].
    pub fn load_with(args: &ModelArgs, change: &dyn Fn(&mut Options)) -> anyhow::Result<Self> {
        let bytes = read(&args.model)?;
        let shown = args.model.display();
        let is_flq = bytes.starts_with(b"FLQ") || args.model.extension().is_some_and(|e| e == "flq");
        if !is_flq {
            return Self::import(args, &bytes, change).with_context(|| format!("cannot use {shown}"));
        }
        if let Some(option) = args.import_option() {
            bail!(
                "{shown} is already folded, so that {option} has no effect on it: give {option} to 'flowlet quantize'"
            );
        }
        let graph = flq::read(&bytes).with_context(|| format!("cannot use {shown}"))?;
        Ok(Model {
            path: args.model.clone(),
            imported: None,
            operators: Vec::new(),
            options: Options::default(),
            graph,
            file_bytes: bytes.len(),
            tolerance: None,
            slow: Vec::new(),
            file_hash: flq::hash(&bytes),
        })
    }

    fn import(args: &ModelArgs, bytes: &[u8], change: &dyn Fn(&mut Options)) -> anyhow::Result<Self> {
        let config = ModelToml::find(&args.model, args.config.as_deref())?.unwrap_or_default();
        let stem = args.model.file_stem().map_or_else(|| "model".to_owned(), |s| s.to_string_lossy().into_owned());
        let imported = import(bytes, &args.shape, config.name.as_ref().unwrap_or(&stem))?;
        let mut options = decide(args, &config, &imported)?;
        change(&mut options);
        let mut graph = compile::optimise(imported.clone(), &options)?;
        describe(&mut graph, &config, &options, args.flow.noise.as_deref(), &imported)?;
        graph.set_meta("source.sha256", hex(&flq::hash(bytes)));
        Ok(Model {
            path: args.model.clone(),
            imported: Some(imported),
            operators: operators(bytes)?,
            options,
            graph,
            file_bytes: bytes.len(),
            tolerance: config.tolerance,
            slow: config.inputs.iter().filter(|(_, input)| input.slow).map(|(name, _)| name.clone()).collect(),
            file_hash: flq::hash(bytes),
        })
    }

    /// What the graph holds.
    pub fn precision(&self) -> Precision {
        if flq::is_quantized(&self.graph) { Precision::Int8 } else { Precision::F32 }
    }

    /// What the importer did on its own.
    pub fn notes(&self) -> Vec<String> {
        let graph = self.imported.as_ref().unwrap_or(&self.graph);
        let notes = graph.remarks.iter().filter(|r| r.pass == "import");
        notes.map(|r| format!("{}: {}", r.node, r.message)).collect()
    }

    /// The f32 graph.
    ///
    /// # Errors
    /// When the file holds int8 only.
    pub fn float(&self) -> anyhow::Result<&Graph> {
        match self.precision() {
            Precision::F32 => Ok(&self.graph),
            Precision::Int8 => bail!(
                "{} holds int8 only: for --precision f32 give the .onnx, or a .flq that \
                 'flowlet quantize --precision f32' wrote",
                self.path.display()
            ),
        }
    }

    /// The graph in this arithmetic; without one, as the file holds it.
    ///
    /// # Errors
    /// When it cannot be had from this file, or the model cannot be calibrated.
    pub fn prepare(&self, precision: Option<Precision>, calibrate: Option<&Calibrate>) -> anyhow::Result<Prepared<'_>> {
        let held = self.precision();
        let graph = match (precision.unwrap_or(held), held) {
            (Precision::F32, _) => Cow::Borrowed(self.float()?),
            (Precision::Int8, Precision::Int8) => {
                if calibrate.is_some() {
                    bail!("{} is already quantised, so that --calibrate has no effect on it", self.path.display());
                }
                Cow::Borrowed(&self.graph)
            }
            (Precision::Int8, Precision::F32) => Cow::Owned(quantise(&self.graph, calibrate)?),
        };
        let hash = if held == Precision::Int8 { self.file_hash } else { flq::hash(&flq::write(&graph)) };
        Ok(Prepared { graph, hash })
    }
}

/// Calibrates and quantises a static f32 graph; without samples where the file has a scale for every tensor.
///
/// # Errors
/// When the samples do not fit or an operation has no int8 form.
pub fn quantise(graph: &Graph, calibrate: Option<&Calibrate>) -> anyhow::Result<Graph> {
    quantise_with(graph, calibrate, &Settings::default())
}

/// As [`quantise`], with numbers chosen as `settings` say.
///
/// # Errors
/// As [`quantise`].
pub fn quantise_with(graph: &Graph, calibrate: Option<&Calibrate>, settings: &Settings) -> anyhow::Result<Graph> {
    Ok(calibrated(graph, calibrate, settings)?.quantize(settings)?)
}

/// Runs the calibration samples.
///
/// # Errors
/// When the samples do not fit or an operation has no int8 form.
pub fn calibrated(graph: &Graph, calibrate: Option<&Calibrate>, settings: &Settings) -> anyhow::Result<Quantizer> {
    if !needs_calibration(graph) {
        return Ok(Quantizer::new(graph, &Calibration::from_samples(Vec::new(), "none"), settings, &mut |_, _| {})?);
    }
    let samples = calibration(graph, calibrate.unwrap_or(&Calibrate::default()))?;
    let bar = Bar::new("calibrating", samples.samples.len());
    Ok(Quantizer::new(graph, &samples, settings, &mut |done, _| bar.at(done))?)
}

/// The passes' options from the command line, before `model.toml`.
fn decide(args: &ModelArgs, config: &ModelToml, graph: &Graph) -> anyhow::Result<Options> {
    let mut options = Options::default();
    let mut set = |name: &str, tensor| {
        options.set.retain(|(n, _)| n != name);
        options.set.push((name.to_owned(), tensor));
    };
    let one = |v: f32| flowlet_compiler::ir::Tensor::f32(&[1], vec![v]);
    let stated = args.flow.over(config.flow.as_ref())?;
    options.flow = stated.as_ref().map(|flow| flow.convention("")).transpose()?;
    if let (Some(flow), Some(stated)) = (&options.flow, &stated)
        && let Some(time) = &stated.time
    {
        known_input(graph, time)?;
        set(time, one(stated.time_value.unwrap_or(flow.time() as f32)));
    }
    for (name, value) in &config.set {
        set(name, one(*value));
    }
    for (name, value) in &args.set {
        set(name, value.tensor().with_context(|| format!("--set {name}"))?);
    }
    for (name, input) in &config.inputs {
        if input.count > 0 && !args.index.iter().any(|(n, _)| n == name) {
            options.indices.push((name.clone(), input.count));
        }
    }
    options.indices.extend(args.index.iter().cloned());
    if let Some(flow) = &options.flow {
        known_input(graph, &flow.noise)?;
    }
    Ok(options)
}

fn known_input(graph: &Graph, name: &str) -> anyhow::Result<()> {
    let known: Vec<&str> = graph.inputs.iter().map(|&id| graph.value(id).name.as_str()).collect();
    if known.contains(&name) {
        return Ok(());
    }
    Err(anyhow!("the model has no input '{name}'; its inputs are {}", known.join(", ")))
}

/// Facts that travel in the `.flq`.
fn describe(
    graph: &mut Graph,
    config: &ModelToml,
    options: &Options,
    noise: Option<&str>,
    imported: &Graph,
) -> anyhow::Result<()> {
    for (name, input) in &config.inputs {
        if !input.classes.is_empty() {
            graph.set_meta(&format!("labels.{name}"), input.classes.join(","));
        }
    }
    if let Some(flow) = &options.flow {
        graph.set_meta("flow.noise_at", if flow.noise_at_zero { "0" } else { "1" });
        let step = flow.step().map_err(|e| anyhow!("defect: {e}"))?;
        if flow.prediction != Prediction::Velocity || flow.sigma != 1.0 {
            graph.set_meta("flow.prediction", flow.prediction.name());
            graph.set_meta("flow.step", format!("{:?},{:?},{:?}", step.input, step.skip, step.output));
        }
        if let Some((lo, hi)) = flow.range {
            graph.set_meta("flow.range", format!("{lo:?},{hi:?}"));
        }
        if let Some(&output) = imported.outputs.first() {
            graph.set_meta("flow.velocity", imported.value(output).name.clone());
        }
    } else if let Some(noise) = noise {
        known_input(graph, noise)?;
        graph.set_meta("noise", noise);
    }
    verify(graph, Stage::Static).map_err(|e| anyhow!("defect after the passes: {e}; please report it"))
}

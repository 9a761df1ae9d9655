//! Post-training int8 quantisation of a static f32 graph.
//!
//! Activations s8 per tensor, weights s8 symmetric per output channel, biases i32, SiLU and friends as tables in the
//! epilogue of the layer before them, residual sums in the epilogue of the convolution that ends the branch. Ranges come
//! from running the f32 graph on the noise and the time of deployment ([`Calibration`]).

mod evidence;
mod freeze;
mod fuse;
mod given;
mod kernels;
mod layer;
mod measure;
mod prepare;
mod range;
mod rounding;
mod samples;
mod search;
mod settings;

pub use freeze::{Freeze, freeze_norms};
pub use given::needs_calibration;
pub use measure::{LayerError, Measured, OutputError, Reference, measure};
pub use samples::{Calibration, noise_tensor};
pub use search::{Trial, search};
pub use settings::{Ranges, Settings};

use crate::interp::Interpreter;
use crate::ir::{Def, Graph, InputKind, Node, Op, Quant, Remark, Stage, Tensor, Type, ValueId, verify};
use evidence::Evidence;
use flowlet_kernels::{add, table};
use fuse::{Group, groups};
use given::Given;
use range::{Observer, choose_range};
use std::collections::HashMap;

/// Why a graph could not be quantised.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum QuantizeError {
    /// Operations without an int8 form, all at once.
    Unsupported {
        /// ONNX name, operation and reason.
        nodes: Vec<(String, &'static str, String)>,
    },
    /// The calibration samples do not fit the graph.
    Calibration(String),
    /// A layer has numbers that int8 arithmetic cannot carry.
    Layer {
        /// ONNX name of the layer.
        node: String,
        /// What is wrong and what to do.
        message: String,
    },
    /// The result broke an invariant: a defect of this compiler.
    Bug(String),
}

impl std::fmt::Display for QuantizeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            QuantizeError::Unsupported { nodes } => {
                writeln!(f, "{} operations have no int8 form yet (--precision f32 runs them):", nodes.len())?;
                for (node, op, reason) in nodes {
                    writeln!(f, "  {op} at '{node}': {reason}")?;
                }
                Ok(())
            }
            QuantizeError::Calibration(m) => write!(f, "calibration: {m}"),
            QuantizeError::Layer { node, message } => write!(f, "node '{node}': {message}"),
            QuantizeError::Bug(m) => write!(f, "defect in quantize: {m}; please report it"),
        }
    }
}

impl std::error::Error for QuantizeError {}

/// Quantises a static f32 graph with the default settings. `progress` is called with samples done and samples in all.
///
/// # Errors
/// When an operation has no int8 form, the samples do not fit, or a layer's numbers are out of range.
pub fn quantize(
    graph: &Graph,
    calibration: &Calibration,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Graph, QuantizeError> {
    let settings = Settings::default();
    Quantizer::new(graph, calibration, &settings, progress)?.quantize(&settings)
}

/// A graph with what calibration saw of it: from here to an int8 graph takes no more samples, whatever the settings.
pub struct Quantizer {
    graph: Graph,
    groups: Vec<Group>,
    shared: Vec<ValueId>,
    given: Given,
    observers: HashMap<ValueId, Observer>,
    evidence: HashMap<ValueId, Evidence>,
    calibration: String,
    codes: HashMap<String, Vec<i8>>,
}

impl Quantizer {
    /// Runs the calibration samples through a static f32 graph, and gathers what `settings` need. Other settings than
    /// these can be used later, but [`Settings::fit_weights`], which takes memory and time, and
    /// [`Settings::correct_bias`] do nothing if they were not set here.
    ///
    /// # Errors
    /// When an operation has no int8 form or the samples do not fit.
    pub fn new(
        graph: &Graph,
        calibration: &Calibration,
        settings: &Settings,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Self, QuantizeError> {
        let mut graph = prepare::prepare(graph).map_err(|e| QuantizeError::Bug(e.to_string()))?;
        let given = given::absorb(&mut graph).map_err(|e| QuantizeError::Layer { node: e.node, message: e.message })?;
        let groups = groups(&graph, &given)?;
        let shared = fuse::shared_scales(&graph);
        let mut observers: HashMap<ValueId, Observer> = HashMap::new();
        let mut gathered = match settings.correct_bias || settings.fit_weights {
            true => evidence::for_layers(&graph, settings.fit_weights),
            false => HashMap::new(),
        };
        let described = match given::complete(&graph, &given) {
            true => None,
            false => Some(calibration.describe()),
        };
        let n = calibration.samples.len();
        if n == 0 && described.is_some() {
            return Err(QuantizeError::Calibration("there is no sample; give at least one".to_owned()));
        }
        let interpreter = Interpreter::new(&graph);
        for (i, sample) in calibration.samples.iter().enumerate().filter(|_| described.is_some()) {
            let mut observe = |id: ValueId, tensor: &Tensor| {
                if let Some(values) = tensor.as_f32() {
                    observers.entry(shared[id.0 as usize]).or_default().observe(values);
                    gathered.values_mut().filter(|e| e.input == id).for_each(|e| e.observe(values, i, n));
                }
            };
            interpreter.run_with(sample, &mut observe).map_err(|e| QuantizeError::Calibration(e.to_string()))?;
            progress(i + 1, n);
        }
        drop(interpreter);
        let calibration = described.unwrap_or_else(|| "none: the file's own scales".to_owned());
        Ok(Quantizer {
            graph,
            groups,
            shared,
            given,
            observers,
            evidence: gathered,
            calibration,
            codes: HashMap::new(),
        })
    }

    /// From here on weights are the bytes of this int8 graph, whose layers may have other factors for each output channel
    /// ([`crate::pack`]); [`Quantizer::quantize`] refuses a layer where they are not.
    pub fn take_weights_of(&mut self, first: &Graph) {
        let layers = first.nodes.iter().filter(|n| matches!(n.op, Op::QConv { .. } | Op::QConvTranspose { .. }));
        self.codes = layers
            .filter_map(|n| {
                let codes = first.constant(n.inputs[1])?.as_s8()?.to_vec();
                Some((first.value(n.inputs[1]).name.clone(), codes))
            })
            .collect();
    }

    /// Names of the tensors that have a scale of their own.
    pub fn tensors(&self) -> Vec<&str> {
        let roots = (0..self.shared.len()).filter(|&i| self.shared[i] == ValueId(i as u32));
        roots
            .filter(|&i| self.observers.contains_key(&self.shared[i]))
            .map(|i| self.graph.values[i].name.as_str())
            .collect()
    }

    /// The scale of the input and those of the weights of each layer, for fake quantisation in training.
    ///
    /// # Errors
    /// When a tensor's values are not finite.
    pub fn layer_scales(&self, settings: &Settings) -> Result<Vec<LayerScales>, QuantizeError> {
        let scales = self.scales(settings)?;
        let layers = self.graph.nodes.iter().filter(|n| matches!(n.op, Op::Conv(_) | Op::Linear));
        let found = layers.filter_map(|node| {
            let weight = self.graph.constant(node.inputs[1])?;
            let channels = *weight.dims.first()?;
            let values = weight.as_f32()?;
            let largest = |own: &[f32]| own.iter().fold(0.0f32, |m, x| m.max(x.abs()));
            Some(LayerScales {
                weight: self.graph.value(node.inputs[1]).name.clone(),
                node: node.origin.clone(),
                input: scales.tensors.get(&node.inputs[0]).copied()?,
                weights: values.chunks(values.len() / channels.max(1)).map(|own| largest(own) / 127.0).collect(),
            })
        });
        Ok(found.collect())
    }

    /// The int8 graph.
    ///
    /// # Errors
    /// When a layer's numbers are out of range.
    pub fn quantize(&self, settings: &Settings) -> Result<Graph, QuantizeError> {
        let (graph, groups) = (&self.graph, &self.groups);
        let mut emitter = Emitter::new(graph, self.scales(settings)?, &self.evidence, settings);
        emitter.codes = (!self.codes.is_empty()).then_some(&self.codes);
        for (position, node) in graph.nodes.iter().enumerate() {
            match groups.iter().find(|g| g.last() == position) {
                Some(group) => emitter.group(group)?,
                None if groups.iter().any(|g| g.contains(position)) => {}
                None => emitter.movement(node)?,
            }
        }
        let mut out = emitter.out;
        out.outputs = graph.outputs.iter().filter_map(|id| emitter.renamed.get(id).copied()).collect();
        out.set_meta("precision", "int8");
        out.set_meta("calibration", self.calibration.clone());
        if *settings != Settings::default() {
            out.set_meta("quantisation", settings.to_string());
        }
        out.set_meta("parameters", graph.parameters().to_string());
        out.sweep();
        verify(&out, Stage::Quantized).map_err(|e| QuantizeError::Bug(e.to_string()))?;
        Ok(out)
    }

    fn scales(&self, settings: &Settings) -> Result<Scales, QuantizeError> {
        let (graph, groups, shared) = (&self.graph, &self.groups, &self.shared);
        let noise = graph.meta("noise");
        let right: Vec<ValueId> = fuse::symmetric(graph).into_iter().map(|id| shared[id.0 as usize]).collect();
        let shares: Vec<ValueId> =
            graph.nodes.iter().filter(|n| matches!(n.op, Op::Softmax { .. })).map(|n| n.output).collect();
        let mut tensors = self.given.clone();
        let mut chosen: HashMap<ValueId, Option<Quant>> = HashMap::new();
        for (i, value) in graph.values.iter().enumerate() {
            let id = ValueId(i as u32);
            let root = shared[i];
            let Some(observer) = self.observers.get(&root).filter(|_| !tensors.contains_key(&id)) else { continue };
            let quant = *chosen.entry(root).or_insert_with(|| {
                // Tensors that share a scale decide together: a function of one of them is not the others'.
                let members: Vec<ValueId> =
                    (0..shared.len()).filter(|&m| shared[m] == root).map(|m| ValueId(m as u32)).collect();
                let alone = members.len() == 1;
                let before_table = groups.iter().filter(|_| alone).find_map(|g| g.function_of(graph, id));
                let symmetric = noise == Some(graph.value(root).name.as_str()) || right.contains(&root);
                let ranges = settings.ranges_of(&graph.value(root).name);
                match members.iter().find_map(|&m| fuse::clip_range(graph, groups, m)) {
                    _ if shares.contains(&root) => Some(SOFTMAX),
                    Some((lo, hi)) if !right.contains(&root) => range::exact(lo, hi),
                    Some(_) => choose_range(observer, None, true, ranges),
                    None => choose_range(observer, before_table.as_deref(), symmetric, ranges),
                }
            });
            let quant = quant.ok_or_else(|| QuantizeError::Layer {
                node: value.name.clone(),
                message: "its values are not finite on the calibration samples; look at the model's weights".to_owned(),
            })?;
            tensors.insert(id, quant);
        }
        Ok(Scales { tensors })
    }
}

/// The scales of one convolution or linear layer.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerScales {
    /// Name of its weights.
    pub weight: String,
    /// ONNX name of the node.
    pub node: String,
    /// Of the tensor that it reads.
    pub input: Quant,
    /// Of the weights of each output channel, symmetric: `q = round(w / scale)` in -127..=127.
    pub weights: Vec<f32>,
}

/// The quantisation of every tensor, and of the sums inside fused groups.
struct Scales {
    tensors: HashMap<ValueId, Quant>,
}

/// The quantisation of a softmax's result.
const SOFTMAX: Quant = Quant { scale: 1.0 / 256.0, zero_point: -128 };

struct Emitter<'g> {
    graph: &'g Graph,
    scales: Scales,
    evidence: &'g HashMap<ValueId, Evidence>,
    settings: &'g Settings,
    /// Weights of another network, by the names that they have there.
    codes: Option<&'g HashMap<String, Vec<i8>>>,
    out: Graph,
    renamed: HashMap<ValueId, ValueId>,
}

impl<'g> Emitter<'g> {
    fn new(graph: &'g Graph, scales: Scales, evidence: &'g HashMap<ValueId, Evidence>, settings: &'g Settings) -> Self {
        let mut out = Graph::new(&graph.name);
        out.meta.clone_from(&graph.meta);
        out.remarks.clone_from(&graph.remarks);
        let mut renamed = HashMap::new();
        for &id in &graph.inputs {
            let value = graph.value(id);
            let new = match (&value.def, scales.tensors.get(&id)) {
                (Def::Input(InputKind::Tensor), Some(&q)) => {
                    out.add_input(&value.name, Type::s8(&value.ty.dims, q), InputKind::Tensor)
                }
                (Def::Input(kind), _) => out.add_input(&value.name, value.ty.clone(), *kind),
                (Def::Const(_) | Def::Node, _) => continue,
            };
            renamed.insert(id, new);
        }
        Emitter { graph, scales, evidence, settings, codes: None, out, renamed }
    }

    /// The weights that a layer must have; none for a layer that the other network does not have.
    fn codes_of(&self, node: &Node) -> Option<&'g [i8]> {
        let codes = self.codes?;
        Some(codes.get(&format!("{}.s8", self.graph.value(node.inputs[1]).name)).map_or(&[], Vec::as_slice))
    }

    fn operand(&self, id: ValueId, node: &Node) -> Result<ValueId, QuantizeError> {
        self.renamed.get(&id).copied().ok_or_else(|| QuantizeError::Unsupported {
            nodes: vec![(node.origin.clone(), node.op.name(), "it reads a constant or an integer".to_owned())],
        })
    }

    fn quant(&self, id: ValueId) -> Result<Quant, QuantizeError> {
        self.scales
            .tensors
            .get(&id)
            .copied()
            .ok_or_else(|| QuantizeError::Calibration(format!("'{}' was never computed", self.graph.value(id).name)))
    }

    fn push(&mut self, old: ValueId, op: Op, inputs: &[ValueId], origin: &str) -> Result<(), QuantizeError> {
        let value = self.graph.value(old);
        let ty = Type::s8(&value.ty.dims, self.quant(old)?);
        let new = self.out.push_node(&value.name, op, inputs, ty, origin);
        self.renamed.insert(old, new);
        Ok(())
    }

    /// Operations that move s8 values without changing them.
    fn movement(&mut self, node: &Node) -> Result<(), QuantizeError> {
        let inputs: Result<Vec<ValueId>, QuantizeError> =
            node.inputs.iter().map(|&id| self.operand(id, node)).collect();
        self.push(node.output, node.op.clone(), &inputs?, &node.origin)
    }

    fn group(&mut self, group: &Group) -> Result<(), QuantizeError> {
        let graph = self.graph;
        let table = match group.table {
            Some(position) => {
                let node = &graph.nodes[position];
                Some(self.table(node, self.quant(node.inputs[0])?, self.quant(node.output)?)?)
            }
            None => None,
        };
        if let Some(position) = group.other {
            return self.other(group, position, table);
        }
        match (group.conv, group.add, table) {
            (Some(conv), _, table) => self.layer(group, &graph.nodes[conv], table),
            (None, Some(add), table) => self.plain_sum(group, &graph.nodes[add], table),
            (None, None, Some(table)) => self.function(&graph.nodes[group.last()], table),
            (None, None, None) => Err(QuantizeError::Bug("an empty group".to_owned())),
        }
    }

    /// A convolution or linear layer, with the sum and the function that its epilogue takes in.
    fn layer(&mut self, group: &Group, node: &Node, table: Option<Tensor>) -> Result<(), QuantizeError> {
        let last = &self.graph.nodes[group.last()];
        let x = self.operand(node.inputs[0], node)?;
        let residual = group.add.map(|position| self.residual(position, node.output)).transpose()?;
        // A single clamp is what saturation does: the layer takes the clamped scale itself.
        let result = if residual.is_none() && table.is_none() { last.output } else { node.output };
        let (input_quant, output_quant) = (self.quant(node.inputs[0])?, self.quant(result)?);
        let built = layer::quantise_layer(
            self.graph,
            node,
            input_quant,
            output_quant,
            self.evidence.get(&node.output),
            self.settings,
            self.codes_of(node),
        )?;
        if let Some(message) = built.remark {
            self.out.remarks.push(Remark { pass: "quantize".to_owned(), node: node.origin.clone(), message });
        }
        let name = self.graph.value(node.inputs[1]).name.clone();
        let mut inputs = vec![
            x,
            self.out.add_const(&format!("{name}.s8"), built.weights),
            self.out.add_const(&format!("{name}.multiplier"), built.multipliers),
            self.out.add_const(&format!("{name}.bias"), built.bias),
        ];
        let index = node.inputs.get(3).copied();
        if let Some(id) = index {
            inputs.push(self.operand(id, node)?);
        }
        inputs.extend(residual.map(|(id, _)| id));
        let op = Op::QConv {
            geometry: built.geometry,
            left_shift: built.left_shift,
            zero_point: output_quant.zero_point,
            indexed: index.is_some(),
            residual: residual.map(|(_, params)| params),
            table: table.is_some(),
        };
        inputs.extend(table.map(|t| self.out.add_const(&format!("{name}.table"), t)));
        self.push(last.output, op, &inputs, &node.origin)
    }

    /// A sum that no layer hosts.
    fn plain_sum(&mut self, group: &Group, node: &Node, table: Option<Tensor>) -> Result<(), QuantizeError> {
        let last = &self.graph.nodes[group.last()];
        let result = if table.is_none() { last.output } else { node.output };
        let params = self.sum(node, [node.inputs[0], node.inputs[1]], result)?;
        let mut inputs = vec![self.operand(node.inputs[0], node)?, self.operand(node.inputs[1], node)?];
        let op = Op::QAdd { params, table: table.is_some() };
        let name = self.graph.value(node.output).name.clone();
        inputs.extend(table.map(|t| self.out.add_const(&format!("{name}.table"), t)));
        self.push(last.output, op, &inputs, &node.origin)
    }

    /// A function that no layer takes into its epilogue.
    fn function(&mut self, node: &Node, table: Tensor) -> Result<(), QuantizeError> {
        let x = self.operand(node.inputs[0], node)?;
        let name = self.graph.value(node.output).name.clone();
        let table = self.out.add_const(&format!("{name}.table"), table);
        self.push(node.output, Op::QMap, &[x, table], &node.origin)
    }

    fn table(&self, node: &Node, from: Quant, to: Quant) -> Result<Tensor, QuantizeError> {
        let f = fuse::function(&node.op)
            .ok_or_else(|| QuantizeError::Bug(format!("'{}' is not a function of one value", node.op.name())))?;
        let entries = table::tabulate(|x| f64::from(f(x as f32)), from, to);
        Ok(Tensor::s8(&[256], entries.iter().map(|&b| b as i8).collect()))
    }

    /// The residual operand of a fused sum and its constants.
    fn residual(&self, position: usize, conv: ValueId) -> Result<(ValueId, flowlet_plan::AddParams), QuantizeError> {
        let node = &self.graph.nodes[position];
        let other = if node.inputs[0] == conv { node.inputs[1] } else { node.inputs[0] };
        Ok((self.operand(other, node)?, self.sum(node, [conv, other], node.output)?))
    }

    /// Constants of `alpha * x + beta * y + gamma`, with `[x, y]` in the order that the kernel adds.
    fn sum(&self, node: &Node, order: [ValueId; 2], result: ValueId) -> Result<flowlet_plan::AddParams, QuantizeError> {
        let Op::Add { alpha, beta, gamma } = node.op else { return Err(QuantizeError::Bug("not a sum".to_owned())) };
        let gains = if order[0] == node.inputs[0] { [alpha, beta] } else { [beta, alpha] };
        let term = |i: usize| -> Result<add::Term, QuantizeError> {
            Ok(add::Term { quant: self.quant(order[i])?, gain: gains[i].into() })
        };
        add::add_params(term(0)?, term(1)?, gamma.into(), self.quant(result)?).ok_or_else(|| QuantizeError::Layer {
            node: node.origin.clone(),
            message: "one operand is so much larger than the sum that s8 cannot add them".to_owned(),
        })
    }
}

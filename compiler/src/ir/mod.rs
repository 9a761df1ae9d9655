//! The compiler's own graph: values in topological order, one output a node, a printed text form.
//!
//! Dimensions are logical ONNX order (`[N, C, H, W]`); that s8 tensors are stored NHWC is decided when a graph is
//! lowered. Every node keeps the ONNX name it came from, to the last line of a trace.

mod infer;
mod op;
mod parse;
mod print;
mod tensor;
mod verify;

pub use infer::{InferError, infer};
pub use op::{Attr, Comparison, ConvGeometry, NormKind, Op, Product, Split, TransposedGeometry, Unary, Window};
pub use parse::{ParseError, parse};
pub use print::{ConstStyle, print};
pub use tensor::{DType, Data, Quant, Tensor, Type};
pub use verify::{Stage, VerifyError, verify};

use std::collections::HashMap;

/// Names a value of a [`Graph`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ValueId(pub u32);

/// What kind of graph input a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputKind {
    /// An ordinary tensor.
    Tensor,
    /// An integer scalar in `0..count` that selects rows of constant tables.
    Index {
        /// Number of values.
        count: usize,
    },
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum Def {
    /// A graph input.
    Input(InputKind),
    /// A constant.
    Const(Tensor),
    /// The output of a node.
    Node,
}

/// A value: a name that is unique in its graph, a type, an origin.
#[derive(Clone, Debug, PartialEq)]
pub struct Value {
    /// Unique name without the leading `%` or `@`.
    pub name: String,
    /// Element type, dimensions and quantisation.
    pub ty: Type,
    /// Where it comes from.
    pub def: Def,
}

/// An operation with one output.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// The operation and its attributes.
    pub op: Op,
    /// Operands, in the order that [`Op`] documents.
    pub inputs: Vec<ValueId>,
    /// The value it defines.
    pub output: ValueId,
    /// The ONNX name of the node it came from.
    pub origin: String,
}

/// What a pass did or declined to do, and why; shown by `flowlet explain`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    /// Name of the pass.
    pub pass: String,
    /// The ONNX name of the node.
    pub node: String,
    /// One sentence.
    pub message: String,
}

/// A graph in topological order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Graph {
    /// Model name.
    pub name: String,
    /// Free facts that travel with the model: flow convention, units, counts before folding.
    pub meta: Vec<(String, String)>,
    /// What the passes did.
    pub remarks: Vec<Remark>,
    /// All values; dead ones may remain until [`Graph::sweep`].
    pub values: Vec<Value>,
    /// Inputs, in order.
    pub inputs: Vec<ValueId>,
    /// Outputs, in order.
    pub outputs: Vec<ValueId>,
    /// Nodes, each after the definitions of its operands.
    pub nodes: Vec<Node>,
}

impl Graph {
    /// An empty graph.
    pub fn new(name: &str) -> Self {
        Graph { name: name.to_owned(), ..Graph::default() }
    }

    /// The value behind an id.
    pub fn value(&self, id: ValueId) -> &Value {
        &self.values[id.0 as usize]
    }

    /// The value behind an id, to change.
    pub fn value_mut(&mut self, id: ValueId) -> &mut Value {
        &mut self.values[id.0 as usize]
    }

    /// The type of a value.
    pub fn ty(&self, id: ValueId) -> &Type {
        &self.value(id).ty
    }

    /// The constant behind an id, if it is one.
    pub fn constant(&self, id: ValueId) -> Option<&Tensor> {
        match &self.value(id).def {
            Def::Const(tensor) => Some(tensor),
            Def::Input(_) | Def::Node => None,
        }
    }

    /// The value with this name.
    pub fn find(&self, name: &str) -> Option<ValueId> {
        self.values.iter().position(|v| v.name == name).map(|i| ValueId(i as u32))
    }

    /// Adds a graph input.
    pub fn add_input(&mut self, name: &str, ty: Type, kind: InputKind) -> ValueId {
        let id = self.add_value(name, ty, Def::Input(kind));
        self.inputs.push(id);
        id
    }

    /// Adds a constant. The name is made unique.
    pub fn add_const(&mut self, name: &str, tensor: Tensor) -> ValueId {
        let ty = tensor.ty();
        self.add_value(name, ty, Def::Const(tensor))
    }

    /// Appends a node and infers its type.
    ///
    /// # Errors
    /// When the operation does not accept these operands.
    pub fn add_node(&mut self, name: &str, op: Op, inputs: &[ValueId], origin: &str) -> Result<ValueId, InferError> {
        let types: Vec<&Type> = inputs.iter().map(|&i| self.ty(i)).collect();
        let ty = infer(&op, &types).map_err(|e| e.at(origin))?;
        Ok(self.push_node(name, op, inputs, ty, origin))
    }

    /// Appends a node whose type is already known (a quantised type carries a scale that cannot be inferred).
    pub fn push_node(&mut self, name: &str, op: Op, inputs: &[ValueId], ty: Type, origin: &str) -> ValueId {
        let output = self.add_value(name, ty, Def::Node);
        self.nodes.push(Node { op, inputs: inputs.to_vec(), output, origin: origin.to_owned() });
        output
    }

    fn add_value(&mut self, name: &str, ty: Type, def: Def) -> ValueId {
        let name = self.unique(name);
        self.values.push(Value { name, ty, def });
        ValueId(self.values.len() as u32 - 1)
    }

    /// `name`, reduced to the characters of the text form, with a number behind it when it is taken.
    fn unique(&self, name: &str) -> String {
        let clean: String =
            name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' || c == '.' { c } else { '_' }).collect();
        let clean = if clean.is_empty() { "v".to_owned() } else { clean };
        if self.find(&clean).is_none() {
            return clean;
        }
        (1..).map(|i| format!("{clean}_{i}")).find(|c| self.find(c).is_none()).unwrap_or(clean)
    }

    /// The position of the node that defines each value.
    pub fn producers(&self) -> HashMap<ValueId, usize> {
        self.nodes.iter().enumerate().map(|(i, n)| (n.output, i)).collect()
    }

    /// How often each value is read, as an operand or as a graph output.
    pub fn use_counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.values.len()];
        for id in self.nodes.iter().flat_map(|n| &n.inputs).chain(&self.outputs) {
            counts[id.0 as usize] += 1;
        }
        counts
    }

    /// Makes every reader of `old` read `new`.
    pub fn replace_uses(&mut self, old: ValueId, new: ValueId) {
        for id in self.nodes.iter_mut().flat_map(|n| n.inputs.iter_mut()).chain(self.outputs.iter_mut()) {
            if *id == old {
                *id = new;
            }
        }
    }

    /// Exchanges two names, for a value that takes the place of another (a graph output keeps its name).
    pub fn swap_names(&mut self, a: ValueId, b: ValueId) {
        let name = std::mem::take(&mut self.value_mut(a).name);
        let other = std::mem::replace(&mut self.value_mut(b).name, name);
        self.value_mut(a).name = other;
    }

    /// Removes nodes that no output depends on, then values that nothing names, and renumbers. Graph inputs stay.
    pub fn sweep(&mut self) {
        let mut live: Vec<bool> = vec![false; self.values.len()];
        for &id in self.outputs.iter().chain(&self.inputs) {
            live[id.0 as usize] = true;
        }
        for node in self.nodes.iter().rev() {
            if live[node.output.0 as usize] {
                for &id in &node.inputs {
                    live[id.0 as usize] = true;
                }
            }
        }
        self.nodes.retain(|n| live[n.output.0 as usize]);
        // The order of the text form: inputs, constants, results. A graph that was printed and parsed is the same graph.
        let constants =
            (0..self.values.len()).filter(|&i| matches!(self.values[i].def, Def::Const(_))).map(|i| ValueId(i as u32));
        let order: Vec<ValueId> =
            self.inputs.iter().copied().chain(constants).chain(self.nodes.iter().map(|n| n.output)).collect();
        let mut renamed = vec![ValueId(u32::MAX); self.values.len()];
        let mut old: Vec<Option<Value>> = std::mem::take(&mut self.values).into_iter().map(Some).collect();
        for id in order.into_iter().filter(|id| live[id.0 as usize]) {
            if let Some(value) = old[id.0 as usize].take() {
                renamed[id.0 as usize] = ValueId(self.values.len() as u32);
                self.values.push(value);
            }
        }
        let nodes = self.nodes.iter_mut().flat_map(|n| n.inputs.iter_mut().chain(std::iter::once(&mut n.output)));
        for id in nodes.chain(self.inputs.iter_mut()).chain(self.outputs.iter_mut()) {
            *id = renamed[id.0 as usize];
        }
    }

    /// Restores topological order after nodes were appended out of place. The order is stable.
    ///
    /// # Errors
    /// The origin of a node on a cycle, or one that reads a value which nothing defines.
    pub fn sort(&mut self) -> Result<(), String> {
        let producers = self.producers();
        let mut state = vec![0u8; self.nodes.len()];
        let mut order = Vec::with_capacity(self.nodes.len());
        for root in 0..self.nodes.len() {
            let mut stack = vec![(root, 0usize)];
            while let Some((n, next)) = stack.pop() {
                if state[n] == 2 {
                    continue;
                }
                state[n] = 1;
                match self.nodes[n].inputs.get(next) {
                    Some(id) => {
                        stack.push((n, next + 1));
                        if let Some(&p) = producers.get(id) {
                            if state[p] == 1 {
                                return Err(self.nodes[p].origin.clone());
                            }
                            if state[p] == 0 {
                                stack.push((p, 0));
                            }
                        }
                    }
                    None => {
                        state[n] = 2;
                        order.push(n);
                    }
                }
            }
        }
        let mut nodes: Vec<Option<Node>> = std::mem::take(&mut self.nodes).into_iter().map(Some).collect();
        self.nodes = order.into_iter().filter_map(|i| nodes[i].take()).collect();
        Ok(())
    }

    /// The fact stored under `key`.
    pub fn meta(&self, key: &str) -> Option<&str> {
        self.meta.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    /// Stores a fact, replacing an earlier one.
    pub fn set_meta(&mut self, key: &str, value: impl Into<String>) {
        let value = value.into();
        match self.meta.iter_mut().find(|(k, _)| k == key) {
            Some(entry) => entry.1 = value,
            None => self.meta.push((key.to_owned(), value)),
        }
    }

    /// Number of elements in all constants that nodes read.
    pub fn parameters(&self) -> usize {
        self.values
            .iter()
            .filter_map(|v| match &v.def {
                Def::Const(t) if t.dtype() != DType::I64 => Some(t.elements()),
                Def::Const(_) | Def::Input(_) | Def::Node => None,
            })
            .sum()
    }
}

//! Named inputs become constants; finite inputs become tables.
//!
//! One step means one time: with the time fixed, sinusoids, embedding layers and every layer that only reads them are
//! arithmetic on constants. What also reads a class label has as many results as there are labels; where such a value
//! meets the rest of the network it becomes a constant table and a row number.

use super::rewrite::depends_only_on;
use super::{Options, PassError, Schedule, fold_constants};
use crate::interp;
use crate::ir::{DType, Data, Def, Graph, InferError, InputKind, Op, Tensor, Type, ValueId};
use std::collections::HashMap;

const PASS: &str = "specialize";

pub(super) fn run(graph: &mut Graph, options: &Options) -> Result<(), PassError> {
    let known = |g: &Graph| g.inputs.iter().map(|&id| g.value(id).name.clone()).collect::<Vec<_>>();
    let mut conditioning = Vec::new();
    for (name, value) in &options.set {
        let id =
            input(graph, name).ok_or_else(|| PassError::UnknownInput { name: name.clone(), known: known(graph) })?;
        conditioning.push((id, Some(fitted(name, value, graph.ty(id))?)));
    }
    let scheduled = options.schedule.iter().map(|schedule| &schedule.time);
    for name in options.indices.iter().map(|(name, _)| name).chain(scheduled) {
        if input(graph, name).is_none() {
            return Err(PassError::UnknownInput { name: name.clone(), known: known(graph) });
        }
    }
    let time = options.schedule.as_ref().and_then(|schedule| input(graph, &schedule.time));
    let integers: Vec<ValueId> = graph.inputs.iter().copied().filter(|&id| graph.ty(id).dtype == DType::I64).collect();
    for id in integers {
        if !conditioning.iter().any(|(c, _)| *c == id) {
            conditioning.push((id, None));
        }
    }
    let sources: Vec<ValueId> = conditioning.iter().map(|(id, _)| *id).chain(time).collect();
    let path = depends_only_on(graph, &sources);
    let ops = graph.nodes.iter().filter(|n| path[n.output.0 as usize]).count();
    graph.set_meta("time_ops_before", ops.to_string());
    // A per-channel factor on the conditioning path is time arithmetic, not a norm.
    let norms =
        graph.nodes.iter().filter(|n| matches!(n.op, Op::Affine | Op::Norm { .. }) && !path[n.output.0 as usize]);
    let norms = norms.count();
    graph.set_meta("norm_ops_before", norms.to_string());

    for (id, value) in &conditioning {
        let Some(value) = value else { continue };
        let name = graph.value(*id).name.clone();
        graph.value_mut(*id).def = Def::Const(value.clone());
        graph.inputs.retain(|i| i != id);
        graph.set_meta(&format!("set.{name}"), describe(value));
        graph.remark(PASS, &name, format!("the input is the constant {}", describe(value)));
    }
    fold_constants::run(graph, options)?;
    let open: Vec<ValueId> = conditioning.into_iter().filter(|(_, value)| value.is_none()).map(|(id, _)| id).collect();
    if let (Some(schedule), Some(time)) = (&options.schedule, time) {
        return tabulate_schedule(graph, schedule, time, &open, options);
    }
    for id in open {
        let count = rows_of(graph, id, options)?;
        let values: Vec<Vec<Tensor>> =
            (0..count).map(|k| vec![Tensor::i64(&graph.ty(id).dims, vec![k as i64])]).collect();
        graph.value_mut(id).def = Def::Input(InputKind::Index { count });
        tabulate(graph, &[id], &values, id)?;
    }
    Ok(())
}

/// The time and all labels become one index input: their paths meet, so each pair has a row of its own.
fn tabulate_schedule(
    graph: &mut Graph,
    schedule: &Schedule,
    time: ValueId,
    labels: &[ValueId],
    options: &Options,
) -> Result<(), PassError> {
    let mut rows: Vec<Vec<Tensor>> = Vec::new();
    for &value in &schedule.values {
        rows.push(vec![fitted(&schedule.time, &Tensor::f32(&[1], vec![value]), graph.ty(time))?]);
    }
    for &label in labels {
        let count = rows_of(graph, label, options)?;
        let dims = graph.ty(label).dims.clone();
        let with = |row: &Vec<Tensor>, k: usize| {
            row.iter().cloned().chain(std::iter::once(Tensor::i64(&dims, vec![k as i64]))).collect()
        };
        rows = rows.iter().flat_map(|row| (0..count).map(|k| with(row, k)).collect::<Vec<_>>()).collect();
    }
    let too_many = |n: usize| PassError::BadValue {
        name: schedule.time.clone(),
        message: format!("{n} pairs of time and label; 1 to {MOST_ROWS} can be tabulated"),
    };
    if rows.is_empty() || rows.len() > MOST_ROWS {
        return Err(too_many(rows.len()));
    }
    let index = graph.add_input(Schedule::ROW, Type::new(DType::I64, &[1]), InputKind::Index { count: rows.len() });
    let sources: Vec<ValueId> = std::iter::once(time).chain(labels.iter().copied()).collect();
    tabulate(graph, &sources, &rows, index)?;
    graph.inputs.retain(|id| !sources.contains(id));
    Ok(())
}

/// Most rows of a table: an index is 16 bits wide on the device.
const MOST_ROWS: usize = u16::MAX as usize;

/// The number of values of an integer input.
fn rows_of(graph: &Graph, index: ValueId, options: &Options) -> Result<usize, PassError> {
    let name = graph.value(index).name.clone();
    if graph.ty(index).elements() != 1 {
        return Err(PassError::BadValue { name, message: "only a single integer can select table rows".to_owned() });
    }
    let stated = options.indices.iter().find(|(n, _)| *n == name).map(|(_, count)| *count);
    match stated.or_else(|| gathered_rows(graph, index)) {
        Some(count) if (1..=4096).contains(&count) => Ok(count),
        Some(count) => {
            Err(PassError::BadValue { name, message: format!("{count} values; 1 to 4096 can be tabulated") })
        }
        None => Err(PassError::OpenIndex { name }),
    }
}

fn input(graph: &Graph, name: &str) -> Option<ValueId> {
    graph.inputs.iter().copied().find(|&id| graph.value(id).name == name)
}

fn describe(value: &Tensor) -> String {
    match &value.data {
        Data::F32(v) if v.len() == 1 => format!("{:?}", v[0]),
        Data::I64(v) if v.len() == 1 => v[0].to_string(),
        Data::F32(_) | Data::I64(_) | Data::I32(_) | Data::S8(_) => format!("of shape {:?}", value.dims),
    }
}

/// The given value in the type of the input; a scalar fills every element.
fn fitted(name: &str, value: &Tensor, ty: &Type) -> Result<Tensor, PassError> {
    let wrong = |message: String| PassError::BadValue { name: name.to_owned(), message };
    let n = ty.elements();
    if value.elements() != n && value.elements() != 1 {
        return Err(wrong(format!("a value of shape {:?} does not fit {:?}", value.dims, ty.dims)));
    }
    let numbers: Vec<f64> = match &value.data {
        Data::F32(v) => v.iter().map(|&x| x.into()).collect(),
        Data::I64(v) => v.iter().map(|&x| x as f64).collect(),
        Data::I32(_) | Data::S8(_) => return Err(wrong("the value must be f32 or i64".to_owned())),
    };
    if numbers.iter().any(|x| !x.is_finite()) {
        return Err(wrong("the value is not finite".to_owned()));
    }
    let filled: Vec<f64> = if numbers.len() == n { numbers } else { vec![numbers[0]; n] };
    match ty.dtype {
        DType::F32 => Ok(Tensor::f32(&ty.dims, filled.iter().map(|&x| x as f32).collect())),
        DType::I64 if filled.iter().all(|x| x.fract() == 0.0) => {
            Ok(Tensor::i64(&ty.dims, filled.iter().map(|&x| x as i64).collect()))
        }
        DType::I64 | DType::I32 | DType::S8 => Err(wrong(format!("the input is {}, not a fraction", ty.dtype.name()))),
    }
}

/// Turns what only depends on `sources` into tables that `index` selects from; row `k` is for `rows[k]`, one value for each
/// source.
fn tabulate(graph: &mut Graph, sources: &[ValueId], rows: &[Vec<Tensor>], index: ValueId) -> Result<(), PassError> {
    let name = graph.value(index).name.clone();
    let path = depends_only_on(graph, sources);
    let mut frontier = Vec::new();
    let readers = graph.nodes.iter().filter(|n| !path[n.output.0 as usize]).flat_map(|n| &n.inputs);
    for &id in readers.chain(&graph.outputs) {
        if path[id.0 as usize] && (id != index || !sources.contains(&id)) && !frontier.contains(&id) {
            frontier.push(id);
        }
    }
    let mut tables: HashMap<ValueId, Vec<Tensor>> = HashMap::new();
    for row in rows {
        let mut values: HashMap<ValueId, Tensor> = sources.iter().copied().zip(row.iter().cloned()).collect();
        for node in graph.nodes.iter().filter(|n| path[n.output.0 as usize]) {
            let operands: Option<Vec<&Tensor>> =
                node.inputs.iter().map(|&id| graph.constant(id).or_else(|| values.get(&id))).collect();
            let missing = || InferError { node: node.origin.clone(), message: "an operand has no value".to_owned() };
            let result = interp::eval(&node.op, &operands.ok_or_else(missing)?).map_err(|e| e.at(&node.origin))?;
            values.insert(node.output, result);
        }
        for &id in &frontier {
            if let Some(value) = values.remove(&id) {
                tables.entry(id).or_default().push(value);
            }
        }
    }
    let removed = graph.nodes.iter().filter(|n| path[n.output.0 as usize]).count();
    for id in frontier {
        replace_by_select(graph, id, index, tables.remove(&id).unwrap_or_default())?;
    }
    graph.sort().map_err(|node| PassError::Eval(InferError { node, message: "the graph has a cycle".to_owned() }))?;
    let rows = rows.len();
    graph.remark(PASS, &name, format!("{removed} operations that read only this input became tables of {rows} rows"));
    Ok(())
}

/// How many rows a constant has that the input indexes directly.
fn gathered_rows(graph: &Graph, index: ValueId) -> Option<usize> {
    let gathers = graph.nodes.iter().filter(|n| n.inputs.get(1) == Some(&index));
    gathers
        .filter_map(|n| match n.op {
            Op::Gather { axis } => graph.constant(n.inputs[0]).map(|t| t.dims[axis]),
            _ => None,
        })
        .min()
}

fn replace_by_select(graph: &mut Graph, id: ValueId, index: ValueId, rows: Vec<Tensor>) -> Result<(), PassError> {
    let value = graph.value(id);
    let (name, mut dims) = (value.name.clone(), value.ty.dims.clone());
    let origin = graph.nodes.iter().find(|n| n.output == id).map_or(name.clone(), |n| n.origin.clone());
    let data: Option<Vec<f32>> = rows.iter().map(Tensor::as_f32).collect::<Option<Vec<_>>>().map(|r| r.concat());
    let Some(data) = data else {
        return Err(PassError::BadValue {
            name: origin,
            message: "the network reads an integer computed from the label; only f32 tables are made".to_owned(),
        });
    };
    let single = dims.first() == Some(&1);
    if single {
        dims[0] = rows.len();
    } else {
        dims.insert(0, rows.len());
    }
    let table = graph.add_const(&format!("{name}.table"), Tensor::f32(&dims, data));
    let mut row = graph.add_node(&format!("{name}.row"), Op::Select, &[table, index], &origin)?;
    if !single {
        row = graph.add_node(&format!("{name}.flat"), Op::Reshape { dims: dims[1..].to_vec() }, &[row], &origin)?;
    }
    graph.replace_uses(id, row);
    Ok(())
}

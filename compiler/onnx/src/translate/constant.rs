//! Constants: conversion to our element types, and operations that only move elements.

use super::Refused;
use crate::ImportError;
use flowlet_compiler::ir::{Data, Def, Graph, Tensor};
use tract_onnx::prelude::{DatumType, Tensor as TractTensor};

/// Our form of a constant: floats as f32, integers, truth values and shapes as i64.
pub(super) fn convert(tensor: &TractTensor) -> Result<Tensor, Refused> {
    let datum = tensor.datum_type();
    let broken = |e: tract_onnx::prelude::TractError| format!("its constant cannot be read: {e:#}");
    if datum.is_quantized() || datum == DatumType::String {
        return Err(format!("a constant of {datum:?} is not supported"));
    }
    if datum.is_float() {
        let cast = tensor.cast_to::<f32>().map_err(broken)?;
        let view = cast.to_plain_array_view::<f32>().map_err(broken)?;
        return Ok(Tensor::f32(tensor.shape(), view.iter().copied().collect()));
    }
    let cast = tensor.cast_to::<i64>().map_err(broken)?;
    let view = cast.to_plain_array_view::<i64>().map_err(broken)?;
    Ok(Tensor::i64(tensor.shape(), view.iter().copied().collect()))
}

/// The same elements under other dimensions.
pub(super) fn reshape(tensor: &Tensor, dims: &[usize]) -> Tensor {
    Tensor { dims: dims.to_vec(), data: tensor.data.clone() }
}

/// Permuted axes, `out.dims[i] = in.dims[perm[i]]`.
pub(super) fn transpose(tensor: &Tensor, perm: &[usize]) -> Tensor {
    let dims: Vec<usize> = perm.iter().map(|&p| tensor.dims[p]).collect();
    let mut strides = vec![1usize; dims.len()];
    for axis in (0..strides.len().saturating_sub(1)).rev() {
        strides[axis] = strides[axis + 1] * tensor.dims[axis + 1];
    }
    let steps: Vec<usize> = perm.iter().map(|&p| strides[p]).collect();
    let source: Vec<usize> = (0..tensor.elements())
        .map(|flat| {
            let mut rest = flat;
            let mut at = 0;
            for (dim, step) in dims.iter().zip(&steps).rev() {
                at += rest % dim * step;
                rest /= dim;
            }
            at
        })
        .collect();
    fn pick<T: Copy>(values: &[T], source: &[usize]) -> Vec<T> {
        source.iter().map(|&i| values[i]).collect()
    }
    let data = match &tensor.data {
        Data::F32(v) => Data::F32(pick(v, &source)),
        Data::I64(v) => Data::I64(pick(v, &source)),
        Data::I32(v) => Data::I32(pick(v, &source)),
        Data::S8(v) => Data::S8(pick(v, &source)),
    };
    Tensor { dims, data }
}

/// The one value that all elements of an f32 constant have.
pub(super) fn uniform(tensor: &Tensor) -> Option<f32> {
    let values = tensor.as_f32()?;
    let first = *values.first()?;
    values.iter().all(|v| v.to_bits() == first.to_bits()).then_some(first)
}

/// Checks the constants that nodes read: exact arithmetic on finite weights can still end in an infinity.
pub(crate) fn check_constants(graph: &Graph) -> Result<(), ImportError> {
    for value in &graph.values {
        if let Def::Const(tensor) = &value.def
            && let Some(values) = tensor.as_f32()
            && let Some(index) = values.iter().position(|v| !v.is_finite())
        {
            return Err(ImportError::NonFinite { tensor: value.name.clone(), index, value: values[index] });
        }
    }
    Ok(())
}

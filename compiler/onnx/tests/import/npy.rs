//! Reads the arrays of golden vectors.

use flowlet_compiler::ir::Tensor;
use std::path::Path;

/// An `<f4` or `<i8` array in C order.
pub fn read(path: &Path) -> Tensor {
    let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    assert_eq!(&bytes[..6], b"\x93NUMPY", "{}", path.display());
    let length = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let header = std::str::from_utf8(&bytes[10..10 + length]).unwrap();
    assert!(header.contains("'fortran_order': False"), "{header}");
    let shape = header.split_once("'shape': (").unwrap().1.split_once(')').unwrap().0;
    let dims: Vec<usize> = shape.split(',').filter_map(|d| d.trim().parse().ok()).collect();
    let data = &bytes[10 + length..];
    if header.contains("'<f4'") {
        Tensor::f32(&dims, data.chunks_exact(4).map(|c| f32::from_le_bytes(c.try_into().unwrap())).collect())
    } else {
        assert!(header.contains("'<i8'"), "{header}");
        Tensor::i64(&dims, data.chunks_exact(8).map(|c| i64::from_le_bytes(c.try_into().unwrap())).collect())
    }
}

/// Sample `i` of an array of samples, with a leading axis of 1.
pub fn sample(array: &Tensor, i: usize) -> Tensor {
    let n = array.elements() / array.dims[0];
    let dims: Vec<usize> = std::iter::once(1).chain(array.dims[1..].iter().copied()).collect();
    match (array.as_f32(), array.as_i64()) {
        (Some(v), _) => Tensor::f32(&dims, v[i * n..(i + 1) * n].to_vec()),
        (_, Some(v)) => Tensor::i64(&dims, v[i * n..(i + 1) * n].to_vec()),
        _ => panic!("unexpected element type"),
    }
}

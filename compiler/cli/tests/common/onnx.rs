//! Writes small ONNX files, field by field (onnx.proto), so that tests can break them in one place.

/// A node.
pub struct Node<'a> {
    pub name: &'a str,
    pub op: &'a str,
    pub inputs: &'a [&'a str],
    pub output: &'a str,
}

/// A dimension.
pub enum Dim<'a> {
    Known(u64),
    Open(&'a str),
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 128 {
        out.push(value as u8 | 128);
        value >>= 7;
    }
    out.push(value as u8);
}

fn number(field: u64, value: u64, out: &mut Vec<u8>) {
    varint(field << 3, out);
    varint(value, out);
}

fn bytes(field: u64, value: &[u8], out: &mut Vec<u8>) {
    varint(field << 3 | 2, out);
    varint(value.len() as u64, out);
    out.extend(value);
}

fn build(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out);
    out
}

fn node(n: &Node<'_>) -> Vec<u8> {
    build(|out| {
        n.inputs.iter().for_each(|i| bytes(1, i.as_bytes(), out));
        bytes(2, n.output.as_bytes(), out);
        bytes(3, n.name.as_bytes(), out);
        bytes(4, n.op.as_bytes(), out);
    })
}

fn port(name: &str, dims: &[Dim<'_>]) -> Vec<u8> {
    let shape = build(|out| {
        for dim in dims {
            let dim = build(|out| match dim {
                Dim::Known(n) => number(1, *n, out),
                Dim::Open(symbol) => bytes(2, symbol.as_bytes(), out),
            });
            bytes(1, &dim, out);
        }
    });
    let tensor = build(|out| {
        number(1, 1, out);
        bytes(2, &shape, out);
    });
    build(|out| {
        bytes(1, name.as_bytes(), out);
        bytes(2, &build(|out| bytes(1, &tensor, out)), out);
    })
}

/// A model with the f32 input `x`, the output `y` and one f32 vector `w`.
pub fn model(dims: &[Dim<'_>], w: &[f32], nodes: &[Node<'_>]) -> Vec<u8> {
    let weights = build(|out| {
        number(1, w.len() as u64, out);
        number(2, 1, out);
        bytes(8, b"w", out);
        bytes(9, &w.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>(), out);
    });
    let graph = build(|out| {
        nodes.iter().for_each(|n| bytes(1, &node(n), out));
        bytes(2, b"test", out);
        bytes(5, &weights, out);
        bytes(11, &port("x", dims), out);
        bytes(12, &port("y", &[]), out);
    });
    build(|out| {
        number(1, 8, out);
        bytes(7, &graph, out);
        bytes(8, &build(|out| number(2, 17, out)), out);
    })
}

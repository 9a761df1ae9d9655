//! Every operation and its shapes against the interpreter, with every instruction set of this processor and with threads.
#![allow(clippy::unwrap_used)]

use flowlet_compiler::interp;
use flowlet_compiler::ir::*;
use flowlet_compiler::quantize::noise_tensor;
use flowlet_float::{ERROR_BOUND, FloatError, Instructions, Network, Weights};
use flowlet_kernels::Threads;

/// A graph that grows by nodes with constants of their own.
struct Net {
    graph: Graph,
    last: ValueId,
    seed: u64,
}

impl Net {
    fn new(dims: &[usize]) -> Self {
        let mut graph = Graph::new("test");
        let last = graph.add_input("x", Type::f32(dims), InputKind::Tensor);
        Net { graph, last, seed: 1 }
    }

    /// Standard normal numbers divided by the root of `fan`.
    fn constant(&mut self, dims: &[usize], fan: usize) -> ValueId {
        self.seed += 1;
        let noise = noise_tensor(&Type::f32(dims), self.seed, 7);
        let scale = 1.0 / (fan as f32).sqrt();
        let values = noise.as_f32().unwrap().iter().map(|v| v * scale).collect();
        self.graph.add_const("c", Tensor::f32(dims, values))
    }

    fn node(&mut self, op: Op, inputs: &[ValueId]) -> &mut Self {
        self.last = self.graph.add_node("v", op, inputs, "node").unwrap();
        self
    }

    fn then(&mut self, op: Op) -> &mut Self {
        self.node(op, &[self.last])
    }

    fn conv(&mut self, outputs: usize, kernel: [usize; 2], geometry: ConvGeometry) -> &mut Self {
        let inputs = self.graph.ty(self.last).dims[1] / geometry.groups;
        let fan = inputs * kernel[0] * kernel[1];
        let weight = self.constant(&[outputs, inputs, kernel[0], kernel[1]], fan);
        let bias = self.constant(&[outputs], 1);
        self.node(Op::Conv(geometry), &[self.last, weight, bias])
    }

    /// The graph with its last value as output.
    fn end(&mut self) -> Graph {
        self.graph.outputs = vec![self.last];
        self.graph.clone()
    }
}

fn inputs(graph: &Graph) -> Vec<Tensor> {
    let one = |(i, &id): (usize, &ValueId)| match graph.value(id).def {
        Def::Input(InputKind::Index { count }) => Tensor::i64(&graph.ty(id).dims, vec![count as i64 - 1]),
        _ => noise_tensor(graph.ty(id), 100 + i as u64, 1),
    };
    graph.inputs.iter().enumerate().map(one).collect()
}

/// What a network computes, on `threads` threads.
fn computed(network: &Network, inputs: &[Tensor], threads: usize) -> Vec<f32> {
    let mut memory = network.memory(threads);
    for (i, tensor) in inputs.iter().enumerate() {
        match (tensor.as_f32(), tensor.as_i64()) {
            (Some(values), _) => network.write(&mut memory, i, values).unwrap(),
            (None, indices) => network.set_index(&mut memory, i, indices.unwrap()[0] as usize).unwrap(),
        }
    }
    let pool = Threads::new(threads);
    // Twice: a run must not depend on what the run before left.
    network.run_on(&mut memory, &pool);
    network.run_on(&mut memory, &pool);
    let mut values = vec![f32::NAN; network.output_dims(0).unwrap().iter().product()];
    network.read(&memory, 0, &mut values);
    values
}

/// The largest difference as a share of the range, 0 included.
fn difference(got: &[f32], want: &[f32]) -> f32 {
    assert_eq!(got.len(), want.len());
    let (lo, hi) = want.iter().fold((0f32, 0f32), |(l, h), &v| (l.min(v), h.max(v)));
    let largest =
        got.iter().zip(want).map(|(a, b)| (a - b).abs()).fold(0.0, |m, d| if d > m || d.is_nan() { d } else { m });
    largest / (hi - lo).max(f32::MIN_POSITIVE)
}

fn check(what: &str, graph: &Graph) {
    let inputs = inputs(graph);
    let want = interp::run(graph, &inputs).unwrap().remove(0);
    let want = want.as_f32().unwrap();
    for instructions in Instructions::available() {
        let network =
            Network::with_instructions(graph, Weights::F32, instructions).unwrap_or_else(|e| panic!("{what}: {e}"));
        let got = computed(&network, &inputs, 1);
        let worst = difference(&got, want);
        assert!(worst <= ERROR_BOUND, "{what} with {}: {worst:e} of the range", instructions.name());
        for threads in [2, 3] {
            assert_eq!(got, computed(&network, &inputs, threads), "{what} on {threads} threads");
        }
    }
}

#[test]
fn convolutions() {
    let geometry = |stride, pad: usize, dilation, groups, upsample| ConvGeometry {
        stride: [stride; 2],
        pad: [pad, pad, pad, pad],
        dilation: [dilation; 2],
        groups,
        upsample,
    };
    for channels in [1, 3, 7, 8, 16, 17, 33] {
        for outputs in [1, 2, 4, 5, 15, 16, 17, 40] {
            for (size, kernel, g) in [
                (1, 1, geometry(1, 0, 1, 1, 1)),
                (5, 3, geometry(1, 1, 1, 1, 1)),
                (6, 3, geometry(2, 1, 1, 1, 1)),
                (7, 3, geometry(1, 2, 2, 1, 1)),
                (3, 3, geometry(1, 1, 1, 1, 2)),
                (5, 1, geometry(1, 0, 1, 1, 1)),
            ] {
                let graph = Net::new(&[1, channels, size, size]).conv(outputs, [kernel; 2], g).end();
                check(&format!("{channels} to {outputs}, {size} pixels, kernel {kernel}, {g:?}"), &graph);
            }
        }
    }
    // More pixels than a thread takes at once, a batch, a long kernel, an asymmetric border.
    let g = ConvGeometry { pad: [0, 2, 0, 1], ..ConvGeometry::default() };
    check("1-D", &Net::new(&[2, 20, 1, 29]).conv(24, [1, 4], g).end());
    check("large", &Net::new(&[1, 32, 28, 28]).conv(32, [3; 2], geometry(1, 1, 1, 1, 1)).end());
    check("few pixels", &Net::new(&[1, 64, 1, 3]).conv(96, [1, 1], geometry(1, 0, 1, 1, 1)).end());
    for (channels, outputs, groups) in [(5, 5, 5), (16, 16, 16), (33, 33, 33), (8, 12, 4), (40, 80, 2), (4, 8, 4)] {
        let graph = Net::new(&[1, channels, 6, 7]).conv(outputs, [3; 2], geometry(1, 1, 1, groups, 1)).end();
        check(&format!("{channels} to {outputs} in {groups} groups"), &graph);
    }
}

#[test]
fn transposed_convolutions() {
    for (stride, kernel, pad, extra, dilation) in
        [(1, 3, 1, 0, 1), (2, 4, 1, 0, 1), (2, 3, 1, 1, 1), (2, 2, 0, 0, 1), (3, 2, 0, 0, 1), (2, 3, 0, 0, 2)]
    {
        for (channels, outputs, groups) in [(3, 5, 1), (16, 33, 1), (32, 1, 1), (6, 4, 2), (5, 5, 5)] {
            let mut net = Net::new(&[1, channels, 4, 5]);
            let weight = net.constant(&[channels, outputs / groups, kernel, kernel], channels);
            let bias = net.constant(&[outputs], 1);
            let extra = [extra; 2];
            let g = TransposedGeometry { stride: [stride; 2], pad: [pad; 4], dilation: [dilation; 2], extra, groups };
            let graph = net.node(Op::ConvTranspose(g), &[net.last, weight, bias]).end();
            check(&format!("{channels} to {outputs}, {g:?}"), &graph);
        }
    }
}

#[test]
fn linear_layers_with_a_row_of_biases() {
    for rows in [1, 2, 3, 5, 13] {
        for (inputs, outputs) in [(1, 1), (7, 10), (64, 64), (100, 130), (256, 3)] {
            let mut net = Net::new(&[rows, inputs]);
            let label = net.graph.add_input("label", Type::new(DType::I64, &[1]), InputKind::Index { count: 4 });
            let weight = net.constant(&[outputs, inputs], inputs);
            let bias = net.constant(&[4, outputs], 1);
            let graph = net.node(Op::Linear, &[net.last, weight, bias, label]).end();
            check(&format!("{rows} x {inputs} to {outputs}"), &graph);
        }
    }
}

#[test]
fn norms_and_softmax() {
    for (channels, groups) in [(1, 1), (6, 3), (16, 4), (32, 1), (33, 33), (80, 5)] {
        for kind in [NormKind::Group, NormKind::Layer, NormKind::Rms] {
            for size in [1, 4, 9] {
                let mut net = Net::new(&[1, channels, size, size]);
                let op = Op::Norm { kind, axis: 1, groups, eps: 1e-5 };
                let (gamma, beta) = (net.constant(&[channels], 1), net.constant(&[channels], 1));
                net.node(op.clone(), &[net.last, gamma, beta]).then(op);
                check(
                    &format!("{kind:?} {channels} in {groups}, {size} pixels"),
                    &net.then(Op::Unary(Unary::Silu)).end(),
                );
            }
        }
        for axis in [1, 2, 3] {
            check("softmax", &Net::new(&[1, channels, 3, 50]).then(Op::Softmax { axis }).end());
        }
    }
}

#[test]
fn products() {
    for (batch, rows, depth, columns) in [(1, 1, 1, 1), (2, 5, 8, 17), (3, 13, 16, 16), (4, 49, 32, 49)] {
        // Scores: a row for each query, a column for each key; then the weighted sum of the values.
        let mut net = Net::new(&[1, batch * depth, 1, rows]);
        let (q, k) = (net.last, net.constant(&[1, batch * depth, 1, columns], depth));
        let scores =
            Product { batch, a: Split::Channels, b: Split::Channels, out: Split::Rows, transposed: true, alpha: 0.5 };
        net.node(Op::HeadProduct(scores), &[q, k]).then(Op::Softmax { axis: 1 });
        let v = net.constant(&[1, batch * depth, 1, columns], 1);
        let mean = Product { a: Split::Rows, out: Split::Channels, transposed: false, alpha: 1.0, ..scores };
        check(
            &format!("{batch} heads of {rows} x {depth} x {columns}"),
            &net.node(Op::HeadProduct(mean), &[net.last, v]).end(),
        );
        for dims in [vec![batch, rows, depth], vec![2, batch, rows, depth]] {
            let mut net = Net::new(&dims);
            let mut right = dims.clone();
            right[dims.len() - 2..].copy_from_slice(&[depth, columns]);
            let (whole, single) = (net.constant(&right, depth), net.constant(&[depth, columns], depth));
            let x = net.last;
            check("matmul", &net.node(Op::MatMul, &[x, whole]).end());
            check("matmul with one matrix", &net.node(Op::MatMul, &[x, single]).end());
        }
    }
}

#[test]
fn elementwise_operations() {
    let add = Op::Add { alpha: 0.5, beta: -2.0, gamma: 0.25 };
    for channels in [1, 5, 16, 24] {
        for dims in
            [vec![1, channels, 4, 6], vec![1, channels, 1, 1], vec![channels], vec![1], vec![1, 1, 4, 6], vec![4, 1]]
        {
            for op in [add.clone(), Op::Mul, Op::Div, Op::Max, Op::Min] {
                let mut net = Net::new(&[1, channels, 4, 6]);
                if dims == [channels] && channels != 6 && channels != 1 {
                    continue;
                }
                // Far from 0, for quotients.
                let noise = net.constant(&dims, 16);
                let one = net.graph.add_const("one", Tensor::f32(&[1], vec![3.0]));
                net.node(Op::Add { alpha: 1.0, beta: 1.0, gamma: 0.0 }, &[noise, one]);
                let other = net.last;
                let x = net.graph.inputs[0];
                check(&format!("{} of {dims:?}", op.name()), &net.node(op.clone(), &[x, other]).end());
                check(&format!("{dims:?} {} x", op.name()), &net.node(Op::Mul, &[other, x]).end());
            }
        }
        // A value with two readers, one of which could end the step that computes it.
        let mut net = Net::new(&[1, channels, 4, 6]);
        let x = net.last;
        let relu = net.then(Op::Unary(Unary::Relu)).last;
        let mish = net.then(Op::Unary(Unary::Mish)).last;
        let sum = net.node(add.clone(), &[mish, relu]).last;
        let product = net.node(Op::Mul, &[x, sum]).then(Op::Clip { lo: -1.0, hi: 2.0 }).last;
        net.node(Op::Mul, &[product, product]).then(Op::FakeQuant { scale: 0.02, zero_point: -9 });
        let (scale, shift) = (net.constant(&[channels], 1), net.constant(&[channels], 1));
        check("several readers", &net.node(Op::Affine, &[net.last, scale, shift]).end());
    }
}

#[test]
fn reductions_and_pools() {
    for channels in [1, 5, 16, 24] {
        for axes in [vec![1], vec![2, 3], vec![1, 3], vec![1, 2, 3]] {
            for op in [
                Op::ReduceMean { axes: axes.clone() },
                Op::ReduceSum { axes: axes.clone() },
                Op::ReduceMax { axes: axes.clone() },
            ] {
                check(&format!("{op:?} of {channels}"), &Net::new(&[1, channels, 5, 7]).then(op).end());
            }
        }
        let window = Window { kernel: [3, 2], stride: [2, 1], pad: [1, 0, 1, 1] };
        for op in [
            Op::MaxPool(window),
            Op::AveragePool { window, count_pad: false },
            Op::AveragePool { window, count_pad: true },
        ] {
            check(&format!("{op:?} of {channels}"), &Net::new(&[1, channels, 5, 7]).then(op).end());
        }
    }
}

#[test]
fn movements() {
    let dims = [1, 8, 4, 6];
    for op in [
        Op::Reshape { dims: vec![1, 8, 24] },
        Op::Reshape { dims: vec![192] },
        Op::Reshape { dims: vec![1, 8, 2, 2, 6] },
        Op::Transpose { perm: vec![0, 2, 3, 1] },
        Op::Transpose { perm: vec![3, 1, 0, 2] },
        Op::Slice { axis: 1, start: 2, end: 7, step: 2 },
        Op::Slice { axis: 3, start: 1, end: 5, step: 1 },
        Op::Upsample { factor: 2 },
        Op::PixelUnshuffle { block: 2 },
        Op::PixelShuffle { block: 2 },
        Op::Expand { dims: vec![2, 8, 4, 6] },
    ] {
        check(op.name(), &Net::new(&dims).then(op.clone()).end());
        let then = Net::new(&dims).then(Op::Unary(Unary::Silu)).then(op.clone()).then(Op::Unary(Unary::Tanh)).end();
        check(&format!("{} between functions", op.name()), &then);
    }
    for axis in [1, 2, 3] {
        let mut net = Net::new(&dims);
        let x = net.last;
        let y = net.then(Op::Unary(Unary::Relu)).last;
        check("concat", &net.node(Op::Concat { axis }, &[x, y, x]).end());
    }
    let mut net = Net::new(&[1, 5]);
    let table = net.constant(&[4, 5], 1);
    let label = net.graph.add_input("label", Type::new(DType::I64, &[1]), InputKind::Index { count: 4 });
    let row = net.node(Op::Select, &[table, label]).last;
    let x = net.graph.inputs[0];
    check("select", &net.node(Op::Mul, &[x, row]).end());
}

/// A weight in f16 is off by at most 2^-11 of itself where it is normal and by 2^-25 where it is not, so a sum by at most
/// that share of the sum of magnitudes.
#[test]
fn weights_of_sixteen_bits_are_within_their_bound() {
    for (channels, outputs, pixels, groups) in
        [(48, 40, 13, 1), (64, 2, 9, 1), (3, 20, 30, 1), (24, 24, 11, 24), (64, 100, 1, 1)]
    {
        let mut net = Net::new(&[1, channels, 1, pixels]);
        let g = ConvGeometry { pad: [0, 1, 0, 1], groups, ..ConvGeometry::default() };
        net.conv(outputs, [1, 3], g);
        let weight = net.graph.nodes[0].inputs[1];
        let graph = net.end();
        let inputs = inputs(&graph);
        let magnitudes = |graph: &Graph| {
            let mut graph = graph.clone();
            let positive: Vec<f32> =
                graph.constant(weight).unwrap().as_f32().unwrap().iter().map(|w| w.abs()).collect();
            graph.value_mut(weight).def = Def::Const(Tensor::f32(&graph.ty(weight).dims.clone(), positive));
            let x: Vec<f32> = inputs[0].as_f32().unwrap().iter().map(|x| x.abs()).collect();
            interp::run(&graph, &[Tensor::f32(&inputs[0].dims, x)]).unwrap().remove(0)
        };
        let want = interp::run(&graph, &inputs).unwrap().remove(0);
        let magnitudes = magnitudes(&graph);
        for instructions in Instructions::available() {
            let network = Network::with_instructions(&graph, Weights::F16, instructions).unwrap();
            let got = computed(&network, &inputs, 2);
            let bias = 4.0;
            for ((got, want), size) in got.iter().zip(want.as_f32().unwrap()).zip(magnitudes.as_f32().unwrap()) {
                let allowed = (size.abs() + bias) * (1.0 / 2048.0 + 1e-5);
                assert!((got - want).abs() <= allowed, "{got}, not {want}: more than {allowed} off");
            }
        }
        let whole = Network::new(&graph, Weights::F32).unwrap();
        let half = Network::new(&graph, Weights::F16).unwrap();
        assert!(half.constant_bytes() < whole.constant_bytes());
        assert!(difference(&computed(&half, &inputs, 1), &computed(&whole, &inputs, 1)) > 0.0, "weights are rounded");
    }
}

#[test]
fn what_does_not_run_is_refused_by_name() {
    let mut net = Net::new(&[1, 4]);
    let zero = net.graph.add_const("zero", Tensor::f32(&[1], vec![0.0]));
    let graph = net.node(Op::Compare(Comparison::Less), &[net.last, zero]).end();
    let error = Network::new(&graph, Weights::F32).unwrap_err();
    assert!(matches!(&error, FloatError::Unsupported { node, .. } if node == "node"), "{error}");
    let mut net = Net::new(&[1, 4]);
    let weight = net.graph.add_const("w", Tensor::f32(&[1, 4], vec![1e5, 0.0, 0.0, 0.0]));
    let graph = net.node(Op::Linear, &[net.last, weight]).end();
    assert!(Network::new(&graph, Weights::F32).is_ok());
    assert!(Network::new(&graph, Weights::F16).unwrap_err().to_string().contains("f16"));
    let network = Network::new(&graph, Weights::F32).unwrap();
    let mut memory = network.memory(1);
    assert!(network.write(&mut memory, 0, &[0.0; 3]).unwrap_err().to_string().contains("expected 4"));
    assert!(network.write(&mut memory, 0, &[0.0, f32::NAN, 0.0, 0.0]).unwrap_err().to_string().contains("element 1"));
    assert!(network.write(&mut memory, 1, &[0.0]).is_err());
    assert!(network.set_index(&mut memory, 0, 0).is_err());
}

//! Every kernel of this processor, on one thread and on two.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use flowlet_bench_kernels::{Layer, SHAPES, conv, others};
use flowlet_kernels::Threads;
use flowlet_kernels::conv::{PACKINGS, is_readable};

fn measure(criterion: &mut Criterion, threads: &[Threads], layer: &mut Layer) {
    let mut group = criterion.benchmark_group(&layer.name);
    let work = match layer.step.macs() {
        0 => layer.step.output().elements() as u64,
        macs => macs,
    };
    group.throughput(Throughput::Elements(work));
    for threads in threads {
        let mut pass = threads.pass(core::slice::from_ref(&layer.step), usize::MAX);
        group.bench_function(format!("{} threads", threads.count()), |bencher| {
            bencher.iter(|| pass.run(&mut layer.arena, &layer.step, 0));
        });
    }
}

fn kernels(criterion: &mut Criterion) {
    let threads = [1, 2].map(Threads::new);
    for shape in SHAPES {
        for &packing in PACKINGS.iter().filter(|&&packing| is_readable(packing)) {
            if let Some(mut layer) = conv(shape, packing) {
                measure(criterion, &threads, &mut layer);
            }
        }
    }
    for mut layer in others() {
        measure(criterion, &threads, &mut layer);
    }
}

criterion_group!(benches, kernels);
criterion_main!(benches);

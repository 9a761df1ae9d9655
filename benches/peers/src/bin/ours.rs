//! flowlet: an int8 `.flq`, lowered for this processor and run by the executor, or an f32 one in the f32 engine, with weights
//! in f16 if asked.

use anyhow::anyhow;
use flowlet_compiler::{flq, ir::DType, lower::lower, target::Target};
use flowlet_compiler::ir::Graph;
use flowlet_float::{Network, Weights};
use flowlet_peers::{Call, Job, serve};
use flowlet_score::layout::{channels_first, channels_last};

fn main() -> anyhow::Result<()> {
    let job = Job::from_args()?;
    serve(|| {
        let bytes = std::fs::read(&job.model)?;
        let graph = flq::read(&bytes)?;
        if !flq::is_quantized(&graph) {
            return float(&graph, &job);
        }
        let lowered = lower(&graph, flq::hash(&bytes), &Target::native())?;
        // The process ends with the server, so nothing is lost by keeping these for ever.
        let lowered = Box::leak(Box::new(lowered));
        let plan = Box::leak(Box::new(lowered.plan()));
        let checked = plan.borrow().check().map_err(|why| anyhow!("{why}"))?;
        let arena =
            Box::leak(vec![0i8; checked.plan().arena_bytes as usize + flowlet::ARENA_ALIGNMENT].into_boxed_slice());
        let skip = arena.as_ptr().align_offset(flowlet::ARENA_ALIGNMENT);
        let threads = flowlet::Threads::new(job.threads);
        let mut model = flowlet::Executor::new(checked, &mut arena[skip..])?;
        let mut feeds = Vec::new();
        for &id in &graph.inputs {
            let value = graph.value(id);
            let values = job.sample(&value.name)?.to_f32();
            if value.ty.dtype == DType::I64 {
                model.set_index(value.name.as_str(), values[0] as u16)?;
            } else {
                feeds.push((value.name.clone(), channels_last(&value.ty.dims, &values)));
            }
        }
        let outputs: Vec<_> =
            graph.outputs.iter().map(|&id| graph.value(id)).map(|v| (v.name.clone(), v.ty.dims.clone())).collect();
        let version = format!("{} macs {}", env!("CARGO_PKG_VERSION"), lowered.macs());
        let call = move || {
            for (name, values) in &feeds {
                model.write_f32(name.as_str(), values)?;
            }
            model.run_on(&threads, 0)?;
            let mut all = Vec::new();
            for (name, dims) in &outputs {
                let mut values = vec![0.0; dims.iter().product()];
                model.read_f32(name.as_str(), &mut values)?;
                all.extend(channels_first(dims, &values));
            }
            Ok(all)
        };
        Ok((version, Box::new(call)))
    })
}

fn float(graph: &Graph, job: &Job) -> anyhow::Result<(String, Call)> {
    let weights = if job.precision.as_deref() == Some("f16") { Weights::F16 } else { Weights::F32 };
    let network = Network::new(graph, weights)?;
    let mut memory = network.memory(job.threads);
    let threads = flowlet::Threads::new(job.threads);
    let mut feeds = Vec::new();
    for (i, &id) in graph.inputs.iter().enumerate() {
        let value = graph.value(id);
        let values = job.sample(&value.name)?.to_f32();
        if value.ty.dtype == DType::I64 {
            network.set_index(&mut memory, i, values[0] as usize)?;
        } else {
            feeds.push((i, values));
        }
    }
    let macs: usize = network.steps().map(|step| step.macs).sum();
    let lengths: Vec<usize> = graph.outputs.iter().map(|&id| graph.ty(id).elements()).collect();
    let call = move || {
        for (i, values) in &feeds {
            network.write(&mut memory, *i, values)?;
        }
        network.run_on(&mut memory, &threads);
        let mut all = Vec::new();
        for (i, length) in lengths.iter().enumerate() {
            let mut values = vec![0.0; *length];
            network.read(&memory, i, &mut values);
            all.extend(values);
        }
        Ok(all)
    };
    Ok((format!("{} macs {macs}", env!("CARGO_PKG_VERSION")), Box::new(call)))
}

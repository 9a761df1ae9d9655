//! rten, f32.

use flowlet_peers::{Job, serve};
use flowlet_score::npy::Elements;
use rten::{Model, RunOptions, ThreadPool, Value};
use rten_tensor::prelude::*;

fn main() -> anyhow::Result<()> {
    let job = Job::from_args()?;
    serve(|| {
        let model = Model::load_file(&job.model)?;
        let mut inputs = Vec::new();
        for &id in model.input_ids() {
            let info = model.node_info(id).ok_or_else(|| anyhow::anyhow!("an input without a name"))?;
            let array = job.sample(info.name().unwrap_or_default())?;
            let shape = &array.shape[..];
            let value = match &array.elements {
                Elements::I64(values) => {
                    Value::from_shape(shape, values.iter().map(|&v| v as i32).collect::<Vec<_>>())?
                }
                Elements::F32(_) | Elements::F64(_) | Elements::U8(_) => Value::from_shape(shape, array.to_f32())?,
            };
            inputs.push((id, value));
        }
        let pool = std::sync::Arc::new(ThreadPool::with_num_threads(job.threads));
        let outputs = model.output_ids().to_vec();
        let call = move || {
            let options = RunOptions::default().with_thread_pool(Some(pool.clone()));
            let feeds = inputs.iter().map(|(id, value)| (*id, value.into())).collect();
            let mut all = Vec::new();
            for output in model.run(feeds, &outputs, Some(options))? {
                all.extend(output.into_tensor::<f32>().map(|t| t.to_vec()).unwrap_or_default());
            }
            Ok(all)
        };
        Ok(("0.27.0".to_owned(), Box::new(call)))
    })
}

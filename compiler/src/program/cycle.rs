//! DPM-Encoder and CycleDiffusion (arXiv 2210.05559, 4.1 and 4.2; rectified-flow form): the recorded noise of a stochastic
//! sampler is a latent code that another network, or another label, decodes.

use super::samplers::{Field, Sampled, Sketch, check_times, stochastic};
use super::verify::error;
use super::{Code, LaneKind, ProgramError};

/// A program with two entry points. `encode` draws a path from `data` to noise and records, for every step, the noise that
/// takes the first network along it; `decode` runs the second network with that record. The residual of the last step is
/// recorded too, so that decoding with the same network gives the data back whatever the network is: reconstruction
/// proves determinism, not quality.
///
/// # Errors
/// Flow times that do not ascend from 0 to 1, or an `eta` that is not above 0 and at most 1.
pub fn translate(name: &str, from: Field, to: Option<Field>, times: &[f64], eta: f64) -> Result<Sampled, ProgramError> {
    check_times(times)?;
    if !(eta > 0.0 && eta <= 1.0) {
        return Err(error("eta", format!("{eta} must be above 0 and at most 1: without noise nothing is recorded")));
    }
    if times.first() != Some(&0.0) || times.last() != Some(&1.0) {
        return Err(error("flow times", "they must go from 0 to 1"));
    }
    if times.len() < 3 {
        return Err(error("flow times", "one step records no noise: give at least two"));
    }
    let second = usize::from(to.is_some());
    let mut sketch = Sketch::new(name, std::iter::once(from).chain(to).collect());
    let (len, steps) = (sketch.len(), times.len() - 1);
    let data = sketch.b.lane("data", len, LaneKind::Input, "");
    let latent = sketch.b.lane("latent", len, LaneKind::Kept, "standard deviations");
    let record = sketch.b.frames("record", len, steps, LaneKind::Kept, "standard deviations");
    let x = sketch.b.lane("sample", len, LaneKind::Output, "");
    let [y, v, mean, fresh] = ["y", "v", "mean", "fresh"].map(|n| sketch.b.lane(n, len, LaneKind::Local, ""));
    let one = sketch.b.number(1.0);
    // The last step has no noise of its own: its residual is recorded instead.
    let weights = stochastic(times, eta);
    let noisy = steps - 1;
    let of = |f: &dyn Fn(usize) -> f64| (0..noisy).map(f).collect::<Vec<f64>>();
    let of_x = sketch.b.schedule("of_x", of(&|i| weights[i].x));
    let of_v = sketch.b.schedule("of_v", of(&|i| weights[i].v));
    let sigma = sketch.b.schedule("sigma", of(&|i| weights[i].sigma));
    // A state of the path given the data: (1 - s) data + kept (y - (1 - t) data) / t + sigma fresh, t = 1 - tau.
    let path_y = sketch.b.schedule("path_y", of(&|i| weights[i].kept / (1.0 - times[i])));
    let path_data =
        sketch.b.schedule("path_data", of(&|i| times[i + 1] - weights[i].kept * times[i] / (1.0 - times[i])));
    let inverse = sketch.b.schedule("inverse", of(&|i| 1.0 / weights[i].sigma));
    let minus = sketch.b.schedule("minus_inverse", of(&|i| -1.0 / weights[i].sigma));
    let rest = sketch.b.number((1.0 - times[noisy]) as f32);
    let negative = sketch.b.number(-1.0);

    sketch.b.entry("encode");
    let mut start = Code::new();
    start.noise(latent, 1, 0).combine(y, &[(one, latent)]);
    sketch.b.block(1, start);
    let frame = record.moving(0, 1);
    let mut code = Code::new();
    sketch.velocity(&mut code, 0, y, None, v, &times[..noisy])?;
    code.noise(fresh, 2, 1);
    code.combine(mean, &[(of_x, y), (of_v, v)]);
    code.combine(y, &[(path_y, y), (path_data, data), (sigma, fresh)]);
    code.combine(frame, &[(inverse, y), (minus, mean)]);
    // What the decoder will compute from the record, bit for bit.
    code.combine(y, &[(one, mean), (sigma, frame)]);
    sketch.b.block(noisy, code);
    let mut end = Code::new();
    sketch.velocity(&mut end, 0, y, None, v, &times[noisy..steps])?;
    end.combine(mean, &[(one, y), (rest, v)]);
    end.combine(record.frame(noisy), &[(one, data), (negative, mean)]);
    sketch.b.block(1, end);

    sketch.b.entry("decode");
    let mut start = Code::new();
    start.combine(x, &[(one, latent)]);
    sketch.b.block(1, start);
    let mut code = Code::new();
    sketch.velocity(&mut code, second, x, None, v, &times[..noisy])?;
    code.combine(mean, &[(of_x, x), (of_v, v)]);
    code.combine(x, &[(one, mean), (sigma, frame)]);
    sketch.b.block(noisy, code);
    let mut end = Code::new();
    sketch.velocity(&mut end, second, x, None, v, &times[noisy..steps])?;
    end.combine(mean, &[(one, x), (rest, v)]);
    end.combine(x, &[(one, mean), (one, record.frame(noisy))]);
    sketch.b.block(1, end);
    sketch.finish()
}

//! Independent samples over threads of this host.

use crate::Progress;
use std::num::NonZeroUsize;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// As many threads as this host runs at once.
pub fn all_threads() -> NonZeroUsize {
    std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

/// Computes `work(worker, i)` for every `i` below `count`, in parallel, and returns the results in the order of `i`.
/// Each thread makes one worker. When some fail, the failure with the lowest `i` among those seen is returned.
///
/// # Errors
/// What `work` failed with.
pub fn map_samples<W, R: Send, E: Send>(
    count: usize,
    threads: NonZeroUsize,
    progress: Progress<'_>,
    worker: impl Fn() -> W + Sync,
    work: impl Fn(&mut W, usize) -> Result<R, E> + Sync,
) -> Result<Vec<R>, E> {
    let (next, done, failed) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicBool::new(false));
    let results: Mutex<Vec<(usize, Result<R, E>)>> = Mutex::new(Vec::with_capacity(count));
    let run = || {
        let mut worker = worker();
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            if i >= count || failed.load(Ordering::Relaxed) {
                return;
            }
            let result = work(&mut worker, i);
            failed.fetch_or(result.is_err(), Ordering::Relaxed);
            if let Ok(mut all) = results.lock() {
                all.push((i, result));
            }
            progress(done.fetch_add(1, Ordering::Relaxed) + 1);
        }
    };
    let threads = threads.get().min(count.max(1));
    if threads == 1 {
        run();
    } else {
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(run);
            }
        });
    }
    let mut all = results.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    all.sort_by_key(|(i, _)| *i);
    all.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn squares(threads: usize) -> Result<Vec<usize>, usize> {
        map_samples(100, NonZeroUsize::new(threads).unwrap(), &|_| {}, || (), |(), i| Ok(i * i))
    }

    #[test]
    fn results_are_in_order_for_any_number_of_threads() {
        let expected: Vec<usize> = (0..100).map(|i| i * i).collect();
        for threads in [1, 2, 3, 200] {
            assert_eq!(squares(threads).unwrap(), expected);
        }
    }

    #[test]
    fn a_failure_ends_the_work() {
        let three = NonZeroUsize::new(3).unwrap();
        let result = map_samples(1000, three, &|_| {}, || (), |(), i| if i == 5 { Err(i) } else { Ok(i) });
        assert_eq!(result, Err(5));
    }
}

//! Threads of a host that share the work of a step.

use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use core::time::Duration;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;
use std::vec::Vec;

use crate::plan::Step;
use crate::step;

/// How long a thread looks for the next step before it sleeps: what waking it would cost.
const PATIENCE: Duration = Duration::from_micros(20);

/// The caller and threads that help it, asleep between runs.
///
/// How a step is shared depends on its shape and on the number of threads only, and its result on neither.
///
/// ```
/// use flowlet_kernels::Threads;
/// let threads = Threads::new(2);
/// assert_eq!(threads.count(), 2);
/// ```
#[derive(Debug)]
pub struct Threads {
    shared: Arc<Shared>,
    /// Held while a job is shared, so that callers take turns.
    turn: Mutex<()>,
    helpers: Vec<JoinHandle<()>>,
}

impl Threads {
    /// `count` threads, the caller counted; as many as can be started, if that is fewer.
    pub fn new(count: usize) -> Threads {
        let shared = Arc::new(Shared::default());
        let start = |index: usize| {
            let shared = Arc::clone(&shared);
            std::thread::Builder::new().name("flowlet".into()).spawn(move || shared.help(index)).ok()
        };
        let helpers = (1..count).map_while(start).collect();
        Threads { shared, turn: Mutex::new(()), helpers }
    }

    /// Number of threads, the caller counted.
    pub fn count(&self) -> usize {
        self.helpers.len() + 1
    }

    /// Runs a step with bias row `row`, on the caller alone if it is too small to share.
    ///
    /// # Panics
    /// As [`step::run`].
    pub fn run(&self, arena: &mut [i8], step: &Step<'_>, row: usize) {
        let parts = step.parts(self.count());
        if parts <= 1 {
            return step::run(arena, step, row);
        }
        let arena = Arena(arena);
        self.share(parts, &|part| {
            if let Some(step) = step.part(row, part, parts) {
                // SAFETY: the caller's slice is exclusive, and no part reads or writes what another writes.
                unsafe { step::run_part(arena.get(), &step, 0) }
            }
        });
    }

    /// Calls `work` with each number below `parts`, which is at most [`Self::count`], each on a thread of its own.
    fn share(&self, parts: usize, work: &(dyn Fn(usize) + Sync)) {
        let _turn = lock(&self.turn);
        // SAFETY: only the lifetime is dropped; `Finish` waits, also when unwinding, until no helper uses `work`.
        let work = unsafe { core::mem::transmute::<&(dyn Fn(usize) + Sync), &'static (dyn Fn(usize) + Sync)>(work) };
        self.shared.unfinished.store(parts - 1, Ordering::Relaxed);
        let asleep = {
            let mut job = lock(&self.shared.job);
            job.work = Some(work);
            job.parts = parts;
            job.number += 1;
            self.shared.number.store(job.number, Ordering::Release);
            job.asleep
        };
        if asleep > 0 {
            self.shared.wake.notify_all();
        }
        let finish = Finish(&self.shared);
        work(0);
        drop(finish);
        assert!(!self.shared.panicked.swap(false, Ordering::Relaxed), "a part of a step panicked");
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        lock(&self.shared.job).stop = true;
        self.shared.stopped.store(true, Ordering::Release);
        self.shared.wake.notify_all();
        for helper in self.helpers.drain(..) {
            // A helper catches the panics of its work.
            let _ = helper.join();
        }
    }
}

/// An arena that several threads work in.
struct Arena(*mut [i8]);

// SAFETY: whoever uses the pointer states how its bytes are shared.
unsafe impl Sync for Arena {}

impl Arena {
    fn get(&self) -> *mut [i8] {
        self.0
    }
}

#[derive(Default)]
struct Job {
    work: Option<&'static (dyn Fn(usize) + Sync)>,
    parts: usize,
    number: u64,
    asleep: usize,
    stop: bool,
}

#[derive(Default)]
struct Shared {
    job: Mutex<Job>,
    wake: Condvar,
    finished: Condvar,
    /// Number of the last job; a copy that can be watched without the lock.
    number: AtomicU64,
    stopped: AtomicBool,
    /// Helpers at work on the last job.
    unfinished: AtomicUsize,
    panicked: AtomicBool,
}

impl core::fmt::Debug for Shared {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl Shared {
    /// The life of helper `index`.
    fn help(&self, index: usize) {
        let mut seen = 0;
        loop {
            watch(|| self.number.load(Ordering::Acquire) != seen || self.stopped.load(Ordering::Acquire));
            let mut job = lock(&self.job);
            job.asleep += 1;
            while job.number == seen && !job.stop {
                job = self.wake.wait(job).unwrap_or_else(PoisonError::into_inner);
            }
            job.asleep -= 1;
            if job.stop {
                return;
            }
            seen = job.number;
            let (work, parts) = (job.work, job.parts);
            drop(job);
            let Some(work) = work.filter(|_| index < parts) else { continue };
            if catch_unwind(AssertUnwindSafe(|| work(index))).is_err() {
                self.panicked.store(true, Ordering::Relaxed);
            }
            if self.unfinished.fetch_sub(1, Ordering::Release) == 1 {
                // With the lock, so that the notice does not fall between the caller's look and its sleep.
                let _job = lock(&self.job);
                self.finished.notify_one();
            }
        }
    }
}

/// Waits for the helpers of a job.
struct Finish<'s>(&'s Shared);

impl Drop for Finish<'_> {
    fn drop(&mut self) {
        let is_finished = || self.0.unfinished.load(Ordering::Acquire) == 0;
        watch(is_finished);
        let mut job = lock(&self.0.job);
        while !is_finished() {
            job = self.0.finished.wait(job).unwrap_or_else(PoisonError::into_inner);
        }
        job.work = None;
    }
}

/// Looks for an event for a while.
fn watch(is_here: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_here() && start.elapsed() < PATIENCE {
        core::hint::spin_loop();
    }
}

/// No state here is left half written by a panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

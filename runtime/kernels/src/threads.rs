//! Threads of a host that share the work of a plan's steps.

use core::any::Any;
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use core::time::Duration;
use std::boxed::Box;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread::JoinHandle;
use std::time::Instant;
use std::vec::Vec;

use crate::plan::{MAX_PARTS, Step, is_worth_waking};
use crate::step;

/// How long a thread looks for the next step of a pass, or for the end of the last one, before it sleeps.
const PATIENCE: Duration = Duration::from_micros(100);
/// How long it does so without letting others have the processor: the thread that it waits for may need it.
const EAGER: Duration = Duration::from_micros(4);
/// Looks between two looks at the clock.
const LOOKS: usize = 32;

/// The caller and threads that help it, asleep between passes.
///
/// How a step is cut depends on its shape and on the number of threads only, and its result on neither. Who computes a
/// part depends on who is free: a helper that is late leaves its parts to the caller.
///
/// ```
/// use flowlet_kernels::Threads;
/// let threads = Threads::new(2);
/// assert_eq!(threads.count(), 2);
/// ```
#[derive(Debug)]
pub struct Threads {
    shared: Arc<Shared>,
    /// Held during a pass.
    turn: Mutex<()>,
    helpers: Vec<JoinHandle<()>>,
}

impl Threads {
    /// `count` threads, the caller counted; as many as can be started, if that is fewer.
    pub fn new(count: usize) -> Threads {
        let shared = Arc::new(Shared::default());
        let start = |index: usize| {
            let shared = Arc::clone(&shared);
            std::thread::Builder::new().name("flowlet".into()).spawn(move || shared.help(index, count)).ok()
        };
        let helpers = (1..count).map_while(start).collect();
        Threads { shared, turn: Mutex::new(()), helpers }
    }

    /// Number of threads, the caller counted.
    pub fn count(&self) -> usize {
        self.helpers.len() + 1
    }

    /// Wakes the helpers for `times` runs of these steps, if that is worth it; they sleep when the pass is dropped.
    ///
    /// The pass runs on the caller alone where the steps are too small, or while the helpers are in another pass.
    pub fn pass(&self, steps: &[Step<'_>], times: usize) -> Pass<'_> {
        self.pass_if(is_worth_waking(steps, times, self.count()))
    }

    /// Wakes the helpers for work that is no plan's, to be given by [`Pass::share`].
    pub fn pass_if(&self, is_worth_waking: bool) -> Pass<'_> {
        if !is_worth_waking || self.helpers.is_empty() {
            return Pass { threads: self, turn: None };
        }
        let turn = match self.turn.try_lock() {
            Ok(turn) => turn,
            // A panic leaves nothing half written here.
            Err(TryLockError::Poisoned(turn)) => turn.into_inner(),
            Err(TryLockError::WouldBlock) => return Pass { threads: self, turn: None },
        };
        self.shared.pass.fetch_add(1, Ordering::SeqCst);
        self.shared.wake();
        Pass { threads: self, turn: Some(turn) }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        self.shared.wake();
        for helper in self.helpers.drain(..) {
            // A helper catches the panics of its work.
            let _ = helper.join();
        }
    }
}

/// A time in which the helpers are awake.
#[derive(Debug)]
pub struct Pass<'t> {
    threads: &'t Threads,
    /// `None`: the caller works alone.
    turn: Option<MutexGuard<'t, ()>>,
}

impl Pass<'_> {
    /// Runs a step with bias row `row`, on the caller alone if it is too small to share.
    ///
    /// # Panics
    /// As [`step::run`].
    pub fn run(&mut self, arena: &mut [i8], step: &Step<'_>, row: usize) {
        let shared = &self.threads.shared;
        let count = self.threads.count();
        let parts = if self.turn.is_some() { step.parts(count) } else { 1 };
        if parts <= 1 {
            return step::run(arena, step, row);
        }
        let asleep = shared.asleep.load(Ordering::SeqCst);
        if asleep > 0 && is_worth_waking(core::slice::from_ref(step), 1, count) {
            shared.wake();
        } else if asleep == self.threads.helpers.len() {
            return step::run(arena, step, row);
        }
        let arena = Arena(arena);
        shared.share(parts, count, &|part| {
            if let Some(step) = step.part(row, part, parts) {
                // SAFETY: the caller's slice is exclusive, and no part reads or writes what another writes.
                unsafe { step::run_part(arena.get(), &step, 0) }
            }
        });
    }
}

impl Pass<'_> {
    /// Number of threads that may take parts.
    pub fn count(&self) -> usize {
        if self.turn.is_some() { self.threads.count() } else { 1 }
    }

    /// Calls `work` with each number below `parts`, at most [`MAX_PARTS`], on the threads that are awake.
    ///
    /// # Panics
    /// As `work`, or with more parts.
    pub fn share(&mut self, parts: usize, work: &(dyn Fn(usize) + Sync)) {
        assert!(parts <= MAX_PARTS, "{parts} parts are too many");
        let shared = &self.threads.shared;
        if self.turn.is_none() || parts < 2 || shared.asleep.load(Ordering::SeqCst) == self.threads.helpers.len() {
            return (0..parts).for_each(work);
        }
        shared.share(parts, self.threads.count(), work);
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if self.turn.is_some() {
            self.threads.shared.pass.fetch_add(1, Ordering::SeqCst);
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

/// The work of a job; dangling between jobs.
type Work = *const (dyn Fn(usize) + Sync);

#[derive(Default)]
struct Shared {
    /// The work of the job: written by the caller between jobs, read by whoever has taken a part of it.
    work: UnsafeCell<Option<Work>>,
    /// Bit `i`: nobody has taken part `i` of the job.
    open: AtomicU64,
    /// Parts of the job.
    parts: AtomicUsize,
    /// Those that are not finished.
    unfinished: AtomicUsize,
    /// Odd during a pass.
    pass: AtomicU64,
    stopped: AtomicBool,
    /// The panic of a helper's part of the job.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    /// Helpers that sleep, or are about to.
    asleep: AtomicUsize,
    bed: Mutex<()>,
    bell: Condvar,
    /// Whether the caller sleeps until the last part is finished, or is about to.
    waits: AtomicBool,
    finished: Condvar,
}

// SAFETY: `work` is written only while no part is open or unfinished, and read only between taking a part and finishing
// it; `open` and `unfinished` order the two. What it points to may be shared among threads.
unsafe impl Sync for Shared {}
// SAFETY: as above.
unsafe impl Send for Shared {}

impl core::fmt::Debug for Shared {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl Shared {
    /// Calls `work` with each number below `parts`, from 2 to [`MAX_PARTS`], on the caller and on helpers that are awake.
    fn share(&self, parts: usize, count: usize, work: &(dyn Fn(usize) + Sync)) {
        // SAFETY: only the lifetime is dropped; `Finish` waits, also when unwinding, until nobody uses `work`.
        let pointer = unsafe { core::mem::transmute::<&(dyn Fn(usize) + Sync), Work>(work) };
        // SAFETY: the last job is finished, so nobody reads this.
        unsafe { *self.work.get() = Some(pointer) };
        *lock(&self.panic) = None;
        self.parts.store(parts, Ordering::Relaxed);
        self.unfinished.store(parts, Ordering::Relaxed);
        self.open.store(below(parts), Ordering::Release);
        let finish = Finish(self);
        while let Some(part) = self.take(own(0, count, parts)) {
            let last = Last(self);
            work(part);
            drop(last);
        }
        drop(finish);
        if let Some(why) = lock(&self.panic).take() {
            resume_unwind(why);
        }
    }

    /// Takes an open part, one of `own` if there is one.
    fn take(&self, own: u64) -> Option<usize> {
        let mut open = self.open.load(Ordering::Relaxed);
        while open != 0 {
            let part = (if open & own != 0 { open & own } else { open }).trailing_zeros();
            match self.open.compare_exchange_weak(open, open & !(1 << part), Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return Some(part as usize),
                Err(now) => open = now,
            }
        }
        None
    }

    /// The life of helper `index` of `count` threads.
    fn help(&self, index: usize, count: usize) {
        loop {
            if let Some(part) = self.take(own(index, count, self.parts.load(Ordering::Relaxed))) {
                let last = Last(self);
                // SAFETY: the part that was taken is not finished, so this is its job's, and its caller waits.
                let work = unsafe { (*self.work.get()).and_then(|work| work.as_ref()) };
                if let Some(work) = work
                    && let Err(why) = catch_unwind(AssertUnwindSafe(|| work(part)))
                {
                    *lock(&self.panic) = Some(why);
                }
                drop(last);
                continue;
            }
            let pass = self.pass.load(Ordering::SeqCst);
            let is_called = || self.open.load(Ordering::SeqCst) != 0 || self.stopped.load(Ordering::SeqCst);
            if is_during(pass) && watch(|| is_called() || self.pass.load(Ordering::SeqCst) != pass) && is_called() {
                if self.stopped.load(Ordering::SeqCst) {
                    return;
                }
                continue;
            }
            let mut bed = lock(&self.bed);
            self.asleep.fetch_add(1, Ordering::SeqCst);
            let is_another_pass = || {
                let now = self.pass.load(Ordering::SeqCst);
                is_during(now) && now != pass
            };
            while !is_called() && !is_another_pass() {
                bed = self.bell.wait(bed).unwrap_or_else(PoisonError::into_inner);
            }
            self.asleep.fetch_sub(1, Ordering::SeqCst);
            drop(bed);
            if self.stopped.load(Ordering::SeqCst) {
                return;
            }
        }
    }

    /// Wakes the helpers that sleep, after a change to what they wait for.
    fn wake(&self) {
        if self.asleep.load(Ordering::SeqCst) > 0 {
            // Whoever holds the lock is about to sleep and has not seen the change.
            drop(lock(&self.bed));
            self.bell.notify_all();
        }
    }
}

/// The parts of a job that thread `index` takes first: those that it took of the job before lie in its cache.
fn own(index: usize, count: usize, parts: usize) -> u64 {
    below(parts * (index + 1) / count) & !below(parts * index / count)
}

/// The bits of the parts below one, which is at most [`MAX_PARTS`].
fn below(part: usize) -> u64 {
    u64::MAX.checked_shr((MAX_PARTS - part) as u32).unwrap_or(0)
}

fn is_during(pass: u64) -> bool {
    pass % 2 == 1
}

/// Counts a part as finished.
struct Last<'s>(&'s Shared);

impl Drop for Last<'_> {
    fn drop(&mut self) {
        if self.0.unfinished.fetch_sub(1, Ordering::SeqCst) == 1 && self.0.waits.load(Ordering::SeqCst) {
            // With the lock, so that the notice does not fall between the caller's look and its sleep.
            let _bed = lock(&self.0.bed);
            self.0.finished.notify_one();
        }
    }
}

/// Waits until nobody works on the job.
struct Finish<'s>(&'s Shared);

impl Drop for Finish<'_> {
    fn drop(&mut self) {
        // Parts are left only when one of the caller's has panicked.
        let left = self.0.open.swap(0, Ordering::Relaxed).count_ones() as usize;
        self.0.unfinished.fetch_sub(left, Ordering::Relaxed);
        let is_finished = || self.0.unfinished.load(Ordering::SeqCst) == 0;
        if watch(is_finished) {
            return;
        }
        let mut bed = lock(&self.0.bed);
        self.0.waits.store(true, Ordering::SeqCst);
        while !is_finished() {
            bed = self.0.finished.wait(bed).unwrap_or_else(PoisonError::into_inner);
        }
        self.0.waits.store(false, Ordering::SeqCst);
    }
}

/// Looks for an event for a while; whether it came.
fn watch(is_here: impl Fn() -> bool) -> bool {
    let start = Instant::now();
    loop {
        for _ in 0..LOOKS {
            if is_here() {
                return true;
            }
            core::hint::spin_loop();
        }
        let waited = start.elapsed();
        if waited >= PATIENCE {
            return false;
        }
        if waited >= EAGER {
            std::thread::yield_now();
        }
    }
}

/// No state here is left half written by a panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

//! Time that a core was had, where the system tells it: other processes do not count.

use std::time::Instant;

/// Ticks of the kernel's accounts a second, on every Linux that there is.
const TICKS_PER_S: f64 = 100.0;

/// Time of this thread; where the system does not tell it, of the wall clock.
pub(super) struct Watch {
    cpu_ns: Option<u64>,
    wall: Instant,
}

impl Watch {
    pub(super) fn start() -> Self {
        Self { cpu_ns: thread_ns(), wall: now() }
    }

    pub(super) fn seconds(&self) -> f64 {
        let cpu = self.cpu_ns.zip(thread_ns()).map(|(from, to)| (to - from) as f64 / 1e9);
        cpu.unwrap_or_else(|| self.wall.elapsed().as_secs_f64())
    }
}

/// Time of all threads of this process; where the system does not tell it, of the wall clock.
pub(super) struct ProcessWatch {
    cpu_s: Option<f64>,
    wall: Instant,
}

impl ProcessWatch {
    pub(super) fn start() -> Self {
        Self { cpu_s: process_s(), wall: now() }
    }

    pub(super) fn seconds(&self) -> f64 {
        let cpu = self.cpu_s.zip(process_s()).map(|(from, to)| to - from);
        cpu.unwrap_or_else(|| self.wall.elapsed().as_secs_f64())
    }
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
fn now() -> Instant {
    Instant::now()
}

fn thread_ns() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split_whitespace().next()?.parse().ok()
}

fn process_s() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/self/stat").ok()?;
    // Behind the name, which may hold anything; user's and system's time are the 14th and 15th field.
    let mut fields = text.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    Some((ticks()? + ticks()?) as f64 / TICKS_PER_S)
}

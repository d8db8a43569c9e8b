//! Time that a core was had, and memory, as the kernel accounts them: other processes do not count.

use std::time::Duration;

use rustix::time::{ClockId, Timespec, clock_gettime};

/// A processor's time of this thread.
pub(super) struct Watch(Timespec);

impl Watch {
    pub(super) fn start() -> Self {
        Self(clock_gettime(ClockId::ThreadCPUTime))
    }

    pub(super) fn seconds(&self) -> f64 {
        seconds(self.0, clock_gettime(ClockId::ThreadCPUTime))
    }
}

/// Processors' time of all threads of this process.
pub(super) struct ProcessWatch(Timespec);

impl ProcessWatch {
    pub(super) fn start() -> Self {
        Self(clock_gettime(ClockId::ProcessCPUTime))
    }

    pub(super) fn seconds(&self) -> f64 {
        seconds(self.0, clock_gettime(ClockId::ProcessCPUTime))
    }
}

fn seconds(from: Timespec, to: Timespec) -> f64 {
    Duration::try_from(to - from).unwrap_or_default().as_secs_f64()
}

/// The most memory that this process held, MiB; 0 where the system does not say.
pub(super) fn peak_rss_mib() -> f64 {
    status_mib("self", "VmHWM:")
}

/// What the kernel says of a process's memory, MiB; 0 where it does not.
pub(super) fn status_mib(process: &str, field: &str) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let kib = line.and_then(|rest| rest.split_whitespace().next()).and_then(|n| n.parse::<f64>().ok());
    kib.unwrap_or(0.0) / 1024.0
}

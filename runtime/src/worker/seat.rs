//! One worker of a service: its clients and its loop, made anew as often as it takes.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use super::clients::Names;
use super::standby::Pool;
use super::thread::{Worker, in_the_future, is_past};
use super::{Settings, Stop, WorkerError, measure, stop_all};
use crate::core::CoreError;
use crate::processor::ProcessorFactory;

/// A member that joins again after an outage may be told that it has been replaced, by itself: where the answer was
/// lost, its next request still has its old id. So it joins once more; where that is another process, one of the two
/// is replaced again within this time.
const REJOINED: Duration = Duration::from_mins(5);
/// How often a worker is built anew without having committed anything in between.
const REBUILDS: u32 = 5;
/// How often a worker tries to join a group that still has a member of its name, how long it waits in between,
/// and after how many it says so: longer than brokers let a session last.
const HELD: u32 = 90;
const HELD_PAUSE: Duration = Duration::from_secs(1);
const WARN_HELD: u32 = 10;

/// What a worker thread is started with.
pub(super) struct Seat {
    pub(super) service: String,
    pub(super) number: usize,
    pub(super) factory: Arc<dyn ProcessorFactory>,
    pub(super) settings: Settings,
    pub(super) stop: Arc<Stop>,
    pub(super) standbys: Option<Arc<Pool>>,
}

impl Seat {
    /// Works until stopped. Where the clients are of no more use, they are made anew: nothing is
    /// retried in place after a fatal error.
    pub(super) fn work(self) -> Result<(), WorkerError> {
        let kafka = &self.settings.kafka;
        let instance = self.settings.service.instance_name();
        let names = Names::new(kafka, &self.service, &instance, self.number, self.factory.stands_in());
        let result = catch_unwind(AssertUnwindSafe(|| self.work_as(&names))).unwrap_or_else(|_| {
            Err(WorkerError::Thread { service: self.service.clone(), what: "panicked".to_owned() })
        });
        if result.is_err() {
            stop_all(&self.stop);
        }
        result
    }

    fn work_as(&self, names: &Names) -> Result<(), WorkerError> {
        let (mut in_a_row, mut held) = (0, 0);
        let mut rejoined_until = None;
        loop {
            let mut worker = Worker::new(self, names)?;
            let mut result = worker.run().map_err(|error| worker.explain(error));
            if let Err(WorkerError::Loop { source: CoreError::Fenced { .. }, .. }) = &result
                && let Err(replaced) = worker.still_in_its_place()
            {
                result = Err(replaced);
            }
            if worker.core.counters().commits > 0 {
                (in_a_row, held) = (0, 0);
            }
            worker.close();
            match result {
                Err(WorkerError::Loop { source: CoreError::Held { what }, .. }) if held < HELD => {
                    if held.is_multiple_of(WARN_HELD) {
                        measure::held(&self.service, &names.id, &what);
                    }
                    held += 1;
                    if self.stop.shutdown.sleep(HELD_PAUSE) || self.stop.is_set() {
                        return Ok(());
                    }
                }
                Err(WorkerError::Loop {
                    source: CoreError::Client { what } | CoreError::Fenced { what },
                    ..
                }) if in_a_row < REBUILDS => {
                    in_a_row += 1;
                    measure::rebuilt(&self.service, &names.id, &what);
                    if self.stop.shutdown.sleep(Duration::from_millis(200) * in_a_row) || self.stop.is_set() {
                        return Ok(());
                    }
                }
                Err(WorkerError::Loop { source: CoreError::Replaced { what }, .. })
                    if rejoined_until.is_none_or(is_past) =>
                {
                    rejoined_until = Some(in_the_future(REJOINED));
                    measure::rebuilt(&self.service, &names.id, &what);
                    if self.stop.is_set() {
                        return Ok(());
                    }
                }
                result => return result,
            }
        }
    }
}

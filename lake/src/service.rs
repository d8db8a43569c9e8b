//! The service `lake`: a thread per table that reads its topic from where the table stands and
//! commits. A table that is slow or stuck holds up no other.

use std::sync::Arc;

use runtime::kafka::{Isolation, Reader};
use runtime::shutdown::Shutdown;
use schemas::table::RowEncoder;

use crate::Config;
use crate::error::{Error, Result};
use crate::keeper::{Keeper, Place, Stop};
use crate::source::{Source, SourceError};
use crate::status::Status;

/// Makes an empty encoder of a table's rows, or says why it cannot now.
pub type MakeEncoder = Box<dyn Fn() -> Result<Box<dyn RowEncoder>, SourceError> + Send>;

/// A table to keep.
pub struct TableSpec {
    /// Its name.
    pub table: String,
    /// Its topic, prefix included. Tables may share one: each has a position of its own.
    pub topic: Arc<str>,
    /// Makes what makes rows of the topic's records; again when a record has a schema that the last one did
    /// not know. Columns that are new then are added to the table.
    pub encoder: MakeEncoder,
    /// What compaction clusters it by; nothing: it keeps the topic's order.
    pub clustered_by: &'static [&'static str],
}

/// Runs the service against a cluster until shutdown. A last commit is made when stopping.
///
/// # Errors
/// The first table's failure; it stops the others.
pub fn run(
    specs: Vec<TableSpec>,
    kafka: &runtime::config::Kafka,
    store: &runtime::store::Store,
    config: &Config,
    status: &Status,
    shutdown: &Shutdown,
) -> Result<()> {
    let open = |_: &str| Ok(Reader::new(kafka, Isolation::ReadCommitted)?);
    run_on(specs, open, store.root_url(), config, status, shutdown)
}

/// Runs the service until shutdown, on the calling thread and one more per table; a table that
/// fails stops the others.
///
/// # Errors
/// The first table's failure.
pub fn run_on<S, F>(
    specs: Vec<TableSpec>,
    source: F,
    root: &str,
    config: &Config,
    status: &Status,
    shutdown: &Shutdown,
) -> Result<()>
where
    S: Source,
    F: Fn(&str) -> Result<S, SourceError> + Sync,
{
    config.check().map_err(Error::Config)?;
    for wanted in &config.tables {
        if !specs.iter().any(|spec| spec.table == *wanted) {
            return Err(Error::Config(format!("lake.tables names {wanted:?}, and there is no such table")));
        }
    }
    let io = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("lake-io")
        .enable_all()
        .build()
        .map_err(|error| Error::Thread(error.to_string()))?;
    let handle = io.handle().clone();
    // A table's end must end the others, but only these: the caller's flag stays the caller's.
    let stop = Stop::new(shutdown);
    let place = Place { source: &source, root, config, status, stop: &stop };
    std::thread::scope(|scope| {
        let mut running = Vec::new();
        for spec in specs {
            if !config.tables.is_empty() && !config.tables.contains(&spec.table) {
                continue;
            }
            let name = spec.table.clone();
            let (handle, stop) = (handle.clone(), &stop);
            let thread =
                std::thread::Builder::new().name(format!("lake-{name}")).spawn_scoped(scope, move || {
                    let ended = Keeper::run(&spec, place, &handle);
                    if ended.is_err() {
                        stop.fail();
                    }
                    ended
                });
            match thread {
                Ok(thread) => running.push((name, thread)),
                Err(error) => {
                    stop.fail();
                    return Err(Error::Thread(error.to_string()));
                }
            }
        }
        let mut first = Ok(());
        for (name, thread) in running {
            let ended = thread.join().unwrap_or_else(|_| {
                stop.fail();
                Err(Error::Thread(format!("the thread of table {name} panicked")))
            });
            if let Err(error) = ended {
                tracing::error!(table = name, %error, "the table stopped");
                if first.is_ok() {
                    first = Err(error);
                }
            }
        }
        first
    })
}

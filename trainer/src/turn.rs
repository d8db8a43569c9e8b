//! A turn at training: the lease, kept alive beside the work, and the work stopped if it is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use runtime::shutdown::Shutdown;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use crate::lease::{Lease, Leases};
use crate::trainer::wall_clock_ms;
use crate::{Error, telemetry};

/// Being the one that trains.
#[derive(Debug)]
pub(crate) struct Turn {
    shared: Arc<Shared>,
    keeper: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    leases: Leases,
    lease: Mutex<Lease>,
    holder: String,
    /// Stops the work: when all stops, or when the lease is lost.
    stop: Shutdown,
    lost: AtomicBool,
    /// The turn is over.
    over: Shutdown,
}

impl Turn {
    /// Takes the lease and keeps it.
    ///
    /// # Errors
    /// [`Error::Busy`] while another has it.
    pub(crate) async fn take(leases: Leases, stop: &Shutdown) -> Result<Self, Error> {
        let host = std::env::var("HOSTNAME").unwrap_or_else(|_| "this host".to_owned());
        let holder = format!("process {} on {host}", std::process::id());
        let lease = leases.take(&holder, wall_clock_ms()).await?;
        let shared = Arc::new(Shared {
            leases,
            lease: Mutex::new(lease),
            holder,
            stop: Shutdown::new(),
            lost: AtomicBool::new(false),
            over: Shutdown::new(),
        });
        let keeper = tokio::spawn(keep(Arc::clone(&shared), stop.clone()));
        Ok(Self { shared, keeper: Some(keeper) })
    }

    /// What the work is to watch.
    pub(crate) fn stop(&self) -> &Shutdown {
        &self.shared.stop
    }

    /// Whether the lease was lost; the work then has been asked to stop.
    pub(crate) fn lost(&self) -> bool {
        self.shared.lost.load(Ordering::SeqCst)
    }

    /// Makes sure that the lease is ours, before something is written.
    ///
    /// # Errors
    /// [`Error::LeaseLost`].
    pub(crate) async fn check(&self) -> Result<(), Error> {
        let lease = self.shared.lease.lock().await;
        self.shared.leases.check(&lease).await
    }

    /// Ends the turn. A lease that cannot be given back runs out.
    pub(crate) async fn end(mut self) {
        self.shared.over.set();
        if let Some(keeper) = self.keeper.take() {
            // It ends as soon as it sees `over`; a panic in it leaves the lease to run out.
            let _ended = keeper.await;
        }
        if !self.lost() {
            let lease = self.shared.lease.lock().await;
            if let Err(error) = self.shared.leases.give_back(&lease, &self.shared.holder).await {
                telemetry::lease_trouble(&error);
            }
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.shared.over.set();
    }
}

async fn keep(shared: Arc<Shared>, all: Shutdown) {
    let pause = Duration::from_millis(shared.leases.lasts_ms().unsigned_abs() / 3);
    let mut next = Box::pin(tokio::time::sleep(pause));
    loop {
        tokio::select! {
            () = shared.over.wait() => return,
            // The lease is kept while the work ends.
            () = all.wait(), if !shared.stop.is_set() => shared.stop.set(),
            () = &mut next => {
                next = Box::pin(tokio::time::sleep(pause));
                let mut lease = shared.lease.lock().await;
                match shared.leases.prolong(&mut lease, &shared.holder, wall_clock_ms()).await {
                    Ok(()) => {}
                    Err(error @ Error::LeaseLost { .. }) => {
                        telemetry::lease_trouble(&error);
                        shared.lost.store(true, Ordering::SeqCst);
                        shared.stop.set();
                        return;
                    }
                    // Tried again in time: it lasts three pauses.
                    Err(error) => telemetry::lease_trouble(&error),
                }
            }
        }
    }
}

//! The HTTP listener for those who watch: `/healthz`, `/readyz`, `/metrics`; and for those who scale:
//! `POST /drain` stops the process for good. Whoever reaches it may do that: it listens on loopback unless
//! configured otherwise.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};

use crate::shutdown::Shutdown;
use crate::telemetry::Metrics;

/// Why there is no listener.
#[derive(Debug, thiserror::Error)]
#[error("admin.listen {listen:?}: {source}; choose a free port, or 0 to be given one (fatal)")]
pub struct AdminError {
    /// As configured.
    pub listen: String,
    /// What the system said.
    pub source: std::io::Error,
}

/// Which parts of the process are ready. Cheap to clone; all clones are one.
#[derive(Clone, Default)]
pub struct Readiness(Arc<Mutex<BTreeMap<String, Option<String>>>>);

impl fmt::Debug for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Readiness({:?})", self.waiting())
    }
}

impl Readiness {
    /// Nothing is expected, so the process is ready.
    pub fn new() -> Self {
        Self::default()
    }

    /// A part that the process waits for; `why` is shown until it is ready.
    pub fn expect(&self, part: &str, why: &str) {
        self.set(part, Some(why.to_owned()));
    }

    /// The part is ready.
    pub fn ready(&self, part: &str) {
        self.set(part, None);
    }

    /// The parts that are not ready, and why.
    pub fn waiting(&self) -> Vec<(String, String)> {
        let parts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        parts.iter().filter_map(|(part, why)| Some((part.clone(), why.clone()?))).collect()
    }

    /// Whether no part is waited for.
    pub fn is_ready(&self) -> bool {
        self.waiting().is_empty()
    }

    fn set(&self, part: &str, why: Option<String>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(part.to_owned(), why);
    }
}

#[derive(Clone)]
struct Shared {
    readiness: Readiness,
    metrics: Metrics,
    shutdown: Shutdown,
}

/// Serves until shutdown; returns the address that it listens on, `None` where the configuration
/// wants no listener. Must be called in a tokio runtime.
///
/// `/healthz` answers 200 unless a part has failed; `/readyz` 200 when all parts are ready and
/// nothing is stopping, 503 with the reasons otherwise; `/metrics` in Prometheus' text format. `POST /drain`
/// answers 202 and stops everything as SIGTERM does, but leaves the consumer groups first, so that other
/// instances take the partitions over at once instead of when the session ends.
///
/// # Errors
/// The address cannot be listened on.
pub async fn serve(
    listen: &str,
    readiness: Readiness,
    metrics: Metrics,
    shutdown: Shutdown,
) -> Result<Option<SocketAddr>, AdminError> {
    if listen.is_empty() {
        return Ok(None);
    }
    let failed = |source| AdminError { listen: listen.to_owned(), source };
    let listener = tokio::net::TcpListener::bind(listen).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let stop = shutdown.clone();
    let routes = Router::new()
        .route("/healthz", get(health))
        .route("/readyz", get(ready))
        .route("/metrics", get(all_metrics))
        .route("/drain", post(drain))
        .with_state(Shared { readiness, metrics, shutdown: shutdown.clone() });
    tokio::spawn(async move {
        let serving = axum::serve(listener, routes).with_graceful_shutdown(async move { stop.wait().await });
        shutdown.guard("admin listener").finish(serving.await);
    });
    tracing::info!(%address, "admin listener is up");
    Ok(Some(address))
}

async fn health(State(shared): State<Shared>) -> Response {
    match shared.shutdown.failure() {
        None => "ok\n".into_response(),
        Some(failure) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{failure}\n")).into_response(),
    }
}

async fn ready(State(shared): State<Shared>) -> Response {
    if shared.shutdown.is_set() {
        return (StatusCode::SERVICE_UNAVAILABLE, "stopping\n").into_response();
    }
    let waiting = shared.readiness.waiting();
    if waiting.is_empty() {
        return "ready\n".into_response();
    }
    let reasons: Vec<String> = waiting.iter().map(|(part, why)| format!("{part}: {why}")).collect();
    (StatusCode::SERVICE_UNAVAILABLE, reasons.join("\n") + "\n").into_response()
}

async fn drain(State(shared): State<Shared>) -> Response {
    tracing::info!("asked to stop for good: leaving the consumer groups");
    shared.shutdown.drain();
    (StatusCode::ACCEPTED, "draining\n").into_response()
}

async fn all_metrics(State(shared): State<Shared>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], shared.metrics.render()).into_response()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    async fn get(address: SocketAddr, path: &str) -> (u16, String) {
        ask(address, "GET", path).await
    }

    async fn ask(address: SocketAddr, method: &str, path: &str) -> (u16, String) {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let request = format!("{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).await.unwrap();
        let (head, body) = response.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    #[tokio::test]
    async fn answers_for_health_readiness_and_metrics() {
        let (readiness, shutdown) = (Readiness::new(), Shutdown::new());
        let metrics = crate::telemetry::metrics().unwrap();
        readiness.expect("ingest", "is reading the catalogue");
        let address =
            serve("127.0.0.1:0", readiness.clone(), metrics, shutdown.clone()).await.unwrap().unwrap();
        assert_eq!(get(address, "/healthz").await, (200, "ok\n".to_owned()));
        assert_eq!(get(address, "/readyz").await, (503, "ingest: is reading the catalogue\n".to_owned()));
        readiness.ready("ingest");
        assert_eq!(get(address, "/readyz").await, (200, "ready\n".to_owned()));
        metrics::counter!("salience_test_events_total", "service" => "ingest").increment(3);
        metrics::histogram!("salience_test_seconds").record(0.02);
        let (status, text) = get(address, "/metrics").await;
        assert_eq!(status, 200);
        assert!(text.contains("salience_test_events_total{service=\"ingest\"} 3"), "{text}");
        assert!(text.contains("salience_test_seconds_bucket{le=\"0.025\"} 1"), "{text}");
        assert_eq!(get(address, "/nothing").await.0, 404);
        // A look does not stop anything.
        assert_eq!(get(address, "/drain").await.0, 405);
        assert!(!shutdown.is_set());

        let error = serve(
            &address.to_string(),
            readiness.clone(),
            crate::telemetry::metrics().unwrap(),
            Shutdown::new(),
        )
        .await
        .unwrap_err();
        assert!(error.to_string().contains("choose a free port, or 0"), "{error}");
        let none = serve("", readiness, crate::telemetry::metrics().unwrap(), Shutdown::new()).await;
        assert_eq!(none.unwrap(), None);
        assert_eq!(ask(address, "POST", "/drain").await, (202, "draining\n".to_owned()));
        assert!(shutdown.is_draining());
        let stopped = async {
            while tokio::net::TcpStream::connect(address).await.is_ok() {
                // Between looks at the condition; the test ends by it, or by its time-out.
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(10), stopped).await.unwrap();
        assert_eq!(shutdown.exit_code(), 0);
    }
}

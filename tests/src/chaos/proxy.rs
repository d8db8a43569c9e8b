//! The network between services and brokers: a listener for each pair, since clients follow the
//! addresses that brokers advertise. It passes bytes on as they are, or not.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::frames::{END_TXN, Frames};

/// Bytes passed on at once.
const PIECE: usize = 16 << 10;

/// What the network does to a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// Passes all on.
    Open,
    /// Closes connections, those that are there and those that come.
    Cut,
    /// Passes nothing on. What was sent waits, as TCP would have it, until the pair is open again.
    Silent,
    /// Passes on later, each piece.
    Delayed(Duration),
    /// Passes so many bytes a second on, in each direction of each connection.
    Throttled(u32),
}

/// A pair of a service and a broker.
#[derive(Debug)]
pub(super) struct Link {
    mode: watch::Sender<Mode>,
    wire: Mutex<Option<mpsc::Sender<()>>>,
}

impl Link {
    fn new() -> Self {
        Self { mode: watch::Sender::new(Mode::Open), wire: Mutex::default() }
    }

    /// From now on the network does this.
    pub(super) fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    /// Tells as soon as the service has asked the broker to end a transaction: the request has been
    /// passed on, and the answer has not come.
    pub(super) fn at_next_commit(&self) -> mpsc::Receiver<()> {
        let (sender, receiver) = mpsc::channel();
        *self.wire.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
        receiver
    }

    fn ends_a_transaction(&self) {
        if let Some(wire) = self.wire.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // Who waits no longer needs no telling.
            let _told = wire.send(());
        }
    }
}

/// All pairs, served by a thread of their own.
pub(super) struct Proxy {
    runtime: tokio::runtime::Runtime,
}

impl Proxy {
    /// Without pairs.
    ///
    /// # Errors
    /// A thread that cannot be started.
    pub(super) fn new() -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("chaos-proxy")
            .enable_all()
            .build()
            .context("the proxy's thread cannot be started")?;
        Ok(Self { runtime })
    }

    /// One more pair: clients connect to `listen`, and are passed on to `broker`.
    ///
    /// # Errors
    /// A port that is taken.
    pub(super) fn link(&self, listen: SocketAddr, broker: SocketAddr) -> Result<Arc<Link>> {
        let listener = self
            .runtime
            .block_on(TcpListener::bind(listen))
            .with_context(|| format!("the proxy cannot listen on {listen}"))?;
        let link = Arc::new(Link::new());
        self.runtime.spawn(accept(listener, broker, Arc::clone(&link)));
        Ok(link)
    }
}

async fn accept(listener: TcpListener, broker: SocketAddr, link: Arc<Link>) {
    loop {
        // A connection that was gone before it was taken is none.
        let Ok((client, _)) = listener.accept().await else { continue };
        tokio::spawn(connect(client, broker, Arc::clone(&link)));
    }
}

async fn connect(client: TcpStream, broker: SocketAddr, link: Arc<Link>) {
    let mut mode = link.mode.subscribe();
    // A silent network does not say that nobody is there.
    if mode.wait_for(|mode| *mode != Mode::Silent).await.is_err() || *mode.borrow() == Mode::Cut {
        return;
    }
    let Ok(server) = TcpStream::connect(broker).await else { return };
    if client.set_nodelay(true).is_err() || server.set_nodelay(true).is_err() {
        return;
    }
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    // Both directions end when one does: half a connection is of no use to Kafka.
    tokio::select! {
        () = pass(from_client, to_server, mode.clone(), Some(&link)) => {}
        () = pass(from_server, to_client, mode, None) => {}
    }
}

/// Passes bytes on until either end closes or the pair is cut.
async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut mode: watch::Receiver<Mode>,
    requests: Option<&Link>,
) {
    let mut frames = Frames::default();
    let mut piece = vec![0; PIECE];
    loop {
        let read = tokio::select! {
            read = from.read(&mut piece) => read,
            cut = mode.wait_for(|mode| *mode == Mode::Cut) => {
                drop(cut);
                return;
            }
        };
        let Ok(length @ 1..) = read else { return };
        let passing = match mode.wait_for(|mode| *mode != Mode::Silent).await {
            Ok(passing) => *passing,
            Err(_) => return,
        };
        let written = match passing {
            Mode::Cut => return,
            Mode::Open | Mode::Silent => to.write_all(&piece[..length]).await,
            Mode::Delayed(by) => {
                tokio::time::sleep(by).await;
                to.write_all(&piece[..length]).await
            }
            Mode::Throttled(rate) => throttled(&mut to, &piece[..length], rate, &mode).await,
        };
        if written.is_err() {
            return;
        }
        if let Some(link) = requests
            && frames.take(&piece[..length]).contains(&END_TXN)
        {
            link.ends_a_transaction();
        }
    }
}

/// Writes in tenths of a second's worth, as long as the pair is throttled.
async fn throttled(
    to: &mut OwnedWriteHalf,
    bytes: &[u8],
    rate: u32,
    mode: &watch::Receiver<Mode>,
) -> std::io::Result<()> {
    for tenth in bytes.chunks((rate as usize / 10).max(1)) {
        if matches!(*mode.borrow(), Mode::Throttled(_)) {
            let takes = Duration::from_secs_f64(tenth.len() as f64 / f64::from(rate.max(1)));
            tokio::time::sleep(takes).await;
        }
        to.write_all(tenth).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::{Read, Write};
    use std::net::{Shutdown, TcpListener, TcpStream};
    use std::time::Duration;

    use super::super::clock;
    use super::*;

    /// A broker that sends back what it is sent.
    fn echo() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                std::thread::spawn(move || {
                    let mut bytes = [0; 4096];
                    while let Ok(length @ 1..) = stream.read(&mut bytes) {
                        if stream.write_all(&bytes[..length]).is_err() {
                            break;
                        }
                    }
                });
            }
        });
        address
    }

    struct Pair {
        _proxy: Proxy,
        link: Arc<Link>,
        at: SocketAddr,
    }

    fn pair() -> Pair {
        let proxy = Proxy::new().unwrap();
        // A free port, as far as anybody can know.
        let at = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let link = proxy.link(at, echo()).unwrap();
        Pair { _proxy: proxy, link, at }
    }

    fn said(stream: &mut TcpStream, bytes: &[u8]) -> std::io::Result<()> {
        stream.write_all(bytes)?;
        let mut back = vec![0; bytes.len()];
        stream.read_exact(&mut back)?;
        assert_eq!(back, bytes);
        Ok(())
    }

    #[test]
    fn a_cut_closes_what_is_there_and_what_comes_until_it_is_mended() {
        let pair = pair();
        let mut old = TcpStream::connect(pair.at).unwrap();
        said(&mut old, b"before").unwrap();
        pair.link.set(Mode::Cut);
        let mut rest = Vec::new();
        // Closed or reset: over in any case.
        assert!(!matches!(old.read_to_end(&mut rest), Ok(1..)));
        let mut new = TcpStream::connect(pair.at).unwrap();
        assert!(said(&mut new, b"during").is_err());
        pair.link.set(Mode::Open);
        let mut new = TcpStream::connect(pair.at).unwrap();
        said(&mut new, b"after").unwrap();
        new.shutdown(Shutdown::Both).unwrap();
    }

    #[test]
    fn silence_holds_bytes_back_and_loses_none() {
        let pair = pair();
        let mut stream = TcpStream::connect(pair.at).unwrap();
        said(&mut stream, b"before").unwrap();
        pair.link.set(Mode::Silent);
        stream.write_all(b"during").unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let mut back = [0; 6];
        assert!(stream.read_exact(&mut back).is_err(), "something came through the silence");
        pair.link.set(Mode::Open);
        stream.set_read_timeout(None).unwrap();
        stream.read_exact(&mut back).unwrap();
        assert_eq!(&back, b"during");
    }

    #[test]
    fn a_slow_network_passes_all_on_later() {
        let pair = pair();
        let mut stream = TcpStream::connect(pair.at).unwrap();
        for (mode, at_least) in [
            (Mode::Delayed(Duration::from_millis(60)), Duration::from_millis(120)),
            (Mode::Throttled(10_000), Duration::from_millis(200)),
        ] {
            pair.link.set(mode);
            let began = clock::now();
            said(&mut stream, &[7; 1_000]).unwrap();
            assert!(began.elapsed() >= at_least, "{mode:?} took {:?}", began.elapsed());
        }
    }

    #[test]
    fn the_wire_tells_of_the_end_of_a_transaction_and_of_nothing_else() {
        let pair = pair();
        let mut stream = TcpStream::connect(pair.at).unwrap();
        let told = pair.link.at_next_commit();
        said(&mut stream, &[0, 0, 0, 3, 0, 24, 1]).unwrap();
        assert!(told.try_recv().is_err());
        said(&mut stream, &[0, 0, 0, 3, 0, 26, 1]).unwrap();
        told.recv_timeout(Duration::from_secs(10)).unwrap();
    }
}

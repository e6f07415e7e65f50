//! A small TCP forwarder on a colour's own address: what a load balancer is in a real deployment.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;
use tracing::debug;

use crate::net_runtime;

/// How long a backend may take to accept before the next one is tried.
const BACKEND_CONNECT: Duration = Duration::from_secs(1);
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

/// Forwards connections on one address to backends in turn, leaving out those that do not accept. Open and closed
/// like a load balancer's listener; ends with its handle.
#[derive(Debug)]
pub struct Forwarder {
    listen: SocketAddr,
    backends: Arc<Backends>,
    serving: Mutex<Option<Serving>>,
}

/// The task that owns the listener and the connections, and what tells it to let go of them.
#[derive(Debug)]
struct Serving {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Backends {
    addresses: Mutex<Vec<SocketAddr>>,
    next: AtomicUsize,
}

impl Forwarder {
    /// Listens on an address (port 0 takes a free one) and forwards to the backends.
    ///
    /// # Errors
    /// The address cannot be bound; the text names it.
    pub async fn open(listen: SocketAddr, backends: Vec<SocketAddr>) -> io::Result<Self> {
        let backends = Arc::new(Backends { addresses: Mutex::new(backends), next: AtomicUsize::new(0) });
        let (listen, serving) = serve(listen, Arc::clone(&backends)).await?;
        Ok(Self { listen, backends, serving: Mutex::new(Some(serving)) })
    }

    /// The address it stands on, also while it is closed.
    pub fn address(&self) -> SocketAddr {
        self.listen
    }

    /// Whether it takes connections.
    pub fn is_open(&self) -> bool {
        self.serving.lock().is_some()
    }

    /// Changes where new connections go.
    pub fn set_backends(&self, backends: Vec<SocketAddr>) {
        *self.backends.addresses.lock() = backends;
    }

    /// Cuts every open connection and refuses new ones. Returns when that is so. Closing twice is harmless.
    pub async fn close(&self) {
        let serving = self.serving.lock().take();
        if let Some(serving) = serving {
            let _ = serving.stop.send(());
            let _ = serving.task.await;
        }
    }

    /// Takes connections again on the same address. Opening an open one is harmless.
    ///
    /// # Errors
    /// Something else has taken the address meanwhile.
    pub async fn reopen(&self) -> io::Result<()> {
        if self.is_open() {
            return Ok(());
        }
        let (_, serving) = serve(self.listen, Arc::clone(&self.backends)).await?;
        *self.serving.lock() = Some(serving);
        Ok(())
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        if let Some(serving) = self.serving.lock().take() {
            serving.task.abort();
        }
    }
}

async fn serve(listen: SocketAddr, backends: Arc<Backends>) -> io::Result<(SocketAddr, Serving)> {
    // The listener must belong to the runtime that polls it.
    let bound = net_runtime::handle().spawn(async move { TcpListener::bind(listen).await });
    let listener = bound.await.map_err(io::Error::other)?.map_err(|error| {
        io::Error::new(error.kind(), format!("cannot listen on {listen}: {error}; choose another port"))
    })?;
    let address = listener.local_addr()?;
    let (stop, stopped) = oneshot::channel();
    let task = net_runtime::handle().spawn(accept(listener, backends, stopped));
    Ok((address, Serving { stop, task }))
}

async fn accept(listener: TcpListener, backends: Arc<Backends>, mut stopped: oneshot::Receiver<()>) {
    // Dropping the set, when this task is aborted, aborts every connection in it.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((client, peer)) => {
                    debug!(%peer, "forwarder: new connection");
                    connections.spawn(forward(client, Arc::clone(&backends)));
                }
                Err(error) => {
                    debug!(%error, "forwarder: accept failed");
                    // Without a free descriptor it fails again at once.
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
            _ = &mut stopped => break,
        }
    }
    drop(listener);
    connections.shutdown().await;
}

async fn forward(mut client: TcpStream, backends: Arc<Backends>) {
    let Some(mut backend) = backends.connect().await else {
        debug!("forwarder: no backend accepts; connection dropped");
        return;
    };
    let _ = client.set_nodelay(true);
    let _ = backend.set_nodelay(true);
    if let Err(error) = copy_bidirectional(&mut client, &mut backend).await {
        debug!(%error, "forwarder: connection ended");
    }
}

impl Backends {
    /// A connection to the next backend in turn that accepts one.
    async fn connect(&self) -> Option<TcpStream> {
        let addresses = self.addresses.lock().clone();
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        for step in 0..addresses.len() {
            let address = addresses[(first + step) % addresses.len()];
            match timeout(BACKEND_CONNECT, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => return Some(stream),
                Ok(Err(error)) => debug!(%address, %error, "forwarder: backend left out"),
                Err(_) => debug!(%address, "forwarder: backend is silent and left out"),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddrV4};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const FREE: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0));
    /// Nobody else looks for a free port here, so that one which a backend has left stays free.
    const OF_BACKENDS: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::new(127, 77, 0, 1), 0));
    const BOUND: Duration = Duration::from_secs(10);

    /// A server that says one letter and then holds the connection.
    async fn letter(letter: u8) -> (SocketAddr, JoinHandle<()>) {
        let listener = TcpListener::bind(OF_BACKENDS).await.expect("bind");
        let address = listener.local_addr().expect("address");
        let task = tokio::spawn(async move {
            let mut held = Vec::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.write_all(&[letter]).await;
                held.push(stream);
            }
        });
        (address, task)
    }

    async fn read_letter(from: SocketAddr) -> io::Result<(u8, TcpStream)> {
        let mut stream = TcpStream::connect(from).await?;
        let letter = timeout(BOUND, stream.read_u8()).await.expect("an answer in time")?;
        Ok((letter, stream))
    }

    #[tokio::test]
    async fn goes_round_its_backends_and_leaves_out_the_dead() {
        let (a, _task_a) = letter(b'a').await;
        let (b, task_b) = letter(b'b').await;
        let forwarder = Forwarder::open(FREE, vec![a, b]).await.expect("open");
        let mut seen = Vec::new();
        for _ in 0..4 {
            seen.push(read_letter(forwarder.address()).await.expect("a backend").0);
        }
        assert_eq!(seen, b"abab");
        task_b.abort();
        let _ = task_b.await;
        // A process that another test is just starting has a copy of the listener until it runs its own program.
        let gone = async {
            while TcpStream::connect(b).await.is_ok() {
                tokio::task::yield_now().await;
            }
        };
        timeout(BOUND, gone).await.expect("nobody listens any more");
        for _ in 0..4 {
            assert_eq!(read_letter(forwarder.address()).await.expect("the living backend").0, b'a');
        }
    }

    #[tokio::test]
    async fn closing_cuts_and_refuses_and_reopening_serves_again() {
        let (a, _task) = letter(b'a').await;
        let forwarder = Forwarder::open(FREE, vec![a]).await.expect("open");
        let (_, mut stream) = read_letter(forwarder.address()).await.expect("open");
        forwarder.close().await;
        let end = timeout(BOUND, stream.read_u8()).await.expect("the connection is cut");
        assert!(end.is_err(), "no more bytes");
        assert!(read_letter(forwarder.address()).await.is_err(), "refused while closed");
        forwarder.reopen().await.expect("reopen");
        assert_eq!(read_letter(forwarder.address()).await.expect("open again").0, b'a');
    }

    #[tokio::test]
    async fn an_address_in_use_is_named() {
        let (a, _task) = letter(b'a').await;
        let error = Forwarder::open(a, vec![]).await.expect_err("in use");
        assert!(error.to_string().contains(&a.to_string()), "{error}");
    }
}

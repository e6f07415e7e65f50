//! A path to one broker on which a kind of request can be held, so that something happens between what a caller read and
//! what it then changes.

#![allow(unreachable_pub)]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, tcp};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// Stands before one broker. A broker tells clients to come to its own address: in what passes, that address is replaced by
/// this one, which is as long, so that every length in it stays right.
pub struct HeldPath {
    address: SocketAddr,
    held: Arc<Held>,
    accepting: JoinHandle<()>,
}

struct Held {
    /// The key of the API whose requests are held (as on the wire).
    api_key: i16,
    /// The key of the API whose requests are answered no more once those have passed.
    silent_then: i16,
    /// Has a permit for each request that has come and waits.
    came: Semaphore,
    /// Has a permit for each request that may pass. Closed when all may.
    may_pass: Semaphore,
}

impl HeldPath {
    /// Opens a path to a broker that holds requests of one API, and has no answer to those of another one later.
    pub async fn open(broker: SocketAddr, api_key: i16, silent_then: i16) -> Self {
        let (listener, address) = beside(broker).await;
        let (came, may_pass) = (Semaphore::new(0), Semaphore::new(0));
        let held = Arc::new(Held { api_key, silent_then, came, may_pass });
        let for_all = Arc::clone(&held);
        let names = (broker.ip().to_string().into_bytes(), address.ip().to_string().into_bytes());
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(broker).await else { continue };
                let ((from_client, to_client), (from_server, to_server)) =
                    (client.into_split(), server.into_split());
                tokio::spawn(requests(from_client, to_server, Arc::clone(&for_all)));
                tokio::spawn(answers(from_server, to_client, names.clone()));
            }
        });
        Self { address, held, accepting }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns when a request has come that is held.
    pub async fn has_come(&self) {
        self.held.came.acquire().await.expect("open").forget();
    }

    /// Lets it pass, and all of its kind that come after it.
    pub fn let_all_pass(&self) {
        self.held.may_pass.close();
    }
}

impl Drop for HeldPath {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// A listener on the broker's port, at a loopback address whose name is as long as the broker's.
async fn beside(broker: SocketAddr) -> (TcpListener, SocketAddr) {
    let IpAddr::V4(ip) = broker.ip() else { panic!("{broker} is no IPv4 address") };
    let [a, b, c, d] = ip.octets();
    let as_long = (1..255_u8).filter(|last| *last != d && last.to_string().len() == d.to_string().len());
    for last in as_long {
        let address = SocketAddr::new(Ipv4Addr::new(a, b, c, last).into(), broker.port());
        if let Ok(listener) = TcpListener::bind(address).await {
            return (listener, address);
        }
    }
    panic!("no loopback address beside {broker} is free")
}

/// The next message, without its length. `None` at the end.
async fn message(from: &mut tcp::OwnedReadHalf) -> Option<Vec<u8>> {
    let length = from.read_u32().await.ok()?;
    let mut message = vec![0; usize::try_from(length).ok()?];
    from.read_exact(&mut message).await.ok()?;
    Some(message)
}

async fn pass_on(message: &[u8], to: &mut tcp::OwnedWriteHalf) -> Option<()> {
    to.write_u32(u32::try_from(message.len()).ok()?).await.ok()?;
    to.write_all(message).await.ok()
}

async fn requests(mut from: tcp::OwnedReadHalf, mut to: tcp::OwnedWriteHalf, held: Arc<Held>) -> Option<()> {
    loop {
        let request = message(&mut from).await?;
        if request.starts_with(&held.api_key.to_be_bytes()) {
            held.came.add_permits(1);
            // Closed, all pass.
            let _passes = held.may_pass.acquire().await.map(|permit| permit.forget());
        }
        if held.may_pass.is_closed() && request.starts_with(&held.silent_then.to_be_bytes()) {
            continue;
        }
        pass_on(&request, &mut to).await?;
    }
}

async fn answers(
    mut from: tcp::OwnedReadHalf,
    mut to: tcp::OwnedWriteHalf,
    (broker, path): (Vec<u8>, Vec<u8>),
) -> Option<()> {
    loop {
        let mut answer = message(&mut from).await?;
        for start in 0..=answer.len().saturating_sub(broker.len()) {
            if answer[start..].starts_with(&broker) {
                answer[start..start + path.len()].copy_from_slice(&path);
            }
        }
        pass_on(&answer, &mut to).await?;
    }
}

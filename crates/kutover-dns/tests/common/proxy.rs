//! Something between kutover and its name server, which loses a message of an update or holds it up.

use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// RFC 2136, 1.3.
const UPDATE: u8 = 5;

/// What becomes of the next update.
#[derive(Clone)]
pub(crate) enum Next {
    /// It never gets to the server.
    LoseRequest,
    /// It is carried out, and the reply is lost.
    LoseReply,
    /// The same, and whoever connects next is hung up on, once.
    LoseReplyAndNextConnection,
    /// It waits: `there` is told that it has come, and it goes on when `go` is.
    Hold { there: Arc<Notify>, go: Arc<Notify> },
}

/// A proxy for DNS over TCP in front of a name server.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    next: Arc<Mutex<Option<Next>>>,
    hang_up: Arc<Mutex<bool>>,
    accepting: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Proxy {
    pub(crate) async fn start(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let next = Arc::new(Mutex::new(None));
        let hang_up = Arc::new(Mutex::new(false));
        let (armed, hanging) = (Arc::clone(&next), Arc::clone(&hang_up));
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if !std::mem::take(&mut *hanging.lock()) {
                    tokio::spawn(carry(client, server, Arc::clone(&armed), Arc::clone(&hanging)));
                }
            }
        });
        Self { address, next, hang_up, accepting }
    }

    pub(crate) fn next_update(&self, next: Next) {
        *self.next.lock() = Some(next);
    }

    /// Whether all that was arranged has come to pass.
    pub(crate) fn is_through(&self) -> bool {
        self.next.lock().is_none() && !*self.hang_up.lock()
    }
}

/// One connection, message by message, until a side hangs up or a message is lost.
async fn carry(
    mut client: TcpStream,
    server: SocketAddr,
    next: Arc<Mutex<Option<Next>>>,
    hang_up: Arc<Mutex<bool>>,
) -> Option<()> {
    let mut server = TcpStream::connect(server).await.ok()?;
    loop {
        let request = message(&mut client).await?;
        let is_update = request.get(4).is_some_and(|flags| (flags >> 3) & 0xF == UPDATE);
        let fate = if is_update { next.lock().take() } else { None };
        match &fate {
            Some(Next::LoseRequest) => return None,
            Some(Next::Hold { there, go }) => {
                there.notify_one();
                go.notified().await;
            }
            Some(Next::LoseReply | Next::LoseReplyAndNextConnection) | None => {}
        }
        server.write_all(&request).await.ok()?;
        let reply = message(&mut server).await?;
        match fate {
            Some(Next::LoseReply) => return None,
            Some(Next::LoseReplyAndNextConnection) => {
                *hang_up.lock() = true;
                return None;
            }
            _ => client.write_all(&reply).await.ok()?,
        }
    }
}

/// A message with its length before it (RFC 1035, 4.2.2).
async fn message(from: &mut TcpStream) -> Option<Vec<u8>> {
    let length = from.read_u16().await.ok()?;
    let mut message = length.to_be_bytes().to_vec();
    message.resize(2 + usize::from(length), 0);
    from.read_exact(&mut message[2..]).await.ok()?;
    Some(message)
}

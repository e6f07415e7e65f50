//! A proxy that swallows a request or the reply to one, or answers by itself.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// What gets lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lost {
    Request,
    Reply,
}

/// A whole reply to a request, if it is not to be passed on.
type Answers = dyn Fn(&str) -> Option<String> + Send;
/// Told of a request whose reply has come and is about to be passed on.
type Told = dyn Fn(&str) + Send;

/// What is to be lost next, and what was.
#[derive(Default)]
struct Plan {
    /// Of requests whose text contains this.
    next: Vec<(Lost, &'static str)>,
    lost: Vec<Lost>,
    answers: Option<Box<Answers>>,
    told: Option<Box<Told>>,
}

/// It lives as long as the runtime of its test.
#[derive(Clone)]
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    plan: Arc<Mutex<Plan>>,
}

impl Proxy {
    pub(crate) async fn before(server: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let proxy = Self { address: listener.local_addr().unwrap(), plan: Arc::default() };
        let plan = Arc::clone(&proxy.plan);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let plan = Arc::clone(&plan);
                tokio::spawn(async move {
                    // A connection that breaks is what this is for.
                    let _ = relay(client, server, &plan).await;
                });
            }
        });
        proxy
    }

    /// Loses a part of the next exchange whose request contains a text.
    pub(crate) fn lose(&self, part: Lost, of: &'static str) {
        self.plan.lock().unwrap().next.push((part, of));
    }

    /// Answers requests by itself from now on.
    pub(crate) fn answers(&self, answers: impl Fn(&str) -> Option<String> + Send + 'static) {
        self.plan.lock().unwrap().answers = Some(Box::new(answers));
    }

    /// Tells of each request that was answered, before who sent it knows.
    pub(crate) fn tells(&self, told: impl Fn(&str) + Send + 'static) {
        self.plan.lock().unwrap().told = Some(Box::new(told));
    }

    pub(crate) fn lost(&self) -> Vec<Lost> {
        self.plan.lock().unwrap().lost.clone()
    }
}

/// One exchange per connection: what is lost is lost by closing it.
async fn relay(mut client: TcpStream, server: SocketAddr, plan: &Mutex<Plan>) -> std::io::Result<()> {
    let request = whole_request(&mut client).await?;
    let text = String::from_utf8_lossy(&request).into_owned();
    let (lost, answer) = {
        let mut plan = plan.lock().unwrap();
        let found = plan.next.iter().position(|(_, of)| text.contains(of));
        let lost = found.map(|place| plan.next.remove(place).0);
        plan.lost.extend(lost);
        (lost, plan.answers.as_ref().and_then(|answers| answers(&text)))
    };
    if let Some(answer) = answer {
        return client.write_all(answer.as_bytes()).await;
    }
    if lost == Some(Lost::Request) {
        return Ok(());
    }
    let mut upstream = TcpStream::connect(server).await?;
    upstream.write_all(text.replacen("\r\n", "\r\nConnection: close\r\n", 1).as_bytes()).await?;
    let mut reply = Vec::new();
    upstream.read_to_end(&mut reply).await?;
    if let Some(told) = &plan.lock().unwrap().told {
        told(&text);
    }
    if lost == Some(Lost::Reply) {
        return Ok(());
    }
    client.write_all(&reply).await
}

/// An XML document as a whole reply.
pub(crate) fn reply(status: &str, document: &str) -> String {
    let length = document.len();
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/xml\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{document}"
    )
}

/// Head and body; nothing that is sent here is in chunks.
async fn whole_request(client: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut request = Vec::new();
    loop {
        let mut bytes = vec![0; 16 * 1024];
        let read = client.read(&mut bytes).await?;
        if read == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        request.extend_from_slice(&bytes[..read]);
        let text = String::from_utf8_lossy(&request);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.to_ascii_lowercase().lines().find_map(|line| {
            line.strip_prefix("content-length:").and_then(|length| length.trim().parse::<usize>().ok())
        });
        if body.len() >= length.unwrap_or(0) {
            return Ok(request);
        }
    }
}

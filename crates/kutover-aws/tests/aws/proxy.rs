//! A proxy that swallows a request, or the reply to one; that keeps requests waiting; that answers by itself; and
//! that changes what is said, so that a defence can be seen to be missed.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Barrier, Notify};

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

/// What happens to one exchange.
#[derive(Clone, Debug)]
pub(crate) enum Deed {
    /// Nothing.
    Pass,
    Lose(Lost),
    /// It waits until it is let go.
    Hold(Held),
    /// It waits until as many others have come.
    Meet(Arc<Barrier>),
    /// The server is not asked: it is refused with a status and a code, as AWS words it.
    Refuse(u16, &'static str),
}

/// A request that waits.
#[derive(Clone, Debug, Default)]
pub(crate) struct Held {
    arrived: Arc<Notify>,
    let_go: Arc<Notify>,
}

impl Held {
    /// Returns when it has come.
    pub(crate) async fn arrived(&self) {
        self.arrived.notified().await;
    }

    pub(crate) fn let_go(&self) {
        self.let_go.notify_one();
    }
}

/// Changes a text that it knows.
pub(crate) type Edit = fn(&str) -> String;

/// What is to be done next, and what was lost.
#[derive(Default)]
struct Plan {
    /// To exchanges whose request contains this text, in this order.
    next: Vec<(Deed, &'static str)>,
    lost: Vec<Lost>,
    /// Every request that came.
    seen: Vec<String>,
    answers: Option<Box<Answers>>,
    told: Option<Box<Told>>,
    requests: Option<Edit>,
    replies: Option<Edit>,
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
        self.then(Deed::Lose(part), of);
    }

    /// What happens to the next exchange whose request contains a text, and for which nothing else is planned.
    pub(crate) fn then(&self, deed: Deed, of: &'static str) {
        self.plan.lock().unwrap().next.push((deed, of));
    }

    /// Changes every request from here on.
    pub(crate) fn edit_requests(&self, edit: Edit) {
        self.plan.lock().unwrap().requests = Some(edit);
    }

    /// Changes every reply from here on.
    pub(crate) fn edit_replies(&self, edit: Edit) {
        self.plan.lock().unwrap().replies = Some(edit);
    }

    /// Answers requests by itself from now on.
    pub(crate) fn answers(&self, answers: impl Fn(&str) -> Option<String> + Send + 'static) {
        self.plan.lock().unwrap().answers = Some(Box::new(answers));
    }

    /// Tells of each request that was answered, before who sent it knows.
    pub(crate) fn tells(&self, told: impl Fn(&str) + Send + 'static) {
        self.plan.lock().unwrap().told = Some(Box::new(told));
    }

    /// The requests that came so far and contain a text.
    pub(crate) fn seen(&self, of: &str) -> Vec<String> {
        self.plan.lock().unwrap().seen.iter().filter(|request| request.contains(of)).cloned().collect()
    }

    pub(crate) fn lost(&self) -> Vec<Lost> {
        self.plan.lock().unwrap().lost.clone()
    }
}

/// One exchange per connection: what is lost is lost by closing it.
async fn relay(mut client: TcpStream, server: SocketAddr, plan: &Mutex<Plan>) -> std::io::Result<()> {
    let request = whole_request(&mut client).await?;
    let mut request = String::from_utf8_lossy(&request).into_owned();
    let (deed, answer, requests, replies) = {
        let mut plan = plan.lock().unwrap();
        plan.seen.push(request.clone());
        let found = plan.next.iter().position(|(_, of)| request.contains(of));
        let deed = found.map_or(Deed::Pass, |place| plan.next.remove(place).0);
        if let Deed::Lose(part) = &deed {
            plan.lost.push(*part);
        }
        let answer = plan.answers.as_ref().and_then(|answers| answers(&request));
        (deed, answer, plan.requests, plan.replies)
    };
    if let Some(answer) = answer {
        return client.write_all(answer.as_bytes()).await;
    }
    match &deed {
        Deed::Lose(Lost::Request) => return Ok(()),
        Deed::Refuse(status, code) => {
            let is_s3 = request.contains("x-amz-checksum") || request.contains("x-id=");
            return client.write_all(refusal(*status, code, is_s3).as_bytes()).await;
        }
        Deed::Hold(held) => {
            held.arrived.notify_one();
            held.let_go.notified().await;
        }
        Deed::Meet(others) => {
            others.wait().await;
        }
        Deed::Pass | Deed::Lose(Lost::Reply) => {}
    }
    if let Some(edit) = requests {
        request = with_its_length(&edit(&request));
    }
    let mut upstream = TcpStream::connect(server).await?;
    upstream.write_all(request.replacen("\r\n", "\r\nConnection: close\r\n", 1).as_bytes()).await?;
    let mut reply = Vec::new();
    upstream.read_to_end(&mut reply).await?;
    if let Some(told) = &plan.lock().unwrap().told {
        told(&request);
    }
    if matches!(deed, Deed::Lose(Lost::Reply)) {
        return Ok(());
    }
    if let Some(edit) = replies {
        reply = with_its_length(&edit(&String::from_utf8_lossy(&reply))).into_bytes();
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

/// An answer that every service's client here understands: S3 has no outer element, the others do.
fn refusal(status: u16, code: &str, is_s3: bool) -> String {
    let error = format!("<Error><Code>{code}</Code><Message>as the test wants it</Message></Error>");
    let body = if is_s3 { error } else { format!("<ErrorResponse>{error}</ErrorResponse>") };
    reply(&format!("{status} No"), &body)
}

/// A message whose body may have another length than it says.
fn with_its_length(message: &str) -> String {
    let Some((head, body)) = message.split_once("\r\n\r\n") else { return message.to_owned() };
    let is_length = |line: &&str| line.to_ascii_lowercase().starts_with("content-length:");
    let mut lines: Vec<_> = head.split("\r\n").filter(|line| !is_length(line)).collect();
    let length = format!("Content-Length: {}", body.len());
    lines.push(&length);
    format!("{}\r\n\r\n{body}", lines.join("\r\n"))
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

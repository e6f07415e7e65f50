//! [`Journal`] as one object in S3.
//!
//! ```text
//! kutover-journal 1
//! 9a0b11e4 1f6c..d2 {"index":0,"term":1,"body":{..}}
//! ```
//!
//! A line holds the CRC-32 of what follows it, the attempt that wrote it, and an entry. An append writes the whole object
//! anew, under the condition that it still is the one that was read (`If-Match`, or `If-None-Match: *` for the first), so
//! that there is never a part of an entry. The SDK's own retries are off for it: one would be refused because the first try
//! succeeded. What became of an append is looked up, and is ours if the attempt's id stands there.

use std::fmt::Write as _;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::error::ProvideErrorMetadata as _;
use aws_sdk_s3::primitives::ByteStream;
use kutover_core::error::{ErrorKind, Outcome, ProviderError, ProviderResult};
use kutover_core::ports::{Journal, JournalEntry};
use kutover_core::words::Term;
use tokio::sync::Mutex;
use uuid::Uuid;

use crate::connect::Aws;
use crate::failure::{failed, is_passing};

/// The first line: what the object is, and the version of its form.
const MAGIC: &str = "kutover-journal 1";
/// How often an append is tried whose fate is not known.
const ATTEMPTS: u32 = 5;
/// The first pause between two of them; each later one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// A journal in S3. Controllers on different machines may use the same one: the term decides between them.
#[derive(Debug)]
pub struct S3Journal {
    client: Client,
    bucket: String,
    key: String,
    /// The object as it was last seen.
    last: Mutex<Option<Document>>,
}

#[derive(Clone, Debug, Default)]
struct Document {
    /// `None` where there is no object yet.
    etag: Option<String>,
    text: String,
    lines: Vec<Line>,
}

#[derive(Clone, Debug)]
struct Line {
    attempt: String,
    entry: JournalEntry,
}

impl S3Journal {
    /// The journal at `key` in `bucket`. Nothing is asked yet; the object is made with the first entry.
    pub fn new(aws: &Aws, bucket: impl Into<String>, key: impl Into<String>) -> Self {
        let client = Client::new(aws.config());
        Self { client, bucket: bucket.into(), key: key.into(), last: Mutex::new(None) }
    }

    fn place(&self) -> String {
        format!("s3://{}/{}", self.bucket, self.key)
    }

    async fn load(&self, what: &str) -> ProviderResult<Document> {
        let request = self.client.get_object().bucket(&self.bucket).key(&self.key);
        let found = match request.send().await {
            Ok(found) => found,
            Err(error) if error.as_service_error().is_some_and(|error| error.is_no_such_key()) => {
                return Ok(Document::default());
            }
            Err(error) => return Err(self.explained(failed(what, &error)).with_outcome(Outcome::NotDone)),
        };
        let etag = found.e_tag().map(str::to_owned);
        let bytes = found.body.collect().await.map_err(|error| {
            ProviderError::new(ErrorKind::Unreachable, what, error).with_outcome(Outcome::NotDone)
        })?;
        let text = String::from_utf8(bytes.to_vec()).map_err(|error| damage(what, "the object", error))?;
        let lines = parse(what, &text)?;
        if etag.is_none() {
            return Err(ProviderError::new(ErrorKind::Invalid, what, "the answer holds no ETag"));
        }
        Ok(Document { etag, text, lines })
    }

    fn explained(&self, error: ProviderError) -> ProviderError {
        if error.kind != ErrorKind::NotFound {
            return error;
        }
        let reason = format!("{}; make the bucket `{}`, or correct `journal`", error.reason, self.bucket);
        ProviderError { reason, ..error }
    }

    /// Writes one more line behind a document, if it still is the newest.
    async fn put(&self, before: &Document, line: Line, what: &str) -> Result<Document, ProviderError> {
        let mut text = before.text.clone();
        if text.is_empty() {
            text = format!("{MAGIC}\n");
        }
        let json = serde_json::to_string(&line.entry)
            .map_err(|error| ProviderError::new(ErrorKind::Invalid, what, error))?;
        let checked = format!("{} {json}", line.attempt);
        let _ = writeln!(text, "{:08x} {checked}", crc32fast::hash(checked.as_bytes()));
        let request = self.client.put_object().bucket(&self.bucket).key(&self.key);
        let request = match &before.etag {
            Some(etag) => request.if_match(etag),
            None => request.if_none_match("*"),
        };
        let request = request.content_type("text/plain; charset=utf-8");
        let request = request.body(ByteStream::from(text.clone().into_bytes())).customize();
        let once = aws_sdk_s3::config::Config::builder().retry_config(RetryConfig::disabled());
        match request.config_override(once).send().await {
            Ok(reply) => {
                let mut lines = before.lines.clone();
                lines.push(line);
                Ok(Document { etag: reply.e_tag, text, lines })
            }
            Err(error) => {
                // 412 and 409: another object stands there, or is just being written (S3 User Guide, "Conditional writes").
                let code = error.as_service_error().and_then(|error| error.code());
                if matches!(code, Some("PreconditionFailed" | "ConditionalRequestConflict")) {
                    return Err(ProviderError::new(ErrorKind::Conflict, what, "it was written meanwhile"));
                }
                Err(self.explained(failed(what, &error)))
            }
        }
    }

    async fn append_to(&self, last: &mut Option<Document>, entry: &JournalEntry) -> ProviderResult<()> {
        let what = format!("append entry {} to journal {}", entry.index, self.place());
        let attempt = Uuid::new_v4().simple().to_string();
        // Whether a try may yet land.
        let mut fate = Outcome::NotDone;
        let mut failure = None;
        let mut pause = FIRST_PAUSE;
        for _ in 0..ATTEMPTS {
            let known = match last.take() {
                Some(known) => known,
                None => self.load(&what).await.map_err(|error| error.with_outcome(fate))?,
            };
            let place = usize::try_from(entry.index).unwrap_or(usize::MAX);
            if known.lines.get(place).is_some_and(|line| line.attempt == attempt) {
                *last = Some(known);
                return Ok(());
            }
            // Once another entry stands there, no try of ours can land any more.
            check(&known, entry, &what)?;
            let line = Line { attempt: attempt.clone(), entry: entry.clone() };
            let error = match self.put(&known, line, &what).await {
                Ok(written) => {
                    tracing::debug!(index = entry.index, attempt, "appended");
                    *last = Some(written).filter(|written| written.etag.is_some());
                    return Ok(());
                }
                Err(error) => error,
            };
            if error.outcome == Outcome::Unknown {
                fate = Outcome::Unknown;
            }
            if error.kind != ErrorKind::Conflict && !is_passing(&error) {
                return Err(error.with_outcome(fate));
            }
            tracing::debug!(%error, "read again to see what became of it");
            failure = Some(error);
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        let failure =
            failure.unwrap_or_else(|| ProviderError::new(ErrorKind::Unavailable, &what, "no try was made"));
        Err(failure.with_outcome(fate))
    }
}

/// Whether an entry may come next.
fn check(known: &Document, entry: &JournalEntry, what: &str) -> ProviderResult<()> {
    let term = known.lines.iter().map(|line| line.entry.term).max().unwrap_or_default();
    if term > entry.term {
        let reason = format!("term {term} is in force, this is term {}", entry.term);
        return Err(ProviderError::new(ErrorKind::Superseded, what, reason));
    }
    if entry.index != known.lines.len() as u64 {
        let place = usize::try_from(entry.index).unwrap_or(usize::MAX);
        // Racing controllers may have taken the same term: the attempt says which of them it was.
        let there = known.lines.get(place).map_or_else(String::new, |line| {
            format!(": entry {place} is of term {}, written by attempt {}", line.entry.term, line.attempt)
        });
        let reason =
            format!("it has {} entries, the last of term {term}{there}; read it again", known.lines.len());
        return Err(ProviderError::new(ErrorKind::Conflict, what, reason));
    }
    Ok(())
}

fn damage(what: &str, place: &str, reason: impl std::fmt::Display) -> ProviderError {
    let reason = format!("{place} is damaged ({reason}); restore an earlier version of the object");
    ProviderError::new(ErrorKind::Invalid, what, reason)
}

/// Every line. An object is written as a whole, so that whatever is not as it should be is damage.
fn parse(what: &str, text: &str) -> ProviderResult<Vec<Line>> {
    let mut rest = text.lines();
    if rest.next() != Some(MAGIC) {
        return Err(damage(what, "the first line", "it is not that of a kutover journal"));
    }
    let mut lines: Vec<Line> = Vec::new();
    let mut term = Term::default();
    for (line, index) in rest.zip(0_u64..) {
        let place = format!("entry {index}");
        let line = parse_line(line).map_err(|reason| damage(what, &place, reason))?;
        if line.entry.index != index || line.entry.term < term {
            let reason =
                format!("entry {} of term {} stands in its place", line.entry.index, line.entry.term);
            return Err(damage(what, &place, reason));
        }
        term = line.entry.term;
        lines.push(line);
    }
    Ok(lines)
}

fn parse_line(line: &str) -> Result<Line, String> {
    let (sum, checked) = line.split_once(' ').ok_or("it has no checksum")?;
    if sum != format!("{:08x}", crc32fast::hash(checked.as_bytes())) {
        return Err("its checksum does not match".into());
    }
    let (attempt, json) = checked.split_once(' ').ok_or("it names no attempt")?;
    let entry = serde_json::from_str(json).map_err(|error| error.to_string())?;
    Ok(Line { attempt: attempt.to_owned(), entry })
}

#[async_trait]
impl Journal for S3Journal {
    async fn read(&self) -> ProviderResult<Vec<JournalEntry>> {
        let mut last = self.last.lock().await;
        let found = self.load(&format!("read journal {}", self.place())).await?;
        let entries = found.lines.iter().map(|line| line.entry.clone()).collect();
        *last = Some(found);
        Ok(entries)
    }

    async fn append(&self, entry: &JournalEntry) -> ProviderResult<()> {
        // One at a time: two at once would only get in each other's way.
        let mut last = self.last.lock().await;
        self.append_to(&mut last, entry).await
    }
}

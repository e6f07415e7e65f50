//! A member's side of kutover's own topics.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::time::Duration;

use async_trait::async_trait;
use kutover_core::error::{ErrorKind, ProviderError, ProviderResult};
use kutover_core::messages::{ControlView, MemberState};
use kutover_core::owner::Target;
use kutover_core::ports::{MemberLink, MemberLinks};
use kutover_core::words::{CONTROL_TOPIC, Colour, MEMBER_CLIENT_ID, MEMBERS_TOPIC};
use tokio::sync::{Mutex, oneshot, watch};

use crate::context::LinkContext;
use crate::error::task_failed;
use crate::hooks::ClientHooks;
use crate::properties::ClientProperties;
use crate::registry::to_json;
use crate::tail::TopicTail;
use crate::topics::ControlFold;
use crate::writer::TopicWriter;

/// How long an idle fetch waits: there can be thousands of members, and they ask rarely.
const FETCH_WAIT_MS: u32 = 100;

/// How long the reader's thread waits for a message before it looks for questions.
const FOLLOW: Duration = Duration::from_millis(20);
/// How long one try to read the topic to its end may take before the thread looks for questions again.
const CATCH_UP: Duration = Duration::from_secs(1);
/// The pause after a failed try.
const RETRY: Duration = Duration::from_millis(200);

/// Asks the reader's thread to read to the end as it stands now.
struct Question(oneshot::Sender<ProviderResult<ControlView>>);

/// [`MemberLink`] on one cluster, under the client id [`MEMBER_CLIENT_ID`], with a reader's thread of its own.
///
/// [`next_control`](MemberLink::next_control) gives the newest view: changes that follow each other faster than they
/// are taken are given as one. A message that makes no sense is skipped there, with a warning, and an error in
/// [`control_now`](MemberLink::control_now).
pub struct KafkaMemberLink {
    writer: TopicWriter,
    views: Mutex<watch::Receiver<Option<ControlView>>>,
    questions: Sender<Question>,
    timeout: Duration,
}

impl std::fmt::Debug for KafkaMemberLink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KafkaMemberLink").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

impl KafkaMemberLink {
    /// Makes the clients and starts the reader; does not wait for the cluster. `timeout` bounds each `tell`, `end` and
    /// `control_now`.
    ///
    /// # Errors
    /// Properties that librdkafka does not accept together.
    pub async fn open(
        bootstrap: &[String],
        properties: &ClientProperties,
        hooks: ClientHooks,
        timeout: Duration,
    ) -> ProviderResult<Self> {
        let what = format!("open a member's link at {}", bootstrap.join(","));
        let reader = properties.reader_config(bootstrap, MEMBER_CLIENT_ID, FETCH_WAIT_MS);
        let writer = properties.writer_config(bootstrap, MEMBER_CLIENT_ID, timeout.as_millis());
        let thread_failed = {
            let what = what.clone();
            move |error: std::io::Error| ProviderError::new(ErrorKind::Unavailable, what, error)
        };
        let opened = tokio::task::spawn_blocking(move || {
            let context = LinkContext::new(hooks);
            let tail = TopicTail::new(&reader, context.another(), CONTROL_TOPIC)?;
            let writer = TopicWriter::new(&writer, context, timeout)?;
            let (publish, views) = watch::channel(None);
            let (questions, asked) = channel();
            std::thread::Builder::new()
                .name("kutover-link".into())
                .spawn(move || {
                    Reader { tail, fold: ControlFold::default(), publish, current: false }.run(&asked);
                })
                .map_err(thread_failed)?;
            Ok(Self { writer, views: Mutex::new(views), questions, timeout })
        });
        opened.await.map_err(|error| task_failed(what, &error))?
    }

    fn late(&self) -> ProviderError {
        ProviderError::new(
            ErrorKind::Unreachable,
            format!("read topic {CONTROL_TOPIC}"),
            format!("not to its end within {:?}", self.timeout),
        )
    }
}

/// [`MemberLinks`] over [`KafkaMemberLink`], with properties per colour.
#[derive(Clone, Debug)]
pub struct KafkaMemberLinks {
    properties: BTreeMap<Colour, ClientProperties>,
    hooks: ClientHooks,
    timeout: Duration,
}

impl KafkaMemberLinks {
    /// Links with the properties of each colour's clients, no hooks, and 10 s for each call.
    pub fn new(properties: BTreeMap<Colour, ClientProperties>) -> Self {
        Self { properties, hooks: ClientHooks::default(), timeout: Duration::from_secs(10) }
    }

    /// The same with the user's callbacks; only the token refresh is used.
    #[must_use]
    pub fn with_hooks(mut self, hooks: ClientHooks) -> Self {
        self.hooks = hooks;
        self
    }

    /// The same with another bound for each call of a link.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }
}

#[async_trait]
impl MemberLinks for KafkaMemberLinks {
    async fn open(&self, target: &Target) -> ProviderResult<Arc<dyn MemberLink>> {
        let Some(properties) = self.properties.get(&target.colour) else {
            let what = format!("open a member's link to {}", target.colour);
            let reason = format!("no client properties for colour {}; add that colour's", target.colour);
            return Err(ProviderError::new(ErrorKind::Invalid, what, reason));
        };
        let link =
            KafkaMemberLink::open(&target.bootstrap, properties, self.hooks.clone(), self.timeout).await?;
        Ok(Arc::new(link))
    }
}

/// The thread that reads the control topic, and owns its consumer.
struct Reader {
    tail: TopicTail,
    fold: ControlFold,
    publish: watch::Sender<Option<ControlView>>,
    /// Whether the topic was read to an end since the reader started or last failed.
    current: bool,
}

impl Reader {
    /// Runs until the link is dropped, which closes both channels.
    fn run(mut self, asked: &Receiver<Question>) {
        loop {
            match asked.try_recv() {
                Ok(question) => self.answer(question),
                Err(TryRecvError::Disconnected) => return,
                Err(TryRecvError::Empty) if self.current => self.follow(),
                Err(TryRecvError::Empty) => {
                    if let Err(error) = self.catch_up() {
                        tracing::debug!("control topic: {error}");
                        // A question is worth waking up for.
                        match asked.recv_timeout(RETRY) {
                            Ok(question) => self.answer(question),
                            Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {}
                            Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => return,
                        }
                    }
                }
            }
        }
    }

    fn answer(&mut self, question: Question) {
        let answer = self.catch_up().and_then(|()| self.fold.answer());
        // Nobody waits any more if the caller's bound has passed.
        let _ = question.0.send(answer);
    }

    fn catch_up(&mut self) -> ProviderResult<()> {
        let fold = &mut self.fold;
        self.current = false;
        self.tail.read_to_end(CATCH_UP, &mut |item| fold.apply(item))?;
        self.current = true;
        self.publish();
        Ok(())
    }

    fn follow(&mut self) {
        let fold = &mut self.fold;
        match self.tail.follow(FOLLOW, &mut |item| fold.apply(item)) {
            Ok(true) => self.publish(),
            Ok(false) => {}
            Err(error) => {
                tracing::debug!("control topic: {error}");
                self.current = false;
            }
        }
    }

    fn publish(&self) {
        self.publish.send_if_modified(|known| {
            let news = known.as_ref() != Some(&self.fold.view);
            if news {
                *known = Some(self.fold.view.clone());
            }
            news
        });
    }
}

#[async_trait]
impl MemberLink for KafkaMemberLink {
    async fn next_control(&self) -> ControlView {
        let mut views = self.views.lock().await;
        loop {
            if views.changed().await.is_err() {
                // The reader's thread lives as long as the link; if it died, there is nothing more to say.
                std::future::pending::<()>().await;
            }
            if let Some(view) = views.borrow_and_update().clone() {
                return view;
            }
        }
    }

    async fn control_now(&self) -> ProviderResult<ControlView> {
        let (reply, answer) = oneshot::channel();
        self.questions.send(Question(reply)).map_err(|_| self.late())?;
        match tokio::time::timeout(self.timeout, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) | Err(_) => Err(self.late()),
        }
    }

    async fn tell(&self, state: &MemberState) -> ProviderResult<()> {
        let key = state.key();
        let payload = to_json(&key, state)?;
        self.writer.write(MEMBERS_TOPIC, &key, Some(&payload)).await
    }

    async fn end(&self, state: &MemberState) -> ProviderResult<()> {
        self.writer.write(MEMBERS_TOPIC, &state.key(), None).await
    }
}

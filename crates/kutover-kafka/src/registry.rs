//! The controller's side of kutover's own topics.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kutover_core::error::{ErrorKind, ProviderError, ProviderResult};
use kutover_core::messages::{ControlMessage, ControlView, MemberState};
use kutover_core::ports::{ClusterAdmin, Registry};
use kutover_core::words::{CONTROL_TOPIC, CONTROLLER_CLIENT_ID, MEMBERS_TOPIC};
use parking_lot::Mutex;
use rdkafka::admin::AdminClient;
use rdkafka::config::FromClientConfigAndContext;

use crate::context::LinkContext;
use crate::error::{provider_error, task_failed};
use crate::hooks::ClientHooks;
use crate::properties::ClientProperties;
use crate::tail::{OffThread, TailItem, TopicTail};
use crate::topics::{self, ControlFold, MembersFold};
use crate::writer::TopicWriter;

/// How long an idle fetch waits: there is one controller, and it asks often.
const FETCH_WAIT_MS: u32 = 50;

/// A topic's reader with what it has read so far: each call reads on from where the last one ended.
struct Reading<F> {
    tail: TopicTail,
    fold: F,
}

type Shared<F> = Arc<OffThread<Mutex<Reading<F>>>>;

/// What makes kutover's own topics.
enum Maker {
    /// rdkafka's own admin client.
    Own(Arc<OffThread<AdminClient<LinkContext>>>),
    /// rdkafka 0.39's admin client never asks for a token, so with OAUTHBEARER another one has to be given.
    None,
    Given(Arc<dyn ClusterAdmin>),
}

/// [`Registry`] on one cluster, under the client id [`CONTROLLER_CLIENT_ID`].
///
/// Its clients live as long as it does; reading again costs what is new.
pub struct KafkaRegistry {
    writer: TopicWriter,
    maker: Maker,
    control: Shared<ControlFold>,
    members: Shared<MembersFold>,
    timeout: Duration,
}

impl std::fmt::Debug for KafkaRegistry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KafkaRegistry").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

impl KafkaRegistry {
    /// Makes the clients; does not wait for the cluster. `timeout` bounds each later call.
    ///
    /// # Errors
    /// Properties that librdkafka does not accept together.
    pub async fn open(
        bootstrap: &[String],
        properties: &ClientProperties,
        hooks: ClientHooks,
        timeout: Duration,
    ) -> ProviderResult<Self> {
        let what = format!("open the registry at {}", bootstrap.join(","));
        let reader = properties.reader_config(bootstrap, CONTROLLER_CLIENT_ID, FETCH_WAIT_MS);
        let writer = properties.writer_config(bootstrap, CONTROLLER_CLIENT_ID, timeout.as_millis());
        let admin = properties.link_config(bootstrap, CONTROLLER_CLIENT_ID);
        let takes_tokens = properties.takes_tokens();
        let opened = tokio::task::spawn_blocking(move || {
            let context = LinkContext::new(hooks);
            let reading = |topic| TopicTail::new(&reader, context.another(), topic);
            let maker = if takes_tokens {
                Maker::None
            } else {
                let admin = AdminClient::from_config_and_context(&admin, context.another())
                    .map_err(|error| provider_error("make an admin client", &error))?;
                Maker::Own(Arc::new(OffThread::new(admin)))
            };
            Ok(Self {
                control: share(reading(CONTROL_TOPIC)?, ControlFold::default()),
                members: share(reading(MEMBERS_TOPIC)?, MembersFold::default()),
                maker,
                writer: TopicWriter::new(&writer, context, timeout)?,
                timeout,
            })
        });
        opened.await.map_err(|error| task_failed(what, &error))?
    }

    /// The same, with kutover's own topics made by another client of the same cluster. Needed where the clients' name
    /// is a token: rdkafka's own admin client never asks for one.
    #[must_use]
    pub fn with_topics_made_by(mut self, admin: Arc<dyn ClusterAdmin>) -> Self {
        self.maker = Maker::Given(admin);
        self
    }
}

fn share<F: Send>(tail: TopicTail, fold: F) -> Shared<F> {
    Arc::new(OffThread::new(Mutex::new(Reading { tail, fold })))
}

/// Reads a topic on to its end as it stands now and gives the fold's answer.
async fn read<F, T>(
    shared: &Shared<F>,
    timeout: Duration,
    apply: fn(&mut F, TailItem),
    answer: fn(&F) -> ProviderResult<T>,
) -> ProviderResult<T>
where
    F: Send + 'static,
    T: Send + 'static,
{
    let shared = Arc::clone(shared);
    let read = tokio::task::spawn_blocking(move || {
        let mut reading = shared.get().lock();
        let Reading { tail, fold } = &mut *reading;
        tail.read_to_end(timeout, &mut |item| apply(fold, item))?;
        answer(fold)
    });
    read.await.map_err(|error| task_failed("read kutover's own topics", &error))?
}

#[async_trait]
impl Registry for KafkaRegistry {
    async fn prepare(&self) -> ProviderResult<()> {
        match &self.maker {
            Maker::Own(admin) => topics::prepare(admin, self.timeout).await,
            Maker::Given(admin) => topics::prepare_by(&**admin).await,
            Maker::None => {
                let reason =
                    "rdkafka's admin client takes no tokens; give another one (`with_topics_made_by`)";
                Err(ProviderError::new(ErrorKind::Unsupported, "make kutover's own topics", reason))
            }
        }
    }

    async fn say(&self, message: &ControlMessage) -> ProviderResult<()> {
        let key = message.key();
        let payload = to_json(&key, message)?;
        self.writer.write(CONTROL_TOPIC, &key, Some(&payload)).await
    }

    async fn control(&self) -> ProviderResult<ControlView> {
        read(&self.control, self.timeout, ControlFold::apply, ControlFold::answer).await
    }

    async fn members(&self) -> ProviderResult<Vec<MemberState>> {
        read(&self.members, self.timeout, MembersFold::apply, MembersFold::answer).await
    }
}

pub(crate) fn to_json<T: serde::Serialize>(key: &str, message: &T) -> ProviderResult<Vec<u8>> {
    serde_json::to_vec(message)
        .map_err(|error| ProviderError::new(ErrorKind::Invalid, format!("write {key}"), error))
}

//! [`ConnectAdmin`], clause by clause. A suite is given workers that take this config, and a name that is nobody's.

use std::collections::BTreeMap;
use std::time::Duration;

use kutover_core::error::{ErrorKind, ProviderError, ProviderResult};
use kutover_core::ports::{
    ConnectAdmin, ConnectorConfig, ConnectorDescription, ConnectorState, SourceOffsets,
};
use kutover_core::words::{ClusterId, ConnectorName};
use serde_json::Value;

use super::Clause;
use crate::until;

const PORT: &str = "ConnectAdmin";
/// Workers that move connectors have done so long before.
const SETTLED: Duration = Duration::from_secs(60);

/// Clause 1. `cluster` is the one that the workers belong to.
pub async fn workers_say_whose_they_are(connect: &dyn ConnectAdmin, cluster: &ClusterId) {
    let clause = Clause::new(
        PORT,
        1,
        "`kafka_cluster_id` is that of the Kafka cluster that the workers belong to, asked anew each time",
    );
    for _ in 0..2 {
        let found = clause.ok(connect.kafka_cluster_id().await);
        clause.holds(found == *cluster, &found);
    }
}

/// Workers that are moving connectors answer every call with [`ErrorKind::Unavailable`], and want to be asked again.
struct Asked<'a>(&'a dyn ConnectAdmin);

impl Asked<'_> {
    async fn again<T>(&self, ask: impl AsyncFn(&dyn ConnectAdmin) -> ProviderResult<T>) -> ProviderResult<T> {
        let settled = async || match ask(self.0).await {
            Err(error) if error.kind == ErrorKind::Unavailable => None,
            answered => Some(answered),
        };
        until("the workers to have settled", SETTLED, settled).await
    }

    async fn described(&self, clause: Clause, name: &ConnectorName) -> Option<ConnectorDescription> {
        clause.ok(self.again(async |workers| workers.connectors().await).await).remove(name)
    }

    async fn config(&self, name: &ConnectorName) -> ProviderResult<ConnectorConfig> {
        self.again(async |workers| workers.config(name).await).await
    }

    async fn create_stopped(&self, name: &ConnectorName, config: &ConnectorConfig) -> ProviderResult<()> {
        self.again(async |workers| workers.create_stopped(name, config).await).await
    }

    async fn set_state(&self, name: &ConnectorName, state: ConnectorState) -> ProviderResult<()> {
        self.again(async |workers| workers.set_state(name, state).await).await
    }

    async fn offsets(&self, name: &ConnectorName) -> ProviderResult<SourceOffsets> {
        self.again(async |workers| workers.offsets(name).await).await
    }

    async fn alter_offsets(&self, name: &ConnectorName, offsets: &SourceOffsets) -> ProviderResult<()> {
        self.again(async |workers| workers.alter_offsets(name, offsets).await).await
    }

    async fn delete(&self, name: &ConnectorName) -> ProviderResult<()> {
        self.again(async |workers| workers.delete(name).await).await
    }
}

/// Clause 2.
pub async fn every_connector_is_named(
    connect: &dyn ConnectAdmin,
    name: &ConnectorName,
    config: &ConnectorConfig,
) {
    let clause = Clause::new(PORT, 2, "`connectors` names every connector");
    let connect = Asked(connect);
    clause.ok(connect.create_stopped(name, config).await);
    for state in [ConnectorState::Running, ConnectorState::Paused, ConnectorState::Stopped] {
        clause.ok(connect.set_state(name, state).await);
        let found = connect.described(clause, name).await;
        clause.holds(found.as_ref().is_some_and(|one| one.state == state && !one.failed), (state, &found));
    }
    clause.ok(connect.delete(name).await);
}

/// Clause 3.
pub async fn a_connector_is_made_stopped(
    connect: &dyn ConnectAdmin,
    name: &ConnectorName,
    config: &ConnectorConfig,
    other: &ConnectorConfig,
) {
    let clause = Clause::new(PORT, 3, "`create_stopped` makes a connector of which no task runs");
    let connect = Asked(connect);
    for wanted in [config, other] {
        clause.ok(connect.create_stopped(name, wanted).await);
        let found = connect.described(clause, name).await;
        clause.holds(found.as_ref().is_some_and(|one| one.state == ConnectorState::Stopped), &found);
        let has = clause.ok(connect.config(name).await);
        let taken = wanted.expose().iter().all(|(key, value)| has.expose().get(key) == Some(value));
        clause.holds(taken, &has);
    }
    clause.ok(connect.set_state(name, ConnectorState::Paused).await);
    clause.refused(connect.create_stopped(name, config).await, ErrorKind::Refused);
    let has = clause.ok(connect.config(name).await);
    clause.holds(other.expose().iter().all(|(key, value)| has.expose().get(key) == Some(value)), &has);
    let found = connect.described(clause, name).await;
    clause.holds(found.as_ref().is_some_and(|one| one.state == ConnectorState::Paused), &found);
    clause.ok(connect.delete(name).await);
}

/// Clause 4. `config` is that of a source that has something to read; `worked` returns when it has written all of that.
pub async fn a_stopped_source_has_said_how_far_it_came(
    connect: &dyn ConnectAdmin,
    name: &ConnectorName,
    config: &ConnectorConfig,
    worked: impl AsyncFnOnce(),
) {
    let clause = Clause::new(
        PORT,
        4,
        "A source that is stopped has written down how far it came: what `offsets` gives \
                              then does not change any more",
    );
    let connect = Asked(connect);
    clause.ok(connect.create_stopped(name, config).await);
    clause.ok(connect.set_state(name, ConnectorState::Running).await);
    worked().await;
    clause.ok(connect.set_state(name, ConnectorState::Stopped).await);
    let found = connect.described(clause, name).await;
    clause.holds(found.as_ref().is_some_and(|one| one.state == ConnectorState::Stopped), &found);
    let first = clause.ok(connect.offsets(name).await);
    clause.holds(first.iter().count() > 0, "no offsets");
    for _ in 0..3 {
        let again = clause.ok(connect.offsets(name).await);
        clause.holds(first == again, "other offsets");
    }
    clause.ok(connect.delete(name).await);
}

/// Clause 4. `config` is that of a connector that fails when it is started, or when `fail` is called after that.
pub async fn a_connector_that_failed_does_not_run(
    connect: &dyn ConnectAdmin,
    name: &ConnectorName,
    config: &ConnectorConfig,
    fail: impl AsyncFnOnce(),
) {
    let clause = Clause::new(PORT, 4, "It is refused while the connector, or a task of it, has failed");
    let connect = Asked(connect);
    clause.ok(connect.create_stopped(name, config).await);
    let started = connect.set_state(name, ConnectorState::Running).await;
    clause.holds(started.as_ref().err().is_none_or(|error| error.kind == ErrorKind::Refused), &started);
    fail().await;
    clause.refused(connect.set_state(name, ConnectorState::Running).await, ErrorKind::Refused);
    let found = connect.described(clause, name).await;
    clause.holds(found.as_ref().is_some_and(|one| one.failed), &found);
    clause.ok(connect.set_state(name, ConnectorState::Stopped).await);
    let found = connect.described(clause, name).await;
    clause.holds(found.as_ref().is_some_and(|one| !one.failed && one.tasks == 0), &found);
    clause.ok(connect.delete(name).await);
}

/// Clause 5. `config` is a source's; `a` and `b` are partitions of it, each with an offset that it takes.
pub async fn offsets_are_as_they_were_altered(
    connect: &dyn ConnectAdmin,
    name: &ConnectorName,
    config: &ConnectorConfig,
    a: &(Value, Value),
    b: &(Value, Value),
) {
    let clause = Clause::new(PORT, 5, "After `alter_offsets`, `offsets` gives these and no others");
    let connect = Asked(connect);
    let offsets = |all: &[&(Value, Value)]| {
        let mut offsets = SourceOffsets::default();
        all.iter().for_each(|(partition, offset)| offsets.insert(partition.clone(), offset.clone()));
        offsets
    };
    clause.ok(connect.create_stopped(name, config).await);
    for wanted in [offsets(&[a, b]), offsets(&[b]), offsets(&[b])] {
        clause.ok(connect.alter_offsets(name, &wanted).await);
        let found = clause.ok(connect.offsets(name).await);
        clause.holds(found == wanted, &found);
    }
    clause.ok(connect.set_state(name, ConnectorState::Paused).await);
    clause.refused(connect.alter_offsets(name, &offsets(&[a])).await, ErrorKind::Refused);
    let found = clause.ok(connect.offsets(name).await);
    clause.holds(found == offsets(&[b]), &found);
    clause.ok(connect.delete(name).await);
}

/// Clause 6.
pub async fn a_deleted_connector_is_gone(
    connect: &dyn ConnectAdmin,
    name: &ConnectorName,
    config: &ConnectorConfig,
) {
    let clause = Clause::new(PORT, 6, "`delete` has said `Ok` only when the connector is gone");
    let connect = Asked(connect);
    clause.ok(connect.create_stopped(name, config).await);
    for _ in 0..2 {
        clause.ok(connect.delete(name).await);
        let found = connect.described(clause, name).await;
        clause.holds(found.is_none(), &found);
    }
    clause.refused(connect.config(name).await, ErrorKind::NotFound);
    clause.refused(connect.set_state(name, ConnectorState::Stopped).await, ErrorKind::NotFound);
    clause.refused(connect.offsets(name).await.map(|_| ()), ErrorKind::NotFound);
    clause.refused(connect.alter_offsets(name, &SourceOffsets::default()).await, ErrorKind::NotFound);
}

/// Clause 7. `wrong` is a config that the workers refuse, with `secret` among its values; `None` where they take any.
pub async fn no_error_shows_a_value(
    connect: &dyn ConnectAdmin,
    name: &ConnectorName,
    config: &ConnectorConfig,
    secret: &str,
    wrong: Option<&ConnectorConfig>,
) {
    let clause = Clause::new(PORT, 7, "No error shows a value of a config");
    let connect = Asked(connect);
    let silent = |result: Result<(), ProviderError>| match result {
        Ok(()) => clause.holds(false, "it was not refused"),
        Err(error) => clause.holds(!format!("{error} {error:?}").contains(secret), &error),
    };
    if let Some(wrong) = wrong {
        silent(connect.create_stopped(name, wrong).await);
    }
    clause.ok(connect.create_stopped(name, config).await);
    clause.ok(connect.set_state(name, ConnectorState::Paused).await);
    let mut properties: BTreeMap<String, String> = config.expose().clone();
    properties.insert("secret".into(), secret.into());
    silent(connect.create_stopped(name, &ConnectorConfig::new(properties)).await);
    clause.ok(connect.delete(name).await);
}

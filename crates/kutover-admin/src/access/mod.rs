//! Who may do what, and how much: ACLs, quotas, SCRAM users.

mod acls;
mod scram;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use krafka::__private::protocol::ApiKey;
use krafka::__private::{kafka_metadata, kafka_pool};
use krafka::KrafkaError;
use krafka::admin::{
    AlterClientQuotasOptions, ClientQuotaAlteration, ClientQuotaEntity, ClientQuotaFilter, ConfigResource,
    DescribeClientQuotasOptions, DescribeClusterOptions, DescribeConfigsOptions,
};
use krafka::error::ErrorCode;
use kutover_core::error::{ErrorKind, Outcome, ProviderError, ProviderResult};
use kutover_core::ports::{Access, AclRule, NewAccess, Quotas, ScramUsers};
use tokio::time::Instant;

use crate::admin::KafkaAdmin;
use crate::errors::{is_unsupported, provider};
use crate::fence::{EVERYONE, MARKER_PRINCIPAL};

/// Rules in one request.
const CHUNK: usize = 400;
/// How long a broker may take to know of a change, and how often it is asked.
const SETTLE: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(50);
const RIGHTS: &str =
    "the controller's principal needs Describe, DescribeConfigs, Alter and AlterConfigs on the cluster";

/// Takes what a cluster has no call for as `None`.
fn if_known<T>(what: &str, answer: Result<T, KrafkaError>) -> ProviderResult<Option<T>> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(error) if is_unsupported(&error) => Ok(None),
        Err(error) => Err(explain(what, &error)),
    }
}

fn explain(what: &str, error: &KrafkaError) -> ProviderError {
    let error = provider(what, error);
    match error.kind {
        ErrorKind::NotAuthorised => ProviderError::new(ErrorKind::NotAuthorised, what, RIGHTS),
        _ => error,
    }
}

impl KafkaAdmin {
    pub(crate) async fn read_access(&self) -> ProviderResult<Access> {
        let acls = self.read_acls().await?;
        let quotas = if_known(
            "read quotas",
            self.admin
                .describe_client_quotas(ClientQuotaFilter::all(), DescribeClientQuotasOptions::default())
                .await,
        )?;
        let quotas = quotas.map(|found| -> Quotas {
            found.into_iter().map(|(entity, set)| (entity.0, set.into_iter().collect())).collect()
        });
        Ok(Access {
            acls: acls.map(without_fence),
            quotas,
            scram_users: self.read_scram_users().await?,
            auto_creates_topics: self.read_auto_create().await?,
        })
    }

    /// Adds what is wanted; gives the SCRAM users that no password is known for.
    pub(crate) async fn add_access(&self, wanted: &NewAccess) -> ProviderResult<ScramUsers> {
        self.create_acls(&wanted.acls).await?;
        self.set_quotas(&wanted.quotas).await?;
        let left = self.make_scram_users(&wanted.scram_users).await?;
        self.settled(wanted, &left).await?;
        Ok(left)
    }

    /// Waits until the brokers tell what they were given: whoever asks next must not be told what was.
    async fn settled(&self, wanted: &NewAccess, left: &ScramUsers) -> ProviderResult<()> {
        let deadline = Instant::now() + SETTLE;
        loop {
            let found = self.read_access().await?;
            let is_there = wanted.acls.is_subset(found.acls.as_ref().unwrap_or(&BTreeSet::new()))
                && wanted.quotas.keys().all(|entity| found.quotas.iter().any(|set| set.contains_key(entity)))
                && wanted
                    .scram_users
                    .keys()
                    .filter(|user| !left.contains_key(*user))
                    .all(|user| found.scram_users.iter().any(|users| users.contains_key(user)));
            if is_there {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let reason = "it was accepted, but the brokers do not know of it yet";
                return Err(ProviderError::new(ErrorKind::Unavailable, "give access", reason)
                    .with_outcome(Outcome::Unknown));
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    async fn read_acls(&self) -> ProviderResult<Option<BTreeSet<AclRule>>> {
        let what = "read ACLs";
        let asked = self
            .ask(ApiKey::DescribeAcls, |body| {
                acls::describe_all(body);
                Ok(())
            })
            .await;
        let Some(answer) = if_known(what, asked)? else { return Ok(None) };
        match acls::described(answer)
            .map_err(|reason| ProviderError::new(ErrorKind::Invalid, what, reason))?
        {
            Ok(rules) => Ok(Some(rules)),
            Err((ErrorCode::SecurityDisabled, _)) => Ok(None),
            Err((code, message)) => Err(explain(what, &KrafkaError::broker(code, message))),
        }
    }

    async fn create_acls(&self, rules: &BTreeSet<AclRule>) -> ProviderResult<()> {
        let rules: Vec<&AclRule> = rules.iter().collect();
        for chunk in rules.chunks(CHUNK) {
            let what = "create ACLs";
            let asked = self
                .ask(ApiKey::CreateAcls, |body| acls::create(chunk, body).map_err(KrafkaError::config))
                .await;
            let answer = asked.map_err(|error| explain(what, &error))?;
            let unknown =
                |reason| ProviderError::new(ErrorKind::Invalid, what, reason).with_outcome(Outcome::Unknown);
            let results = acls::created(answer).map_err(unknown)?;
            if results.len() != chunk.len() {
                return Err(unknown(format!("{} answers for {} ACLs", results.len(), chunk.len())));
            }
            for (rule, refused) in chunk.iter().zip(results) {
                if let Some((code, message)) = refused {
                    let what = format!("create the ACL to {rule}");
                    return Err(explain(&what, &KrafkaError::broker(code, message)));
                }
            }
        }
        Ok(())
    }

    /// One request to any broker, by a connection of krafka's: to the first that answers.
    async fn ask(
        &self,
        api: ApiKey,
        body: impl Fn(&mut bytes::BytesMut) -> krafka::Result<()>,
    ) -> krafka::Result<bytes::Bytes> {
        let mut trouble = KrafkaError::config("no broker is known");
        for broker in kafka_metadata(&self.kafka).brokers() {
            match self.ask_broker(broker.address(), api, &body).await {
                Err(error) if error.is_retriable() => trouble = error,
                answer => return answer,
            }
        }
        Err(trouble)
    }

    async fn ask_broker(
        &self,
        address: &str,
        api: ApiKey,
        body: impl Fn(&mut bytes::BytesMut) -> krafka::Result<()>,
    ) -> krafka::Result<bytes::Bytes> {
        let connection = kafka_pool(&self.kafka).get_connection(address).await?;
        if connection.get_api_version(api).is_none() {
            return Err(KrafkaError::broker(ErrorCode::UnsupportedVersion, format!("{api:?} is not known")));
        }
        connection.send_request(api, acls::VERSION, body).await
    }

    async fn set_quotas(&self, quotas: &Quotas) -> ProviderResult<()> {
        if quotas.is_empty() {
            return Ok(());
        }
        let alterations = quotas.iter().map(|(entity, set)| {
            let ops = set.iter().map(|(name, value)| (name.clone(), Some(*value))).collect();
            ClientQuotaAlteration::new(ClientQuotaEntity(entity.clone()), ops)
        });
        let answers = self
            .admin
            .alter_client_quotas(alterations.collect(), AlterClientQuotasOptions::default())
            .await
            .map_err(|error| explain("set quotas", &error))?;
        for (entity, answer) in answers {
            let what = format!("set the quota of {}", kutover_core::parity::whom(&entity.0));
            answer.map_err(|error| explain(&what, &error))?;
        }
        Ok(())
    }

    async fn read_auto_create(&self) -> ProviderResult<Option<bool>> {
        const NAME: &str = "auto.create.topics.enable";
        let what = "read the brokers' configs";
        let described = self.admin.describe_cluster(DescribeClusterOptions::default()).await;
        let Some(cluster) = if_known("describe the cluster", described)? else { return Ok(None) };
        // One that is fenced takes no clients; it is asked when it does.
        let serving = cluster.brokers.iter().filter(|broker| !broker.is_fenced);
        let resources = serving.map(|broker| ConfigResource::broker(broker.id));
        let answers = self.admin.describe_configs(resources, DescribeConfigsOptions::default()).await;
        let mut found = None;
        for (_, answer) in answers.map_err(|error| explain(what, &error))? {
            let Some(entries) = if_known(what, answer)? else { return Ok(None) };
            let value = entries.into_iter().find(|entry| entry.name == NAME).and_then(|entry| entry.value);
            let unsaid =
                || ProviderError::new(ErrorKind::Invalid, what, format!("a broker does not tell {NAME}"));
            found = Some(found.unwrap_or(false) || value.ok_or_else(unsaid)? == "true");
        }
        Ok(found)
    }
}

/// Takes away what is kutover's own fence: rules that its marker bears, and the same rules for everyone.
fn without_fence(rules: BTreeSet<AclRule>) -> BTreeSet<AclRule> {
    let named = |rule: &AclRule, principal: &str| AclRule { principal: principal.to_owned(), ..rule.clone() };
    let is_fence = |rule: &AclRule| match rule.principal.as_str() {
        MARKER_PRINCIPAL => true,
        EVERYONE => rules.contains(&named(rule, MARKER_PRINCIPAL)),
        _ => false,
    };
    rules.iter().filter(|rule| !is_fence(rule)).cloned().collect()
}

/// Passwords by SCRAM user. `Debug` shows the users alone.
#[derive(Clone, Default)]
pub struct ScramPasswords(BTreeMap<String, String>);

impl ScramPasswords {
    /// These passwords, by user.
    pub fn new(passwords: BTreeMap<String, String>) -> Self {
        Self(passwords)
    }

    fn get(&self, user: &str) -> Option<&str> {
        self.0.get(user).map(String::as_str)
    }
}

impl std::fmt::Debug for ScramPasswords {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(principal: &str, operation: &str) -> AclRule {
        AclRule {
            resource: "topic".into(),
            name: "orders".into(),
            pattern: "literal".into(),
            principal: principal.into(),
            host: "*".into(),
            operation: operation.into(),
            permission: "deny".into(),
        }
    }

    #[test]
    fn kutovers_own_fence_is_nobodys_access() {
        let (theirs, fence) = (rule("User:shop", "write"), rule(EVERYONE, "write"));
        let all = BTreeSet::from([theirs.clone(), fence.clone(), rule(MARKER_PRINCIPAL, "write")]);
        assert_eq!(without_fence(all), [theirs.clone()].into());
        // A deny for everyone that bears no marker is somebody's own.
        let own = BTreeSet::from([theirs, fence]);
        assert_eq!(without_fence(own.clone()), own);
    }

    #[test]
    fn passwords_are_not_shown() {
        let passwords = ScramPasswords::new([("shop".to_owned(), "hunter2".to_owned())].into());
        let shown = format!("{passwords:?}");
        assert!(shown.contains("shop") && !shown.contains("hunter2"), "{shown}");
    }
}

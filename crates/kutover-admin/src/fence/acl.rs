//! The fence made of ACLs: Deny Write for everyone on each topic.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use krafka::admin::{
    AclBinding, AclFilter, AclOperation, AclPatternType, AclPermissionType, AclResourceType, AdminClient,
    CreateAclsOptions, DeleteAclsOptions, DescribeAclsOptions,
};
use krafka::error::{ErrorCode, KrafkaError};
use kutover_core::error::{ErrorKind, Outcome, ProviderError, ProviderResult};
use kutover_core::ports::{FenceKind, FenceSwitch};
use kutover_core::words::TopicName;
use tokio::time::Instant;

use crate::admin::fenceable;
use crate::errors::{code, provider};

/// The principal that marks what is ours. Nobody may be called so.
pub const MARKER_PRINCIPAL: &str = "User:kutover-fence";

pub(crate) const EVERYONE: &str = "User:*";
const ANY_HOST: &str = "*";
/// `LITERAL` on the wire (Kafka's `PatternType`: ANY 1, MATCH 2, LITERAL 3, PREFIXED 4). krafka 0.28.1 numbers them
/// without MATCH, so that its own `Literal` is MATCH to a broker, which refuses it (UnknownServerError, seen on 2.8.2,
/// 3.9.2 and 4.3.1): the number is what is meant, by whatever name.
pub(crate) fn literal() -> AclPatternType {
    AclPatternType::from_i8(3)
}

/// Bindings in one request.
const CHUNK: usize = 400;
/// How long a broker may take to know of a change of ACLs, and how often it is asked.
const SETTLE: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// One rule of the fence on one topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rule {
    operation: AclOperation,
    permission: AclPermissionType,
}

/// What makes it a fence.
const DENY_WRITE: Rule = Rule { operation: AclOperation::Write, permission: AclPermissionType::Deny };
/// What keeps a topic without any ACL as open as it was: the deny alone would make it a topic that "has ACLs", and
/// `allow.everyone.if.no.acl.found` would no longer let consumers in. Read implies Describe; DescribeConfigs
/// keeps a controller that is no super user able to compare the topic's configs.
const ALLOWANCES: [Rule; 2] = [
    Rule { operation: AclOperation::Read, permission: AclPermissionType::Allow },
    Rule { operation: AclOperation::DescribeConfigs, permission: AclPermissionType::Allow },
];

/// What is lent for as long as configs are altered, or partitions added, under the fence: a controller that is no super user
/// could do it before, where the topic had no ACL.
const LENT: [Rule; 2] = [lent(AclOperation::AlterConfigs), lent(AclOperation::Alter)];

const fn lent(right: AclOperation) -> Rule {
    Rule { operation: right, permission: AclPermissionType::Allow }
}

impl Rule {
    fn binding(self, topic: &TopicName, principal: &str) -> AclBinding {
        AclBinding {
            resource_type: AclResourceType::Topic,
            resource_name: topic.as_str().to_owned(),
            pattern_type: literal(),
            principal: principal.to_owned(),
            host: ANY_HOST.to_owned(),
            operation: self.operation,
            permission_type: self.permission,
        }
    }

    fn filter(self, topic: &TopicName, principal: &str) -> AclFilter {
        AclFilter::for_resource(AclResourceType::Topic, topic.as_str())
            .pattern_type(literal())
            .principal(principal)
            .host(ANY_HOST)
            .operation(self.operation)
            .permission_type(self.permission)
    }

    fn is(self, binding: &AclBinding, principal: &str) -> bool {
        binding.operation == self.operation
            && binding.permission_type == self.permission
            && binding.principal == principal
            && binding.host == ANY_HOST
    }
}

/// Fences with ACLs. Needs an authorizer; binds no super users, and no clients that do not obey Kafka's ACLs.
///
/// Every binding for `User:*` is added together with the same binding for [`MARKER_PRINCIPAL`], which nobody bears:
/// so what is ours is told from what was there before, by whoever comes after a crash. The cluster applies one
/// request's bindings on a topic together, and they are ordered so that readers are let in at every step.
///
/// Where `allow.everyone.if.no.acl.found` is false, a topic without ACLs is for super users alone: the allowance opens
/// it to readers while the fence is up, and the deny binds nobody. Such topics need another kind of fence.
pub(crate) struct AclFence {
    admin: Arc<AdminClient>,
}

impl std::fmt::Debug for AclFence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AclFence")
    }
}

/// The ACLs of topics, as the cluster stores them.
struct TopicAcls(Vec<AclBinding>);

impl TopicAcls {
    /// The bindings on exactly this topic.
    fn literal<'a>(&'a self, topic: &'a TopicName) -> impl Iterator<Item = &'a AclBinding> {
        self.0.iter().filter(move |binding| {
            binding.pattern_type == literal() && binding.resource_name == topic.as_str()
        })
    }

    fn has(&self, topic: &TopicName, rule: Rule, principal: &str) -> bool {
        self.literal(topic).any(|binding| rule.is(binding, principal))
    }

    fn is_ours(&self, topic: &TopicName, rule: Rule) -> bool {
        self.has(topic, rule, MARKER_PRINCIPAL)
    }

    /// Whether any ACL that is not ours applies to the topic: its own, a prefix's, or the wildcard's.
    fn has_foreign(&self, topic: &TopicName) -> bool {
        self.0.iter().any(|binding| {
            let name = binding.resource_name.as_str();
            if binding.pattern_type != literal() {
                return topic.as_str().starts_with(name); // The only other stored pattern is PREFIXED.
            }
            let is_ours = rules().any(|rule| {
                rule.is(binding, MARKER_PRINCIPAL)
                    || (rule.is(binding, EVERYONE) && self.is_ours(topic, rule))
            });
            name == "*" || (name == topic.as_str() && !is_ours)
        })
    }

    /// What must stand to fence the topic, in an order that lets readers in at every step. What is ours already is
    /// in it: creating it again does no harm, and this broker may not know yet that it was taken away.
    fn wanted(&self, topic: &TopicName) -> Vec<AclBinding> {
        let allowances = if self.has_foreign(topic) { &[][..] } else { &ALLOWANCES[..] };
        let rules = allowances.iter().copied().chain([DENY_WRITE]);
        // One that is there without a marker is somebody else's: neither added nor ever taken away.
        let ours = rules.filter(|rule| self.is_ours(topic, *rule) || !self.has(topic, *rule, EVERYONE));
        ours.flat_map(|rule| [rule.binding(topic, EVERYONE), rule.binding(topic, MARKER_PRINCIPAL)]).collect()
    }

    /// Whether all that is wanted is there.
    fn stands(&self, topic: &TopicName) -> bool {
        let allowed = |rule| self.has(topic, rule, EVERYONE) || self.has_foreign(topic);
        self.has(topic, DENY_WRITE, EVERYONE) && ALLOWANCES.into_iter().all(allowed)
    }

    /// What is ours on the topic, in an order that lets readers in at every step.
    fn ours(&self, topic: &TopicName) -> Vec<AclFilter> {
        let ours: Vec<Rule> = [DENY_WRITE]
            .into_iter()
            .chain(LENT)
            .chain(ALLOWANCES)
            .filter(|rule| self.is_ours(topic, *rule))
            .collect();
        // All markers go before the last allowance does: a marker alone would be an ACL that shuts everybody out.
        let (denies, allows): (Vec<Rule>, Vec<Rule>) =
            ours.iter().copied().partition(|rule| *rule == DENY_WRITE);
        let denies = denies.iter().map(|rule| rule.filter(topic, EVERYONE));
        let markers = ours.iter().map(|rule| rule.filter(topic, MARKER_PRINCIPAL));
        let allows = allows.iter().rev().map(|rule| rule.filter(topic, EVERYONE));
        denies.chain(markers).chain(allows).collect()
    }
}

/// Every marker on a topic.
fn marker_filter(topic: &TopicName) -> AclFilter {
    AclFilter::for_resource(AclResourceType::Topic, topic.as_str())
        .pattern_type(literal())
        .principal(MARKER_PRINCIPAL)
}

fn rules() -> impl Iterator<Item = Rule> {
    ALLOWANCES.into_iter().chain(LENT).chain([DENY_WRITE])
}

impl AclFence {
    pub(crate) fn new(admin: Arc<AdminClient>) -> Self {
        Self { admin }
    }

    /// The topics of these on which no deny stands.
    pub(crate) async fn unfenced(&self, topics: &[TopicName]) -> ProviderResult<Vec<TopicName>> {
        let acls = self.read().await?;
        Ok(topics.iter().filter(|topic| !acls.has(topic, DENY_WRITE, EVERYONE)).cloned().collect())
    }

    /// Gives a right on those of the topics on which the fence stands and nothing else does, and tells them. Who dies before it
    /// is taken back leaves a trace, which goes with the fence.
    pub(crate) async fn lend(
        &self,
        right: AclOperation,
        topics: &[TopicName],
    ) -> ProviderResult<Vec<TopicName>> {
        let (acls, rule) = (self.read().await?, lent(right));
        let closed = |topic: &&TopicName| acls.is_ours(topic, DENY_WRITE) && !acls.has_foreign(topic);
        let closed: Vec<TopicName> = topics.iter().filter(closed).cloned().collect();
        let bindings =
            |topic: &TopicName| vec![rule.binding(topic, EVERYONE), rule.binding(topic, MARKER_PRINCIPAL)];
        for chunk in chunks(closed.iter().map(bindings)) {
            self.create(chunk).await?;
        }
        let knows = |acls: &TopicAcls| closed.iter().all(|topic| acls.has(topic, rule, EVERYONE));
        self.settled("let topics be altered under the fence", knows).await?;
        Ok(closed)
    }

    /// Takes back what [`AclFence::lend`] gave.
    pub(crate) async fn take_back(&self, right: AclOperation, topics: &[TopicName]) -> ProviderResult<()> {
        let rule = lent(right);
        let filters =
            |topic: &TopicName| vec![rule.filter(topic, EVERYONE), rule.filter(topic, MARKER_PRINCIPAL)];
        for chunk in chunks(topics.iter().map(filters)) {
            self.delete(chunk).await?;
        }
        Ok(())
    }

    async fn read(&self) -> ProviderResult<TopicAcls> {
        let filter = AclFilter::all().resource_type(AclResourceType::Topic);
        let bindings = self
            .admin
            .describe_acls(filter, DescribeAclsOptions::default())
            .await
            .map_err(|error| explain("read the topics' ACLs", &error))?;
        Ok(TopicAcls(bindings))
    }

    async fn create(&self, bindings: Vec<AclBinding>) -> ProviderResult<()> {
        let answers = self
            .admin
            .create_acls(bindings, CreateAclsOptions::default())
            .await
            .map_err(|error| explain("raise the fence", &error))?;
        for (binding, answer) in answers {
            answer.map_err(|error| {
                explain(&format!("raise the fence on topic {}", binding.resource_name), &error)
            })?;
        }
        Ok(())
    }

    /// Deletes what the filters match, and gives it.
    async fn delete(&self, filters: Vec<AclFilter>) -> ProviderResult<Vec<AclBinding>> {
        let answers = self
            .admin
            .delete_acls(filters, DeleteAclsOptions::default())
            .await
            .map_err(|error| explain("lift the fence", &error))?;
        let mut gone = Vec::new();
        for (filter, answer) in answers {
            let what = format!("lift the fence of topic {}", filter.resource_name.unwrap_or_default());
            let deleted = answer.map_err(|error| explain(&what, &error))?;
            if let Some((_, error)) = deleted.failed.first() {
                return Err(explain(&what, error));
            }
            gone.extend(deleted.deleted);
        }
        Ok(gone)
    }

    /// Waits until the broker that is asked knows of a change: what reads next must not act on what was.
    async fn settled(&self, what: &str, is_so: impl Fn(&TopicAcls) -> bool) -> ProviderResult<()> {
        let deadline = Instant::now() + SETTLE;
        while !is_so(&self.read().await?) {
            if Instant::now() >= deadline {
                let reason = "it was accepted, but the brokers do not know of it yet";
                return Err(
                    ProviderError::new(ErrorKind::Unavailable, what, reason).with_outcome(Outcome::Unknown)
                );
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        Ok(())
    }
}

/// Hands out whole topics' items in requests of about [`CHUNK`]: a topic's bindings stay together.
fn chunks<T>(topics: impl Iterator<Item = Vec<T>>) -> Vec<Vec<T>> {
    let mut chunks: Vec<Vec<T>> = Vec::new();
    for items in topics.filter(|items| !items.is_empty()) {
        match chunks.last_mut() {
            Some(last) if last.len() + items.len() <= CHUNK => last.extend(items),
            _ => chunks.push(items),
        }
    }
    chunks
}

fn explain(what: &str, error: &KrafkaError) -> ProviderError {
    match code(error) {
        Some(ErrorCode::SecurityDisabled) => {
            let reason = "the cluster has no authorizer, so ACLs bind nobody; set `authorizer.class.name` on its \
                          brokers, or waive the fence by name (plan.fence = \"waived\")";
            ProviderError::new(ErrorKind::Unsupported, what, reason)
        }
        Some(ErrorCode::ClusterAuthorizationFailed) => {
            let reason = "the controller's principal needs Describe and Alter on the cluster";
            ProviderError::new(ErrorKind::NotAuthorised, what, reason)
        }
        _ => {
            let error = provider(what, error);
            match error.kind {
                ErrorKind::Unsupported => ProviderError::new(
                    ErrorKind::Unsupported,
                    what,
                    "the cluster has no ACLs; waive the fence by name (plan.fence = \"waived\")",
                ),
                _ => error,
            }
        }
    }
}

#[async_trait]
impl FenceSwitch for AclFence {
    fn kind(&self) -> FenceKind {
        FenceKind::Acl
    }

    async fn raise(&self, topics: &[TopicName]) -> ProviderResult<()> {
        let topics = fenceable(topics);
        let acls = self.read().await?;
        for chunk in chunks(topics.iter().map(|topic| acls.wanted(topic))) {
            self.create(chunk).await?;
        }
        self.settled("raise the fence", |acls| topics.iter().all(|topic| acls.stands(topic))).await
    }

    async fn lift(&self, topics: &[TopicName]) -> ProviderResult<()> {
        let topics = fenceable(topics);
        let acls = self.read().await?;
        for chunk in chunks(topics.iter().map(|topic| acls.ours(topic))) {
            self.delete(chunk).await?;
        }
        // The broker that told the ACLs may be behind the one that keeps them: where a marker is still found at the
        // keeper, the binding that it marks goes too.
        let markers = topics.iter().map(|topic| vec![marker_filter(topic)]);
        for chunk in chunks(markers) {
            let marked = TopicAcls(self.delete(chunk).await?);
            for chunk in chunks(topics.iter().map(|topic| marked.ours(topic))) {
                self.delete(chunk).await?;
            }
        }
        self.settled("lift the fence", |acls| topics.iter().all(|topic| acls.ours(topic).is_empty())).await
    }

    /// A deny that stands, or an allowance alone that a half-lifted fence left behind: each has its marker.
    async fn traces(&self) -> ProviderResult<BTreeSet<TopicName>> {
        let acls = self.read().await?;
        let marked = acls.0.iter().filter(|binding| rules().any(|rule| rule.is(binding, MARKER_PRINCIPAL)));
        Ok(marked.map(|binding| TopicName::new(binding.resource_name.as_str())).collect())
    }
}

#[cfg(test)]
mod tests;

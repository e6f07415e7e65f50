//! Parity of what decides who may do what: rules, quotas and SCRAM users that the new cluster lacks would be refusals there.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::ports::{Access, AclRule, NewAccess, QuotaEntity};

/// What the new cluster must be given to let in whom the old cluster lets in, and what is left to say.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AccessPlan {
    /// What the new cluster lacks.
    pub grant: NewAccess,
    /// On what the new cluster will not be like the old cluster, after that is done.
    pub differences: Vec<AccessDifference>,
}

impl AccessPlan {
    /// The differences that the cutover must not go on with.
    pub fn refusals(&self) -> impl Iterator<Item = &AccessDifference> {
        self.differences.iter().filter(|difference| difference.is_refusal())
    }
}

/// Something on which the new cluster is not like the old cluster.
#[derive(Clone, Debug, PartialEq)]
pub enum AccessDifference {
    /// The new cluster makes topics because somebody asks for them, with nobody's partitions and configs (L6). Refused.
    AutoCreate,
    /// The old cluster has rules and the new cluster has no authorizer, so that they would bind nobody there. Refused.
    NoAuthorizer {
        /// How many rules the old cluster has.
        rules: usize,
    },
    /// The new cluster has an authorizer and the old cluster has none, so that there is no rule to copy for those who are let in
    /// by rules alone. Reported: whether anybody is, brokers do not tell.
    NoRulesToCopy,
    /// The new cluster denies what the old cluster does not. Refused.
    OnlyNewDenies(AclRule),
    /// The new cluster has the quota already, with another value. Reported.
    Quota {
        /// Whom it is for.
        entity: QuotaEntity,
        /// Its name.
        quota: String,
        /// Its value on the old cluster.
        old: f64,
        /// Its value on the new cluster.
        new: f64,
    },
}

impl AccessDifference {
    /// Whether the cutover must not go on with it.
    pub fn is_refusal(&self) -> bool {
        !matches!(self, Self::Quota { .. } | Self::NoRulesToCopy)
    }
}

impl fmt::Display for AccessDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AutoCreate => f.write_str(
                "the new cluster makes topics because a client asks for them; set auto.create.topics.enable=false on its brokers",
            ),
            Self::NoAuthorizer { rules } => write!(
                f,
                "the old cluster has {rules} ACLs and the new cluster has no authorizer; set authorizer.class.name on the new cluster's brokers"
            ),
            Self::NoRulesToCopy => f.write_str(
                "the new cluster has an authorizer and the old cluster has none: unless allow.everyone.if.no.acl.found is true there, \
                 it refuses every client that no ACL of its own lets in; add those that producers and groups need",
            ),
            Self::OnlyNewDenies(rule) => {
                write!(f, "the new cluster has an ACL that the old cluster does not have: {rule}. Delete it on the new cluster or add it on the old cluster")
            }
            Self::Quota { entity, quota, old, new } => {
                write!(f, "quota {quota} of {}: {old} on the old cluster and {new} on the new cluster", whom(entity))
            }
        }
    }
}

/// A quota's entity as people write it.
pub fn whom(entity: &QuotaEntity) -> String {
    let parts = entity.iter().map(|(kind, name)| match name {
        Some(name) => format!("{kind} {name}"),
        None => format!("any {kind}"),
    });
    parts.collect::<Vec<_>>().join(", ")
}

/// Compares two clusters. What only the new cluster allows, has as a quota or knows as a user is nobody's business.
pub fn access_plan(old: &Access, new: &Access) -> AccessPlan {
    let mut plan = AccessPlan::default();
    if new.auto_creates_topics == Some(true) {
        plan.differences.push(AccessDifference::AutoCreate);
    }
    // Without an authorizer everybody may do everything on the old cluster: there is nothing to copy, and nothing is denied.
    let nobody = BTreeSet::new();
    let ours = old.acls.as_ref().unwrap_or(&nobody);
    match &new.acls {
        None if !ours.is_empty() => {
            plan.differences.push(AccessDifference::NoAuthorizer { rules: ours.len() });
        }
        None => {}
        Some(theirs) => {
            if old.acls.is_none() {
                plan.differences.push(AccessDifference::NoRulesToCopy);
            }
            plan.grant.acls = ours.difference(theirs).cloned().collect();
            let denies = theirs.difference(ours).filter(|rule| rule.permission == "deny");
            plan.differences.extend(denies.cloned().map(AccessDifference::OnlyNewDenies));
        }
    }
    let none = BTreeMap::new();
    for (entity, quotas) in old.quotas.iter().flatten() {
        let there = new.quotas.as_ref().and_then(|new| new.get(entity)).unwrap_or(&none);
        for (quota, value) in quotas {
            match there.get(quota) {
                None => {
                    plan.grant.quotas.entry(entity.clone()).or_default().insert(quota.clone(), *value);
                }
                Some(new) if new == value => {}
                Some(new) => plan.differences.push(AccessDifference::Quota {
                    entity: entity.clone(),
                    quota: quota.clone(),
                    old: *value,
                    new: *new,
                }),
            }
        }
    }
    for (user, mechanisms) in old.scram_users.iter().flatten() {
        let there = new.scram_users.as_ref().and_then(|new| new.get(user));
        let missing =
            mechanisms.iter().filter(|mechanism| !there.is_some_and(|there| there.contains(*mechanism)));
        let missing: BTreeSet<String> = missing.cloned().collect();
        if !missing.is_empty() {
            plan.grant.scram_users.insert(user.clone(), missing);
        }
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(principal: &str, permission: &str) -> AclRule {
        AclRule {
            resource: "topic".into(),
            name: "orders".into(),
            pattern: "literal".into(),
            principal: principal.into(),
            host: "*".into(),
            operation: "write".into(),
            permission: permission.into(),
        }
    }

    fn user(name: Option<&str>) -> QuotaEntity {
        QuotaEntity::from([("user".to_owned(), name.map(str::to_owned))])
    }

    fn quota(value: f64) -> BTreeMap<String, f64> {
        BTreeMap::from([("producer_byte_rate".to_owned(), value)])
    }

    #[test]
    fn green_gets_what_it_lacks_and_keeps_what_it_has() {
        let (shop, other) = (rule("User:shop", "allow"), rule("User:other", "allow"));
        let old = Access {
            acls: Some([shop.clone(), other.clone()].into()),
            quotas: Some(BTreeMap::from([(user(Some("shop")), quota(7.0)), (user(None), quota(8.0))])),
            scram_users: Some(BTreeMap::from([("shop".to_owned(), ["SCRAM-SHA-512".to_owned()].into())])),
            auto_creates_topics: Some(true),
        };
        let new = Access {
            acls: Some([other, rule("User:new", "allow")].into()),
            quotas: Some(BTreeMap::from([(user(None), quota(9.0))])),
            scram_users: Some(BTreeMap::new()),
            auto_creates_topics: Some(false),
        };
        let plan = access_plan(&old, &new);
        assert_eq!(plan.grant.acls, [shop].into());
        assert_eq!(plan.grant.quotas, BTreeMap::from([(user(Some("shop")), quota(7.0))]));
        assert_eq!(plan.grant.scram_users.keys().collect::<Vec<_>>(), ["shop"]);
        let words: Vec<String> = plan.differences.iter().map(ToString::to_string).collect();
        assert_eq!(
            words,
            ["quota producer_byte_rate of any user: 8 on the old cluster and 9 on the new cluster"]
        );
        assert_eq!(plan.refusals().count(), 0);
        assert_eq!(access_plan(&old, &old).grant, NewAccess::default());
    }

    #[test]
    fn what_would_refuse_clients_or_bind_nobody_is_refused() {
        let old = Access { acls: Some([rule("User:shop", "allow")].into()), ..Access::default() };
        let new = Access { auto_creates_topics: Some(true), ..Access::default() };
        let plan = access_plan(&old, &new);
        assert_eq!(
            plan.differences,
            [AccessDifference::AutoCreate, AccessDifference::NoAuthorizer { rules: 1 }]
        );
        assert_eq!(plan.refusals().count(), 2);
        let new = Access { acls: Some([rule("User:*", "deny")].into()), ..Access::default() };
        let nothing = Access::default();
        // The latter has no authorizer, and lets in everybody.
        for old in [&old, &nothing] {
            let plan = access_plan(old, &new);
            assert_eq!(plan.refusals().count(), 1, "{old:?}");
            let text = plan.refusals().next().unwrap().to_string();
            assert!(text.contains("deny write on topic orders (literal) for User:* from *"), "{text}");
        }
        assert_eq!(access_plan(&nothing, &nothing), AccessPlan::default());
    }

    /// What nobody had to be allowed before, somebody has to be there, most likely.
    #[test]
    fn an_authorizer_of_the_new_clusters_own_is_reported() {
        let new = Access { acls: Some([rule("User:shop", "allow")].into()), ..Access::default() };
        let plan = access_plan(&Access::default(), &new);
        assert_eq!(plan.differences, [AccessDifference::NoRulesToCopy]);
        assert_eq!((plan.refusals().count(), &plan.grant), (0, &NewAccess::default()));
        assert_eq!(access_plan(&new, &new).differences, []);
    }
}

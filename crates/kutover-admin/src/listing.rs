//! Whether a listing is whole: Kafka leaves out of one, without a word, what the principal that asks may not describe. So it is
//! asked for what ACLs speak of, by name: then it says that it may not be told.

use std::collections::BTreeSet;

use krafka::admin::{AclBinding, AclFilter, AclResourceType, AdminClient, DescribeAclsOptions};
use kutover_core::error::{ErrorKind, ProviderResult};

use crate::errors::provider;
use crate::fence::literal;

/// A name that nobody has given to anything.
const NOBODYS: &str = "kutover-asks-for-nobody";

/// One name for each set of ACLs that a resource of this type can be under: each that an ACL names, one behind each prefix, and
/// one besides.
///
/// # Errors
/// The ACLs cannot be read.
pub(crate) async fn samples(admin: &AdminClient, of: AclResourceType) -> ProviderResult<BTreeSet<String>> {
    let filter = AclFilter::all().resource_type(of);
    match admin.describe_acls(filter, DescribeAclsOptions::default()).await {
        Ok(rules) => Ok(names(&rules)),
        Err(error) => match provider(format!("read the ACLs of {of:?}"), &error) {
            // Without an authorizer there are none.
            error if error.kind == ErrorKind::Unsupported => Ok(names(&[])),
            error => Err(error),
        },
    }
}

fn names(rules: &[AclBinding]) -> BTreeSet<String> {
    let one = |rule: &AclBinding| match rule.pattern_type == literal() {
        true => rule.resource_name.clone(),
        false => format!("{}{NOBODYS}", rule.resource_name),
    };
    rules.iter().map(one).filter(|name| name != "*").chain([NOBODYS.to_owned()]).collect()
}

#[cfg(test)]
mod tests {
    use krafka::admin::{AclOperation, AclPatternType, AclPermissionType};

    use super::*;

    fn rule(name: &str, pattern: i8) -> AclBinding {
        AclBinding {
            resource_type: AclResourceType::TransactionalId,
            resource_name: name.to_owned(),
            pattern_type: AclPatternType::from_i8(pattern),
            principal: "User:pay".to_owned(),
            host: "*".to_owned(),
            operation: AclOperation::Describe,
            permission_type: AclPermissionType::Allow,
        }
    }

    /// Kafka numbers LITERAL 3 and PREFIXED 4.
    #[test]
    fn each_acl_is_tried_and_what_none_names_too() {
        let asked = names(&[rule("pay", 3), rule("pay", 3), rule("bill-", 4), rule("*", 3)]);
        let expected = ["bill-kutover-asks-for-nobody", "kutover-asks-for-nobody", "pay"];
        assert_eq!(asked, expected.map(str::to_owned).into());
    }
}

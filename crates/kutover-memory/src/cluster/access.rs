//! Who may do what, and how much. It is kept and told; nobody is bound by it.

use kutover_core::ports::{Access, NewAccess};

use super::{MemoryCluster, State};

impl MemoryCluster {
    /// Puts this in place of what was there. Whether topics are made by themselves is an option of the cluster's.
    pub fn set_access(&self, access: Access) {
        self.state.lock().access = access;
    }

    /// All of it is gone.
    pub fn forget_access(&self) {
        self.set_access(everything());
    }
}

/// Everything there is to tell, and nothing in it.
pub(super) fn everything() -> Access {
    Access {
        acls: Some([].into()),
        quotas: Some([].into()),
        scram_users: Some([].into()),
        auto_creates_topics: None,
    }
}

impl State {
    pub(super) fn told_access(&self) -> Access {
        Access { auto_creates_topics: Some(self.options.auto_create_topics), ..self.access.clone() }
    }

    /// Adds what is wanted, but for SCRAM users: nobody has told it a password.
    pub(super) fn add_access(&mut self, wanted: &NewAccess) {
        self.access.acls.get_or_insert_default().extend(wanted.acls.iter().cloned());
        let quotas = self.access.quotas.get_or_insert_default();
        for (entity, set) in &wanted.quotas {
            quotas.entry(entity.clone()).or_default().extend(set.clone());
        }
    }
}

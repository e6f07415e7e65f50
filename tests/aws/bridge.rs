//! How Route 53's records reach the name servers that answer for them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kutover_core::error::ProviderResult;
use kutover_core::ports::DnsProvider;
use kutover_core::words::DnsName;

use crate::account::Account;
use crate::name_servers::NameServer;
use crate::proxy::{Proxy, reply};

/// How often it is looked at: so long a change is on its way.
const PROPAGATION: Duration = Duration::from_millis(250);
/// What Route 53 says of a change that is on its way.
const PENDING: &str = "<?xml version=\"1.0\"?><GetChangeResponse \
    xmlns=\"https://route53.amazonaws.com/doc/2013-04-01/\"><ChangeInfo><Id>/change/C1</Id><Status>PENDING</Status>\
    <SubmittedAt>2026-01-01T00:00:00Z</SubmittedAt></ChangeInfo></GetChangeResponse>";

/// Copies hosted zones to BIND for as long as the runtime of its test lives. Requests to Route 53 are to go through it: so
/// it knows of changes that BIND does not have yet.
pub(crate) struct Bridge {
    proxy: Proxy,
    progress: Arc<Progress>,
}

/// Changes that were made, and how many of them were copied.
#[derive(Default)]
struct Progress {
    made: AtomicU64,
    copied: AtomicU64,
}

impl Bridge {
    /// Copies what stands at these endpoints of these hosted zones.
    pub(crate) async fn start(
        account: &Account,
        zones: &[String],
        endpoints: &[&str],
        to: &NameServer,
    ) -> Self {
        let proxy = Proxy::before(account.server.address).await;
        let progress = Arc::new(Progress::default());
        let made = Arc::clone(&progress);
        proxy.tells(move |request| {
            if is_change(request) {
                made.made.fetch_add(1, Ordering::SeqCst);
            }
        });
        let bridge = Self { proxy, progress: Arc::clone(&progress) };
        bridge.refuses(|_| None);
        let from = account.records(zones);
        let to = to.provider();
        let endpoints: Vec<DnsName> = endpoints.iter().map(|&name| DnsName::new(name)).collect();
        tokio::spawn(async move {
            let mut looks = tokio::time::interval(PROPAGATION);
            loop {
                looks.tick().await;
                let made = progress.made.load(Ordering::SeqCst);
                let mut all = true;
                for endpoint in &endpoints {
                    all &= copy(&from, &to, endpoint).await.is_ok();
                }
                if all {
                    progress.copied.store(made, Ordering::SeqCst);
                }
            }
        });
        bridge
    }

    /// Where Route 53 is to be asked.
    pub(crate) fn route53(&self) -> SocketAddr {
        self.proxy.address
    }

    /// Answers some requests with what this has for them, instead of Route 53.
    pub(crate) fn refuses(&self, refusal: impl Fn(&str) -> Option<String> + Send + 'static) {
        let progress = Arc::clone(&self.progress);
        self.proxy.answers(move |request| {
            let asks = request.starts_with("GET /2013-04-01/change/");
            let on_its_way = progress.copied.load(Ordering::SeqCst) < progress.made.load(Ordering::SeqCst);
            if asks && on_its_way { Some(reply("200 OK", PENDING)) } else { refusal(request) }
        });
    }
}

/// Whether a request is one that changes records.
pub(crate) fn is_change(request: &str) -> bool {
    request.starts_with("POST ") && request.lines().next().is_some_and(|line| line.contains("/rrset"))
}

async fn copy(from: &dyn DnsProvider, to: &dyn DnsProvider, endpoint: &DnsName) -> ProviderResult<()> {
    let (wanted, found) = (from.read(endpoint).await?, to.read(endpoint).await?);
    if wanted == found { Ok(()) } else { to.compare_and_set(endpoint, &found, &wanted).await }
}

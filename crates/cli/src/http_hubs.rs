//! The task hubs of `seriatim serve` for its HTTP server. Must never make a hub: a name in a URL is easily mistyped.

use std::sync::Arc;

use async_trait::async_trait;
use seriatim_durable::hub::{HubResult, TaskHub};
use seriatim_http::{HubFigures, OpenHub, WorkFigures};
use seriatim_hub::WorkStats;
use seriatim_serve::hubs::Hubs;

/// The hubs that there are.
#[derive(Debug)]
pub(crate) struct HttpHubs(pub(crate) Arc<Hubs>);

#[async_trait]
impl seriatim_http::Hubs for HttpHubs {
    async fn hub(&self, name: Option<&str>) -> HubResult<Arc<dyn TaskHub>> {
        self.0.existing(name).await
    }

    fn open(&self) -> Vec<OpenHub> {
        let shown = |(name, hub): (String, Arc<seriatim_hub::EmbeddedHub>)| {
            let (journal, work) = (hub.journal_stats(), hub.dispatch_stats());
            let figures = HubFigures {
                commits: journal.commits,
                batches: journal.batches,
                seconds_committing: journal.seconds_committing,
                workers: work.workers,
                handed_out: figures(work.handed_out),
                completed: figures(work.completed),
            };
            OpenHub { name, hub, figures: Some(figures) }
        };
        self.0.open_now().into_iter().map(shown).collect()
    }
}

fn figures(stats: WorkStats) -> WorkFigures {
    WorkFigures { orchestrators: stats.orchestrators, activities: stats.activities, entities: stats.entities }
}

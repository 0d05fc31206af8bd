//! What `/metrics` shows, in Prometheus' text format: requests by route and status, and of each open hub its instances
//! by status, its work items and its journal. Labels are names from the code, hubs and statuses, so that no client can
//! make their number grow. Must never ask a hub more often than every few seconds.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::http::HeaderValue;
use seriatim_durable::{HubResult, TaskHub, proto};

use crate::call::status_name;
use crate::hubs::{OpenHub, WorkFigures};

/// The media type of the format.
pub(crate) const CONTENT_TYPE: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// Upper ends of the buckets in which requests are counted by their time, in seconds.
const BUCKETS: [f64; 10] = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0, 120.0];

/// How long a count of instances is good for: it costs the hub a look at each of them.
const COUNT_AGE: Duration = Duration::from_secs(10);

/// Instances on a page while they are counted.
const COUNT_PAGE: i32 = 1_000;

/// A hub with more instances than this shows no count of them, because counting would cost it too much.
const COUNT_LIMIT: u64 = 200_000;

#[derive(Debug, Default)]
struct Times {
    buckets: [u64; BUCKETS.len()],
    count: u64,
    seconds: f64,
}

/// The instances of a hub by status; `None` if there are too many to count.
type Counts = Option<BTreeMap<&'static str, u64>>;

/// The server's figures.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    requests: Mutex<BTreeMap<(&'static str, u16), u64>>,
    times: Mutex<BTreeMap<&'static str, Times>>,
    connections: AtomicU64,
    counted: tokio::sync::Mutex<BTreeMap<String, (Instant, Counts)>>,
}

/// A figure is right even if whoever counted last panicked.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Metrics {
    /// Counts a request.
    pub(crate) fn count(&self, route: &'static str, status: u16, took: Duration) {
        *lock(&self.requests).entry((route, status)).or_default() += 1;
        let mut times = lock(&self.times);
        let times = times.entry(route).or_default();
        let seconds = took.as_secs_f64();
        for (bucket, end) in times.buckets.iter_mut().zip(BUCKETS) {
            *bucket += u64::from(seconds <= end);
        }
        times.count += 1;
        times.seconds += seconds;
    }

    /// One connection more.
    pub(crate) fn connected(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    /// One connection less.
    pub(crate) fn disconnected(&self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }

    /// All figures as text.
    pub(crate) async fn text(&self, hubs: &[OpenHub]) -> String {
        let mut page = Page::default();
        self.http(&mut page);
        let mut counts = Vec::new();
        for hub in hubs {
            counts.push((hub.name.as_str(), self.instances(hub).await));
        }
        page.family("seriatim_hub_instances", "gauge", "Orchestrations that the hub knows, by status.");
        for (name, counts) in &counts {
            for (status, count) in counts.iter().flatten() {
                page.sample("seriatim_hub_instances", &[("hub", name), ("status", status)], count);
            }
        }
        journal(&mut page, hubs);
        work(&mut page, hubs);
        page.text
    }

    fn http(&self, page: &mut Page) {
        page.family("seriatim_http_requests_total", "counter", "Requests, by route and status of the answer.");
        for ((route, status), count) in lock(&self.requests).iter() {
            let status = status.to_string();
            page.sample("seriatim_http_requests_total", &[("route", route), ("status", &status)], count);
        }
        page.family("seriatim_http_request_seconds", "histogram", "Time from a request's head to its answer.");
        for (route, times) in lock(&self.times).iter() {
            for (count, end) in times.buckets.iter().zip(BUCKETS) {
                let end = end.to_string();
                page.sample("seriatim_http_request_seconds_bucket", &[("route", route), ("le", &end)], count);
            }
            page.sample("seriatim_http_request_seconds_bucket", &[("route", route), ("le", "+Inf")], times.count);
            page.sample("seriatim_http_request_seconds_sum", &[("route", route)], times.seconds);
            page.sample("seriatim_http_request_seconds_count", &[("route", route)], times.count);
        }
        page.family("seriatim_http_connections", "gauge", "Connections that are open.");
        page.sample("seriatim_http_connections", &[], self.connections.load(Ordering::Relaxed));
    }

    async fn instances(&self, hub: &OpenHub) -> Counts {
        let mut counted = self.counted.lock().await;
        if let Some((_, counts)) = counted.get(&hub.name).filter(|(at, _)| at.elapsed() < COUNT_AGE) {
            return counts.clone();
        }
        let counts = count_instances(&*hub.hub).await.unwrap_or_else(|error| {
            tracing::warn!(hub = %hub.name, %error, "the instances of a hub could not be counted");
            None
        });
        counted.insert(hub.name.clone(), (Instant::now(), counts.clone()));
        counts
    }
}

async fn count_instances(hub: &dyn TaskHub) -> HubResult<Counts> {
    let (mut counts, mut seen, mut continuation_token) = (BTreeMap::new(), 0, None);
    loop {
        let query = proto::InstanceQuery { max_instance_count: COUNT_PAGE, continuation_token, ..Default::default() };
        let page = hub.query_instances(proto::QueryInstancesRequest { query: Some(query) }).await?;
        for state in &page.orchestration_state {
            *counts.entry(status_name(state.orchestration_status())).or_default() += 1;
        }
        seen += page.orchestration_state.len() as u64;
        continuation_token = page.continuation_token.filter(|token| !token.is_empty());
        if continuation_token.is_none() {
            return Ok(Some(counts));
        }
        if seen >= COUNT_LIMIT {
            return Ok(None);
        }
    }
}

fn journal(page: &mut Page, hubs: &[OpenHub]) {
    let figures = || hubs.iter().filter_map(|hub| Some((hub.name.as_str(), hub.figures?)));
    page.family("seriatim_hub_journal_commits_total", "counter", "Commits of the hub's journal, each with one sync.");
    for (name, figures) in figures() {
        page.sample("seriatim_hub_journal_commits_total", &[("hub", name)], figures.commits);
    }
    page.family("seriatim_hub_journal_batches_total", "counter", "Transitions that were written by these commits.");
    for (name, figures) in figures() {
        page.sample("seriatim_hub_journal_batches_total", &[("hub", name)], figures.batches);
    }
    page.family("seriatim_hub_journal_commit_seconds_total", "counter", "Seconds that were spent in these commits.");
    for (name, figures) in figures() {
        page.sample("seriatim_hub_journal_commit_seconds_total", &[("hub", name)], figures.seconds_committing);
    }
    page.family("seriatim_hub_workers", "gauge", "Workers that are connected.");
    for (name, figures) in figures() {
        page.sample("seriatim_hub_workers", &[("hub", name)], figures.workers);
    }
}

fn work(page: &mut Page, hubs: &[OpenHub]) {
    type Choose = fn(&crate::hubs::HubFigures) -> WorkFigures;
    let families: [(&str, &str, Choose); 2] = [
        ("seriatim_hub_work_items_total", "Work items that were given to workers.", |figures| figures.handed_out),
        ("seriatim_hub_work_items_completed_total", "Work items whose completion was taken.", |f| f.completed),
    ];
    for (family, about, choose) in families {
        page.family(family, "counter", about);
        for hub in hubs {
            let Some(figures) = &hub.figures else { continue };
            let work = choose(figures);
            let kinds =
                [("orchestrator", work.orchestrators), ("activity", work.activities), ("entity", work.entities)];
            for (kind, count) in kinds {
                page.sample(family, &[("hub", &hub.name), ("kind", kind)], count);
            }
        }
    }
}

/// The text as it grows. Writing to it cannot fail, which is why outcomes are dropped.
#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    fn family(&mut self, name: &str, kind: &str, about: &str) {
        let _ = writeln!(self.text, "# HELP {name} {about}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        let escape = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escape(value))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _ = writeln!(self.text, "{name}{labels} {value}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn requests_are_counted_by_route_and_status() {
        let metrics = Metrics::default();
        metrics.count("getInstance", 200, Duration::from_millis(3));
        metrics.count("getInstance", 200, Duration::from_secs(2));
        let text = metrics.text(&[]).await;
        for line in [
            "seriatim_http_requests_total{route=\"getInstance\",status=\"200\"} 2",
            "seriatim_http_request_seconds_bucket{route=\"getInstance\",le=\"0.001\"} 0",
            "seriatim_http_request_seconds_bucket{route=\"getInstance\",le=\"0.005\"} 1",
            "seriatim_http_request_seconds_bucket{route=\"getInstance\",le=\"+Inf\"} 2",
            "seriatim_http_request_seconds_count{route=\"getInstance\"} 2",
        ] {
            assert!(text.lines().any(|l| l == line), "no {line} in\n{text}");
        }
    }

    #[test]
    fn labels_are_escaped() {
        let mut page = Page::default();
        page.sample("m", &[("hub", "a\"b\\c\nd")], 1);
        assert_eq!(page.text, "m{hub=\"a\\\"b\\\\c\\nd\"} 1\n");
    }
}

//! Encodes all metrics for Prometheus. Builds a registry for each scrape, because the set of stores and policies changes in
//! between.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, prometheus_text, text::encode as encode_text};
use prometheus_client::registry::Registry;

use super::operator::Metrics;
use super::page::Page;
use super::snapshot::Snapshot;
use super::{caches, enforcement, policies, process, replica, stores};

/// An exposition format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `OpenMetrics` 1.0.
    OpenMetrics,
    /// The older text format of Prometheus, 0.0.4.
    Prometheus,
}

impl Format {
    /// Returns the format for a client with this header `Accept`.
    pub fn accepted(accept: &str) -> Self {
        if accept.contains("application/openmetrics-text") { Self::OpenMetrics } else { Self::Prometheus }
    }

    /// Returns the value of the header `Content-Type`.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => prometheus_text::CONTENT_TYPE,
        }
    }
}

/// Encodes all metrics.
///
/// # Errors
/// The encoder failed.
pub fn text(metrics: Metrics, snapshot: Snapshot, format: Format) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(All { metrics, snapshot }));
    let mut written = String::new();
    match format {
        Format::OpenMetrics => encode_text(&mut written, &registry)?,
        Format::Prometheus => prometheus_text::encode(&mut written, &registry)?,
    }
    Ok(written)
}

#[derive(Debug)]
struct All {
    metrics: Metrics,
    snapshot: Snapshot,
}

impl Collector for All {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page(encoder);
        self.metrics.write(&mut page)?;
        replica::write(&mut page, self.snapshot.replica)?;
        stores::write(&mut page, &self.snapshot.stores)?;
        enforcement::write(&mut page, &self.snapshot.stores, &self.snapshot.foreign_stores)?;
        policies::write(&mut page, &self.snapshot.policies)?;
        caches::write(&mut page, &self.snapshot.caches)?;
        process::write(&mut page)
    }
}

//! The output of a scrape.

use std::fmt;

use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// The output, family by family. Families without samples are omitted.
pub(super) struct Page<'a>(pub(super) DescriptorEncoder<'a>);

impl Page<'_> {
    /// Writes a metric that counts by itself.
    pub(super) fn metric(&mut self, name: &str, help: &str, metric: &impl EncodeMetric) -> fmt::Result {
        if metric.is_empty() {
            return Ok(());
        }
        metric.encode(self.0.encode_descriptor(name, help, None, metric.metric_type())?)
    }

    /// Writes gauges with their labels.
    pub(super) fn gauge<L, V>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (L, V)>,
    ) -> fmt::Result
    where
        L: EncodeLabelSet,
        ConstGauge<V>: EncodeMetric,
    {
        self.samples(name, help, samples.into_iter().map(|(labels, value)| (labels, ConstGauge::new(value))))
    }

    /// Writes counters with their labels. The format adds `_total` to `name`.
    pub(super) fn counter<L, V>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (L, V)>,
    ) -> fmt::Result
    where
        L: EncodeLabelSet,
        ConstCounter<V>: EncodeMetric,
    {
        let samples = samples.into_iter().map(|(labels, value)| (labels, ConstCounter::new(value)));
        self.samples(name, help, samples)
    }

    /// Writes metrics of one family with their labels.
    pub(super) fn samples<L: EncodeLabelSet, M: EncodeMetric>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (L, M)>,
    ) -> fmt::Result {
        let mut samples = samples.into_iter().peekable();
        let Some((_, first)) = samples.peek() else { return Ok(()) };
        let mut family = self.0.encode_descriptor(name, help, None, first.metric_type())?;
        for (labels, metric) in samples {
            metric.encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

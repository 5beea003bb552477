//! Traces: spans go to the collector that `OTEL_EXPORTER_OTLP_ENDPOINT` names (OTLP over HTTP), from a thread of their
//! own and over a bounded queue. A collector that is slow or away costs spans, never time.
//!
//! How many are kept is the standard's `OTEL_TRACES_SAMPLER` and `OTEL_TRACES_SAMPLER_ARG`; by default all whose
//! caller says nothing else.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use anyhow::Context as _;
use opentelemetry::{KeyValue, trace::TracerProvider as _};
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{SdkTracerProvider, SpanData},
};
use taskpost_common::{config::Config, trace};
use tokio::{task::spawn_blocking, time::timeout};
use tracing::{info, warn};
use tracing_subscriber::{Layer as _, filter::filter_fn};
use url::Url;

use crate::logs::{self, BoxedLayer};

/// How long the last spans have to get out when the process ends.
const FLUSH: Duration = Duration::from_millis(1_500);
/// For one batch, its repetitions included.
const EXPORT: Duration = Duration::from_secs(5);

/// Where spans go, if anywhere.
#[derive(Debug)]
pub struct Traces {
    provider: Option<SdkTracerProvider>,
}

impl Traces {
    /// Starts logging, and sending spans when there is a collector, which need not be there yet.
    pub async fn start(config: &Config, role: Option<&'static str>) -> anyhow::Result<Self> {
        let provider = match &config.otlp {
            Some(endpoint) => Some(open(endpoint, role, &config.instance).await?),
            None => None,
        };
        let traces = Self { provider };
        logs::start_with(config.log_format, traces.layer());
        Ok(traces)
    }

    /// What hands spans over; it hears of nothing else.
    fn layer(&self) -> Option<BoxedLayer> {
        let layer = tracing_opentelemetry::layer()
            .with_tracer(self.provider.as_ref()?.tracer("taskpost"))
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_tracked_inactivity(false)
            .with_filter(filter_fn(|metadata| metadata.is_span() && metadata.target() == trace::TARGET));
        Some(layer.boxed())
    }

    /// Sends what is left, for at most 2 seconds.
    pub async fn flush(self) {
        let Some(provider) = self.provider else { return };
        let flushed = spawn_blocking(move || provider.shutdown_with_timeout(FLUSH));
        // A collector that is away has been told of already.
        let _ = timeout(FLUSH + Duration::from_millis(250), flushed).await;
    }
}

/// The way to the collector at `endpoint`. `role` and `instance` say who we are.
async fn open(
    endpoint: &Url,
    role: Option<&'static str>,
    instance: &str,
) -> anyhow::Result<SdkTracerProvider> {
    let address = format!("{}/v1/traces", endpoint.as_str().trim_end_matches('/'));
    let resource = Resource::builder()
        .with_service_name("taskpost")
        .with_attributes([
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::new("service.instance.id", format!("{:032x}", rand::random::<u128>())),
            KeyValue::new("taskpost.instance", instance.to_owned()),
            KeyValue::new("taskpost.role", role.unwrap_or("all")),
        ])
        .build();
    // The exporter's client starts a runtime of its own, which is not allowed inside of ours.
    let provider = spawn_blocking(move || {
        let exporter =
            SpanExporter::builder().with_http().with_endpoint(address).with_timeout(EXPORT).build()?;
        let exporter = Watched { inner: exporter, failing: AtomicBool::new(false) };
        let provider = SdkTracerProvider::builder().with_resource(resource).with_batch_exporter(exporter);
        anyhow::Ok(provider.build())
    });
    provider.await?.context("OTEL_EXPORTER_OTLP_ENDPOINT: traces cannot be sent there")
}

/// Says once that spans are lost, and once that they are not any more.
#[derive(Debug)]
struct Watched<E> {
    inner: E,
    failing: AtomicBool,
}

impl<E: opentelemetry_sdk::trace::SpanExporter> opentelemetry_sdk::trace::SpanExporter for Watched<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let count = batch.len();
        let exported = self.inner.export(batch).await;
        match &exported {
            Err(error) => {
                metrics::counter!("taskpost_spans_lost_total").increment(u64::try_from(count).unwrap_or(0));
                if !self.failing.swap(true, Ordering::Relaxed) {
                    warn!(%error, "OTEL_EXPORTER_OTLP_ENDPOINT: traces are lost until the collector is there");
                }
            }
            Ok(()) if self.failing.swap(false, Ordering::Relaxed) => info!("traces get out again"),
            Ok(()) => {}
        }
        exported
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn shutdown(&self) -> OTelSdkResult {
        self.inner.shutdown()
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

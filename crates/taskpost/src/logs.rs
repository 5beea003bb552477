//! Logs: structured, to standard error, for people or for machines. A line inside a span of a trace says which.

use std::{fmt, io::IsTerminal as _};

use opentelemetry::{Context, trace::TraceContextExt as _};
use taskpost_common::{config::LogFormat, trace};
use tracing::{Event, Metadata, Subscriber, subscriber::Interest};
use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    filter::{FilterExt as _, LevelFilter, filter_fn},
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    layer::{self, Filter, SubscriberExt as _},
    registry::LookupSpan,
    util::SubscriberInitExt as _,
};

/// The field of a trace's id.
const TRACE_ID: &str = "trace_id";

/// Any layer.
pub(crate) type BoxedLayer = Box<dyn Layer<Registry> + Send + Sync>;

/// Starts logging. `RUST_LOG` says how much (default: our own at info, others' warnings but lapin's, which repeat ours).
pub fn start(format: LogFormat) {
    start_with(format, None);
}

/// Starts logging, and what else is told of spans and events.
pub(crate) fn start_with(format: LogFormat, other: Option<BoxedLayer>) {
    let layers: Vec<BoxedLayer> = std::iter::once(lines(format)).chain(other).collect();
    // A second start, as in tests, changes nothing.
    let _ = tracing_subscriber::registry().with(layers).try_init();
}

fn lines(format: LogFormat) -> BoxedLayer {
    let chosen =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn,lapin=off,taskpost=info"));
    let filter = Asked(chosen.and(filter_fn(is_for_people)));
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    match format {
        LogFormat::Json => layer
            .json()
            .flatten_event(true)
            .map_event_format(|inner| Traced { inner, format })
            .with_filter(filter)
            .boxed(),
        LogFormat::Pretty => layer
            .with_target(false)
            .with_ansi(std::io::stderr().is_terminal())
            .map_event_format(|inner| Traced { inner, format })
            .with_filter(filter)
            .boxed(),
    }
}

/// Asked anew for each line: an answer that a layer remembers for a place is taken for the next line as well when it was
/// given to somebody who only asked whether a line would be written.
struct Asked<F>(F);

impl<S, F: Filter<S>> Filter<S> for Asked<F> {
    fn enabled(&self, metadata: &Metadata<'_>, context: &layer::Context<'_, S>) -> bool {
        self.0.enabled(metadata, context)
    }

    fn callsite_enabled(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.0.callsite_enabled(metadata).is_never() { Interest::never() } else { Interest::sometimes() }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        self.0.max_level_hint()
    }
}

/// What makes up traces is not for the log, and the exporter's every failure is said once by `traces.rs`.
fn is_for_people(metadata: &Metadata<'_>) -> bool {
    let is_export = |name: &str| name.starts_with("Export.") || name == "BatchSpanProcessor.ExportError";
    metadata.target() != trace::TARGET
        && !(metadata.target().starts_with("opentelemetry") && is_export(metadata.name()))
}

/// Adds the id of the trace that a line is part of, unless the line says it itself.
struct Traced<F> {
    inner: F,
    format: LogFormat,
}

impl<S, N, F> FormatEvent<S, N> for Traced<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let says_it = event.metadata().fields().field(TRACE_ID).is_some();
        let Some(id) = trace_id().filter(|_| !says_it) else {
            return self.inner.format_event(context, writer, event);
        };
        let mut line = String::new();
        self.inner.format_event(context, Writer::new(&mut line), event)?;
        let line = line.trim_end();
        match (self.format, line.strip_suffix('}')) {
            (LogFormat::Json, Some(open)) => writeln!(writer, "{open},\"{TRACE_ID}\":\"{id}\"}}"),
            _ => writeln!(writer, "{line} {TRACE_ID}={id}"),
        }
    }
}

/// The trace of the span that this thread is in.
fn trace_id() -> Option<String> {
    let context = Context::current();
    let span = context.span();
    span.span_context().is_valid().then(|| span.span_context().trace_id().to_string())
}

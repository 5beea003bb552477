//! Where a piece of work belongs in a trace (W3C Trace Context): what came with it and what goes on with it.
//!
//! A `traceparent` is carried as text everywhere: headers, events, deliveries. Spans have the target [`TARGET`], which
//! only a collector of traces listens to. While there is none, every span is disabled, [`child_of`] and [`link`] do
//! nothing and [`traceparent_of`] gives nothing, so that what came is carried on as it is.

use opentelemetry::{
    Context,
    trace::{SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState},
};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// The target of all spans that make up traces; log lines have others.
pub const TARGET: &str = "taskpost::trace";

/// Reads a `traceparent` of version 00, and of later ones the part that they must share with it; writes version 00.
pub fn parse(text: &str) -> Option<String> {
    let (head, rest) = text.split_at_checked(55)?;
    let mut parts = head.split('-');
    let (version, trace, parent, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let hex = |part: &str, length: usize| {
        part.len() == length && part.bytes().all(|c| c.is_ascii_digit() || matches!(c, b'a'..=b'f'))
    };
    let zero = |part: &str| part.bytes().all(|c| c == b'0');
    let good = hex(version, 2)
        && version != "ff"
        && (rest.is_empty() || (version != "00" && rest.starts_with('-')))
        && hex(trace, 32)
        && !zero(trace)
        && hex(parent, 16)
        && !zero(parent)
        && hex(flags, 2)
        && parts.next().is_none();
    good.then(|| format!("00-{trace}-{parent}-{flags}"))
}

/// The trace's id: 32 hexadecimal digits of a `traceparent` that [`parse`] wrote.
pub fn id(traceparent: &str) -> &str {
    traceparent.get(3..35).unwrap_or_default()
}

/// Makes `span` a child of what `traceparent` names, before it is entered.
pub fn child_of(span: &Span, traceparent: Option<&str>) {
    if span.is_disabled() {
        return;
    }
    if let Some(parent) = traceparent.and_then(context) {
        // Without a collector's layer, there is nothing to be a child in.
        let _ = span.set_parent(Context::new().with_remote_span_context(parent));
    }
}

/// Says that `span` also goes back to what `traceparent` names.
pub fn link(span: &Span, traceparent: Option<&str>) {
    if span.is_disabled() {
        return;
    }
    if let Some(cause) = traceparent.and_then(context) {
        span.add_link(cause);
    }
}

/// The `traceparent` that makes others children of `span`, if it is part of a trace.
pub fn traceparent_of(span: &Span) -> Option<String> {
    if span.is_disabled() {
        return None;
    }
    let context = span.context();
    let span = context.span();
    let span = span.span_context();
    span.is_valid()
        .then(|| format!("00-{:032x}-{:016x}-{:02x}", span.trace_id(), span.span_id(), span.trace_flags()))
}

fn context(traceparent: &str) -> Option<SpanContext> {
    let text = parse(traceparent)?;
    let mut parts = text.split('-').skip(1);
    let trace = TraceId::from_hex(parts.next()?).ok()?;
    let span = SpanId::from_hex(parts.next()?).ok()?;
    let flags = TraceFlags::new(u8::from_str_radix(parts.next()?, 16).ok()?);
    Some(SpanContext::new(trace, span, flags, true, TraceState::NONE))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn good_ones_are_read() {
        assert_eq!(parse(GOOD).as_deref(), Some(GOOD));
        assert_eq!(parse(&format!("cc{}-what-comes", &GOOD[2..])).as_deref(), Some(GOOD));
        assert_eq!(id(GOOD), "4bf92f3577b34da6a3ce929d0e0e4736");
        let context = context(GOOD).unwrap();
        assert_eq!(context.trace_id().to_string(), id(GOOD));
        assert_eq!(context.span_id().to_string(), "00f067aa0ba902b7");
        assert!(context.is_sampled() && context.is_remote());
    }

    #[test]
    fn bad_ones_are_not() {
        for text in [
            format!("{GOOD}-more"),
            format!("ff{}", &GOOD[2..]),
            GOOD.to_uppercase(),
            GOOD.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            GOOD.replace("00f067aa0ba902b7", &"0".repeat(16)),
            GOOD.replacen('-', "_", 1),
            GOOD[..54].to_owned(),
            String::new(),
            "é".repeat(40),
        ] {
            assert_eq!(parse(&text), None, "{text}");
        }
    }

    #[test]
    fn without_a_collector_nothing_happens() {
        let span = tracing::info_span!(target: TARGET, "a test");
        child_of(&span, Some(GOOD));
        link(&span, Some(GOOD));
        assert!(span.is_disabled());
        assert_eq!(traceparent_of(&span), None);
    }
}

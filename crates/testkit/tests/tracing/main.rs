//! One trace from the request to the delivery, seen by a collector.
#![expect(clippy::expect_used, clippy::panic, reason = "a test may stop at the first surprise")]

mod headers;

use serde_json::{Value, json};
use taskpost_testkit::{
    Answer, Backend, CollectedSpan, Collector, Fields as _, Part, Port, Server, ServerStarting, TestApp,
    User, WebhookSink, both, until,
};
use tokio::net::TcpListener;

both!(
    one_trace_goes_from_the_request_to_the_delivery,
    a_trace_begins_where_none_came,
    what_the_caller_does_not_sample_is_carried_and_not_sent,
    log_lines_name_their_trace,
    the_last_spans_get_out_before_the_end,
    a_collector_that_is_away_is_told_of_once,
    a_collector_that_hangs_holds_nobody_up,
    without_a_collector_a_trace_is_carried,
);

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

fn traceparent(trace: &str, flags: &str) -> String {
    format!("00-{trace}-{CALLER}-{flags}")
}

/// The trace and the span of a `traceparent`.
fn parts(traceparent: &str) -> (&str, &str) {
    let mut parts = traceparent.split('-').skip(1);
    (parts.next().unwrap_or_default(), parts.next().unwrap_or_default())
}

/// A server whose spans go to `collector` at once.
fn start(backend: Backend, collector: &Collector) -> ServerStarting {
    Server::start(backend)
        .with("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url())
        .with("OTEL_BSP_SCHEDULE_DELAY", "50")
}

/// Posts a task in a trace, if there is one; gives the id of its event.
async fn post(server: &Server, user: &User, traceparent: Option<&str>) -> String {
    let mut request = server.post("/v1/tasks", json!({"title": "a"})).as_(user);
    if let Some(traceparent) = traceparent {
        request = request.header("traceparent", traceparent);
    }
    request.expect(201).await.header("event-id").to_owned()
}

async fn span(collector: &Collector, trace: &str, name: &str, about: (&str, &str)) -> CollectedSpan {
    let is_it = |span: &CollectedSpan| {
        let value = span.attributes.get(about.0).map_or("", String::as_str);
        span.trace_id == trace && span.name == name && value == about.1
    };
    collector.wait_for(&format!("{name} with {about:?} in {trace}"), is_it).await
}

async fn one_trace_goes_from_the_request_to_the_delivery(backend: Backend) {
    let (collector, sink) = (Collector::start().await, WebhookSink::start().await);
    let server = start(backend, &collector).await;
    let ada = server.user("Ada").await;
    server.hook(&ada, &sink, &["task.created"]).await;
    let instance = collector.wait_for("any", |_| true).await.resource["taskpost.instance"].clone();
    let announced =
        if Part::RabbitMq.is_used() { Some(headers::Announced::listen(&instance).await) } else { None };
    let event_id = post(&server, &ada, Some(&traceparent(TRACE, "01"))).await;
    let webhook = sink.wait_for(1).await.remove(0);

    let http = span(&collector, TRACE, "http request", ("http.route", "/tasks")).await;
    assert_eq!(http.parent_id, CALLER, "the caller's span is its parent");
    assert_eq!(
        (&*http.attributes["http.response.status_code"], &*http.resource["service.name"]),
        ("201", "taskpost")
    );
    let commit = span(&collector, TRACE, "commit", ("tasks", "1")).await;
    assert_eq!(commit.parent_id, http.span_id);
    let consume = span(&collector, TRACE, "consume", ("group", "webhooks")).await;
    assert_eq!((&consume.parent_id, &consume.attributes["event.id"]), (&http.span_id, &event_id));
    let deliver = span(&collector, TRACE, "deliver", ("channel", "webhook")).await;
    assert_eq!(deliver.parent_id, consume.span_id);
    assert_eq!((&*deliver.attributes["outcome"], &*deliver.attributes["attempt"]), ("delivered", "1"));
    assert_eq!(deliver.attributes["delivery.id"], webhook.webhook_id());
    assert_eq!(
        parts(webhook.header("traceparent")),
        (TRACE, &*deliver.span_id),
        "the receiver goes on from there"
    );
    if Part::Kafka.is_used() {
        let relay = span(&collector, TRACE, "relay", ("event.id", &event_id)).await;
        assert_eq!(relay.parent_id, http.span_id);
        let carried = headers::of_record(&instance, &event_id).await;
        assert_eq!(parts(&carried), (TRACE, &*http.span_id));
    }
    if let Some(announced) = announced {
        assert_eq!(parts(&announced.traceparent().await), (TRACE, &*consume.span_id));
    }
    // What the event itself carries is the request's.
    assert_eq!(parts(webhook.event().text("traceparent")), (TRACE, &*http.span_id));
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_share_a_trace() {
    let (collector, sink) = (Collector::start().await, WebhookSink::start().await);
    let api = start(Backend::Postgres, &collector).migrated().role("api").await;
    let consumers = api.beside().role("consumers").await;
    let workers = api.beside().role("workers").await;
    let ada = api.user("Ada").await;
    api.hook(&ada, &sink, &["task.created"]).await;
    post(&api, &ada, Some(&traceparent(TRACE, "01"))).await;
    let mut parent = CALLER.to_owned();
    for (name, about, role) in [
        ("http request", ("http.route", "/tasks"), "api"),
        ("consume", ("group", "webhooks"), "consumers"),
        ("deliver", ("channel", "webhook"), "workers"),
    ] {
        let span = span(&collector, TRACE, name, about).await;
        assert_eq!((&*span.resource["taskpost.role"], &*span.parent_id), (role, &*parent), "{span:#?}");
        parent = span.span_id;
    }
    for server in [workers, consumers, api] {
        server.finish().await;
    }
}

async fn a_trace_begins_where_none_came(backend: Backend) {
    let collector = Collector::start().await;
    let server = start(backend, &collector).await;
    let ada = server.user("Ada").await;
    let event_id = post(&server, &ada, None).await;
    let path = format!("/v1/events/{event_id}");
    let event = until(|| async {
        let answer = server.get(&path).as_(&ada).send().await;
        if answer.status == 200 { Ok(answer.json()) } else { Err(answer.text()) }
    })
    .await;
    let (trace, root) = parts(event.text("traceparent"));
    let http = span(&collector, trace, "http request", ("http.route", "/tasks")).await;
    assert_eq!((http.span_id.as_str(), http.parent_id.as_str()), (root, ""));
    // Every door gives it a name that a client can quote.
    let problem = server.post("/v1/tasks", json!({"title": ""})).as_(&ada).refused(422).await;
    span(&collector, problem.text("trace_id"), "http request", ("http.response.status_code", "422")).await;
    server.finish().await;
}

async fn what_the_caller_does_not_sample_is_carried_and_not_sent(backend: Backend) {
    let (collector, sink) = (Collector::start().await, WebhookSink::start().await);
    let server = start(backend, &collector).await;
    let ada = server.user("Ada").await;
    server.hook(&ada, &sink, &["task.created"]).await;
    let quiet = "0af7651916cd43dd8448eb211c80319c";
    post(&server, &ada, Some(&traceparent(quiet, "00"))).await;
    let webhook = sink.wait_for(1).await.remove(0);
    assert_eq!(parts(webhook.header("traceparent")).0, quiet);
    assert!(webhook.header("traceparent").ends_with("-00"), "the receiver need not either");
    post(&server, &ada, Some(&traceparent(TRACE, "01"))).await;
    span(&collector, TRACE, "deliver", ("channel", "webhook")).await;
    assert!(collector.spans().iter().all(|span| span.trace_id != quiet), "{:#?}", collector.spans());
    server.finish().await;
}

async fn log_lines_name_their_trace(backend: Backend) {
    let (collector, sink) = (Collector::start().await, WebhookSink::start().await);
    let server =
        start(backend, &collector).with("RUST_LOG", "warn,taskpost=debug").with("LOG_FORMAT", "json").await;
    let ada = server.user("Ada").await;
    server.hook(&ada, &sink, &["task.created"]).await;
    sink.script([Answer::status(500)]);
    post(&server, &ada, Some(&traceparent(TRACE, "01"))).await;
    sink.wait_for(2).await;
    span(&collector, TRACE, "deliver", ("outcome", "delivered")).await;
    // A line is whole once the process has ended.
    let log = server.terminate().await.stderr;
    let lines: Vec<Value> = log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    assert_eq!(lines.len(), log.lines().count(), "every line is JSON: {log}");
    for message in ["request", "will try again"] {
        let said = |line: &&Value| line["message"] == message && line["trace_id"] == TRACE;
        assert!(lines.iter().any(|line| said(&line)), "no line `{message}` of the trace in {log}");
    }
    server.finish().await;
}

async fn the_last_spans_get_out_before_the_end(backend: Backend) {
    let collector = Collector::start().await;
    let server = start(backend, &collector).with("OTEL_BSP_SCHEDULE_DELAY", "600000").await;
    let ada = server.user("Ada").await;
    post(&server, &ada, Some(&traceparent(TRACE, "01"))).await;
    assert!(collector.spans().is_empty());
    assert!(server.terminate().await.status.success());
    span(&collector, TRACE, "http request", ("http.route", "/tasks")).await;
    server.finish().await;
}

async fn a_collector_that_is_away_is_told_of_once(backend: Backend) {
    let nobody = Port::take();
    let url = format!("http://{}", nobody.address());
    let server = Server::start(backend)
        .with("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        .with("OTEL_BSP_SCHEDULE_DELAY", "20")
        .await;
    let ada = server.user("Ada").await;
    let mut lost = 0;
    for _ in 0..3 {
        post(&server, &ada, None).await;
        lost = until(|| async {
            let metrics = server.get("/metrics").expect(200).await.text();
            let line = metrics.lines().find_map(|line| line.strip_prefix("taskpost_spans_lost_total "));
            let now: u64 = line.map_or(0, |count| count.parse().expect("a count"));
            if now > lost { Ok(now) } else { Err(format!("{now} spans are lost")) }
        })
        .await;
    }
    let exit = server.terminate().await;
    assert!(exit.status.success() && !exit.stderr.contains("panicked"), "{}", exit.stderr);
    assert_eq!(exit.stderr.matches("OTEL_EXPORTER_OTLP_ENDPOINT").count(), 1, "{}", exit.stderr);
    server.finish().await;
}

async fn a_collector_that_hangs_holds_nobody_up(backend: Backend) {
    // It takes connections and says nothing.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let server = Server::start(backend)
        .with("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        .with("OTEL_BSP_SCHEDULE_DELAY", "20")
        // The spans of a few requests do not fit.
        .with("OTEL_BSP_MAX_QUEUE_SIZE", "8")
        .with("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "8")
        .await;
    let ada = server.user("Ada").await;
    let _held = listener.accept().await.expect("spans are on their way");
    for _ in 0..10 {
        post(&server, &ada, None).await;
    }
    let exit = server.terminate().await;
    assert!(exit.status.success() && !exit.stderr.contains("panicked"), "{}", exit.stderr);
    server.finish().await;
}

async fn without_a_collector_a_trace_is_carried(backend: Backend) {
    let app = TestApp::start(backend).await;
    let (ada, sink) = (app.user("Ada").await, WebhookSink::start().await);
    app.hook(&ada, &sink, &["task.created"]).await;
    let given = traceparent(TRACE, "01");
    app.post("/v1/tasks", json!({"title": "a"})).as_(&ada).header("traceparent", &given).expect(201).await;
    app.drain().await;
    assert_eq!(sink.received()[0].header("traceparent"), given);
    app.finish().await;
}

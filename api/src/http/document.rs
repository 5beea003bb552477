//! The OpenAPI document: each handler describes what it gives, and its row of the table what holds of every such row.

use axum::http::Method;
use serde_json::json;
use taskpost_common::problem::{Code, Problem};
use utoipa::{
    PartialSchema as _, ToSchema as _,
    openapi::{
        ComponentsBuilder, Content, ContentBuilder, Header, HeaderBuilder, HttpMethod, Info, KnownFormat,
        OpenApi, OpenApiBuilder, Paths, Ref, RefOr, Required, Response, ResponseBuilder, Schema,
        SchemaFormat, Type,
        path::{Operation, ParameterBuilder, ParameterIn, PathItem},
        schema::ObjectBuilder,
        security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme},
        tag::TagBuilder,
    },
};

use super::{Access, Limit, Route};

const PROBLEM: &str = "application/problem+json";
/// What takes a preference for an answer before the work is done.
const ACCEPTING: [&str; 2] = ["/tasks", "/projects/{id}/tasks"];
/// What shows a view that may be behind the client's own write.
const BOARD: &str = "/views/projects/{id}/board";
/// Whose body may be left out.
const OPTIONAL_BODY: [&str; 3] =
    ["/projects/{id}/watch", "/tasks/{id}/watch", "/admin/dead-letters/{id}/redrive"];

const TAGS: [(&str, &str); 13] = [
    ("auth", "Registering, logging in and out."),
    ("account", "One's own account: its sessions, password and tokens."),
    ("users", "Who there is."),
    ("projects", "Where people work together, and how."),
    ("tasks", "What is to be done."),
    ("comments", "What is said of tasks and posts."),
    ("posts", "Updates of projects, and news."),
    ("events", "What happened, in order."),
    ("notifications", "What one is told."),
    ("webhooks", "Where events are sent."),
    ("admin", "What operators look after."),
    ("operate", "What probes and monitors ask."),
    ("docs", "This document."),
];

/// The document in the making.
pub(crate) struct Document(OpenApi);

impl Default for Document {
    fn default() -> Self {
        let mut info = Info::new("Taskpost", env!("CARGO_PKG_VERSION"));
        info.description = Some(
            "Task intake that never loses a task and never loses a notification. Register or log in, then send \
             `Authorization: Bearer <access_token>`. The paths under /v1 also answer without it. Whatever is \
             asked, 405 is a method that the address does not take, and 408, 413, 414, 415 and 431 are requests \
             that come too slowly, are too large or are compressed, each a problem like any other."
                .to_owned(),
        );
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT").build();
        let components = ComponentsBuilder::new()
            .security_scheme("bearer", SecurityScheme::Http(bearer))
            .schema(Problem::name(), Problem::schema())
            .build();
        let tags = TAGS
            .map(|(name, description)| TagBuilder::new().name(name).description(Some(description)).build());
        Self(OpenApiBuilder::new().info(info).components(Some(components)).tags(Some(tags)).build())
    }
}

impl Document {
    /// Adds the operation of a row.
    pub(crate) fn add(&mut self, row: &Route, schemas: Vec<(String, RefOr<Schema>)>, paths: Paths) {
        let mut named = Vec::new();
        Problem::schemas(&mut named);
        if let Some(components) = &mut self.0.components {
            components.schemas.extend(schemas.into_iter().chain(named));
        }
        let (method, item) = (openapi_method(&row.method), paths.paths.into_values().next());
        if let Some(mut operation) = item.and_then(|item| of_method(item, &method)) {
            complete(&mut operation, row);
            self.0.paths.add_path_operation(row.canonical(), vec![method], operation);
        }
    }

    pub(crate) fn into_openapi(self) -> OpenApi {
        self.0
    }
}

fn openapi_method(method: &Method) -> HttpMethod {
    match method.as_str() {
        "POST" => HttpMethod::Post,
        "PUT" => HttpMethod::Put,
        "PATCH" => HttpMethod::Patch,
        "DELETE" => HttpMethod::Delete,
        _ => HttpMethod::Get,
    }
}

/// The operation, if it was described for the method of its row.
fn of_method(item: PathItem, method: &HttpMethod) -> Option<Operation> {
    match method {
        HttpMethod::Post => item.post,
        HttpMethod::Put => item.put,
        HttpMethod::Patch => item.patch,
        HttpMethod::Delete => item.delete,
        _ => item.get,
    }
}

/// What follows from the row: who may call, which headers there are, and how it fails.
fn complete(operation: &mut Operation, row: &Route) {
    if row.access != Access::Anyone {
        operation.security = Some(vec![SecurityRequirement::new("bearer", Vec::<String>::new())]);
    }
    if let Some(RefOr::T(body)) = &mut operation.request_body
        && OPTIONAL_BODY.contains(&row.path)
    {
        body.required = Some(Required::False);
    }
    describe_request_headers(operation, row);
    describe_response_headers(operation, row);
    for code in failures(row) {
        let responses = &mut operation.responses.responses;
        let known = responses.entry(code.status().to_string()).or_insert_with(|| problem(code));
        if let RefOr::T(response) = known {
            response.content.entry(PROBLEM.to_owned()).or_insert_with(|| problem_body().into());
        }
    }
}

fn describe_request_headers(operation: &mut Operation, row: &Route) {
    if takes_key(row) {
        let key = text().min_length(Some(1)).max_length(Some(255)).pattern(Some("^[!-~]+$"));
        let what = "Repeats with it get the first answer, for 24 hours.";
        header_parameter(operation, "Idempotency-Key", what, key);
    }
    if takes_if_match(row) {
        let tag = text().pattern(Some(r#"^(\*|(W/)?"[!#-~]*")$"#));
        header_parameter(operation, "If-Match", "The ETag it must still have, or `*`.", tag);
    }
    if operation.responses.responses.contains_key("304") {
        let what = "An ETag that one has already, or several with commas between them.";
        header_parameter(operation, "If-None-Match", what, text());
    }
    if ACCEPTING.contains(&row.path) && row.method == Method::POST {
        let wish = text().examples([json!("respond-async")]);
        header_parameter(operation, "Prefer", "`respond-async` for 202.", wish);
    }
    if row.path == BOARD {
        let id = text().format(Some(SchemaFormat::KnownFormat(KnownFormat::Uuid)));
        header_parameter(operation, "After-Event", "The Event-Id of a write that it must hold.", id);
    }
}

fn describe_response_headers(operation: &mut Operation, row: &Route) {
    let changes = row.limit == Limit::Write && row.method != Method::GET;
    let responses = &mut operation.responses.responses;
    let conditional = responses.contains_key("304") || takes_if_match(row);
    for (status, response) in responses {
        let RefOr::T(response) = response else { continue };
        let mut has = |name: &str, what: &str| {
            response.headers.entry(name.to_owned()).or_insert_with(|| text_header(what));
        };
        has("X-Request-Id", "Names the request.");
        if changes {
            has("Event-Id", "The last event of the change.");
        }
        if status == "201" {
            has("Location", "Where it is from now on.");
        }
        if conditional && ["200", "304"].contains(&status.as_str()) {
            has("ETag", "Its version, for If-Match and If-None-Match.");
        }
    }
}

/// How it may fail, besides what the document says of every request.
fn failures(row: &Route) -> Vec<Code> {
    // A query that nobody reads is a bad request everywhere.
    let mut codes = vec![Code::BadRequest, Code::Internal, Code::Unavailable];
    if row.access != Access::Anyone {
        // A token for machines may lack the scope, whoever else may call.
        codes.extend([Code::Unauthenticated, Code::Forbidden]);
    }
    if row.limit == Limit::Auth || row.path == "/metrics" {
        codes.push(Code::Unauthenticated);
    }
    if row.limit != Limit::None {
        codes.push(Code::RateLimited);
    }
    if row.path.contains('{') || row.path == "/metrics" {
        codes.push(Code::NotFound);
    }
    if row.input.is_json() {
        codes.extend([Code::RequestTimeout, Code::TooLarge, Code::UnsupportedMediaType, Code::Invalid]);
    }
    if takes_if_match(row) {
        codes.push(Code::PreconditionFailed);
    }
    if row.method != Method::GET {
        // The state may not allow it, or others change the same.
        codes.push(Code::Conflict);
    }
    if takes_key(row) {
        // The key was used with another body.
        codes.push(Code::Invalid);
    }
    codes
}

/// Every authenticated POST but those whose answer holds a secret.
fn takes_key(row: &Route) -> bool {
    let secret = row.path.starts_with("/auth/")
        || ["/webhooks", "/me/tokens"].contains(&row.path)
        || row.path.ends_with("/rotate-secret");
    row.method == Method::POST && row.access != Access::Anyone && !secret
}

/// Changes of what has an ETag.
fn takes_if_match(row: &Route) -> bool {
    let tagged = row.path.starts_with("/tasks/{id}") && row.path != "/tasks/{id}/comments"
        || ["/me", "/users/{id}", "/users/{id}/roles"].contains(&row.path)
        || ["/webhooks/{id}", "/comments/{id}", "/posts/{id}"].contains(&row.path)
        || row.path.starts_with("/projects/{id}") && row.method != Method::POST;
    tagged && row.method != Method::GET && !row.path.contains("/watch")
}

fn problem(code: Code) -> RefOr<Response> {
    let (_, _, title) = code.row();
    let mut response = ResponseBuilder::new().description(title).content(PROBLEM, problem_body()).build();
    let mut has = |name: &str, what: &str| response.headers.insert(name.to_owned(), text_header(what));
    match code {
        Code::RateLimited | Code::Unavailable => has("Retry-After", "When to come back, in whole seconds."),
        Code::Unauthenticated => has("WWW-Authenticate", "`Bearer`."),
        _ => None,
    };
    response.into()
}

fn problem_body() -> Content {
    ContentBuilder::new().schema(Some(Ref::from_schema_name(Problem::name()))).build()
}

fn text() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}

fn text_header(description: &str) -> RefOr<Header> {
    HeaderBuilder::new().schema(Some(text())).description(Some(description)).build().into()
}

fn header_parameter(operation: &mut Operation, name: &str, description: &str, schema: ObjectBuilder) {
    let parameter = ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(description))
        .schema(Some(schema))
        .build();
    operation.parameters.get_or_insert_default().push(parameter.into());
}

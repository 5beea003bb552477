//! The OpenAPI document: each handler describes what it gives, and its row of the table what holds of every such row.

use axum::{body::Bytes, http::Method};
use taskpost_common::problem::{Code, Problem};
use utoipa::{
    PartialSchema as _, ToSchema as _,
    openapi::{
        ComponentsBuilder, ContentBuilder, HeaderBuilder, HttpMethod, Info, OpenApi, OpenApiBuilder, Paths,
        Ref, RefOr, Required, ResponseBuilder, Schema, SchemaFormat, Type,
        path::{Operation, ParameterBuilder, ParameterIn, PathItem},
        schema::ObjectBuilder,
        security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme},
        tag::TagBuilder,
    },
};

use super::{Access, Input, Limit, Route};

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
             `Authorization: Bearer <access_token>`. The paths under /v1 also answer without it."
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

    /// The document as it is served.
    pub(crate) fn to_bytes(&self) -> Bytes {
        serde_json::to_vec(&self.0).unwrap_or_default().into()
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
    let (member, change) = (row.access != Access::Anyone, row.limit == Limit::Write);
    if member {
        operation.security = Some(vec![SecurityRequirement::new("bearer", Vec::<String>::new())]);
    }
    if takes_key(row) {
        header_parameter(operation, "Idempotency-Key", "Repeats with it get the first answer, for 24 hours.");
    }
    if takes_if_match(row) {
        header_parameter(operation, "If-Match", "The ETag it must still have, or `*`.");
    }
    let made = operation.responses.responses.values_mut().filter_map(|response| match response {
        RefOr::T(response) => Some(response),
        RefOr::Ref(_) => None,
    });
    for response in made {
        response.headers.insert("X-Request-Id".to_owned(), text_header("Names the request."));
        if change && row.method != Method::GET {
            response.headers.insert("Event-Id".to_owned(), text_header("The last event of the change."));
        }
    }
    for code in failures(row) {
        let (status, _, title) = code.row();
        operation.responses.responses.entry(status.to_string()).or_insert_with(|| problem(title));
    }
}

fn failures(row: &Route) -> Vec<Code> {
    let mut codes = vec![Code::Internal, Code::Unavailable];
    if row.access != Access::Anyone {
        // A token for machines may lack the scope, whoever else may call.
        codes.extend([Code::Unauthenticated, Code::Forbidden]);
    }
    if row.limit != Limit::None {
        codes.push(Code::RateLimited);
    }
    if row.path.contains('{') {
        codes.push(Code::NotFound);
    }
    match row.input {
        Input::Json | Input::Batch => codes.extend([
            Code::BadRequest,
            Code::RequestTimeout,
            Code::TooLarge,
            Code::UnsupportedMediaType,
            Code::Invalid,
        ]),
        Input::Query => codes.push(Code::BadRequest),
        Input::None => {}
    }
    if takes_if_match(row) {
        codes.extend([Code::PreconditionFailed, Code::Conflict, Code::BadRequest]);
    }
    if takes_key(row) {
        codes.extend([Code::Conflict, Code::BadRequest]);
    }
    if row.limit == Limit::Auth || row.path == "/metrics" {
        codes.extend([Code::Unauthenticated, Code::NotFound]);
    }
    if ["/auth/register", "/webhooks", "/me/tokens", "/me/password"].contains(&row.path) {
        codes.push(Code::Conflict);
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

fn problem(title: &str) -> RefOr<utoipa::openapi::Response> {
    let body = ContentBuilder::new().schema(Some(Ref::from_schema_name(Problem::name()))).build();
    ResponseBuilder::new().description(title).content("application/problem+json", body).build().into()
}

fn text() -> RefOr<Schema> {
    ObjectBuilder::new().schema_type(Type::String).format(None::<SchemaFormat>).build().into()
}

fn text_header(description: &str) -> RefOr<utoipa::openapi::Header> {
    HeaderBuilder::new().schema(Some(text())).description(Some(description)).build().into()
}

fn header_parameter(operation: &mut Operation, name: &str, description: &str) {
    let parameter = ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(description))
        .schema(Some(text()))
        .build();
    operation.parameters.get_or_insert_default().push(parameter.into());
}

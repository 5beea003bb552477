//! From the table to a router and a document.

use std::sync::Arc;

use axum::{
    Router,
    handler::Handler,
    http::{HeaderName, HeaderValue, Method, header},
    response::Response,
    routing::{MethodFilter, on},
};
use metrics_exporter_prometheus::PrometheusHandle;
use secrecy::SecretString;
use taskpost_common::net::TrustedProxies;
use taskpost_ports::Limiter;
use taskpost_tracker::Tracker;
use tower_http::cors::{AllowOrigin, CorsLayer};
use utoipa::openapi::OpenApi;
use utoipa_axum::router::UtoipaMethodRouter;

use super::{
    Access, Input, Limit, Place, Route, TABLE,
    document::Document,
    meter,
    middleware::Endpoint,
    problem::{ApiError, Result},
    register, reply,
    route::Register,
    visit::Front,
};

/// What the interface stands on.
#[derive(Clone)]
pub struct App {
    /// The use cases.
    pub tracker: Tracker,
    /// The rate limiter.
    pub limiter: Arc<Limiter>,
    /// Whose X-Forwarded-For is believed.
    pub trusted_proxies: TrustedProxies,
    /// The recorder's output. Install the recorder before [`router`] is called.
    pub metrics: PrometheusHandle,
    /// Lets others than loopback read /metrics.
    pub metrics_token: Option<SecretString>,
    /// Whose pages may call from a browser; nobody's when empty.
    pub cors_origins: Vec<String>,
    /// Whether people reach this instance by https.
    pub https: bool,
}

/// The state that handlers share.
pub(crate) type Shared = Arc<Api>;

pub(crate) struct Api {
    pub(crate) app: App,
    /// With the rows of the table, then [`UNKNOWN_PATH`] and [`UNKNOWN_METHOD`].
    pub(crate) front: Front,
}

/// The router of all routes.
pub fn router(app: App) -> Router {
    meter::describe();
    let mounts = register(Mounts::default());
    let api = Arc::new(Api {
        front: Front::new(
            TABLE.iter().chain([&UNKNOWN_PATH, &UNKNOWN_METHOD]),
            app.tracker.clock().clone(),
            app.https,
        ),
        app,
    });
    let router = mounts
        .router
        .fallback(Endpoint { row: &UNKNOWN_PATH, index: TABLE.len(), handler: unknown_path })
        .method_not_allowed_fallback(Endpoint {
            row: &UNKNOWN_METHOD,
            index: TABLE.len() + 1,
            handler: unknown_method,
        })
        .with_state(api.clone());
    if api.app.cors_origins.is_empty() {
        return router;
    }
    let https = api.app.https;
    let plain = axum::middleware::map_response(move |mut response: Response| async move {
        reply::harden(response.headers_mut(), https);
        response
    });
    router.layer(cors(&api.app.cors_origins)).layer(plain)
}

/// The OpenAPI document of all routes.
pub fn openapi() -> OpenApi {
    register(Description::default()).document.into_openapi()
}

/// Where the table's rows answer.
#[derive(Default)]
struct Mounts {
    router: Router<Shared>,
    next: usize,
}

impl Register for Mounts {
    fn add<H, T>(mut self, _: impl FnOnce() -> UtoipaMethodRouter<Shared>, handler: H) -> Self
    where
        H: Handler<T, Shared> + Sync,
        T: Send + 'static,
    {
        let index = self.next;
        let Some(row) = TABLE.get(index) else { return self };
        // Every method of the table has a filter; GET is the one that cannot do harm.
        let filter = MethodFilter::try_from(row.method.clone()).unwrap_or(MethodFilter::GET);
        for path in row.mounts() {
            self.router =
                self.router.route(&path, on(filter, Endpoint { row, index, handler: handler.clone() }));
        }
        self.next += 1;
        self
    }
}

/// What the table's rows are said to be.
#[derive(Default)]
struct Description {
    document: Document,
    next: usize,
}

impl Register for Description {
    fn add<H, T>(mut self, describe: impl FnOnce() -> UtoipaMethodRouter<Shared>, _: H) -> Self
    where
        H: Handler<T, Shared> + Sync,
        T: Send + 'static,
    {
        let Some(row) = TABLE.get(self.next) else { return self };
        let (schemas, paths, _) = describe();
        self.document.add(row, schemas, paths);
        self.next += 1;
        self
    }
}

pub(super) static UNKNOWN_PATH: Route = unknown("(unknown path)");
static UNKNOWN_METHOD: Route = unknown("(unknown method)");

const fn unknown(path: &'static str) -> Route {
    let (place, limit, access) = (Place::Root, Limit::None, Access::Anyone);
    Route { method: Method::GET, path, place, limit, access, input: Input::Query }
}

async fn unknown_path() -> Result<Response> {
    Err(ApiError::not_found("there is nothing at this address; /openapi.json lists what there is"))
}

pub(super) async fn unknown_method() -> Result<Response> {
    Err(ApiError::method_not_allowed())
}

fn cors(origins: &[String]) -> CorsLayer {
    let exposed = [
        "event-id",
        "idempotency-replayed",
        "preference-applied",
        "ratelimit",
        "ratelimit-policy",
        "x-request-id",
    ];
    let exposed = exposed.into_iter().map(HeaderName::from_static);
    let exposed = exposed.chain([header::ETAG, header::LINK, header::LOCATION, header::RETRY_AFTER]);
    let accepted = ["after-event", "idempotency-key", "prefer", "traceparent", "x-request-id"];
    let accepted = accepted.into_iter().map(HeaderName::from_static);
    let accepted = accepted.chain([
        header::AUTHORIZATION,
        header::CONTENT_TYPE,
        header::IF_MATCH,
        header::IF_NONE_MATCH,
    ]);
    CorsLayer::new()
        .allow_origin(AllowOrigin::list(
            origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok()),
        ))
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
        .allow_headers(accepted.collect::<Vec<_>>())
        .expose_headers(exposed.collect::<Vec<_>>())
}

//! What a row of the route table says, and the macro that makes everything of it.

use axum::http::Method;
use taskpost_ports::limiter::LimitClass;

/// A row of the route table.
#[derive(Debug)]
pub struct Route {
    /// The method. GET also answers HEAD.
    pub method: Method,
    /// The path, without a version.
    pub path: &'static str,
    /// Where it is mounted.
    pub place: Place,
    /// Which limit it counts against.
    pub limit: Limit,
    /// Who may call it.
    pub access: Access,
    /// What it reads besides its path.
    pub input: Input,
}

/// Where a route is mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Under `/v1`, and the same at the root.
    Versioned,
    /// At the root only.
    Root,
}

/// Which limit a route counts against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Logging in and registering: by address, whoever calls.
    Auth,
    /// Changes.
    Write,
    /// Everything else.
    Read,
    /// No limit: what probes and monitors ask.
    None,
}

/// Who may call a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Everybody; a token is not looked at.
    Anyone,
    /// Whoever has a good token.
    Member,
    /// Members with the role admin.
    Admin,
}

/// What a route reads besides its path. Anything else in a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// Nothing; a body is read to its end and left alone.
    None,
    /// Keys of the query string.
    Query,
    /// A JSON body of at most 256 KiB.
    Json,
    /// A JSON body of at most 5 MiB.
    Batch,
}

impl Limit {
    /// The limiter's word for it.
    pub const fn class(self) -> Option<LimitClass> {
        match self {
            Self::Auth => Some(LimitClass::Auth),
            Self::Write => Some(LimitClass::Write),
            Self::Read => Some(LimitClass::Read),
            Self::None => None,
        }
    }
}

impl Input {
    /// The largest body.
    pub const fn max_body(self) -> usize {
        match self {
            Self::Batch => 5 * 1024 * 1024,
            Self::None | Self::Query | Self::Json => 256 * 1024,
        }
    }

    /// Whether the body is JSON.
    pub const fn is_json(self) -> bool {
        matches!(self, Self::Json | Self::Batch)
    }
}

impl Route {
    /// The path that documents and links name.
    pub fn canonical(&self) -> String {
        match self.place {
            Place::Versioned => format!("/v1{}", self.path),
            Place::Root => self.path.to_owned(),
        }
    }

    /// Every path it answers at.
    pub fn mounts(&self) -> Vec<String> {
        match self.place {
            Place::Versioned => vec![self.canonical(), self.path.to_owned()],
            Place::Root => vec![self.path.to_owned()],
        }
    }
}

/// What takes the handlers of the table, in its order.
pub(crate) trait Register: Sized {
    /// The next row's handler, with what utoipa knows of it.
    fn add<H, T>(
        self,
        described: utoipa_axum::router::UtoipaMethodRouter<super::app::Shared>,
        handler: H,
    ) -> Self
    where
        H: axum::handler::Handler<T, super::app::Shared> + Sync,
        T: Send + 'static;
}

/// Makes [`TABLE`](super::TABLE) and the registration of its handlers from one list, so that neither can have a row
/// the other lacks.
macro_rules! route_table {
    ($($place:ident { $($method:ident $path:literal $limit:ident $access:ident $input:ident $module:ident::$handler:ident;)+ })+) => {
        /// The routes.
        pub static TABLE: &[Route] = &[$($(Route {
            method: axum::http::Method::$method,
            path: $path,
            place: Place::$place,
            limit: Limit::$limit,
            access: Access::$access,
            input: Input::$input,
        },)+)+];

        /// Hands over every row's handler, in the order of the table.
        fn register<R: route::Register>(rows: R) -> R {
            $($(let rows = rows.add(utoipa_axum::routes!($module::$handler), $module::$handler);)+)+
            rows
        }
    };
}
pub(crate) use route_table;

//! What a row of the route table says, and the macro that makes everything of it.

use axum::http::Method;
use taskpost_common::token::{Scope, Scopes};
use taskpost_ports::limiter::LimitClass;

/// Where tasks are made.
const CREATION: [&str; 3] = ["/tasks", "/tasks/batch", "/projects/{id}/tasks"];

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

/// Who may call a route: this table is the permission table, and the tracker holds to it. Admins may call every one but
/// those of somebody's own account. What one may not know of is 404, what one knows of and may not do is 403.
///
/// From [`Access::Viewer`] on it is about a project, or a thing in one; each holds for the roles after it too. Outside
/// projects a personal task is its reporter's and assignee's, and news of the organisation is everyone's to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    /// Everybody; a token is not looked at.
    Anyone,
    /// Whoever has a good token.
    Member,
    /// Whoever is logged in: tokens for machines do not reach the account itself, nor send on what its owner sees.
    Person,
    /// Members with the role admin.
    Admin,
    /// Who may read it: everyone in the project, and everyone at all when the project is internal.
    Viewer,
    /// Members of the project who are more than viewers.
    Worker,
    /// Who wrote it, as long as they are a worker there, and maintainers.
    Author,
    /// Maintainers of the project.
    Maintainer,
    /// Owners of the project.
    Owner,
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

    /// Whether a token with these scopes may be used for it.
    pub fn is_within(&self, scopes: &Scopes) -> bool {
        match self.access {
            Access::Anyone => true,
            Access::Person => false,
            Access::Admin => scopes.has(Scope::Admin),
            _ if self.method == Method::GET => scopes.has(Scope::Read),
            _ => scopes.has(Scope::Write) || (self.makes_tasks() && scopes.has(Scope::TasksCreate)),
        }
    }

    /// Whether it is where tasks are made.
    pub fn makes_tasks(&self) -> bool {
        self.method == Method::POST && CREATION.contains(&self.path)
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
    /// The next row's handler, and what tells what utoipa knows of it.
    fn add<H, T>(
        self,
        describe: impl FnOnce() -> utoipa_axum::router::UtoipaMethodRouter<super::app::Shared>,
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
            $($(let rows = rows.add(|| utoipa_axum::routes!($module::$handler), $module::$handler);)+)+
            rows
        }
    };
}
pub(crate) use route_table;

//! Step 1 of 7. Before: a connection ([`serve`](crate::serve)). Next: the tracker, which decides and stores.
//!
//! This file is the route table. A path that is not here is 404, and a handler gets a known caller only by the
//! extractor of the access it asks for, so that everything is denied by default.

mod admin;
mod app;
mod auth;
mod batch;
mod body;
mod conditions;
mod docs;
mod document;
mod events;
mod extract;
mod fault;
mod health;
mod json;
mod meter;
mod middleware;
mod notifications;
mod operate;
mod pages;
mod problem;
mod query;
mod reply;
mod route;
mod tasks;
mod trace;
mod visit;
mod webhooks;

pub use app::{App, openapi, router};
/// What [`router`] and [`operate`](operate()) make, to be given to [`serve`](crate::serve::serve).
pub use axum::Router;
pub use operate::{Operate, operate};
pub use route::{Access, Input, Limit, Place, Route};

route::route_table! {
    // Under /v1, and the same at the root.
    // method path                       limit access input  handler
    Versioned {
        POST   "/auth/register"             Auth  Anyone Json  auth::register;
        POST   "/auth/login"                Auth  Anyone Json  auth::login;
        POST   "/auth/refresh"              Auth  Anyone Json  auth::refresh;
        POST   "/auth/logout"               Write Member None  auth::logout;
        GET    "/me"                        Read  Member None  auth::me;

        POST   "/tasks"                     Write Member Json  tasks::create_task;
        POST   "/tasks/batch"               Write Member Batch batch::create_tasks;
        GET    "/tasks"                     Read  Member Query tasks::list_tasks;
        GET    "/tasks/{id}"                Read  Member Query tasks::get_task;
        PATCH  "/tasks/{id}"                Write Member Json  tasks::update_task;
        DELETE "/tasks/{id}"                Write Member None  tasks::delete_task;
        POST   "/tasks/{id}/transitions"    Write Member Json  tasks::move_task;
        PUT    "/tasks/{id}/assignee"       Write Member Json  tasks::assign_task;
        DELETE "/tasks/{id}/assignee"       Write Member None  tasks::unassign_task;

        GET    "/events"                    Read  Member Query events::list_events;
        GET    "/events/{id}"               Read  Member None  events::get_event;
        GET    "/event-types"               Read  Member None  events::list_event_types;

        GET    "/notifications"             Read  Member Query notifications::list_notifications;
        GET    "/notifications/unread-count" Read Member None  notifications::count_unread;
        PATCH  "/notifications/{id}"        Write Member Json  notifications::mark_notification;
        POST   "/notifications/read-all"    Write Member None  notifications::mark_all_read;

        GET    "/webhooks"                  Read  Member Query webhooks::list_webhooks;
        POST   "/webhooks"                  Write Member Json  webhooks::create_webhook;
        GET    "/webhooks/{id}"             Read  Member None  webhooks::get_webhook;
        PATCH  "/webhooks/{id}"             Write Member Json  webhooks::update_webhook;
        DELETE "/webhooks/{id}"             Write Member None  webhooks::delete_webhook;
        POST   "/webhooks/{id}/test"        Write Member None  webhooks::test_webhook;
        POST   "/webhooks/{id}/rotate-secret" Write Member None webhooks::rotate_webhook_secret;
        POST   "/webhooks/{id}/enable"      Write Member None  webhooks::enable_webhook;
        POST   "/webhooks/{id}/disable"     Write Member None  webhooks::disable_webhook;
        GET    "/webhooks/{id}/attempts"    Read  Member Query webhooks::list_webhook_attempts;

        GET    "/admin/dead-letters"        Read  Admin  Query admin::list_dead_letters;
        GET    "/admin/dead-letters/{id}"   Read  Admin  None  admin::get_dead_letter;
        POST   "/admin/dead-letters/{id}/redrive" Write Admin Json admin::redrive_dead_letter;
        POST   "/admin/dead-letters/{id}/discard" Write Admin Json admin::discard_dead_letter;
    }
    // Not part of a version.
    Root {
        GET    "/health"                    None  Anyone None  health::health;
        GET    "/health/live"               None  Anyone None  health::live;
        GET    "/health/ready"              None  Anyone None  health::ready;
        GET    "/metrics"                   None  Anyone None  health::metrics;
        GET    "/openapi.json"              Read  Anyone None  docs::openapi_document;
        GET    "/docs"                      Read  Anyone None  docs::docs_redirect;
        GET    "/docs/"                     Read  Anyone None  docs::docs_page;
        GET    "/docs/{file}"               Read  Anyone None  docs::docs_file;
        GET    "/"                          Read  Anyone None  docs::home;
    }
}

//! Step 1 of 7. Before: a connection ([`serve`](crate::serve)). Next: the tracker, which decides and stores.
//!
//! This file is the route table. A path that is not here is 404, and a handler gets a known caller only by the
//! extractor of the access it asks for, so that everything is denied by default.

mod account;
mod admin;
mod api_tokens;
mod app;
mod auth;
mod batch;
mod body;
mod categories;
mod comments;
mod conditions;
mod docs;
mod document;
mod events;
mod extract;
mod fault;
mod health;
mod json;
mod labels;
mod members;
mod meter;
mod middleware;
mod notifications;
mod operate;
mod pages;
mod posts;
mod problem;
mod projects;
mod query;
mod reply;
mod route;
mod statuses;
mod tasks;
mod trace;
mod users;
mod views;
mod visit;
mod watches;
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
        POST   "/auth/logout"               Write Person None  auth::logout;
        POST   "/auth/password/forgot"      Auth  Anyone Json  account::forgot_password;
        POST   "/auth/password/reset"       Auth  Anyone Json  account::reset_password;

        GET    "/me"                        Read  Member None  account::me;
        PATCH  "/me"                        Write Person Json  account::update_me;
        PUT    "/me/password"               Auth  Person Json  account::change_password;
        GET    "/me/sessions"               Read  Person Query account::list_sessions;
        DELETE "/me/sessions"               Write Person None  account::end_other_sessions;
        GET    "/me/sessions/{id}"          Read  Person None  account::get_session;
        DELETE "/me/sessions/{id}"          Write Person None  account::end_session;
        GET    "/me/tokens"                 Read  Person Query api_tokens::list_tokens;
        POST   "/me/tokens"                 Write Person Json  api_tokens::create_token;
        GET    "/me/tokens/{id}"            Read  Person None  api_tokens::get_token;
        PATCH  "/me/tokens/{id}"            Write Person Json  api_tokens::rename_token;
        DELETE "/me/tokens/{id}"            Write Person None  api_tokens::revoke_token;

        GET    "/users"                     Read  Member Query users::list_users;
        POST   "/users"                     Write Admin  Json  users::create_user;
        GET    "/users/{id}"                Read  Member None  users::get_user;
        PATCH  "/users/{id}"                Write Person Json  users::update_user;
        DELETE "/users/{id}"                Write Admin  None  users::disable_user;
        PUT    "/users/{id}/roles"          Write Admin  Json  users::set_roles;

        GET    "/projects"                  Read  Member Query projects::list_projects;
        POST   "/projects"                  Write Member Json  projects::create_project;
        GET    "/projects/{id}"             Read  Viewer None  projects::get_project;
        PATCH  "/projects/{id}"             Write Maintainer Json projects::update_project;
        DELETE "/projects/{id}"             Write Owner  None  projects::delete_project;
        GET    "/projects/{id}/members"     Read  Viewer Query members::list_members;
        POST   "/projects/{id}/members"     Write Maintainer Json members::add_member;
        GET    "/projects/{id}/members/{user_id}" Read Viewer None members::get_member;
        PATCH  "/projects/{id}/members/{user_id}" Write Maintainer Json members::change_member_role;
        DELETE "/projects/{id}/members/{user_id}" Write Maintainer None members::remove_member;
        GET    "/projects/{id}/categories"  Read  Viewer None  categories::list_categories;
        POST   "/projects/{id}/categories"  Write Maintainer Json categories::create_category;
        PATCH  "/projects/{id}/categories/{category_id}" Write Maintainer Json categories::update_category;
        DELETE "/projects/{id}/categories/{category_id}" Write Maintainer None categories::delete_category;
        GET    "/projects/{id}/labels"      Read  Viewer None  labels::list_labels;
        POST   "/projects/{id}/labels"      Write Maintainer Json labels::create_label;
        PATCH  "/projects/{id}/labels/{label_id}" Write Maintainer Json labels::update_label;
        DELETE "/projects/{id}/labels/{label_id}" Write Maintainer None labels::delete_label;
        GET    "/projects/{id}/statuses"    Read  Viewer None  statuses::list_statuses;
        POST   "/projects/{id}/statuses"    Write Maintainer Json statuses::create_status;
        PATCH  "/projects/{id}/statuses/{name}" Write Maintainer Json statuses::update_status;
        DELETE "/projects/{id}/statuses/{name}" Write Maintainer None statuses::delete_status;
        GET    "/projects/{id}/task-types"  Read  Viewer None  statuses::list_task_types;
        POST   "/projects/{id}/task-types"  Write Maintainer Json statuses::create_task_type;
        PATCH  "/projects/{id}/task-types/{name}" Write Maintainer Json statuses::update_task_type;
        DELETE "/projects/{id}/task-types/{name}" Write Maintainer None statuses::delete_task_type;
        PUT    "/projects/{id}/watch"       Write Viewer Json  watches::watch_project;
        DELETE "/projects/{id}/watch"       Write Viewer None  watches::unwatch_project;
        GET    "/projects/{id}/tasks"       Read  Viewer Query tasks::list_project_tasks;
        POST   "/projects/{id}/tasks"       Write Worker Json tasks::create_project_task;
        POST   "/projects/{id}/tasks/reassign" Write Maintainer Json tasks::reassign_tasks;

        POST   "/tasks"                     Write Member Json  tasks::create_task;
        POST   "/tasks/batch"               Write Member Batch batch::create_tasks;
        GET    "/tasks"                     Read  Member Query tasks::list_tasks;
        GET    "/tasks/{id}"                Read  Viewer Query tasks::get_task;
        PATCH  "/tasks/{id}"                Write Worker Json  tasks::update_task;
        DELETE "/tasks/{id}"                Write Maintainer None tasks::delete_task;
        POST   "/tasks/{id}/transitions"    Write Worker Json  tasks::move_task;
        PUT    "/tasks/{id}/assignee"       Write Worker Json  tasks::assign_task;
        DELETE "/tasks/{id}/assignee"       Write Worker None  tasks::unassign_task;
        GET    "/tasks/{id}/history"        Read  Viewer Query tasks::task_history;
        PUT    "/tasks/{id}/watch"          Write Viewer Json  watches::watch_task;
        DELETE "/tasks/{id}/watch"          Write Viewer None  watches::unwatch_task;
        POST   "/tasks/{id}/watchers"       Write Worker Json  watches::add_watchers;
        GET    "/tasks/{id}/comments"       Read  Viewer Query comments::list_task_comments;
        POST   "/tasks/{id}/comments"       Write Worker Json  comments::comment_on_task;

        GET    "/comments/{id}"             Read  Viewer None  comments::get_comment;
        PATCH  "/comments/{id}"             Write Author Json  comments::edit_comment;
        DELETE "/comments/{id}"             Write Author None  comments::delete_comment;

        GET    "/posts"                     Read  Member Query posts::list_posts;
        POST   "/posts"                     Write Worker Json  posts::create_post;
        GET    "/posts/{id}"                Read  Viewer None  posts::get_post;
        PATCH  "/posts/{id}"                Write Author Json  posts::update_post;
        DELETE "/posts/{id}"                Write Author None  posts::delete_post;
        POST   "/posts/{id}/publish"        Write Author None  posts::publish_post;
        POST   "/posts/{id}/unpublish"      Write Author None  posts::unpublish_post;
        GET    "/posts/{id}/comments"       Read  Viewer Query comments::list_post_comments;
        POST   "/posts/{id}/comments"       Write Worker Json  comments::comment_on_post;

        GET    "/views/projects/{id}/board" Read  Viewer Query views::board;

        GET    "/events"                    Read  Member Query events::list_events;
        GET    "/events/{id}"               Read  Member None  events::get_event;
        GET    "/event-types"               Read  Member None  events::list_event_types;

        GET    "/notifications"             Read  Member Query notifications::list_notifications;
        GET    "/notifications/unread-count" Read Member None  notifications::count_unread;
        PATCH  "/notifications/{id}"        Write Member Json  notifications::mark_notification;
        POST   "/notifications/read-all"    Write Member None  notifications::mark_all_read;

        GET    "/webhooks"                  Read  Member Query webhooks::list_webhooks;
        POST   "/webhooks"                  Write Person Json  webhooks::create_webhook;
        GET    "/webhooks/{id}"             Read  Member None  webhooks::get_webhook;
        PATCH  "/webhooks/{id}"             Write Person Json  webhooks::update_webhook;
        DELETE "/webhooks/{id}"             Write Member None  webhooks::delete_webhook;
        POST   "/webhooks/{id}/test"        Write Member None  webhooks::test_webhook;
        POST   "/webhooks/{id}/rotate-secret" Write Person None webhooks::rotate_webhook_secret;
        POST   "/webhooks/{id}/enable"      Write Person None  webhooks::enable_webhook;
        POST   "/webhooks/{id}/disable"     Write Member None  webhooks::disable_webhook;
        GET    "/webhooks/{id}/attempts"    Read  Member Query webhooks::list_webhook_attempts;

        GET    "/admin/audit-log"           Read  Admin  Query admin::list_audit_log;
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
        GET    "/asyncapi.json"             Read  Anyone None  docs::asyncapi_document;
        GET    "/docs"                      Read  Anyone None  docs::docs_redirect;
        GET    "/docs/"                     Read  Anyone None  docs::docs_page;
        GET    "/docs/{file}"               Read  Anyone None  docs::docs_file;
        GET    "/"                          Read  Anyone None  docs::home;
    }
}

//! The peer's API: `POST /tasks` stores a task, sees to it that others are told, and answers 201.

use std::{net::Ipv4Addr, sync::Arc};

use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    response::{IntoResponse as _, Response},
    routing::post,
};
use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use tokio::{net::TcpListener, time::sleep};
use uuid::Uuid;

use super::{
    AGAIN, Way,
    queue::{Publisher, Queue},
    store::{self, Store},
};

/// How the API is started.
#[derive(Debug, clap::Args)]
pub struct Options {
    #[arg(long)]
    way: Way,
    #[command(flatten)]
    store: Store,
    #[command(flatten)]
    queue: Queue,
    #[arg(long)]
    port: u16,
}

/// What a client sends.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct NewTask {
    pub project_id: i32,
    pub title: String,
}

/// What a client is told.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Created {
    pub id: Uuid,
}

struct Api {
    way: Way,
    pool: PgPool,
    publisher: Publisher,
}

pub(super) async fn run(options: Options) -> anyhow::Result<()> {
    while let Err(error) = options.store.make().await {
        eprintln!("{error}");
        sleep(AGAIN).await;
    }
    let Options { way, store, queue, port } = options;
    let api = Arc::new(Api { way, pool: store.pool()?, publisher: Publisher::new(queue) });
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    Ok(axum::serve(listener, Router::new().route("/tasks", post(create)).with_state(api)).await?)
}

async fn create(State(api): State<Arc<Api>>, Json(task): Json<NewTask>) -> Response {
    let created = match api.way {
        Way::Outbox => api.insert_with_event(&task).await,
        Way::Publish => api.insert_then_publish(&task).await,
    };
    match created {
        Ok(id) => (StatusCode::CREATED, Json(Created { id })).into_response(),
        Err(error) => {
            eprintln!("{error}");
            StatusCode::SERVICE_UNAVAILABLE.into_response()
        }
    }
}

impl Api {
    async fn insert_with_event(&self, task: &NewTask) -> sqlx::Result<Uuid> {
        let mut transaction = self.pool.begin().await?;
        let id = store::insert_task(&mut transaction, task.project_id, &task.title).await?;
        store::insert_event(&mut transaction, id).await?;
        transaction.commit().await?;
        Ok(id)
    }

    /// When publishing fails the task is stored, and an error would have the client create it a second time.
    /// So the failure is logged, and the answer is 201 all the same: the common choice.
    async fn insert_then_publish(&self, task: &NewTask) -> sqlx::Result<Uuid> {
        let mut transaction = self.pool.begin().await?;
        let id = store::insert_task(&mut transaction, task.project_id, &task.title).await?;
        transaction.commit().await?;
        if let Err(error) = self.publisher.publish(id).await {
            eprintln!("nobody is told of task {id}: {error:#}");
        }
        Ok(id)
    }
}

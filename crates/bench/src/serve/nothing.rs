//! The ceiling: axum that reads no body and checks nothing.

use anyhow::Result;
use axum::{
    Router,
    http::{StatusCode, header},
    response::IntoResponse,
};
use tokio::net::TcpListener;

/// About as long as a task.
const TASK: &str =
    "{\"id\":\"0192d5a1-0000-7000-8000-000000000001\",\"title\":\"Prepare the quarterly report\"}";

/// Listens on a free port and says which.
pub async fn run() -> Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    println!("It listens on http://{}", listener.local_addr()?);
    serve(listener).await
}

/// Answers until it is killed.
pub async fn serve(listener: TcpListener) -> Result<()> {
    Ok(axum::serve(listener, Router::new().fallback(answer)).await?)
}

async fn answer() -> impl IntoResponse {
    (StatusCode::CREATED, [(header::CONTENT_TYPE, "application/json")], TASK)
}

//! Load scenarios for Taskpost. See README.md.

use goose::prelude::*;
use serde_json::{Value, json};

/// The token of a simulated user.
#[derive(Clone)]
struct Token(String);

#[tokio::main]
async fn main() -> Result<(), GooseError> {
    let burst = scenario!("TaskBurst")
        .register_transaction(transaction!(log_in).set_on_start())
        .register_transaction(transaction!(post_task).set_name("POST /tasks"));
    let attack = GooseAttack::initialize()?
        .register_scenario(burst)
        .set_default(GooseDefault::Host, "http://127.0.0.1:3000")?
        .set_default(GooseDefault::Users, 8)?
        .set_default(GooseDefault::RunTime, 10)?;
    Box::pin(attack.execute()).await?;
    Ok(())
}

/// Registers a user of its own, named by its number, or logs it in when an earlier run has registered it.
async fn log_in(user: &mut GooseUser) -> TransactionResult {
    let email = format!("load-{}@taskpost.example", user.weighted_users_index);
    let account = json!({"email": email, "name": "Load", "password": "a load test password"});
    let mut answer = user.post_json("/v1/auth/register", &account).await?.response?;
    if answer.status() == 409 {
        let credentials = json!({"email": email, "password": "a load test password"});
        answer = user.post_json("/v1/auth/login", &credentials).await?.response?;
    }
    let body: Value = answer.json().await?;
    let token = body.get("access_token").and_then(Value::as_str).unwrap_or_default();
    user.set_session_data(Token(token.to_owned()));
    Ok(())
}

/// Posts a personal task; anything but 201 counts as a failure.
async fn post_task(user: &mut GooseUser) -> TransactionResult {
    let token = user.get_session_data_unchecked::<Token>().0.clone();
    let body = json!({"title": "Measure the load"});
    let request = user.get_request_builder(&GooseMethod::Post, "/v1/tasks")?.bearer_auth(token).json(&body);
    let request = GooseRequest::builder().set_request_builder(request).expect_status_code(201).build();
    user.request(request).await?;
    Ok(())
}

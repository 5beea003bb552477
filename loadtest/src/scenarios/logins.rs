//! A thundering herd: all users log in at once, and again as soon as they are in.
//!
//! Each login costs a hash, so the instance lets only so many wait and tells the rest to come again: 503 with
//! Retry-After is as good as 429 here.

use std::sync::Arc;

use anyhow::Result;
use goose::goose::{GooseMethod, GooseUser, TransactionResult};
use serde_json::{Value, json};

use super::{Scenario, row, shared};
use crate::{
    attack::{self, Step, account, ask},
    expected::Expected,
    record::Recorder,
    row::Row,
    run::Context,
    target::Account,
};

struct Logins {
    accounts: Vec<Account>,
    recorder: Arc<Recorder>,
}

/// Runs it.
pub async fn run(context: &Context) -> Result<Vec<Row>> {
    let (scenario, recorder) = (Scenario::Logins, Recorder::new()?);
    let users = context.options.connections;
    let accounts = context.target.accounts(scenario.name(), shared(users)).await?;
    context.progress.watch(&recorder);
    let step = Logins { accounts, recorder: Arc::clone(&recorder) };
    attack::run(context, scenario.name(), users, step).await?;
    Ok(vec![row(&recorder, scenario)])
}

impl Step for Logins {
    async fn step(&self, user: &mut GooseUser) -> TransactionResult {
        let account = account(&self.accounts, user)?;
        let credentials = json!({"email": account.email, "password": account.password});
        let request = user.get_request_builder(&GooseMethod::Post, "/v1/auth/login")?.json(&credentials);
        let expected = Expected::of(&[200]).or_overload();
        let answer = ask(user, &self.recorder, "POST /auth/login", request, expected).await?;
        if answer.is_some_and(|answer| !is_session(&answer.body, &account.email)) {
            self.recorder.wrong("a login that gave no session of its user");
        }
        Ok(())
    }
}

fn is_session(body: &[u8], email: &str) -> bool {
    let session: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |pointer| session.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    !text("/access_token").is_empty() && text("/user/email") == email
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_has_a_token_and_its_user() {
        let body = br#"{"access_token": "t", "user": {"email": "a@b.c"}}"#;
        assert!(is_session(body, "a@b.c"));
        assert!(!is_session(body, "d@e.f"));
        assert!(!is_session(b"", "a@b.c"));
    }
}

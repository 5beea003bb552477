//! `taskpost token`: an access token of a test user, for curl and load tests.

use std::{net::IpAddr, time::Duration};

use anyhow::{Context, bail};
use clap::Args;
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use url::Url;

use crate::environment;

/// Whose token, and where.
#[derive(Debug, Args)]
pub struct Options {
    /// The running instance; this machine's at HTTP_PORT when not said.
    #[arg(long)]
    url: Option<Url>,
    /// The user's e-mail.
    #[arg(long, default_value = "test@taskpost.example")]
    email: String,
    /// The user's name, if it must be registered.
    #[arg(long, default_value = "Test")]
    name: String,
    /// The user's password.
    #[arg(long, default_value = "a test password")]
    password: String,
}

/// Logs the user in, registering it first when it is unknown, and prints the access token.
pub async fn run(options: Options) -> anyhow::Result<()> {
    let client = Client::builder().timeout(Duration::from_secs(10)).no_proxy().build()?;
    let instance = options.url.map_or_else(here, Ok)?;
    let credentials = json!({"email": options.email, "password": options.password});
    let (mut status, mut body) = post(&client, &instance, "/v1/auth/login", &credentials).await?;
    if status == StatusCode::UNAUTHORIZED {
        let account = json!({"email": options.email, "password": options.password, "name": options.name});
        (status, body) = post(&client, &instance, "/v1/auth/register", &account).await?;
    }
    if status == StatusCode::CONFLICT {
        bail!("{} is registered with another password; give it by --password", options.email);
    }
    let Some(token) = body.get("access_token").and_then(Value::as_str) else {
        bail!(
            "{instance} answered {status}: {}",
            body.get("detail").and_then(Value::as_str).unwrap_or("no detail")
        );
    };
    println!("{token}");
    Ok(())
}

/// Where an instance with these variables listens.
fn here() -> anyhow::Result<Url> {
    let (host, port) = environment::config()?.http;
    if port == 0 {
        bail!("HTTP_PORT: 0 is any free port; name the instance by --url");
    }
    let host = match host {
        IpAddr::V4(host) if host.is_unspecified() => "127.0.0.1".to_owned(),
        IpAddr::V6(host) if host.is_unspecified() => "[::1]".to_owned(),
        IpAddr::V4(host) => host.to_string(),
        IpAddr::V6(host) => format!("[{host}]"),
    };
    format!("http://{host}:{port}").parse().context("HTTP_HOST: not an address")
}

async fn post(client: &Client, base: &Url, path: &str, body: &Value) -> anyhow::Result<(StatusCode, Value)> {
    let url = base.join(path).context("--url: not an address of an instance")?;
    let answer = client
        .post(url)
        .json(body)
        .send()
        .await
        .with_context(|| format!("--url: nobody answers at {base}; start it by `cargo run --release`"))?;
    let status = answer.status();
    let text = answer.text().await?;
    Ok((status, serde_json::from_str(&text).unwrap_or(Value::Null)))
}

//! The instance that is loaded, and the accounts made for it.

use std::{
    error::Error as _,
    process,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, bail};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use reqwest::{RequestBuilder, Response, redirect};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

/// How long an answer may take.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// How long an instance may take to become ready.
const START: Duration = Duration::from_secs(30);
/// How many accounts are made at once: each costs a hash, and only so many may wait for one.
const AT_ONCE: usize = 4;
const PASSWORD: &str = "a load test password";

/// The instance that is loaded.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its address, without a slash at the end.
    pub base: String,
    /// Different in every run, for names that must be.
    pub stamp: String,
    http: reqwest::Client,
}

/// An account made for a scenario, logged in.
#[derive(Clone, Debug)]
pub struct Account {
    /// Its e-mail.
    pub email: String,
    /// Its password.
    pub password: &'static str,
    /// Good for 15 minutes, which is longer than any scenario.
    pub token: String,
}

impl Target {
    /// The instance at an address.
    pub fn new(base: &str) -> Result<Self> {
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(redirect::Policy::none())
            .timeout(PATIENCE)
            .build()
            .context("the HTTP client")?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let stamp = format!("{:x}-{:x}", now.as_millis(), process::id());
        Ok(Self { base: base.to_owned(), stamp, http })
    }

    /// The whole address of a path.
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// Waits until it is ready.
    pub async fn ready(&self) -> Result<()> {
        let deadline = Instant::now() + START;
        loop {
            let why = match self.http.get(self.url("/health/ready")).send().await {
                Ok(answer) if answer.status() == 200 => return Ok(()),
                Ok(answer) => format!("it answers {}", answer.status()),
                Err(error) => reason(&error),
            };
            if Instant::now() > deadline {
                bail!("{} is not ready: {why}; start it, or let `cargo xtask loadtest` start one", self.base);
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// Makes so many accounts for a scenario.
    pub async fn accounts(&self, scenario: &str, count: u16) -> Result<Vec<Account>> {
        let emails = (0..count).map(|number| format!("{scenario}-{number}-{}@load.example", self.stamp));
        let made = stream::iter(emails.map(|email| self.account(email)));
        made.buffered(AT_ONCE).try_collect().await.context("could not make an account")
    }

    /// Makes one account for a scenario.
    pub async fn one(&self, scenario: &str) -> Result<Account> {
        let accounts = self.accounts(scenario, 1).await?;
        accounts.into_iter().next().context("no account was made")
    }

    async fn account(&self, email: String) -> Result<Account> {
        #[derive(Deserialize)]
        struct Session {
            access_token: String,
        }
        let body = json!({"email": email, "name": "Load", "password": PASSWORD});
        let answer = self.http.post(self.url("/v1/auth/register")).json(&body).send().await;
        let answer = answer.map_err(|error| anyhow::anyhow!(reason(&error)))?;
        if answer.status() == 429 {
            bail!("the limit for logins stands in the way; run the instance with RATE_LIMIT_AUTH=10000/s");
        }
        let session: Session = must(answer, 201).await?;
        Ok(Account { email, password: PASSWORD, token: session.access_token })
    }

    /// Tells the instance to send the account's new tasks there. The webhook's path, to remove it by.
    pub async fn webhook(&self, account: &Account, url: &str) -> Result<String> {
        #[derive(Deserialize)]
        struct Webhook {
            id: String,
        }
        let body = json!({"url": url, "event_types": ["task.created"]});
        let answer = self.post(account, "/v1/webhooks").json(&body).send().await?;
        if answer.status() == 422 {
            bail!(
                "the instance sends nothing to {url}; run it on this machine with WEBHOOK_ALLOW_PRIVATE=true ({})",
                answer.text().await.unwrap_or_default()
            );
        }
        let webhook: Webhook = must(answer, 201).await?;
        Ok(format!("/v1/webhooks/{}", webhook.id))
    }

    /// Removes what an account has.
    pub async fn remove(&self, account: &Account, path: &str) -> Result<()> {
        let answer = self.http.delete(self.url(path)).bearer_auth(&account.token).send().await?;
        if answer.status() != 204 {
            bail!("DELETE {path} was answered {}", answer.status());
        }
        Ok(())
    }

    /// A POST of an account, not sent yet.
    pub fn post(&self, account: &Account, path: &str) -> RequestBuilder {
        self.http.post(self.url(path)).bearer_auth(&account.token)
    }

    /// A GET of an account, not sent yet.
    pub fn get(&self, account: &Account, path: &str) -> RequestBuilder {
        self.http.get(self.url(path)).bearer_auth(&account.token)
    }
}

/// The task that clients post: what `POST /tasks` needs, and no more.
pub fn task(title: &str) -> Value {
    json!({"title": title})
}

/// Why there was no answer, in the words of the innermost error, which are alike for alike failures.
pub fn reason(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer in time".to_owned();
    }
    let mut cause = error.source();
    while let Some(deeper) = cause.and_then(std::error::Error::source) {
        cause = Some(deeper);
    }
    cause.map_or_else(|| error.to_string(), ToString::to_string)
}

/// The body of an answer that must have this status.
async fn must<T: for<'de> Deserialize<'de>>(answer: Response, status: u16) -> Result<T> {
    let path = answer.url().path().to_owned();
    if answer.status() != status {
        let got = answer.status();
        bail!("POST {path} was answered {got}: {}", answer.text().await.unwrap_or_default());
    }
    answer.json().await.with_context(|| format!("the answer to POST {path} cannot be read"))
}

//! A small client for what is done beside the load: accounts, webhooks, batches.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use reqwest::{Method, redirect};
use serde_json::{Value, json};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Of every account.
const PASSWORD: &str = "correct horse battery";
/// The most tasks of one batch.
pub const BATCH: usize = 500;

/// Speaks to one instance, as one user once it has registered.
#[derive(Clone, Debug)]
pub struct Client {
    /// Where the instance listens.
    pub address: SocketAddr,
    /// A good access token.
    pub token: String,
    http: reqwest::Client,
}

impl Client {
    /// For whoever listens there.
    pub fn new(address: SocketAddr) -> Result<Self> {
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(redirect::Policy::none())
            .timeout(PATIENCE)
            .build()
            .context("an HTTP client")?;
        Ok(Self { address, token: String::new(), http })
    }

    /// Makes an account, and is it from now on.
    pub async fn register(&mut self, name: &str) -> Result<()> {
        let account = json!({"email": format!("{name}@example.org"), "name": name, "password": PASSWORD});
        let session = self.post("/v1/auth/register", &account, 201).await?;
        text(&session, "access_token")?.clone_into(&mut self.token);
        Ok(())
    }

    /// Logs in to an account it has made: a new token.
    pub async fn login(&mut self, name: &str) -> Result<()> {
        let credentials = json!({"email": format!("{name}@example.org"), "password": PASSWORD});
        let session = self.post("/v1/auth/login", &credentials, 200).await?;
        text(&session, "access_token")?.clone_into(&mut self.token);
        Ok(())
    }

    /// Has every new task of this user told to a receiver.
    pub async fn hook(&self, receiver: SocketAddr) -> Result<()> {
        let url = format!("http://{receiver}/hook");
        let webhook = json!({"url": url, "event_types": ["task.created"]});
        self.post("/v1/webhooks", &webhook, 201).await.map(drop)
    }

    /// Makes tasks with these titles, by batches; gives their ids.
    pub async fn tasks(&self, titles: &[String]) -> Result<Vec<String>> {
        let mut ids = Vec::with_capacity(titles.len());
        for titles in titles.chunks(BATCH) {
            let tasks: Vec<Value> = titles.iter().map(|title| json!({"title": title})).collect();
            ids.extend(self.batch(&tasks).await?);
        }
        Ok(ids)
    }

    /// Makes these tasks, at most [`BATCH`]; gives their ids.
    pub async fn batch(&self, tasks: &[Value]) -> Result<Vec<String>> {
        let answer = self.post("/v1/tasks/batch", &json!({"tasks": tasks}), 207).await?;
        let results = answer["results"].as_array().context("a batch has results")?;
        let id = |result: &Value| {
            let id = result["task"]["id"].as_str().map(str::to_owned);
            id.with_context(|| format!("a task of a batch failed: {result}"))
        };
        results.iter().map(id).collect()
    }

    /// A GET that must be answered 200.
    pub async fn get(&self, path: &str) -> Result<Value> {
        self.ask(Method::GET, path, None, &[200]).await
    }

    /// A POST that must be answered with this status.
    pub async fn post(&self, path: &str, body: &Value, status: u16) -> Result<Value> {
        self.ask(Method::POST, path, Some(body), &[status]).await
    }

    /// A DELETE that must be answered 204.
    pub async fn delete(&self, path: &str) -> Result<()> {
        let status = self.remove(path).await?;
        ensure!(status == 204, "DELETE {path}: {status}");
        Ok(())
    }

    /// The status of a DELETE.
    pub async fn remove(&self, path: &str) -> Result<u16> {
        let deleted = self.http.delete(self.url(path)).bearer_auth(&self.token).send().await?;
        Ok(deleted.status().as_u16())
    }

    /// The status of a GET, and how many bytes its answer has.
    pub async fn look(&self, path: &str) -> Result<(u16, usize)> {
        let answer = self.http.get(self.url(path)).bearer_auth(&self.token).send().await?;
        let status = answer.status().as_u16();
        Ok((status, answer.bytes().await?.len()))
    }

    /// Whether a GET of this path is answered 200 now.
    pub async fn is_well(&self, path: &str) -> bool {
        let answered = self.http.get(self.url(path)).timeout(Duration::from_secs(2)).send().await;
        answered.is_ok_and(|answer| answer.status() == 200)
    }

    /// A POST as the load will make it, with its headers; gives the status.
    pub async fn probe(&self, path: &str, headers: &[(String, String)], body: &str) -> Result<u16> {
        let mut request = self.http.post(self.url(path)).body(body.to_owned());
        for (name, value) in headers {
            request = request.header(name, value);
        }
        Ok(request.send().await?.status().as_u16())
    }

    async fn ask(&self, method: Method, path: &str, body: Option<&Value>, good: &[u16]) -> Result<Value> {
        let what = format!("{method} {path}");
        let mut request = self.http.request(method, self.url(path));
        if !self.token.is_empty() {
            request = request.bearer_auth(&self.token);
        }
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let answer = request.send().await.with_context(|| what.clone())?;
        let status = answer.status().as_u16();
        let body = answer.bytes().await.with_context(|| what.clone())?;
        if !good.contains(&status) {
            bail!("{what}: {status} {}", String::from_utf8_lossy(&body));
        }
        serde_json::from_slice(&body).with_context(|| format!("{what}: the answer is no JSON"))
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

/// A text of an answer.
pub fn text<'a>(answer: &'a Value, field: &str) -> Result<&'a str> {
    answer[field].as_str().with_context(|| format!("the answer has no {field}"))
}

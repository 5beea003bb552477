//! A Redis that answers, but not as it should: /health says what to do, and it heals when that is done.

use redis::aio::MultiplexedConnection;
use taskpost_ports::limiter::LimitClass;
use tokio::{io::AsyncWriteExt as _, net::TcpListener, task::JoinSet};

use crate::{
    gate::url_at,
    harness::{Backend, Bench, allowed, problem, redis, redis_address, redis_url_with, until},
};

/// A user of Redis by the name of the bench, which removes it.
struct User {
    name: String,
    redis: MultiplexedConnection,
}

impl User {
    async fn new(bench: &Bench, rules: &str) -> Self {
        let mut user = Self { name: bench.instance.clone(), redis: redis().await };
        user.set(rules).await;
        user
    }

    async fn set(&mut self, rules: &str) {
        let mut command = redis::cmd("ACL");
        command.arg("SETUSER").arg(&self.name).arg(rules.split(' ').collect::<Vec<_>>());
        command.exec_async(&mut self.redis).await.unwrap();
    }

    fn url(&self, password: &str) -> String {
        redis_url_with(|url| {
            url.set_username(&self.name).unwrap();
            url.set_password(Some(password)).unwrap();
        })
    }
}

#[tokio::test]
async fn a_wrong_password_is_named_and_heals() {
    let bench = Bench::new(Backend::Redis);
    let mut user = User::new(&bench, "on >first ~* &* +@all").await;
    let limiter = bench.limiter_at(&user.url("second"), "1/h,8");
    let spread = bench.spread_at(&user.url("second"));
    problem(async || limiter.health().await, &["REDIS_URL", "refuses the user or password"]).await;
    problem(async || spread.check().await, &["REDIS_URL", "refuses the user or password"]).await;
    assert_eq!(allowed(&limiter, LimitClass::Auth, 9).await, 2);

    user.set(">second").await;
    until("the limiter logs in", async || limiter.health().await.problem.is_none()).await;
    until("the spread logs in", async || spread.check().await.problem.is_none()).await;
}

#[tokio::test]
async fn missing_rights_are_named_and_heal() {
    let bench = Bench::new(Backend::Redis);
    let instance = bench.instance.clone();
    let mut user = User::new(&bench, "on >secret").await;
    let limiter = bench.limiter_at(&user.url("secret"), "1/h,8");
    let spread = bench.spread_at(&user.url("secret"));
    let needed = format!("+evalsha +eval +time +get +set on ~{instance}:*");
    problem(async || limiter.health().await, &["REDIS_URL", "evalsha", &needed]).await;
    let channel = format!("&{instance}:revoked");
    problem(async || spread.check().await, &["REDIS_URL", "subscribe", &channel]).await;

    // The script may run, but not what it does.
    user.set("+evalsha +eval").await;
    problem(async || limiter.health().await, &["REDIS_URL", &needed]).await;
    user.set(&format!("~{instance}:*")).await;
    problem(async || limiter.health().await, &["REDIS_URL", "script", &needed]).await;
    assert_eq!(allowed(&limiter, LimitClass::Write, 9).await, 8);

    user.set("+time +get +set").await;
    until("the limiter works", async || limiter.health().await.problem.is_none()).await;
    user.set(&format!("+publish +subscribe +ping &{instance}:revoked")).await;
    until("the spread works", async || spread.check().await.problem.is_none()).await;
}

#[tokio::test]
async fn what_is_not_redis_is_named() {
    let bench = Bench::new(Backend::Redis);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let _ = client.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    let limiter = bench.limiter_at(&url_at(address), "1/h,8");
    problem(async || limiter.health().await, &["REDIS_URL", "does not speak Redis", "rediss://"]).await;

    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let limiter = bench.limiter_at(&format!("rediss://{address}"), "1/h,8");
    problem(async || limiter.health().await, &["REDIS_URL", "cannot reach", "TLS"]).await;
}

#[tokio::test]
async fn missing_tls_is_named() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let bench = Bench::new(Backend::Redis);
    let url = format!("rediss://{}", redis_address());
    let limiter = bench.limiter_at(&url, "1/h,8");
    problem(async || limiter.health().await, &["REDIS_URL", "TLS (redis:// or"]).await;
}

//! What is drilled: the product as its real processes, its users and the receiver of its webhooks.

use std::{collections::BTreeMap, time::Duration};

use taskpost_common::crash::CrashPoint;
use taskpost_testkit::{
    Backend, FaultProxy, Fields as _, Part, Server, ServerStarting, User, WebhookSink, until_within,
};

use crate::{
    history::{History, Mark},
    proxies,
    services::Service,
};

/// How long the whole stack has to become well.
pub const RECOVERY: Duration = Duration::from_mins(2);

/// Which of the two products.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setup {
    /// One process on SQLite.
    Embedded,
    /// One process for each role, on Postgres, Kafka, RabbitMQ and Redis.
    Full,
}

impl Setup {
    /// Its name in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Full => "full",
        }
    }
}

/// A role of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Takes requests.
    Api,
    /// Moves events and applies them.
    Consumers,
    /// Delivers.
    Workers,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Api, Self::Consumers, Self::Workers];

    /// Its name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Consumers => "consumers",
            Self::Workers => "workers",
        }
    }
}

/// How a stack is to be started.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Variables of every process.
    pub variables: BTreeMap<&'static str, String>,
    /// Where which process dies.
    pub crash: Option<(Role, CrashPoint, u64)>,
    /// The services that are reached through a fault proxy.
    pub proxied: Vec<Service>,
}

/// The running product.
pub struct Stack {
    /// Which one.
    pub setup: Setup,
    /// Takes requests; of the embedded product it does everything.
    api: Server,
    others: Option<(Server, Server)>,
    /// The fault proxies, by service.
    proxies: Vec<(Service, FaultProxy)>,
    /// Receives every event of the reporter's tasks.
    pub sink: WebhookSink,
    /// Creates the tasks.
    pub ada: User,
    /// Is given each of them.
    pub bob: User,
}

impl Stack {
    /// Starts it, waits until it is well, and makes a webhook.
    pub async fn start(setup: Setup, options: &Options) -> Self {
        let sink = WebhookSink::start().await;
        let proxies = proxies::start(&options.proxied).await;
        let mut starting = match setup {
            Setup::Embedded => Server::start_with(Backend::Sqlite, &[]),
            Setup::Full => Server::start_with(Backend::Postgres, &Part::ALL),
        };
        starting = starting.with("JWT_SECRET", "0123456789abcdef0123456789abcdef");
        for (name, value) in &options.variables {
            starting = starting.with(name, value.clone());
        }
        if let Some(url) = starting.variable("DATABASE_URL") {
            let patient = url.replace("&pool_timeout=5", "");
            starting = starting.with("DATABASE_URL", patient);
        }
        if setup == Setup::Full {
            // Not through a proxy, which stands still while this waits.
            starting = starting.migrated();
        }
        for (service, proxy) in &proxies {
            let direct = starting.variable(service.variable()).expect("a service of this setup").to_owned();
            starting = starting.with(service.variable(), proxies::through(*service, &direct, proxy));
        }
        let crash = |role: Role| {
            let (_, point, pass) =
                options.crash.filter(|(dies, ..)| *dies == role || setup == Setup::Embedded)?;
            Some(format!("{point}:{pass}"))
        };
        let armed = |server: ServerStarting, role| match crash(role) {
            Some(at) => server.once("CRASH_AT", at),
            None => server,
        };
        let (api, others) = match setup {
            Setup::Embedded => (armed(starting, Role::Api).await, None),
            Setup::Full => {
                let api = armed(starting.role("api"), Role::Api).await;
                let consumers = armed(api.beside().role("consumers"), Role::Consumers).await;
                let workers = armed(api.beside().role("workers"), Role::Workers).await;
                (api, Some((consumers, workers)))
            }
        };
        let (ada, bob) = (api.user("Ada").await, api.user("Bob").await);
        let stack = Self { setup, api, others, proxies, sink, ada, bob };
        stack.well().await;
        stack.api.hook(&stack.ada, &stack.sink, &["task.created"]).await;
        stack
    }

    /// The process that has this role.
    pub fn server(&self, role: Role) -> &Server {
        match (&self.others, role) {
            (Some((consumers, _)), Role::Consumers) => consumers,
            (Some((_, workers)), Role::Workers) => workers,
            _ => &self.api,
        }
    }

    /// The process that takes requests.
    pub fn api(&self) -> &Server {
        &self.api
    }

    /// Every process, by the name of its role.
    pub fn servers(&self) -> Vec<(&'static str, &Server)> {
        match &self.others {
            None => vec![("all", &self.api)],
            Some((consumers, workers)) => {
                vec![("api", &self.api), ("consumers", consumers), ("workers", workers)]
            }
        }
    }

    /// The name that marks use for the process with this role.
    pub fn name(&self, role: Role) -> &'static str {
        if self.others.is_some() { role.name() } else { "all" }
    }

    /// The fault proxy of a service that was asked for in the options.
    pub fn proxy(&self, service: Service) -> &FaultProxy {
        let found = self.proxies.iter().find(|(known, _)| *known == service);
        &found.unwrap_or_else(|| panic!("{} is not proxied", service.name())).1
    }

    /// Kills a process and starts it again.
    pub async fn kill(&self, role: Role, history: &History) {
        let (server, name) = (self.server(role), self.name(role));
        history.mark(Mark::Down(name));
        server.kill();
        history.mark(Mark::Fault(format!("{name}: killed")));
        server.restart().await;
        history.mark(Mark::Up(name));
    }

    /// Waits until every process says that all its parts are well.
    pub async fn well(&self) {
        for (name, server) in self.servers() {
            until_within(RECOVERY, || async {
                match server.get("/health").try_send().await {
                    Ok(answer) if answer.status == 200 && answer.json().text("status") == "ok" => Ok(()),
                    Ok(answer) => Err(format!("{name}: {}", answer.text())),
                    Err(error) => Err(format!("{name}: {error:?}")),
                }
            })
            .await;
        }
    }

    /// The only number of a query.
    pub async fn number(&self, sql: &str) -> i64 {
        self.api.number(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// The rows of a query that gives a text and a number.
    pub async fn rows(&self, sql: &str) -> Vec<(String, i64)> {
        self.api.rows(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// An id column as text with small letters and no dashes, in the SQL of this setup's database.
    pub fn id_text(&self, column: &str) -> String {
        match self.setup {
            Setup::Embedded => format!("lower(hex({column}))"),
            Setup::Full => format!("replace({column}::text, '-', '')"),
        }
    }

    /// Stops it and removes everything.
    pub async fn finish(self) {
        if let Some((consumers, workers)) = self.others {
            workers.finish().await;
            consumers.finish().await;
        }
        self.api.finish().await;
    }
}

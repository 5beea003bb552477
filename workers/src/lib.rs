//! Steps 6 and 7: the delivery engine and its channels.
//!
//! `dispatcher.rs` says what is due, `runner.rs` claims and sends it, `step.rs` decides what becomes of it, and
//! `outcomes.rs` records that. A delivery is made at least once; its id lets the receiver remove doubles.

mod attempt;
pub mod channels;
mod dispatcher;
mod engine;
mod outage;
mod outcomes;
mod runner;
mod seats;
pub mod step;

pub use engine::{Engine, Running};

use std::{io, path::PathBuf, time::Duration};

use secrecy::SecretString;
use taskpost_common::{Clock, config::Webhooks, net::Outbound, secret::Keys};
use taskpost_ports::{Queue, Wakes};
use taskpost_store::Db;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use url::Url;

use channels::{
    email::{self, BadSmtpUrl, Email, Mailer},
    guard::{GuardedClient, Resolver, Timeouts},
    webhook::Webhook,
};

/// The delivery engine with both of its channels.
#[derive(Debug)]
pub struct Workers {
    /// The store.
    pub db: Db,
    /// Says which deliveries to take.
    pub queue: Queue,
    /// The bells of this process.
    pub wakes: Wakes,
    /// Time and ids.
    pub clock: Clock,
    /// The waits between the tries of a delivery.
    pub retry_delays: Vec<Duration>,
    /// How many deliveries each channel sends at once.
    pub concurrency: usize,
    /// Where webhooks may go.
    pub webhooks: Webhooks,
    /// How mails are sent.
    pub mail: MailSettings,
    /// What makes the tokens that mails tell.
    pub keys: Keys,
}

/// How mails are sent.
#[derive(Clone, Debug)]
pub struct MailSettings {
    /// Where they are written when there is no server.
    pub folder: PathBuf,
    /// `SMTP_URL`: the server that takes them.
    pub smtp: Option<SecretString>,
    /// Who sends them: `Name <address>`.
    pub from: String,
    /// How people reach this instance; without it mails hold no links.
    pub public_url: Option<Url>,
}

/// Why the workers cannot start.
#[derive(Debug, thiserror::Error)]
pub enum WorkersError {
    /// `MAIL_FROM` is no mailbox.
    #[error("MAIL_FROM: expected an address such as Taskpost <taskpost@example.org>")]
    MailFrom(#[source] lettre::address::AddressError),
    /// The folder of mails cannot be made.
    #[error("DATA_DIR: the folder {0} cannot be made: {1}")]
    MailFolder(PathBuf, #[source] io::Error),
    /// `SMTP_URL` names no mail server.
    #[error(transparent)]
    Smtp(#[from] BadSmtpUrl),
    /// TLS cannot be set up.
    #[error("the client of webhooks cannot be made: {0}")]
    Client(#[from] reqwest::Error),
}

impl MailSettings {
    /// Where mails go. A server is not dialled yet.
    ///
    /// # Errors
    /// [`WorkersError`] names the setting that cannot be used.
    pub fn mailer(&self, connections: usize) -> Result<Mailer, WorkersError> {
        match &self.smtp {
            Some(url) => Ok(Mailer::smtp(url, connections)?),
            None => Mailer::folder(self.folder.clone())
                .map_err(|error| WorkersError::MailFolder(self.folder.clone(), error)),
        }
    }
}

impl Workers {
    /// Starts everything as tasks in `tasks`. They end on `stop`, after what is in flight has ended or was given back,
    /// within 10 seconds.
    ///
    /// # Errors
    /// [`WorkersError`] names the setting that cannot be used.
    pub fn start(self, tasks: &mut JoinSet<()>, stop: CancellationToken) -> Result<(), WorkersError> {
        let mailer = self.mail.mailer(self.concurrency)?;
        mailer.start(tasks, stop.clone());
        let email = Email {
            db: self.db.clone(),
            clock: self.clock.clone(),
            from: self.mail.from.parse().map_err(WorkersError::MailFrom)?,
            public_url: self.mail.public_url,
            keys: self.keys,
            mailer,
            timeout: email::TIMEOUT,
        };
        let webhook = webhook(&self.db, &self.clock, &self.webhooks)?;
        let engine = Engine {
            db: self.db,
            queue: self.queue,
            wakes: self.wakes,
            clock: self.clock,
            retry_delays: self.retry_delays,
            concurrency: self.concurrency,
            per_endpoint: self.webhooks.per_endpoint,
        };
        engine.start(tasks, stop).add(tasks, email).add(tasks, webhook);
        Ok(())
    }
}

fn webhook(db: &Db, clock: &Clock, settings: &Webhooks) -> Result<Webhook, WorkersError> {
    let outbound = Outbound { allow_private: settings.allow_private, ports: settings.ports.clone() };
    let timeouts = Timeouts { total: settings.timeout, ..Timeouts::default() };
    let client = GuardedClient::new(outbound, timeouts, Resolver::System)?;
    Ok(Webhook { db: db.clone(), clock: clock.clone(), client, timeout: settings.timeout })
}

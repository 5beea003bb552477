//! Sending over SMTP, and the connections that are kept for the next mail.
//!
//! lettre speaks the protocol. Its own pool is not used: it takes a connection back when the future that uses it is
//! dropped, and a try that ran out of time in the middle of a mail would leave its answer to the next mail.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use lettre::{
    Address, Message,
    transport::smtp::{
        client::AsyncSmtpConnection,
        commands::{Data, Mail, Noop, Rcpt, Rset},
        extension::{Extension, MailBodyParameter, MailParameter},
        response::Response,
    },
};
use secrecy::SecretString;
use taskpost_ports::PortHealth;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{
    server::{BadSmtpUrl, Server},
    trouble::{Said, Trouble, printable},
};
use crate::outage::Outage;

/// How long a kept connection has for its first answer, before a new one is made.
const FIRST_ANSWER: Duration = Duration::from_secs(3);
/// How long a connection is kept for the next mail.
const KEEP: Duration = Duration::from_secs(30);
/// How often those that were kept long enough are closed.
const TIDY: Duration = Duration::from_secs(10);
/// How long a server has to say that it is there.
const CHECK: Duration = Duration::from_millis(1_800);
/// How long saying goodbye may take when the process stops.
const GOODBYE: Duration = Duration::from_secs(1);
/// The reply to DATA that asks for the mail.
const GO_AHEAD: u16 = 354;

/// A mail server, and the connections to it that wait for their next mail.
#[derive(Clone, Debug)]
pub struct Smtp(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    server: Server,
    /// The last one was used last.
    kept: Mutex<Vec<Kept>>,
    most: usize,
    outage: Mutex<Outage>,
}

struct Kept {
    connection: AsyncSmtpConnection,
    since: Instant,
    /// Whether its last mail was refused half-way.
    in_mail: bool,
}

impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kept").field("since", &self.since).finish_non_exhaustive()
    }
}

impl Smtp {
    /// Does not connect yet. At most `most` connections are kept.
    pub(super) fn new(url: &SecretString, most: usize) -> Result<Self, BadSmtpUrl> {
        let server = Server::parse(url)?;
        if server.exposes_login() {
            warn!(server = server.name(), "SMTP_URL: the password may go out unencrypted; add ?tls=required");
        }
        let outage = Mutex::new(Outage::of("sending mails (SMTP_URL)"));
        Ok(Self(Arc::new(Inner { server, kept: Mutex::default(), most, outage })))
    }

    /// Sends a mail to its one recipient; gives what the server said. When this is dropped, the connection is too.
    pub(super) async fn send(&self, message: &Message, to: &Address) -> Result<String, Trouble> {
        let sent = self.try_send(message, to).await;
        let mut outage = self.0.outage.lock().unwrap_or_else(PoisonError::into_inner);
        match &sent {
            Err(trouble) if trouble.is_outage() => {
                outage.failed(&trouble.sentence());
            }
            _ => outage.over(),
        }
        sent
    }

    /// Notes that a try ran out of time.
    pub(super) fn ran_out_of_time(&self) {
        let mut outage = self.0.outage.lock().unwrap_or_else(PoisonError::into_inner);
        outage.failed(&"the mail server takes too long");
    }

    async fn try_send(&self, message: &Message, to: &Address) -> Result<String, Trouble> {
        let from = message.envelope().from().cloned();
        let bytes = message.formatted();
        let is_ascii = bytes.is_ascii() && AsRef::<str>::as_ref(to).is_ascii();
        let mut connection = self.begin(from, is_ascii).await?;
        let sent = hand_over(&mut connection, to, &bytes).await;
        match &sent {
            Ok(_) => self.keep(connection, false),
            Err(trouble) if trouble.leaves_connection() => self.keep(connection, true),
            Err(_) => {}
        }
        sent
    }

    /// A connection whose server has taken the sender.
    async fn begin(&self, from: Option<Address>, is_ascii: bool) -> Result<AsyncSmtpConnection, Trouble> {
        // What a server has closed meanwhile, or wants no more mails on, is found out here, where nothing is lost.
        while let Some(mut kept) = self.take() {
            let began = async {
                if kept.in_mail {
                    kept.connection.command(Rset).await.ok()?;
                }
                let mail = mail(&kept.connection, from.clone(), is_ascii)?;
                kept.connection.command(mail).await.ok()
            };
            if matches!(timeout(FIRST_ANSWER, began).await, Ok(Some(_))) {
                return Ok(kept.connection);
            }
        }
        let mut connection = self.0.server.connect().await?;
        let mail = mail(&connection, from, is_ascii).ok_or(Trouble::Ascii)?;
        connection.command(mail).await.map_err(|error| Trouble::Sender(error.into()))?;
        Ok(connection)
    }

    /// The connection that was used last.
    fn take(&self) -> Option<Kept> {
        self.kept().pop_if(|kept| kept.since.elapsed() < KEEP)
    }

    fn keep(&self, connection: AsyncSmtpConnection, in_mail: bool) {
        let mut kept = self.kept();
        if kept.len() < self.0.most {
            kept.push(Kept { connection, since: Instant::now(), in_mail });
        }
    }

    fn kept(&self) -> MutexGuard<'_, Vec<Kept>> {
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes what is not used any more; at `stop`, everything.
    pub(super) async fn tidy(self, stop: CancellationToken) {
        while stop.run_until_cancelled(tokio::time::sleep(TIDY)).await.is_some() {
            let idle: Vec<Kept> = self.kept().extract_if(.., |kept| kept.since.elapsed() >= KEEP).collect();
            say_goodbye(idle).await;
        }
        let all = std::mem::take(&mut *self.kept());
        say_goodbye(all).await;
    }

    /// Whether the server is there and lets us in.
    pub(super) async fn check(&self) -> PortHealth {
        let server = &self.0.server;
        let asked = async {
            let mut connection = server.connect().await?;
            let answer = connection.command(Noop).await;
            answer.map_err(|error| Trouble::Unreachable(error.into()))?;
            self.keep(connection, false);
            Ok::<_, Trouble>(())
        };
        let problem = match timeout(CHECK, asked).await {
            Ok(Ok(())) => None,
            Ok(Err(trouble)) => Some(trouble.sentence()),
            Err(_) => Some("the mail server does not answer in time".to_owned()),
        };
        let problem = problem.map(|problem| format!("SMTP_URL: {}: {problem}", server.name()));
        PortHealth { name: "smtp", problem }
    }
}

/// The command that begins a mail, unless the server cannot take this one.
fn mail(connection: &AsyncSmtpConnection, from: Option<Address>, is_ascii: bool) -> Option<Mail> {
    if is_ascii {
        return Some(Mail::new(from, Vec::new()));
    }
    let takes = |extension| connection.server_info().supports_feature(extension);
    let body = MailParameter::Body(MailBodyParameter::EightBitMime);
    (takes(Extension::SmtpUtfEight) && takes(Extension::EightBitMime))
        .then(|| Mail::new(from, vec![MailParameter::SmtpUtfEight, body]))
}

/// From the recipient to the server's word that the mail is now its own.
async fn hand_over(
    connection: &mut AsyncSmtpConnection,
    to: &Address,
    mail: &[u8],
) -> Result<String, Trouble> {
    let recipient = connection.command(Rcpt::new(to.clone(), Vec::new())).await;
    recipient.map_err(|error| Trouble::Recipient(error.into()))?;
    let data = connection.command(Data).await.map_err(|error| Trouble::Content(error.into()))?;
    if !data.has_code(GO_AHEAD) {
        return Err(unexpected(&data));
    }
    let taken = connection.message(mail).await.map_err(|error| Trouble::Content(error.into()))?;
    if !(200..300).contains(&u16::from(taken.code())) {
        return Err(unexpected(&taken));
    }
    Ok(said(&taken))
}

/// A server that answers something else than it was asked is not spoken to any further.
fn unexpected(response: &Response) -> Trouble {
    Trouble::Content(Said::new(None, &format!("not what SMTP expects: {}", said(response))))
}

fn said(response: &Response) -> String {
    let words: Vec<&str> = response.message().collect();
    printable(&format!("{} {}", response.code(), words.join(" ")))
}

async fn say_goodbye(connections: Vec<Kept>) {
    // A server that does not listen any more need not hear it.
    let all = connections.into_iter().map(|mut kept| async move { kept.connection.abort().await });
    let _ = timeout(GOODBYE, futures::future::join_all(all)).await;
}

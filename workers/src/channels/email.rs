//! E-mail: a message of text and HTML to one recipient, whose address is looked up when it is sent.

mod mailer;
mod message;
mod server;
mod smtp;
mod trouble;

pub use mailer::Mailer;
pub use server::BadSmtpUrl;
pub use smtp::Smtp;

use std::time::Duration;

use lettre::{Address, message::Mailbox};
use taskpost_common::{
    Clock, UserId,
    delivery::{AttemptOutcome, EmailPayload, TOKEN},
    notification,
    secret::Keys,
    user::{User, UserStatus},
};
use taskpost_store::{Db, StoreError, deliveries::Delivery, users};
use url::Url;

use super::{AttemptResult, Channel, Failure, Report};
use message::Letter;

/// For one mail, as a rule; SMTP servers may take long to answer.
pub const TIMEOUT: Duration = Duration::from_secs(20);

/// Sends mails.
#[derive(Clone, Debug)]
pub struct Email {
    /// Where recipients are looked up.
    pub db: Db,
    /// The time of a mail.
    pub clock: Clock,
    /// Who sends.
    pub from: Mailbox,
    /// How people reach this instance; without it mails hold no links.
    pub public_url: Option<Url>,
    /// What makes the tokens that mails tell.
    pub keys: Keys,
    /// Where mails go.
    pub mailer: Mailer,
    /// For one try, from the dialling to the server's last word.
    pub timeout: Duration,
}

impl Channel for Email {
    type Target = Option<User>;

    fn name(&self) -> notification::Channel {
        notification::Channel::Email
    }

    fn timeout(&self) -> Duration {
        self.timeout
    }

    async fn targets(&self, deliveries: &[Delivery]) -> Result<Vec<Option<User>>, StoreError> {
        let mut ids: Vec<UserId> = deliveries.iter().filter_map(|delivery| delivery.user_id).collect();
        ids.sort_unstable();
        ids.dedup();
        let found = users::by_ids(&mut self.db.reader().await?, &ids).await?;
        let of = |id| found.iter().find(|user| user.id == id).cloned();
        Ok(deliveries.iter().map(|delivery| delivery.user_id.and_then(of)).collect())
    }

    async fn send(&self, delivery: &Delivery, user: Option<User>) -> Report {
        let Some(user) = user else {
            return AttemptResult::Cancelled("the recipient is gone".to_owned()).into();
        };
        if user.status != UserStatus::Active {
            return AttemptResult::Cancelled("the recipient's account is disabled".to_owned()).into();
        }
        let result = match self.deliver(delivery, &user).await {
            Ok(excerpt) => AttemptResult::Sent { status_code: None, excerpt },
            Err(failure) => AttemptResult::Failed(failure),
        };
        result.into()
    }
}

impl Email {
    async fn deliver(&self, delivery: &Delivery, user: &User) -> Result<Option<String>, Failure> {
        let rejected = |error: String| Failure::new(AttemptOutcome::Rejected, error);
        let payload: EmailPayload = serde_json::from_str(&delivery.payload)
            .map_err(|error| rejected(format!("the payload cannot be read: {error}")))?;
        let payload = self.complete(payload, user.id)?;
        let to: Address = user
            .email
            .parse()
            .map_err(|error| rejected(format!("the recipient's address is not valid: {error}")))?;
        let letter = Letter {
            id: delivery.id,
            from: &self.from,
            to: to.clone(),
            name: &user.name,
            at: self.clock.now(),
            payload: &payload,
            public_url: self.public_url.as_ref(),
        };
        let message =
            letter.compose().map_err(|error| rejected(format!("the mail cannot be composed: {error}")))?;
        self.mailer.send(delivery, message, &to, self.timeout).await
    }

    /// Puts the token in its place, if the mail tells one.
    fn complete(&self, mut payload: EmailPayload, user: UserId) -> Result<EmailPayload, Failure> {
        let Some(sealed) = &payload.token else { return Ok(payload) };
        // A process that has the secret may try next, or this one once it was started again.
        let token = sealed.open(&self.keys, user).ok_or_else(|| {
            let error = "the mail's token is somebody else's, or of another JWT_SECRET than this process has";
            Failure::new(AttemptOutcome::Failed, error)
        })?;
        payload.body = payload.body.replace(TOKEN, &token);
        payload.url = payload.url.replace(TOKEN, &token);
        Ok(payload)
    }
}

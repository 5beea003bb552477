//! A way back in for who forgot a password: a token by e-mail, good once and for 30 minutes.

use std::time::Duration;

use chrono::TimeDelta;
use serde::Deserialize;
use taskpost_common::{
    EventId, NotificationId, UserId,
    delivery::{EmailPayload, TOKEN},
    notification::{Channel, Class, NotificationType},
    secret::{Keys, SealedToken, digest},
    user::UserStatus,
};
use taskpost_store::{
    Change, Tx,
    deliveries::{self, NewDelivery},
    password_resets, users,
};
use tokio::time::{Instant, sleep_until};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    Error, RequestInfo, Tracker,
    account::set_password,
    auth::by,
    new_account::{check_password, normal_email},
    validate::Checks,
};

/// How long a token is good.
const LIFETIME: TimeDelta = TimeDelta::minutes(30);
/// How many good ones a user may have; whoever asks for more has them in the mailbox already.
const MOST: i64 = 5;
/// When the answer comes, whatever there was to do: by then a mail is stored as a rule.
const ANSWER: Duration = Duration::from_millis(200);

/// Who forgot a password.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Forgot {
    /// The account's; compared without case.
    #[schema(example = "ada@example.org")]
    pub email: String,
}

/// Another password, by the token of a mail.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Reset {
    /// From the mail; good once.
    pub token: String,
    /// 12 to 128 characters.
    #[schema(example = "correct horse battery", min_length = 12, max_length = 128)]
    pub password: String,
}

impl Tracker {
    /// Sends a token to the account of this e-mail, if there is one. The answer and its time tell nothing of that.
    pub async fn forgot_password(&self, info: &RequestInfo, input: Forgot) -> Result<(), Error> {
        let email = normal_email(&input.email);
        let mut checks = Checks::default();
        checks.email("/email", &email);
        checks.finish()?;
        let begun = Instant::now();
        let keys = self.0.mail_keys.clone();
        let mailed = self
            .change(&info.cause, move |tx, change| {
                Box::pin(async move { remind(tx, change, &keys, &email).await })
            })
            .await;
        if matches!(mailed, Ok(true)) {
            self.0.wakes.deliveries.ring();
        }
        sleep_until(begun + ANSWER).await;
        mailed.map(drop)
    }

    /// Sets the password of the token's account and ends its sessions; of two parallel uses one does.
    pub async fn reset_password(&self, info: &RequestInfo, input: Reset) -> Result<Option<EventId>, Error> {
        let mut checks = Checks::default();
        check_password(&mut checks, "/password", &input.password);
        checks.finish()?;
        let digest = digest(&input.token);
        // Looked for twice, so that a guess costs no hash.
        let now = self.0.clock.now();
        let holder = password_resets::holder(&mut self.0.db.reader().await?, &digest, now).await?;
        let id = holder.ok_or_else(no_good)?;
        let hash = self.0.passwords.hash(input.password).await?;
        let (event, ended) = self
            .change(&info.cause, move |tx, change| {
                Box::pin(async move {
                    let (user, _) = users::for_update(tx, id).await?.ok_or_else(no_good)?;
                    let good = password_resets::take(tx, &digest, change.clock.now()).await?;
                    if !good || user.status != UserStatus::Active {
                        return Err(no_good());
                    }
                    let cause = by(change, user.id);
                    let change = Change { cause: &cause, ..change };
                    set_password(tx, change, &user, &hash, None).await
                })
            })
            .await?;
        self.ended(&ended);
        Ok(event)
    }
}

/// Makes a token and its mail; whether there was somebody to send it to. For nobody it asks the store the same.
async fn remind(tx: &mut Tx, change: Change<'_>, keys: &Keys, email: &str) -> Result<bool, Error> {
    // Nobody has the nil id.
    let id = users::by_email(tx, email).await?.map_or(UserId(Uuid::nil()), |(user, _)| user.id);
    // Whoever asks at the same time waits here, so that nobody gets one too many.
    let user = users::for_update(tx, id).await?.map(|(user, _)| user);
    let now = change.clock.now();
    let open = password_resets::count(tx, id, now).await?;
    if open >= MOST || user.is_none_or(|user| user.status != UserStatus::Active) {
        return Ok(false);
    }
    let token = SealedToken::new(keys, change.clock.id(), id);
    let token = token.ok_or_else(|| Error::Internal("no secret to make tokens with".to_owned()))?;
    password_resets::insert(tx, change, id, &token.digest, now + LIFETIME).await?;
    let delivery = NewDelivery {
        id: change.clock.id(),
        channel: Channel::Email,
        class: Class::High,
        event_id: change.clock.id(),
        user_id: Some(id),
        endpoint_id: None,
        notification_id: None,
        payload: serde_json::to_string(&mail(id, change.clock.id(), token))?,
        traceparent: change.cause.traceparent.clone(),
        due_at: now,
    };
    deliveries::insert(tx, &[delivery], now).await?;
    Ok(true)
}

/// The mail leads to the page, if people can reach it, and tells the token to everybody else.
fn mail(user_id: UserId, notification_id: NotificationId, token: SealedToken) -> EmailPayload {
    EmailPayload {
        user_id,
        kind: NotificationType::Security,
        notification_id,
        title: "Set a new password".to_owned(),
        body: format!(
            "Somebody, hopefully you, forgot the password of your account. Within 30 minutes this token sets a \
             new one, once:\n\n{TOKEN}\n\nOpen the link below, if there is one, or POST the token with the new \
             password to /v1/auth/password/reset. If it was not you, do nothing: your password stays as it is."
        ),
        url: format!("/ui/reset?token={TOKEN}"),
        token: Some(token),
    }
}

fn no_good() -> Error {
    let detail = "is no good: it was used, has expired, or never was; ask for a new one";
    Error::field("/token", "invalid_token", detail)
}

//! What is wrong with the broker, in the words of whoever runs it. They hold no user and no password, so that /health
//! may show them.

use lapin::{Error, ErrorKind, protocol::AMQPError};

/// What is wrong and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Trouble {
    #[error("RABBITMQ_URL: the first connection to the broker is still being made")]
    Starting,
    #[error(
        "RABBITMQ_URL: the broker cannot be reached ({0}); see that it is up, and that scheme, host and port are right"
    )]
    Unreachable(String),
    #[error(
        "RABBITMQ_URL: the broker does not answer in time ({0}); see that it is well and not far too busy"
    )]
    Late(&'static str),
    #[error(
        "RABBITMQ_URL: the broker refused the login; see that user and password are right (guest may log in on the \
         broker's own machine only)"
    )]
    Login,
    #[error(
        "RABBITMQ_URL: the virtual host {0:?} does not exist, or its user may not enter it; name one that does (%2f is \
         the default one), or make it with `rabbitmqctl add_vhost` and `rabbitmqctl set_permissions`"
    )]
    VirtualHost(String),
    #[error(
        "RABBITMQ_URL: its user lacks a permission for {0}; grant it with `rabbitmqctl set_permissions`, for configure, \
         write and read on names that begin with INSTANCE"
    )]
    Permission(String),
    #[error(
        "RABBITMQ_URL: {0} exists with other arguments ({1}); delete it on the broker, for a queue by `rabbitmqctl \
         delete_queue`, and it is made anew; no delivery is lost by that"
    )]
    Arguments(String, String),
    #[error(
        "RABBITMQ_URL: the broker takes no messages ({0}); free its memory or disk, see `rabbitmq-diagnostics alarms`"
    )]
    Blocked(String),
    #[error("RABBITMQ_URL: exchanges or queues are gone from the broker; they are made anew")]
    Unroutable,
    #[error("RABBITMQ_URL: the connection to the broker broke ({0}); see that the broker is up and stays up")]
    Broken(String),
}

impl Trouble {
    /// Of an error while logging in to `vhost`.
    pub(super) fn of_login(error: &Error, vhost: &str) -> Self {
        match error.kind() {
            ErrorKind::ProtocolError(said) => match said.get_id() {
                code::ACCESS_REFUSED => Self::Login,
                code::NOT_ALLOWED | code::NOT_FOUND => Self::VirtualHost(vhost.to_owned()),
                _ => Self::Broken(words(said)),
            },
            ErrorKind::AuthProviderError(_) => Self::Login,
            ErrorKind::IOError(error) => Self::Unreachable(error.to_string()),
            _ => Self::Unreachable(error.to_string()),
        }
    }

    /// Of an error while declaring `what`.
    pub(super) fn of_declaring(error: &Error, what: &str) -> Self {
        match error.kind() {
            ErrorKind::ProtocolError(said) => match said.get_id() {
                code::ACCESS_REFUSED => Self::Permission(what.to_owned()),
                code::PRECONDITION_FAILED => Self::Arguments(what.to_owned(), words(said)),
                code::NOT_FOUND => Self::Unroutable,
                _ => Self::Broken(words(said)),
            },
            _ => Self::of_work(error),
        }
    }

    /// Of a connection that ended without a word.
    pub(super) fn closed() -> Self {
        Self::Broken("it was closed".to_owned())
    }

    /// Of an error in the middle of the work.
    pub(super) fn of_work(error: &Error) -> Self {
        match error.kind() {
            ErrorKind::ProtocolError(said) => match said.get_id() {
                code::ACCESS_REFUSED => Self::Permission("publishing or consuming".to_owned()),
                code::NOT_FOUND => Self::Unroutable,
                _ => Self::Broken(words(said)),
            },
            _ => Self::Broken(error.to_string()),
        }
    }
}

/// Reply codes of AMQP 0-9-1.
mod code {
    pub(super) const ACCESS_REFUSED: u16 = 403;
    pub(super) const NOT_FOUND: u16 = 404;
    pub(super) const PRECONDITION_FAILED: u16 = 406;
    pub(super) const NOT_ALLOWED: u16 = 530;
}

/// The broker's own words.
fn words(said: &AMQPError) -> String {
    said.get_message().to_string()
}

#[cfg(test)]
mod tests {
    use lapin::protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError};

    use super::*;

    fn said(kind: impl Into<AMQPErrorKind>, words: &str) -> Error {
        ErrorKind::ProtocolError(AMQPError::new(kind.into(), words.into())).into()
    }

    #[test]
    fn each_trouble_says_what_to_do_and_where() {
        let refused = said(AMQPSoftError::ACCESSREFUSED, "ACCESS_REFUSED - user 'bobby' refused");
        let no_vhost = said(AMQPHardError::NOTALLOWED, "NOT_ALLOWED - vhost tasks not found");
        let other = said(AMQPSoftError::PRECONDITIONFAILED, "inequivalent arg 'x-message-ttl'");
        let gone = Error::from(std::io::Error::from(std::io::ErrorKind::ConnectionRefused));
        for (trouble, says) in [
            (Trouble::of_login(&refused, "tasks"), "user and password"),
            (Trouble::of_login(&no_vhost, "tasks"), "virtual host \"tasks\""),
            (Trouble::of_login(&gone, "tasks"), "cannot be reached (connection refused)"),
            (
                Trouble::of_declaring(&refused, "the queue t.notify.dlq"),
                "permission for the queue t.notify.dlq",
            ),
            (
                Trouble::of_declaring(&other, "the queue t.notify.dlq"),
                "the queue t.notify.dlq exists with other",
            ),
            (Trouble::of_declaring(&gone, "the queue t.notify.dlq"), "broke"),
            (Trouble::of_work(&gone), "broke"),
        ] {
            let sentence = trouble.to_string();
            assert!(sentence.starts_with("RABBITMQ_URL: ") && sentence.contains(says), "{sentence}");
            assert!(!sentence.contains("bobby"), "{sentence}");
        }
    }
}

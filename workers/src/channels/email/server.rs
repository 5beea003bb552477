//! The mail server that `SMTP_URL` names, and how one gets in.

use std::{net::IpAddr, time::Duration};

use lettre::transport::smtp::{
    authentication::{Credentials, DEFAULT_MECHANISMS},
    client::{AsyncSmtpConnection, Tls, TlsParameters},
    extension::ClientId,
};
use secrecy::{ExposeSecret, SecretString};
use url::{Host, Url};

use super::trouble::Trouble;

/// For one address of the server, so that a dead one leaves time for the next.
const DIAL: Duration = Duration::from_secs(5);
const SMTP_PORT: u16 = 25;
const SUBMISSION_PORT: u16 = 587;
const SUBMISSIONS_PORT: u16 = 465;

/// A value of `SMTP_URL` that cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "SMTP_URL: {0}; expected smtp://user:password@host:587?tls=required, ?tls=opportunistic, or smtps://…"
)]
pub struct BadSmtpUrl(&'static str);

/// A mail server, and how one gets in.
#[derive(Debug)]
pub(super) struct Server {
    host: String,
    port: u16,
    tls: Tls,
    /// What we call ourselves.
    hello: ClientId,
    credentials: Option<Credentials>,
}

impl Server {
    /// Reads `smtp://user:password@host:port/our-name?tls=required`.
    pub(super) fn parse(url: &SecretString) -> Result<Self, BadSmtpUrl> {
        let url: Url = url.expose_secret().parse().map_err(|_| BadSmtpUrl("this is no URL"))?;
        let host = match url.host() {
            Some(Host::Domain(name)) if !name.is_empty() => name.to_owned(),
            Some(Host::Ipv4(address)) => address.to_string(),
            Some(Host::Ipv6(address)) => address.to_string(),
            _ => return Err(BadSmtpUrl("the host is missing")),
        };
        let (tls, port) = tls(&url, &host)?;
        let name = url.path().trim_matches('/');
        Ok(Self {
            port: url.port().unwrap_or(port),
            tls,
            hello: if name.is_empty() { ClientId::default() } else { ClientId::Domain(name.to_owned()) },
            credentials: credentials(&url)?,
            host,
        })
    }

    /// For people: without a secret.
    pub(super) fn name(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// Whether somebody between us and the server could read the password.
    pub(super) fn exposes_login(&self) -> bool {
        let is_near =
            self.host == "localhost" || self.host.parse().is_ok_and(|address: IpAddr| address.is_loopback());
        let is_open = matches!(self.tls, Tls::None | Tls::Opportunistic(_));
        self.credentials.is_some() && is_open && !is_near
    }

    /// A new connection, encrypted and logged in as the URL says.
    pub(super) async fn connect(&self) -> Result<AsyncSmtpConnection, Trouble> {
        let at_once = match &self.tls {
            Tls::Wrapper(parameters) => Some(parameters.clone()),
            _ => None,
        };
        let address = (self.host.as_str(), self.port);
        let mut connection =
            AsyncSmtpConnection::connect_tokio1(address, Some(DIAL), &self.hello, at_once, None)
                .await
                .map_err(|error| Trouble::Unreachable(error.into()))?;
        self.encrypt(&mut connection).await?;
        if let Some(credentials) = &self.credentials {
            let login = connection.auth(DEFAULT_MECHANISMS, credentials).await;
            login.map_err(|error| Trouble::Login(error.into()))?;
        }
        Ok(connection)
    }

    async fn encrypt(&self, connection: &mut AsyncSmtpConnection) -> Result<(), Trouble> {
        let parameters = match &self.tls {
            Tls::Required(_) if !connection.can_starttls() => return Err(Trouble::NoTls),
            Tls::Required(parameters) => parameters,
            Tls::Opportunistic(parameters) if connection.can_starttls() => parameters,
            _ => return Ok(()),
        };
        let encrypted = connection.starttls(parameters.clone(), &self.hello).await;
        encrypted.map_err(|error| Trouble::Unreachable(error.into()))
    }
}

/// How it is encrypted, and the port that this usually has.
fn tls(url: &Url, host: &str) -> Result<(Tls, u16), BadSmtpUrl> {
    let parameters = || TlsParameters::new(host.to_owned()).map_err(|_| BadSmtpUrl("TLS cannot be set up"));
    let asked = url.query_pairs().find(|(key, _)| key == "tls").map(|(_, value)| value);
    match (url.scheme(), asked.as_deref()) {
        ("smtp", None) => Ok((Tls::None, SMTP_PORT)),
        ("smtp", Some("required")) => Ok((Tls::Required(parameters()?), SUBMISSION_PORT)),
        ("smtp", Some("opportunistic")) => Ok((Tls::Opportunistic(parameters()?), SUBMISSION_PORT)),
        ("smtps", _) => Ok((Tls::Wrapper(parameters()?), SUBMISSIONS_PORT)),
        ("smtp", Some(_)) => Err(BadSmtpUrl("tls is neither required nor opportunistic")),
        _ => Err(BadSmtpUrl("the scheme is neither smtp nor smtps")),
    }
}

fn credentials(url: &Url) -> Result<Option<Credentials>, BadSmtpUrl> {
    let bad = BadSmtpUrl("user and password cannot be read; percent-encode what is special in them");
    let part = |text| decoded(text).ok_or(bad);
    match (url.username(), url.password()) {
        ("", None) => Ok(None),
        ("", Some(_)) | (_, None) => Err(BadSmtpUrl("a login needs a user and a password")),
        (user, Some(password)) => Ok(Some(Credentials::new(part(user)?, part(password)?))),
    }
}

/// Undoes percent-encoding.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, code)) = rest.split_once('%') {
        bytes.extend_from_slice(before.as_bytes());
        let (digits, after) = code.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = after;
    }
    bytes.extend_from_slice(rest.as_bytes());
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<Server, BadSmtpUrl> {
        Server::parse(&SecretString::from(url))
    }

    #[test]
    fn the_url_says_where_and_how() {
        for (url, name, tls) in [
            ("smtp://mail.example.org", "mail.example.org:25", "None"),
            ("smtp://mail.example.org:2525", "mail.example.org:2525", "None"),
            ("smtp://mail.example.org?tls=required", "mail.example.org:587", "Required"),
            ("smtp://mail.example.org?tls=opportunistic", "mail.example.org:587", "Opportunistic"),
            ("smtps://mail.example.org", "mail.example.org:465", "Wrapper"),
            ("smtp://127.0.0.1:25", "127.0.0.1:25", "None"),
            ("smtp://[::1]:25", "::1:25", "None"),
        ] {
            let server = parse(url).unwrap();
            assert_eq!(server.name(), name);
            let is = match server.tls {
                Tls::None => "None",
                Tls::Opportunistic(_) => "Opportunistic",
                Tls::Required(_) => "Required",
                Tls::Wrapper(_) => "Wrapper",
            };
            assert_eq!(is, tls, "{url}");
        }
        let named = parse("smtp://mail.example.org/tasks.example.org").unwrap();
        assert_eq!(named.hello, ClientId::Domain("tasks.example.org".to_owned()));
    }

    #[test]
    fn a_login_is_decoded_and_never_shown() {
        let server = parse("smtp://ann%40example.org:p%C3%A4ss%3a%25w@mail").unwrap();
        let expected = Credentials::new("ann@example.org".to_owned(), "päss:%w".to_owned());
        assert_eq!(server.credentials, Some(expected));
        assert!(!format!("{server:?}").contains("ss:"), "{server:?}");
        assert_eq!(parse("smtp://mail").unwrap().credentials, None);
    }

    #[test]
    fn an_open_way_for_a_password_is_seen() {
        for (url, exposed) in [
            ("smtp://ann:geheim@mail.example.org", true),
            ("smtp://ann:geheim@mail.example.org?tls=opportunistic", true),
            ("smtp://ann:geheim@mail.example.org?tls=required", false),
            ("smtps://ann:geheim@mail.example.org", false),
            ("smtp://mail.example.org", false),
            ("smtp://ann:geheim@localhost", false),
            ("smtp://ann:geheim@127.0.0.1:2525", false),
            ("smtp://ann:geheim@[::1]:2525", false),
        ] {
            assert_eq!(parse(url).unwrap().exposes_login(), exposed, "{url}");
        }
    }

    #[test]
    fn what_cannot_be_used_names_the_variable_and_no_secret() {
        for url in [
            "mail.example.org",
            "http://mail.example.org",
            "smtp://mail.example.org?tls=yes",
            "smtp:",
            "smtp://ann@mail",
            "smtp://:geheim@mail",
            "smtp://ann:geheim%ff@mail",
        ] {
            let error = parse(url).unwrap_err().to_string();
            assert!(error.starts_with("SMTP_URL: ") && !error.contains("geheim"), "{url}: {error}");
        }
    }
}

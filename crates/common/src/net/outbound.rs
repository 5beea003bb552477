//! Where our own requests may go.

use std::net::IpAddr;

use url::{Host, Url};

use super::is_public;

/// What our own requests may be sent to when a user names the target, such as a webhook's URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outbound {
    /// Lets private addresses, local names and every port through; for tests and intranets.
    pub allow_private: bool,
    /// The TCP ports that may be dialled.
    pub ports: Vec<u16>,
}

impl Outbound {
    /// The longest URL taken, in characters.
    pub const MAX_URL: usize = 2_048;

    /// Reads a target as a user wrote it, when it is saved.
    ///
    /// The URL returned is normalised (WHATWG URL): every spelling of an IPv4 literal has become four decimal numbers, so
    /// keep it instead of the text. A name can point elsewhere later: [`Outbound::check_ip`] judges again when it is dialled.
    ///
    /// # Errors
    /// [`TargetRefused`] names the first thing that is not right.
    pub fn check_url(&self, text: &str) -> Result<Url, TargetRefused> {
        if text.chars().nth(Self::MAX_URL).is_some() {
            return Err(TargetRefused::TooLong);
        }
        if text.chars().any(|c| c.is_control() || c.is_whitespace() || c == '\\') {
            return Err(TargetRefused::Character);
        }
        let url = Url::parse(text)?;
        self.check_target(&url)?;
        // `http://@host` loses its empty user name in parsing.
        if authority(text).contains('@') {
            return Err(TargetRefused::UserInfo);
        }
        Ok(url)
    }

    /// Judges a URL that was read before, as each request does: settings may have changed since it was saved.
    ///
    /// # Errors
    /// [`TargetRefused`] names the first thing that is not right.
    pub fn check_target(&self, url: &Url) -> Result<(), TargetRefused> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(TargetRefused::Scheme(url.scheme().to_owned()));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(TargetRefused::UserInfo);
        }
        if url.fragment().is_some() {
            return Err(TargetRefused::Fragment);
        }
        match url.host().ok_or(TargetRefused::NoHost)? {
            Host::Ipv4(ip) => self.check_ip(ip.into())?,
            Host::Ipv6(ip) => self.check_ip(ip.into())?,
            Host::Domain(name) => self.check_name(name)?,
        }
        self.check_port(url.port_or_known_default().unwrap_or(0))
    }

    /// Judges an address that is about to be dialled.
    ///
    /// # Errors
    /// [`TargetRefused::Address`] when it is not public and private ones are not allowed.
    pub fn check_ip(&self, ip: IpAddr) -> Result<(), TargetRefused> {
        if self.allow_private || is_public(ip) { Ok(()) } else { Err(TargetRefused::Address(ip)) }
    }

    fn check_name(&self, name: &str) -> Result<(), TargetRefused> {
        let bare = name.strip_suffix('.').unwrap_or(name);
        if bare.is_empty() || bare.starts_with('.') || bare.contains("..") {
            return Err(TargetRefused::NoHost);
        }
        if !self.allow_private && is_local_name(bare) {
            return Err(TargetRefused::LocalName(bare.to_owned()));
        }
        Ok(())
    }

    fn check_port(&self, port: u16) -> Result<(), TargetRefused> {
        if port != 0 && (self.allow_private || self.ports.contains(&port)) {
            return Ok(());
        }
        Err(TargetRefused::Port { port, allowed: self.ports.clone() })
    }
}

/// Why a target is not dialled. Its text is a sentence for the user who named it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetRefused {
    /// Longer than [`Outbound::MAX_URL`].
    #[error("the URL is too long; use at most 2048 characters")]
    TooLong,
    /// White space, a control character or a backslash.
    #[error("the URL holds a space, a control character or a backslash; percent-encode it")]
    Character,
    /// No URL at all.
    #[error("this is not a URL ({0}); write it out, such as https://example.com/hook")]
    Malformed(#[from] url::ParseError),
    /// Neither http nor https.
    #[error("the scheme {0:?} is not supported; use https or http")]
    Scheme(String),
    /// A user name or a password in it.
    #[error("the URL holds a user name or password; remove everything up to the @")]
    UserInfo,
    /// A part behind `#`.
    #[error("the URL has a fragment, which is never sent; remove the # and what follows")]
    Fragment,
    /// No host, or an empty label in it.
    #[error("the URL names no host; write it out, such as https://example.com/hook")]
    NoHost,
    /// A name that only means something on the local network.
    #[error(
        "the host {0:?} is a local name; use a host that is public, or let the operator set WEBHOOK_ALLOW_PRIVATE"
    )]
    LocalName(String),
    /// An address that is not public.
    #[error(
        "the address {0} is not public; use a host that is, or let the operator set WEBHOOK_ALLOW_PRIVATE"
    )]
    Address(IpAddr),
    /// A name whose addresses are all not public. The text leaves them out: what a name means inside is not for strangers.
    #[error(
        "the host {host:?} has no public address; use a host that has, or let the operator set WEBHOOK_ALLOW_PRIVATE"
    )]
    Resolved {
        /// The name looked up.
        host: String,
        /// The first address it gave.
        ip: IpAddr,
    },
    /// A port that is not on the list.
    #[error(
        "the port {port} is not allowed; use one of {allowed:?}, or let the operator extend WEBHOOK_PORTS"
    )]
    Port {
        /// The port asked for.
        port: u16,
        /// The ports that may be dialled.
        allowed: Vec<u16>,
    },
}

impl TargetRefused {
    /// A word for programs; stays the same when the sentence changes.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::TooLong => "url_too_long",
            Self::Character => "url_character",
            Self::Malformed(_) => "url_malformed",
            Self::Scheme(_) => "url_scheme",
            Self::UserInfo => "url_userinfo",
            Self::Fragment => "url_fragment",
            Self::NoHost => "url_no_host",
            Self::LocalName(_) => "target_local_name",
            Self::Address(_) => "target_address",
            Self::Resolved { .. } => "target_resolved",
            Self::Port { .. } => "target_port",
        }
    }
}

/// Endings that belong to a host or a local network: RFC 6761, 6762, 8375, 7686, and ICANN's list of name collisions.
const LOCAL_ENDINGS: [&str; 11] = [
    "localhost",
    "localdomain",
    "local",
    "internal",
    "intranet",
    "private",
    "corp",
    "home",
    "lan",
    "home.arpa",
    "onion",
];

/// Public-looking names of cloud metadata services; the others end in `.internal` or have no dot.
const METADATA_NAMES: [&str; 1] = ["metadata.goog"];

/// A name without a dot is completed by the resolver's search list, so it is local too.
fn is_local_name(name: &str) -> bool {
    !name.contains('.')
        || METADATA_NAMES.contains(&name)
        || LOCAL_ENDINGS.iter().any(|zone| name.strip_suffix(zone).is_some_and(|front| front.ends_with('.')))
}

/// The part of `url` between its slashes, where the host stands.
fn authority(url: &str) -> &str {
    let behind_scheme = url.split_once(':').map_or(url, |(_, rest)| rest);
    behind_scheme.trim_start_matches('/').split(['/', '?', '#']).next().unwrap_or("")
}

#[cfg(test)]
mod tests;

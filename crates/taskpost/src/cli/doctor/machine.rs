//! This machine: the data folder, the secret of tokens, and the ports.

use std::{
    fs, io,
    io::Write as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
    time::Duration,
};

use serde_json::Value;
use taskpost_common::config::{Config, Database};
use tokio::net::TcpListener;

use super::Finding;

/// What there must be room for.
const ROOM: usize = 16 * 1024 * 1024;
/// How long whoever holds a port may take to say who it is.
const PATIENCE: Duration = Duration::from_secs(2);

/// The data folder, which it makes when that is missing, as a start would.
pub(super) fn folder(config: &Config) -> Vec<Finding> {
    let folder = &config.data_dir;
    let made = fs::create_dir_all(folder).and_then(|()| write(folder));
    let (shown, mebibytes) = (folder.display(), ROOM / 1024 / 1024);
    let finding = match made {
        Ok(()) => {
            Finding::ok("data folder", format!("{shown} is writable, with room for {mebibytes} MiB or more"))
        }
        Err(error) if error.kind() == io::ErrorKind::StorageFull => Finding::fail(
            "data folder",
            format!("{shown} has no room for {mebibytes} MiB"),
            "make room on the disk of DATA_DIR, or name another folder",
        ),
        Err(error) => Finding::fail(
            "data folder",
            format!("{shown} cannot be written: {error}"),
            "let this user write there, or let DATA_DIR name another folder",
        ),
    };
    vec![finding]
}

/// Writes and removes as much as there must be room for.
fn write(folder: &Path) -> io::Result<()> {
    let mut file = tempfile::tempfile_in(folder)?;
    let block = vec![0x5a; 1024 * 1024];
    for _ in 0..ROOM / block.len() {
        file.write_all(&block)?;
    }
    file.sync_all()
}

pub(super) async fn look(config: &Config) -> Vec<Finding> {
    let mut findings = vec![secret(config), port("HTTP_PORT", config.http).await];
    if let Some(operate) = config.operate_port {
        findings.push(port("OPERATE_PORT", (config.http.0, operate)).await);
    }
    findings
}

fn secret(config: &Config) -> Finding {
    const NAME: &str = "JWT_SECRET";
    match config.jwt_secrets.len() {
        0 => {}
        1 => return Finding::ok(NAME, "set"),
        several => return Finding::ok(NAME, format!("{several} are set; the first signs, all verify")),
    }
    let file = config.data_dir.join("jwt-secret");
    let detail = match fs::read_to_string(&file) {
        Ok(secret) if secret.trim().len() < 32 => {
            let detail = format!("{} is shorter than 32 characters", file.display());
            return Finding::fail(NAME, detail, "delete the file to have a new one made, or set JWT_SECRET");
        }
        Ok(_) => format!("not set; taken from {}", file.display()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            format!("not set; the first start makes {}", file.display())
        }
        Err(error) => {
            let detail = format!("{} cannot be read: {error}", file.display());
            return Finding::fail(NAME, detail, "let this user read the file, or set JWT_SECRET");
        }
    };
    match config.database {
        Database::Sqlite => Finding::ok(NAME, detail),
        Database::Postgres(_) => Finding::warn(
            NAME,
            detail,
            "set JWT_SECRET where API and workers run in more than one process: with a data folder each, they would \
             refuse each other's tokens",
        ),
    }
}

async fn port(variable: &'static str, (host, port): (IpAddr, u16)) -> Finding {
    if port == 0 {
        return Finding::ok(variable, "any free port");
    }
    match TcpListener::bind((host, port)).await {
        Ok(_) => Finding::ok(variable, format!("{host}:{port} is free")),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            match who_serves(SocketAddr::new(near(host), port)).await {
                Some(version) => Finding::ok(variable, format!("Taskpost {version} serves on {host}:{port}")),
                None => Finding::fail(
                    variable,
                    format!("another program holds {host}:{port}"),
                    format!("end it, or set {variable} to another port"),
                ),
            }
        }
        Err(error) => Finding::fail(
            variable,
            format!("cannot listen on {host}:{port}: {error}"),
            format!("set {variable} to a port above 1023, and HTTP_HOST to an address of this machine"),
        ),
    }
}

/// Where this machine reaches what listens on every address.
fn near(host: IpAddr) -> IpAddr {
    match host {
        IpAddr::V4(host) if host.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(host) if host.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        host => host,
    }
}

/// The version of the Taskpost that serves there, if it is one.
async fn who_serves(address: SocketAddr) -> Option<String> {
    let client = reqwest::Client::builder().timeout(PATIENCE).no_proxy().build().ok()?;
    let answer = client.get(format!("http://{address}/health")).send().await.ok()?;
    let health: Value = serde_json::from_str(&answer.text().await.ok()?).ok()?;
    health.get("checks")?.get("store")?;
    Some(health.get("version")?.as_str()?.to_owned())
}

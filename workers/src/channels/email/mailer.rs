//! Where mails go.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

use lettre::{Address, Message};
use secrecy::SecretString;
use taskpost_common::delivery::AttemptOutcome;
use taskpost_ports::PortHealth;
use taskpost_store::deliveries::Delivery;
use tokio::{task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{BadSmtpUrl, smtp::Smtp};
use crate::channels::Failure;

/// Where mails go.
#[derive(Clone, Debug)]
pub enum Mailer {
    /// Into a folder, one `.eml` file for each delivery.
    Folder(PathBuf),
    /// To a mail server.
    Smtp(Smtp),
}

impl Mailer {
    /// Mails go into `folder`, which is made when it is missing.
    ///
    /// # Errors
    /// [`io::Error`] when it cannot be made.
    pub fn folder(folder: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&folder)?;
        Ok(Self::Folder(folder))
    }

    /// Mails go to the server that `url` names, over at most so many connections that wait for their next mail. The
    /// server need not be there yet.
    ///
    /// # Errors
    /// [`BadSmtpUrl`] says what is wrong with the URL.
    pub fn smtp(url: &SecretString, connections: usize) -> Result<Self, BadSmtpUrl> {
        Smtp::new(url, connections).map(Self::Smtp)
    }

    /// Closes connections that are not used any more, as a task in `tasks` until `stop`.
    pub fn start(&self, tasks: &mut JoinSet<()>, stop: CancellationToken) {
        if let Self::Smtp(smtp) = self {
            tasks.spawn(smtp.clone().tidy(stop));
        }
    }

    /// Whether mails can go there; answers within 2 seconds.
    pub async fn check(&self) -> PortHealth {
        match self {
            Self::Smtp(smtp) => smtp.check().await,
            Self::Folder(folder) => {
                let found = tokio::fs::metadata(folder).await.is_ok_and(|found| found.is_dir());
                let missing = || format!("DATA_DIR: the folder {} of mails is missing", folder.display());
                PortHealth { name: "folder", problem: (!found).then(missing) }
            }
        }
    }

    /// Sends a mail; gives what the server said. When this returns, the server has taken it, or it is on disk under
    /// its delivery's id, where the same delivery again replaces it.
    pub(super) async fn send(
        &self,
        delivery: &Delivery,
        message: Message,
        to: &Address,
        within: Duration,
    ) -> Result<Option<String>, Failure> {
        match self {
            Self::Folder(folder) => {
                let written = to_folder(folder.clone(), delivery, message).await;
                let failed = |error| format!("the mail could not be written: {error}");
                written.map_err(|error| Failure::new(AttemptOutcome::Failed, failed(error)))?;
                Ok(None)
            }
            Self::Smtp(smtp) => match timeout(within, smtp.send(&message, to)).await {
                Ok(Ok(said)) => Ok(Some(said)),
                Ok(Err(trouble)) => Err(trouble.failure(to)),
                Err(_) => {
                    smtp.ran_out_of_time();
                    let error = format!("the mail server took longer than {} ms", within.as_millis());
                    Err(Failure::new(AttemptOutcome::TimedOut, error))
                }
            },
        }
    }
}

async fn to_folder(folder: PathBuf, delivery: &Delivery, message: Message) -> io::Result<()> {
    let (id, lease) = (delivery.id, delivery.lease);
    // The lease keeps two tries of one delivery apart until each has its whole file.
    let (unfinished, finished) = (format!(".{id}.{lease}.tmp"), format!("{id}.eml"));
    let write = move || write(&folder, &unfinished, &finished, &message.formatted());
    tokio::task::spawn_blocking(write).await?
}

fn write(folder: &Path, unfinished: &str, finished: &str, mail: &[u8]) -> io::Result<()> {
    let unfinished = folder.join(unfinished);
    let written = fill(&unfinished, mail).and_then(|()| fs::rename(&unfinished, folder.join(finished)));
    if written.is_err() {
        // It may not be there at all; what counts is the first error.
        let _ = fs::remove_file(&unfinished);
    }
    written?;
    // The new name is durable only once its folder is.
    File::open(folder)?.sync_all()
}

fn fill(path: &Path, mail: &[u8]) -> io::Result<()> {
    let mut options = File::options();
    options.write(true).create(true).truncate(true);
    // It may tell a token, as a mail in a mailbox does.
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(mail)?;
    file.sync_all()
}

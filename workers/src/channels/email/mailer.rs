//! Where mails go.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use lettre::Message;
use taskpost_store::deliveries::Delivery;

/// Where mails go.
#[derive(Clone, Debug)]
pub enum Mailer {
    /// Into a folder, one `.eml` file for each delivery.
    Folder(PathBuf),
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

    /// Sends a mail. When this returns, it is on disk under its delivery's id; the same delivery again replaces it.
    pub(super) async fn send(&self, delivery: &Delivery, message: Message) -> io::Result<()> {
        match self {
            Self::Folder(folder) => {
                let (folder, id, lease) = (folder.clone(), delivery.id, delivery.lease);
                // The lease keeps two tries of one delivery apart until each has its whole file.
                let (unfinished, finished) = (format!(".{id}.{lease}.tmp"), format!("{id}.eml"));
                let write = move || write(&folder, &unfinished, &finished, &message.formatted());
                tokio::task::spawn_blocking(write).await?
            }
        }
    }
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
    let mut file = File::create(path)?;
    file.write_all(mail)?;
    file.sync_all()
}

//! The secret that signs tokens and cursors, and makes those that mails tell.

use std::{fs, io::Write as _, path::Path};

use anyhow::Context;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use rand::RngExt as _;
use secrecy::SecretString;
use taskpost_common::config::{Config, Database};

/// `JWT_SECRET`, else the secret in the data folder, which is made when absent, readable by its owner only.
pub fn load(config: &Config) -> anyhow::Result<Vec<SecretString>> {
    if !config.jwt_secrets.is_empty() {
        return Ok(config.jwt_secrets.clone());
    }
    let file = config.data_dir.join("jwt-secret");
    match fs::read_to_string(&file) {
        Ok(secret) if secret.trim().len() >= 32 => Ok(vec![secret.trim().into()]),
        Ok(_) => anyhow::bail!(
            "DATA_DIR: {} is shorter than 32 characters; delete it to have a new one made",
            file.display()
        ),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let made = make(&file)?;
            if matches!(config.database, Database::Postgres(_)) {
                tracing::warn!(
                    "JWT_SECRET is not set, so this process made a secret of its own, in its DATA_DIR; where API and \
                     workers are more than one process, set JWT_SECRET for all of them: tokens of one are nothing to the \
                     others, and mails that tell a token are not sent"
                );
            }
            Ok(made)
        }
        Err(error) => Err(error).with_context(|| format!("DATA_DIR: cannot read {}", file.display())),
    }
}

/// A secret for a process that gives nobody a token or cursor.
pub(crate) fn throwaway() -> SecretString {
    random().into()
}

fn random() -> String {
    URL_SAFE_NO_PAD.encode(rand::rng().random::<[u8; 32]>())
}

fn make(file: &Path) -> anyhow::Result<Vec<SecretString>> {
    let secret = random();
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    // Written aside and then given its name, so that another process sees it whole or not at all.
    let draft = file.with_extension(format!("new-{:016x}", rand::rng().random::<u64>()));
    let mut written =
        options.open(&draft).with_context(|| format!("DATA_DIR: cannot write {}", draft.display()))?;
    written.write_all(secret.as_bytes())?;
    written.sync_all()?;
    let named = fs::hard_link(&draft, file);
    fs::remove_file(&draft)?;
    match named {
        Ok(()) => Ok(vec![secret.into()]),
        // Another process on the same folder was faster; its secret is the secret.
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            Ok(vec![fs::read_to_string(file)?.trim().into()])
        }
        Err(error) => Err(error).with_context(|| format!("DATA_DIR: cannot write {}", file.display())),
    }
}

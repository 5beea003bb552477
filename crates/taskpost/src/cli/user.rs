//! `taskpost user`: accounts, by whoever has the store.

use chrono::SecondsFormat;
use clap::{Args, Subcommand};
use serde_json::json;
use taskpost_common::{
    UserId,
    user::{Role, Roles, User},
};
use taskpost_store::{
    Start,
    users::{self, UserFilter},
};
use taskpost_tracker::CreateUser;

use super::{
    desk::{Desk, explain},
    password,
    table::table,
};
use crate::{environment, logs, store};

/// How many users are read at once.
const PAGE: usize = 200;

/// What to do with accounts.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make an account; asks for its password
    Create(Create),
    /// Show the accounts, the newest first
    List(List),
    /// Set the roles of an account, and end its sessions
    Role(SetRole),
    /// Set the password of an account, and end its sessions
    Password(SetPassword),
}

/// Whose account.
#[derive(Debug, Args)]
pub struct Create {
    /// Unique; compared without case
    #[arg(long)]
    email: String,
    /// How others see the user
    #[arg(long)]
    name: String,
    /// admin, finance or moderator; several by commas
    #[arg(long = "role", value_name = "ROLE", value_delimiter = ',')]
    roles: Vec<Role>,
    /// Read the password from the first line of standard input instead of asking for it
    #[arg(long)]
    password_stdin: bool,
    /// As JSON, for scripts
    #[arg(long)]
    json: bool,
}

/// Which accounts.
#[derive(Debug, Args)]
pub struct List {
    /// With this in the name or the handle only
    #[arg(long)]
    name: Option<String>,
    /// As JSON, for scripts
    #[arg(long)]
    json: bool,
}

/// Whose roles, and which.
#[derive(Debug, Args)]
pub struct SetRole {
    /// The account's e-mail
    #[arg(long)]
    email: String,
    /// admin, finance or moderator; several by commas. These are all that the account has then
    #[arg(
        long = "role",
        value_name = "ROLE",
        value_delimiter = ',',
        required_unless_present = "none",
        conflicts_with = "none"
    )]
    roles: Vec<Role>,
    /// No role: an ordinary member
    #[arg(long)]
    none: bool,
    /// As JSON, for scripts
    #[arg(long)]
    json: bool,
}

/// Whose password.
#[derive(Debug, Args)]
pub struct SetPassword {
    /// The account's e-mail
    #[arg(long)]
    email: String,
    /// Read the password from the first line of standard input instead of asking for it
    #[arg(long)]
    password_stdin: bool,
}

/// Changes or shows accounts.
pub async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Create(options) => create(options).await,
        Command::List(options) => list(options).await,
        Command::Role(options) => set_roles(options).await,
        Command::Password(options) => set_password(options).await,
    }
}

async fn create(options: Create) -> anyhow::Result<()> {
    let desk = open().await?;
    let made = match password::read(options.password_stdin) {
        Ok(password) => {
            let (email, name, roles) = (options.email, options.name, Roles::from(options.roles));
            desk.tracker.make_account(CreateUser { email, name, password, roles }).await.map_err(explain)
        }
        Err(error) => Err(error),
    };
    desk.close().await;
    print(&[made?], options.json, false);
    Ok(())
}

async fn list(options: List) -> anyhow::Result<()> {
    let config = environment::config()?;
    logs::start(config.log_format);
    let db = store::open_as_is(&config).await?;
    let filter = UserFilter { name: options.name };
    let mut found: Vec<User> = Vec::new();
    loop {
        let start = found.last().map_or(Start::Newest, |last| Start::OlderThan(last.id));
        let mut reader = db.reader().await?;
        let page = users::list(&mut reader, &filter, start, PAGE).await?;
        let ends = page.len() < PAGE;
        found.extend(page);
        if ends {
            break;
        }
    }
    db.close().await;
    print(&found, options.json, true);
    Ok(())
}

async fn set_roles(options: SetRole) -> anyhow::Result<()> {
    let desk = open().await?;
    let changed = desk.tracker.give_roles(&options.email, Roles::from(options.roles)).await;
    desk.close().await;
    print(&[changed.map_err(explain)?], options.json, false);
    Ok(())
}

async fn set_password(options: SetPassword) -> anyhow::Result<()> {
    let desk = open().await?;
    let changed = match password::read(options.password_stdin) {
        Ok(password) => desk.tracker.give_password(&options.email, password).await.map_err(explain),
        Err(error) => Err(error),
    };
    desk.close().await;
    let (user, ended) = changed?;
    println!("{} has another password; sessions ended: {ended}", user.email);
    Ok(())
}

async fn open() -> anyhow::Result<Desk> {
    let config = environment::config()?;
    logs::start(config.log_format);
    Desk::open(&config).await
}

/// One account, or a list of them.
fn print(users: &[User], as_json: bool, is_list: bool) {
    match (as_json, users) {
        (true, [user]) if !is_list => println!("{:#}", json!(user)),
        (true, users) => println!("{:#}", json!(users)),
        (false, users) => {
            let rows: Vec<_> = users.iter().map(row).collect();
            print!("{}", table(["HANDLE", "NAME", "E-MAIL", "ROLES", "STATUS", "SINCE", "ID"], &rows));
        }
    }
}

fn row(user: &User) -> [String; 7] {
    let roles = user.roles.to_string();
    let UserId(id) = user.id;
    [
        user.handle.clone(),
        user.name.clone(),
        user.email.clone(),
        if roles.is_empty() { "-".to_owned() } else { roles },
        user.status.to_string(),
        user.created_at.to_rfc3339_opts(SecondsFormat::Secs, true),
        id.to_string(),
    ]
}

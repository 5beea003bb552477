//! `taskpost config`: what is in force, and who said so.

use clap::Args;
use serde_json::{Value, json};
use taskpost_common::config::{Config, Origin, Setting};

use super::table::table;
use crate::environment;

/// How to show it.
#[derive(Debug, Args)]
pub struct Options {
    /// As JSON, for scripts
    #[arg(long)]
    json: bool,
}

/// Prints every variable, with secrets masked.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let config = environment::config()?;
    let mut settings = config.origins.clone();
    settings.sort_by_key(|setting| setting.name);
    if options.json {
        println!("{:#}", Value::Array(settings.iter().map(|setting| value(&config, setting)).collect()));
        return Ok(());
    }
    let row = |setting: &Setting| {
        let (shown, from) = (shown(&config, setting), from(setting.origin));
        [setting.name.to_owned(), if shown.is_empty() { "-".to_owned() } else { shown }, from]
    };
    print!("{}", table(["VARIABLE", "VALUE", "FROM"], &settings.iter().map(row).collect::<Vec<_>>()));
    Ok(())
}

fn value(config: &Config, setting: &Setting) -> Value {
    json!({"name": setting.name, "value": shown(config, setting), "from": from(setting.origin)})
}

fn shown(config: &Config, setting: &Setting) -> String {
    if config.temporary && setting.name == "DATA_DIR" {
        return "a temporary folder, gone at the end (DB_TYPE is memdb)".to_owned();
    }
    setting.value.clone()
}

fn from(origin: Origin) -> String {
    match origin {
        Origin::Default => "default".to_owned(),
        Origin::Environment => "environment".to_owned(),
        Origin::File => ".env".to_owned(),
        Origin::Older(name) => name.to_owned(),
        Origin::Generated => "generated into DATA_DIR".to_owned(),
    }
}

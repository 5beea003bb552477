//! The closed loop: goose's users, each of whom waits for an answer before asking again.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow};
use bytes::Bytes;
use goose::{
    GooseAttack, GooseError,
    config::GooseConfiguration,
    goose::{
        GooseMethod, GooseRequest, GooseUser, Scenario, Transaction, TransactionError, TransactionFunction,
        TransactionResult,
    },
};
use reqwest::{RequestBuilder, header::HeaderMap};
use tokio::time::{sleep, timeout};

use crate::{
    expected::{Expected, Verdict},
    record::Recorder,
    run::Context,
    target::{Account, PATIENCE, reason},
};

/// The longest pause of a user who was told to come again later.
const PAUSE: Duration = Duration::from_secs(1);
/// How long goose may take beyond its time, to end its users and to write its report.
const ENDING: Duration = Duration::from_mins(2);

/// What every user of a scenario does, again and again.
pub trait Step: Send + Sync + 'static {
    /// Does it once. An error ends this turn only.
    fn step(&self, user: &mut GooseUser) -> impl Future<Output = TransactionResult> + Send;
}

/// An answer that is as it should be.
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

/// Lets so many users do it for as long as a scenario runs. Goose's own report is written beside ours.
pub async fn run(context: &Context, name: &str, users: u16, step: impl Step) -> Result<()> {
    let step = Arc::new(step);
    let function: TransactionFunction = Arc::new(move |user| {
        let step = Arc::clone(&step);
        Box::pin(async move { step.step(user).await })
    });
    let scenario = Scenario::new(name).register_transaction(Transaction::new(function).set_name(name));
    let report = context.options.folder.join(format!("goose-{name}.html"));
    let goose = |error: GooseError| anyhow!("goose: {error}");
    let attack =
        GooseAttack::initialize_with_config(configuration(context, users, &report)).map_err(goose)?;
    let limit = Duration::from_secs(context.options.seconds.into()) + ENDING;
    let attack = Box::pin(attack.register_scenario(scenario).execute());
    timeout(limit, attack).await.context("goose does not come to an end")?.map_err(goose)?;
    Ok(())
}

/// Goose without its controllers and its own output.
fn configuration(context: &Context, users: u16, report: &Path) -> GooseConfiguration {
    let users = usize::from(users);
    let mut goose = GooseConfiguration::default();
    goose.host = Some(context.target.base.clone());
    goose.users = Some(users);
    // All of them within a tenth of a second.
    goose.increase_rate = Some((users * 10).to_string());
    goose.run_time = Some(context.options.seconds.to_string());
    goose.timeout = Some(PATIENCE.as_secs().to_string());
    goose.report_file = vec![report.display().to_string()];
    goose.quiet = 2;
    goose.no_print_metrics = true;
    goose.no_reset_metrics = true;
    goose.no_telnet = true;
    goose.no_gzip = true;
    goose
}

/// Sends a request and takes its answer down. None when the answer is not a good one; then the turn is over.
pub async fn ask(
    user: &mut GooseUser,
    recorder: &Recorder,
    name: &str,
    request: RequestBuilder,
    expected: Expected,
) -> Result<Option<Answer>, Box<TransactionError>> {
    let request = GooseRequest::builder().name(name).set_request_builder(request).build();
    let began = Instant::now();
    let mut asked = user.request(request).await?;
    let response = match asked.response {
        Ok(response) => response,
        Err(error) => {
            recorder.failed(&reason(&error));
            return Ok(None);
        }
    };
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let body = match response.bytes().await {
        Ok(body) => body,
        Err(error) => {
            recorder.failed(&reason(&error));
            return Ok(None);
        }
    };
    match expected.judge(status, &headers) {
        Verdict::Good => {
            recorder.good(status, began);
            return Ok(Some(Answer { status, headers, body }));
        }
        Verdict::Refused(after) => {
            recorder.refused(status);
            // Goose would show it as an error.
            user.set_success(&mut asked.request)?;
            sleep(Duration::from_secs(after).min(PAUSE)).await;
        }
        Verdict::Unexpected => recorder.unexpected(status),
    }
    Ok(None)
}

/// A user's POST, not sent yet.
pub fn post(
    user: &GooseUser,
    account: &Account,
    path: &str,
) -> Result<RequestBuilder, Box<TransactionError>> {
    Ok(user.get_request_builder(&GooseMethod::Post, path)?.bearer_auth(&account.token))
}

/// A user's GET, not sent yet.
pub fn get(user: &GooseUser, account: &Account, path: &str) -> Result<RequestBuilder, Box<TransactionError>> {
    Ok(user.get_request_builder(&GooseMethod::Get, path)?.bearer_auth(&account.token))
}

/// The account of a user: there are fewer accounts than users, and each has about as many.
pub fn account<'a>(accounts: &'a [Account], user: &GooseUser) -> Result<&'a Account, Box<TransactionError>> {
    let place = user.weighted_users_index.checked_rem(accounts.len());
    let account = place.and_then(|place| accounts.get(place));
    account.ok_or_else(|| Box::new(TransactionError::Custom("there is no account".to_owned())))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use clap::Parser as _;

    use super::*;
    use crate::{options::Options, receiver::Receiver, row::Loop, target::Target};

    struct Knock(Arc<Recorder>);

    impl Step for Knock {
        async fn step(&self, user: &mut GooseUser) -> TransactionResult {
            let request = user.get_request_builder(&GooseMethod::Post, "/")?.body("{}");
            ask(user, &self.0, "POST /", request, Expected::of(&[204])).await?;
            Ok(())
        }
    }

    #[tokio::test]
    async fn goose_asks_until_the_time_is_over_and_writes_its_report() {
        let folder = std::env::temp_dir().join(format!("taskpost-loadtest-goose-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let receiver = Receiver::start(|_| {}).await.unwrap();
        let url = receiver.url();
        let options = Options::parse_from(["loadtest", "--seconds", "1", "--host", &url]);
        let options = Options { folder: folder.clone(), ..options };
        let target = Target::new(&options.host).unwrap();
        let recorder = Recorder::new().unwrap();

        run(&Context::new(options, target), "knock", 2, Knock(Arc::clone(&recorder))).await.unwrap();

        let report = fs::read_to_string(folder.join("goose-knock.html")).unwrap();
        fs::remove_dir_all(&folder).unwrap();
        assert!(report.contains("POST /"));
        let row = recorder.row("knock", Loop::Closed);
        assert!(row.is_fine(), "{:?}", row.problems);
        assert!(row.elapsed >= Duration::from_millis(500), "{:?}", row.elapsed);
    }
}

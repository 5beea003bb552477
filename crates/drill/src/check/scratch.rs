use super::*;
use crate::{
    history::Mark,
    load::{Load, Pressure},
    stack::Options,
    watch::Watch,
};
use sqlx::{AssertSqlSafe, Connection as _};
use std::{sync::Arc, time::Duration};

async fn execute(stack: &Stack, sql: &str) {
    let n = match stack.setup {
        Setup::Embedded => {
            let file = std::fs::read_dir(stack.api().folder())
                .unwrap()
                .map(|e| e.unwrap().path())
                .find(|p| p.extension().is_some_and(|e| e == "db" || e == "sqlite" || e == "sqlite3"))
                .expect("a file");
            let mut c =
                sqlx::SqliteConnection::connect(&format!("sqlite://{}", file.display())).await.unwrap();
            sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut c).await.unwrap().rows_affected()
        }
        Setup::Full => {
            let beside = stack.api().beside();
            let url: url::Url = beside.variable("DATABASE_URL").unwrap().parse().unwrap();
            let schema = url.query_pairs().find(|(n, _)| n == "schema").unwrap().1.into_owned();
            let mut server = url.clone();
            server.set_query(None);
            let mut c = sqlx::PgConnection::connect(server.as_str()).await.unwrap();
            sqlx::raw_sql(AssertSqlSafe(format!("SET search_path TO {schema}")))
                .execute(&mut c)
                .await
                .unwrap();
            sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut c).await.unwrap().rows_affected()
        }
    };
    println!("--- {sql}: {n} rows");
}

async fn corrupt(setup: Setup) {
    let mut options = Options::default();
    options.variables.insert("RETRY_DELAYS", "50ms,100ms".to_owned());
    let stack = Stack::start(setup, &options).await;
    let dir = std::env::temp_dir().join(format!("h4-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let history = Arc::new(History::begin(&dir.join(setup.name())).unwrap());
    let watch = Watch::start(&stack, history.began());
    let load = Load::start(&stack, &history, 7, Pressure::default());
    load.wait_for(150).await;
    load.stop().await;
    history.mark(Mark::Healed);
    stack.api().drain_within(Duration::from_secs(60)).await;
    watch.weigh(&stack);
    println!("memory {:?}", watch.seen().memory);
    let mut known: Vec<String> = Vec::new();
    let steps: Vec<(&str, &str)> = vec![
        ("", ""),
        ("I1", "UPDATE tasks SET version = 5 WHERE id = (SELECT min(CAST(id AS TEXT)) FROM tasks)"),
    ];
    let _ = steps;
    let pick = |n: i64| {
        if setup == Setup::Full {
            format!("(SELECT id FROM tasks ORDER BY id LIMIT 1 OFFSET {n})")
        } else {
            format!("(SELECT id FROM tasks ORDER BY id LIMIT 1 OFFSET {n})")
        }
    };
    let new = if setup == Setup::Full { "gen_random_uuid()" } else { "randomblob(16)" };
    let delivery = |channel: &str, n: i64| {
        format!("(SELECT id FROM deliveries WHERE channel = '{channel}' ORDER BY id LIMIT 1 OFFSET {n})")
    };
    let far = if setup == Setup::Full { "now() + interval '1 day'" } else { "'2099-01-01T00:00:00.000000Z'" };
    let columns = "key,project_id,category_id,task_type,title,description,status,status_category,priority,resolution,assignee_id,reporter_id,labels,due_at,comment_count,version,created_at,updated_at,completed_at";
    let steps = [
        String::new(),
        format!("UPDATE tasks SET version = 5 WHERE id = {}", pick(3)),
        format!("DELETE FROM tasks WHERE id = {}", pick(5)),
        format!("INSERT INTO tasks (id,{columns}) SELECT {new},{columns} FROM tasks WHERE id = {}", pick(8)),
        format!("UPDATE tasks SET title = 'ghost' WHERE id = {}", pick(11)),
        format!(
            "UPDATE events SET aggregate_version = 9 WHERE type = 'task.created' AND aggregate_id = (SELECT aggregate_id FROM events WHERE type = 'task.status_changed' ORDER BY position LIMIT 1)"
        ),
        format!("DELETE FROM events WHERE position = (SELECT max(position) - 7 FROM events)"),
        format!(
            "DELETE FROM notifications WHERE id = (SELECT id FROM notifications ORDER BY id LIMIT 1 OFFSET 20)"
        ),
        format!("DELETE FROM deliveries WHERE id = {}", delivery("email", 20)),
        format!("DELETE FROM deliveries WHERE id = {}", delivery("webhook", 20)),
        format!(
            "UPDATE decisions SET outcome = 'suppressed' WHERE event_id = (SELECT event_id FROM decisions WHERE channel = 'email' AND outcome = 'sent' ORDER BY event_id LIMIT 1)"
        ),
        format!(
            "UPDATE deliveries SET state = 'retrying', finished_at = NULL, due_at = {far} WHERE id = {}",
            delivery("email", 30)
        ),
        format!("UPDATE deliveries SET state = 'dead' WHERE id = {}", delivery("webhook", 30)),
        format!("UPDATE deliveries SET state = 'cancelled' WHERE id = {}", delivery("webhook", 40)),
        format!(
            "INSERT INTO attempts (id, delivery_id, number, outcome, started_at, duration_ms) SELECT {new}, delivery_id, 2, outcome, started_at, 1 FROM attempts WHERE id = (SELECT id FROM attempts ORDER BY id LIMIT 1 OFFSET 50)"
        ),
        format!(
            "INSERT INTO dead_letters (id,source,handler,reason,fingerprint,attempts,payload,state,created_at) SELECT {new}, 'log','notifier','made up','x','{{}}','{{}}','dead', created_at FROM deliveries LIMIT 1"
        ),
        format!("UPDATE group_progress SET position = position - 1 WHERE group_name = 'webhooks'"),
        "mail".to_owned(),
        "request".to_owned(),
        if setup == Setup::Full {
            "INSERT INTO outbox (id,type,aggregate_id,aggregate_version,correlation_id,at,data) SELECT id,type,aggregate_id,aggregate_version,correlation_id,at,'{' FROM events WHERE type = 'user.logged_in' LIMIT 0".to_owned()
        } else {
            String::new()
        },
        if setup == Setup::Full { "kafka".to_owned() } else { String::new() },
    ];
    for step in steps {
        match &*step {
            "" => println!("--- nothing"),
            "mail" => {
                println!("--- a mail is gone, another has another Message-ID as well");
                let mut mails: Vec<_> = std::fs::read_dir(stack.api().folder().join("mail"))
                    .unwrap()
                    .map(|e| e.unwrap().path())
                    .collect();
                mails.sort();
                std::fs::remove_file(&mails[40]).unwrap();
                let text =
                    std::fs::read_to_string(&mails[41]).unwrap().replace("Message-ID: <", "Message-ID: <ff");
                std::fs::write(mails[41].with_file_name("zz.eml"), text).unwrap();
            }
            "request" => {
                println!("--- a webhook comes under another id");
                let one = stack.sink.received()[10].clone();
                let sent = reqwest::Client::new()
                    .post(stack.sink.url("/hook"))
                    .header("webhook-id", "0000-1")
                    .body(one.body)
                    .send()
                    .await
                    .unwrap();
                println!("{}", sent.status());
            }
            "kafka" => {
                println!("--- a record is behind, and nonsense");
                use rdkafka::producer::{FutureProducer, FutureRecord};
                let producer: FutureProducer = rdkafka::ClientConfig::new()
                    .set("bootstrap.servers", taskpost_testkit::Part::Kafka.url())
                    .create()
                    .unwrap();
                let topic = format!("{}.work", stack.api().instance());
                let event = stack.sink.received()[0].body.clone();
                let at = event.find("\"position\":").unwrap();
                let end = event[at..].find(',').unwrap() + at;
                let lie = format!("{}\"position\":2{}", &event[..at], &event[end..]);
                for partition in 0..2 {
                    producer
                        .send(
                            FutureRecord::<[u8], _>::to(&topic).partition(partition).payload(&lie),
                            Duration::from_secs(5),
                        )
                        .await
                        .unwrap();
                }
                producer
                    .send(
                        FutureRecord::<[u8], _>::to(&topic).partition(1).payload("nonsense"),
                        Duration::from_secs(5),
                    )
                    .await
                    .unwrap();
                tokio::time::sleep(Duration::from_secs(3)).await;
            }
            sql => execute(&stack, sql).await,
        }
        let began = std::time::Instant::now();
        let scene =
            Scene { stack: &stack, history: &history, seen: &watch.seen(), expect: Expect::default() };
        let found = all(&scene).await;
        let violations: Vec<_> = found.violations.iter().filter(|v| !known.contains(v)).cloned().collect();
        println!(
            "lost {} doubled {} inversions {} late {} repeats {} ({:?})",
            found.lost,
            found.doubled,
            found.inversions,
            found.late,
            found.repeats,
            began.elapsed()
        );
        for violation in &violations {
            println!("    {violation}");
        }
        known = found.violations;
    }
    std::fs::remove_dir_all(&dir).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn scratch_embedded() {
    Box::pin(corrupt(Setup::Embedded)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn scratch_full() {
    Box::pin(corrupt(Setup::Full)).await;
}

use std::sync::Arc;
use rdkafka::{ClientConfig, admin::{AdminClient, AdminOptions}, client::DefaultClientContext};
use crate::support::{Echo, Stage, brokers};

async fn sorted(stage: &Stage) -> Vec<String> { let mut a = Echo::answered(stage).await; a.sort_unstable(); a }

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topic_deleted_while_running() {
    tracing_subscriber::fmt().with_env_filter(tracing_subscriber::EnvFilter::from_default_env()).with_writer(std::io::stderr).init();
    let stage = Stage::kafka().await;
    let ann = stage.member("ann").await;
    let echo = Arc::new(Echo::new(&stage));
    let running = stage.start(&echo, 2);
    let mut titles = vec![];
    for n in 0..30 { titles.push(format!("a{n:03}")); stage.task(&titles[titles.len()-1], ann, None).await; }
    stage.until_caught_up::<Echo>().await;
    for round in 0..2 {
        let admin: AdminClient<DefaultClientContext> = ClientConfig::new().set("bootstrap.servers", brokers()).create().unwrap();
        let t = format!("{}.work", stage.name);
        println!("{:?}", admin.delete_topics(&[&t], &AdminOptions::new()).await);
        let begun = std::time::Instant::now();
        for n in 0..200 { titles.push(format!("b{round}{n:03}")); stage.task(&titles[titles.len()-1], ann, None).await; }
        loop {
            if stage.caught_up("echo").await { break; }
            if begun.elapsed().as_secs() > 100 { break; }
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
        println!("round {round}: {:?} {:?}", begun.elapsed(), taskpost_store::progress::places(&mut stage.reader().await, "echo").await.unwrap());
        assert_eq!(sorted(&stage).await, { let mut t = titles.clone(); t.sort(); t });
    }
    running.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kafka_killed_under_load() {
    let stage = Stage::kafka().await;
    let ann = stage.member("ann").await;
    let echo = Arc::new(Echo::new(&stage));
    let running = stage.start(&echo, 2);
    let mut titles = vec![];
    for round in 0..3 {
        for n in 0..200 {
            if n == 100 {
                let pid = std::fs::read_to_string("/tmp/k9k/kafka.pid").unwrap();
                std::process::Command::new("kill").args(["-9", pid.trim()]).status().unwrap();
                std::process::Command::new("/tmp/k9k/up.sh").status().unwrap();
            }
            titles.push(format!("b{round}{n:03}")); stage.task(&titles[titles.len()-1], ann, None).await;
        }
        let begun = std::time::Instant::now();
        while !stage.caught_up("echo").await {
            assert!(begun.elapsed().as_secs() < 60);
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
        println!("round {round}: {:?}", begun.elapsed());
        assert_eq!(sorted(&stage).await, { let mut t = titles.clone(); t.sort(); t });
    }
    running.end().await;
}

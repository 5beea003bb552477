//! There is no room left: where Postgres has its tables, for RabbitMQ, and in the data folder of the embedded product.

use std::{
    fs::{self, OpenOptions},
    io::{ErrorKind, Write as _},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use taskpost_testkit::Server;

use super::services::{
    evidence::{Evidence, healed},
    shared,
};
use crate::{
    case::{Arena, Case},
    history::Mark,
    services::{Service, variable},
    stack::{Role, Setup},
};

const FULL: Duration = Duration::from_secs(8);
/// How often tasks are read while none can be written.
const READS: usize = 20;
/// What must be acknowledged after there is room again, and before anything is started anew.
const AFTER: usize = 50;
/// The disk of the embedded product: its log alone takes some of it.
const SIZE: &str = "size=48m";
const BALLAST: &str = "ballast";
/// The part of /health that knows whether new tasks are stored.
const TAKES_TASKS: &str = "committer";

/// All of them.
pub fn cases() -> [Case; 3] {
    [
        shared("disk full: postgres".to_owned(), Box::new(|arena| Box::pin(postgres(arena)))),
        shared("disk full: rabbitmq".to_owned(), Box::new(|arena| Box::pin(rabbitmq(arena)))),
        Case {
            setup: Setup::Embedded,
            apart: true,
            ..shared("disk full: data folder".to_owned(), Box::new(|arena| Box::pin(embedded(arena))))
        },
    ]
}

/// The tables of this instance are moved to a small disk and back, as the disk that they share is not ours to fill.
async fn postgres(arena: &Arena) -> Result<(), String> {
    let service = Service::Postgres;
    service.try_tell(&["disk", "small"]).await?;
    let drilled = async {
        move_tables(arena, "small").await;
        let mut evidence = Evidence::of_part(arena, TAKES_TASKS);
        let full = async {
            told(service, "full").await;
            evidence.watch_for(FULL).await;
            read(arena).await;
        };
        healed(full, told(service, "free")).await;
        normal(arena).await;
        evidence.end()
    };
    let cleared = async {
        move_tables(arena, "pg_default").await;
        told(service, "normal").await;
    };
    let noticed = Box::pin(healed(drilled, cleared)).await;
    if !noticed.unserved.is_empty() && noticed.ill.is_some() {
        noticed.mark(arena, "postgres: no room for tables, but tasks could be read");
    }
    Ok(())
}

/// Its alarm holds back whoever publishes.
async fn rabbitmq(arena: &Arena) -> Result<(), String> {
    let service = Service::Rabbitmq;
    let mut evidence = Evidence::of(arena, service);
    service.try_tell(&["disk", "full"]).await?;
    let before = arena.history.acknowledged();
    healed(evidence.watch_for(FULL), told(service, "free")).await;
    let meanwhile = arena.history.acknowledged() - before;
    let noticed = evidence.end();
    assert_eq!(noticed.unserved.len(), 0, "requests wait for RabbitMQ: {noticed:?}");
    if meanwhile > 0 && noticed.ill.is_some() {
        noticed.mark(arena, &format!("rabbitmq: no room, but {meanwhile} operations were acknowledged"));
    }
    Ok(())
}

/// The data folder becomes a small disk, which is filled.
async fn embedded(arena: &Arena) -> Result<(), String> {
    let (server, name) = (arena.stack.server(Role::Api), arena.stack.name(Role::Api));
    let disk = Disk::of(server);
    arena.history.mark(Mark::Down(name));
    server.terminate().await;
    let mounted = disk.mount();
    server.restart().await;
    arena.history.mark(Mark::Up(name));
    mounted?;
    let drilled = async {
        arena.load.wait_for_more(AFTER).await;
        let mut evidence = Evidence::of_part(arena, TAKES_TASKS);
        let full = async {
            disk.fill();
            evidence.watch_for(FULL).await;
            read(arena).await;
        };
        healed(full, async { disk.empty() }).await;
        normal(arena).await;
        evidence.end()
    };
    let cleared = async {
        arena.history.mark(Mark::Down(name));
        if server.ended().is_none() {
            server.terminate().await;
        }
        disk.unmount();
        server.restart().await;
        arena.history.mark(Mark::Up(name));
    };
    let noticed = Box::pin(healed(drilled, cleared)).await;
    if !noticed.unserved.is_empty() && noticed.ill.is_some() {
        noticed.mark(arena, "no room in the data folder, but tasks could be read");
    }
    Ok(())
}

/// What is there can be read.
async fn read(arena: &Arena) {
    for _ in 0..READS {
        arena.stack.api().get("/v1/tasks").as_(&arena.stack.ada).expect(200).await;
    }
}

/// Everything is well again by itself.
async fn normal(arena: &Arena) {
    arena.load.wait_for_more(AFTER).await;
    arena.stack.well().await;
}

async fn told(service: Service, what: &'static str) {
    let told = service.try_tell(&["disk", what]).await;
    assert_eq!(told, Ok(()), "services disk {what} {}", service.name());
}

/// Moves each table and index of this instance for itself, as the load holds locks on several.
async fn move_tables(arena: &Arena, tablespace: &str) {
    const SQL: &str = "
        SELECT format('%I.%I', nspname, relname), 0::bigint
        FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
        WHERE nspname = current_schema() AND relkind IN ('r', 'i')";
    let url = variable("TASKPOST_TEST_POSTGRES_URL");
    let mut connection = PgConnection::connect(&url).await.expect("Postgres is there");
    for (name, _) in arena.stack.rows(SQL).await {
        let sql = format!("ALTER TABLE {name} SET TABLESPACE {tablespace}");
        let moved = sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await;
        assert!(moved.is_ok(), "{name} to {tablespace}: {moved:?}");
    }
}

/// A small disk in the place of a data folder, whose own things stand aside meanwhile.
struct Disk {
    folder: PathBuf,
    aside: PathBuf,
}

impl Disk {
    fn of(server: &Server) -> Self {
        let folder = server.folder().to_owned();
        Self { aside: folder.with_extension("aside"), folder }
    }

    /// While no process uses the folder.
    fn mount(&self) -> Result<(), String> {
        fs::rename(&self.folder, &self.aside).expect("the data folder can be moved");
        fs::create_dir(&self.folder).expect("a folder");
        let mounted = run(Command::new("mount").args(["-t", "tmpfs", "-o", SIZE, "drill"]).arg(&self.folder));
        if let Err(why) = mounted {
            fs::remove_dir(&self.folder).expect("it is empty");
            fs::rename(&self.aside, &self.folder).expect("the data folder can be moved");
            return Err(format!("it needs root to mount a tmpfs: {why}"));
        }
        copy(&self.aside, &self.folder);
        Ok(())
    }

    fn unmount(&self) {
        copy(&self.folder, &self.aside);
        run(Command::new("umount").arg(&self.folder)).expect("it can be unmounted");
        fs::remove_dir(&self.folder).expect("it is empty");
        fs::rename(&self.aside, &self.folder).expect("the data folder can be moved");
    }

    fn fill(&self) {
        let file = OpenOptions::new().append(true).create(true).open(self.folder.join(BALLAST));
        let (mut file, block) = (file.expect("a file"), vec![0; 1 << 12]);
        loop {
            match file.write(&block) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => return,
                Err(error) => panic!("the disk cannot be filled: {error}"),
            }
        }
    }

    fn empty(&self) {
        fs::remove_file(self.folder.join(BALLAST)).expect("the ballast can be removed");
    }
}

/// Makes `to` what `from` is.
fn copy(from: &Path, to: &Path) {
    let removed = Command::new("find").arg(to).args(["-mindepth", "1", "-delete"]).status();
    assert!(removed.is_ok_and(|status| status.success()), "{} cannot be emptied", to.display());
    run(Command::new("cp").arg("-a").arg(from.join(".")).arg(to)).expect("it can be copied");
}

fn run(command: &mut Command) -> Result<(), String> {
    let ran = command.output().map_err(|error| error.to_string())?;
    if ran.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&ran.stderr).trim().to_owned()) }
}

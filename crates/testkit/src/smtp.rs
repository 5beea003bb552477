//! A mail server: it speaks enough SMTP, records what comes and answers as a script says.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use tokio::{
    io::{self, AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{Mail, PATIENCE, Port};

/// How the server treats one mail.
#[derive(Clone, Debug)]
pub struct SmtpAnswer {
    way: Way,
    after: Duration,
}

#[derive(Clone, Debug)]
enum Way {
    Take,
    /// A reply to MAIL, to RCPT, or to the mail itself.
    Sender(String),
    Recipient(String),
    Content(String),
    /// The connection is reset when the whole mail has come, before any word on it.
    Drop,
    /// The whole mail has come, and nothing is said.
    Hang,
}

impl SmtpAnswer {
    /// Takes it.
    pub fn take() -> Self {
        Self::of(Way::Take)
    }

    /// Answers the sender like this, `550 5.7.1 no` say.
    pub fn sender(reply: &str) -> Self {
        Self::of(Way::Sender(reply.to_owned()))
    }

    /// Answers the recipient like this.
    pub fn recipient(reply: &str) -> Self {
        Self::of(Way::Recipient(reply.to_owned()))
    }

    /// Answers the mail like this.
    pub fn content(reply: &str) -> Self {
        Self::of(Way::Content(reply.to_owned()))
    }

    /// Resets the connection when the mail has come, so that nobody knows whether it was taken.
    pub fn drop() -> Self {
        Self::of(Way::Drop)
    }

    /// Says nothing when the mail has come, until the client gives up.
    pub fn hang() -> Self {
        Self::of(Way::Hang)
    }

    /// Only after so long.
    #[must_use]
    pub fn after(self, after: Duration) -> Self {
        Self { after, ..self }
    }

    fn of(way: Way) -> Self {
        Self { way, after: Duration::ZERO }
    }
}

/// A mail as it came over the wire.
#[derive(Clone, Debug)]
pub struct SmtpMail {
    /// The argument of MAIL FROM.
    pub from: String,
    /// The argument of each RCPT TO.
    pub to: Vec<String>,
    /// What stood between DATA and the dot.
    pub mail: Mail,
    /// Whether the server said that it took it.
    pub taken: bool,
    /// On which connection it came, from 1.
    pub connection: usize,
}

/// A mail server on a free port of this machine. Ends when it is dropped.
#[derive(Debug)]
pub struct SmtpSink {
    address: SocketAddr,
    shared: Arc<Shared>,
    hang_up: mpsc::Sender<oneshot::Sender<()>>,
    _server: JoinSet<()>,
}

#[derive(Debug)]
struct Shared {
    received: watch::Sender<Vec<SmtpMail>>,
    script: Mutex<Script>,
}

#[derive(Debug)]
struct Script {
    next: VecDeque<SmtpAnswer>,
    otherwise: SmtpAnswer,
    login: Option<Login>,
    connections: usize,
    commands: Vec<String>,
}

#[derive(Clone, Debug)]
struct Login {
    mechanisms: String,
    user: String,
    password: String,
}

impl SmtpSink {
    /// Starts one that takes everything from everybody.
    pub async fn start() -> Self {
        Self::listen(TcpListener::bind("127.0.0.1:0").await.expect("a free port"))
    }

    /// As [`SmtpSink::start`], at a port that was taken before.
    pub fn start_at(port: Port) -> Self {
        Self::listen(port.listen())
    }

    fn listen(listener: TcpListener) -> Self {
        let address = listener.local_addr().expect("an address");
        let script = Script {
            next: VecDeque::new(),
            otherwise: SmtpAnswer::take(),
            login: None,
            connections: 0,
            commands: Vec::new(),
        };
        let shared =
            Arc::new(Shared { received: watch::Sender::new(Vec::new()), script: Mutex::new(script) });
        let mut server = JoinSet::new();
        let (hang_up, asked) = mpsc::channel(1);
        server.spawn(accept(listener, Arc::clone(&shared), asked));
        Self { address, shared, hang_up, _server: server }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What `SMTP_URL` has to be.
    pub fn url(&self) -> String {
        format!("smtp://{}", self.address)
    }

    /// From now on only somebody who logs in may send; `mechanisms` is `PLAIN LOGIN` or less.
    pub fn require_login(&self, mechanisms: &str, user: &str, password: &str) {
        let [mechanisms, user, password] = [mechanisms, user, password].map(str::to_owned);
        self.shared.script().login = Some(Login { mechanisms, user, password });
    }

    /// Closes every connection, as servers do when nothing comes for a while.
    pub async fn hang_up(&self) {
        let (done, closed) = oneshot::channel();
        self.hang_up.send(done).await.expect("the server runs");
        closed.await.expect("the server runs");
    }

    /// The next mails are treated like this, one after the other.
    pub fn script(&self, answers: impl IntoIterator<Item = SmtpAnswer>) {
        self.shared.script().next.extend(answers);
    }

    /// From now on every mail beyond the script is treated like this.
    pub fn always(&self, answer: SmtpAnswer) {
        self.shared.script().otherwise = answer;
    }

    /// Every mail that came whole, taken or not.
    pub fn received(&self) -> Vec<SmtpMail> {
        self.shared.received.borrow().clone()
    }

    /// How many connections there were.
    pub fn connections(&self) -> usize {
        self.shared.script().connections
    }

    /// Every command, without what is in a mail.
    pub fn commands(&self) -> Vec<String> {
        self.shared.script().commands.clone()
    }

    /// Waits until so many mails have come whole, and gives all there are.
    pub async fn wait_for(&self, count: usize) -> Vec<SmtpMail> {
        let mut watched = self.shared.received.subscribe();
        let came = timeout(PATIENCE, watched.wait_for(|received| received.len() >= count)).await.is_ok();
        assert!(came, "{count} mails were expected, {} came", self.received().len());
        self.received()
    }
}

impl Shared {
    fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn accept(
    listener: TcpListener,
    shared: Arc<Shared>,
    mut hang_up: mpsc::Receiver<oneshot::Sender<()>>,
) {
    let mut connections = JoinSet::new();
    loop {
        let stream = tokio::select! {
            Ok((stream, _)) = listener.accept() => stream,
            Some(done) = hang_up.recv() => {
                connections.shutdown().await;
                // Whoever asked may have gone.
                let _ = done.send(());
                continue;
            }
            else => return,
        };
        let number = {
            let mut script = shared.script();
            script.connections += 1;
            script.connections
        };
        let talk = Talk { stream: BufReader::new(stream), shared: Arc::clone(&shared), number };
        connections.spawn(async move {
            // A client may go away at any time.
            let _ = talk.run().await;
        });
    }
}

/// One connection.
struct Talk {
    stream: BufReader<TcpStream>,
    shared: Arc<Shared>,
    number: usize,
}

/// A mail of which not everything has come.
struct Coming {
    from: String,
    to: Vec<String>,
    answer: SmtpAnswer,
}

impl Talk {
    async fn run(mut self) -> io::Result<()> {
        self.say("220 sink ESMTP").await?;
        let mut logged_in = false;
        let mut coming: Option<Coming> = None;
        while let Some(line) = self.line().await? {
            self.shared.script().commands.push(line.clone());
            let (verb, rest) = line.split_once(' ').unwrap_or((&line, ""));
            let login = self.shared.script().login.clone();
            match verb.to_ascii_uppercase().as_str() {
                "EHLO" => self.greet(login.as_ref()).await?,
                "AUTH" => logged_in = self.log_in(rest, login.as_ref()).await?,
                "NOOP" => self.say("250 2.0.0 fine").await?,
                "RSET" => {
                    coming = None;
                    self.say("250 2.0.0 forgotten").await?;
                }
                "QUIT" => return self.say("221 2.0.0 bye").await,
                "MAIL" if login.is_some() && !logged_in => {
                    self.say("530 5.7.0 log in first").await?;
                }
                "MAIL" if coming.is_none() => coming = self.sender(rest).await?,
                "RCPT" if coming.is_some() => self.recipient(rest, coming.as_mut()).await?,
                "DATA" => match coming.take() {
                    Some(mail) if !mail.to.is_empty() => self.data(mail).await?,
                    _ => self.say("503 5.5.1 no recipient").await?,
                },
                _ => self.say("503 5.5.1 not now").await?,
            }
        }
        Ok(())
    }

    async fn greet(&mut self, login: Option<&Login>) -> io::Result<()> {
        if let Some(login) = login {
            self.say(&format!("250-AUTH {}", login.mechanisms)).await?;
        }
        self.say("250-8BITMIME").await?;
        self.say("250 SIZE 1000000").await
    }

    async fn log_in(&mut self, rest: &str, login: Option<&Login>) -> io::Result<bool> {
        let Some(login) = login else {
            self.say("503 5.5.1 no logins here").await?;
            return Ok(false);
        };
        let given = match rest.split_once(' ') {
            Some(("PLAIN", said)) => {
                let said = decode(said);
                let mut parts = said.split('\0').skip(1).map(str::to_owned);
                (parts.next().unwrap_or_default(), parts.next().unwrap_or_default())
            }
            _ => (self.ask("Username:").await?, self.ask("Password:").await?),
        };
        let good = given == (login.user.clone(), login.password.clone());
        let answer = if good { "235 2.7.0 welcome" } else { "535 5.7.8 bad credentials" };
        self.say(answer).await?;
        Ok(good)
    }

    async fn ask(&mut self, what: &str) -> io::Result<String> {
        self.say(&format!("334 {}", STANDARD.encode(what))).await?;
        Ok(decode(&self.line().await?.unwrap_or_default()))
    }

    async fn sender(&mut self, rest: &str) -> io::Result<Option<Coming>> {
        let answer = {
            let mut script = self.shared.script();
            script.next.pop_front().unwrap_or_else(|| script.otherwise.clone())
        };
        if let Way::Sender(reply) = &answer.way {
            self.say(reply).await?;
            return Ok(None);
        }
        self.say("250 2.1.0 sender fine").await?;
        Ok(Some(Coming { from: argument(rest), to: Vec::new(), answer }))
    }

    async fn recipient(&mut self, rest: &str, coming: Option<&mut Coming>) -> io::Result<()> {
        let Some(coming) = coming else { return Ok(()) };
        if let Way::Recipient(reply) = &coming.answer.way {
            let reply = reply.clone();
            return self.say(&reply).await;
        }
        coming.to.push(argument(rest));
        self.say("250 2.1.5 recipient fine").await
    }

    async fn data(&mut self, coming: Coming) -> io::Result<()> {
        let Coming { from, to, answer } = coming;
        self.say("354 go ahead").await?;
        let mut source = String::new();
        while let Some(line) = self.line().await? {
            if line == "." {
                break;
            }
            source.push_str(line.strip_prefix('.').unwrap_or(&line));
            source.push_str("\r\n");
        }
        sleep(answer.after).await;
        let taken = matches!(answer.way, Way::Take);
        let mail = Mail::parse(source, "");
        let mail = SmtpMail { from, to, mail, taken, connection: self.number };
        self.shared.received.send_modify(|all| all.push(mail));
        match answer.way {
            Way::Content(reply) => self.say(&reply).await,
            Way::Drop => {
                self.stream.get_ref().set_zero_linger()?;
                Err(io::ErrorKind::ConnectionReset.into())
            }
            Way::Hang => self.stream.read_u8().await.map(drop),
            _ => self.say("250 2.0.0 queued as 4F1").await,
        }
    }

    async fn line(&mut self) -> io::Result<Option<String>> {
        let mut line = String::new();
        if self.stream.read_line(&mut line).await? == 0 {
            return Ok(None);
        }
        // Only a whole CRLF ends a line; what is left shows in the record.
        Ok(Some(line.strip_suffix("\r\n").unwrap_or(&line).to_owned()))
    }

    async fn say(&mut self, line: &str) -> io::Result<()> {
        self.stream.write_all(format!("{line}\r\n").as_bytes()).await?;
        self.stream.flush().await
    }
}

/// `FROM:<a@b> BODY=8BITMIME` to `a@b`.
fn argument(rest: &str) -> String {
    rest.split_once('<')
        .and_then(|(_, rest)| rest.split_once('>'))
        .map_or(rest, |(inner, _)| inner)
        .to_owned()
}

fn decode(base64: &str) -> String {
    STANDARD.decode(base64).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

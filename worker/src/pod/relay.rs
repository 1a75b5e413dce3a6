//! [io] The member port: gives engines to the job's coordinator. The other end is [`crate::supervise::link`].
//!
//! One connection is one engine, and the end of either is the end of both. Engines here belong to one coordinator: one
//! with a higher assignment, or a later life with the same, displaces what the earlier one has here. The data listener
//! is this pod's own; it is passed to an engine with its start line.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rheos_control_api::Failure;
use rheos_control_api::limits::MEMBERS_LIMIT;
use rheos_dataflow::error::ErrorKind;
use tokio::io::{AsyncBufRead, AsyncWrite, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::time::timeout;

use crate::engine::wire::{Command, Job, LINE_LIMIT, Report, Start};
use crate::pod::facts::Facts;
use crate::results::Results;
use crate::supervise::link::{ANSWER_DEADLINE, Answer, HELLO_LIMIT, Hello, Up, hear, say, watch_over};
use crate::supervise::process::{Engine, Notice};

/// Connections at a time, those that have not introduced themselves among them.
const CONNECTIONS_LIMIT: usize = 32;
/// Engines at a time: one that runs, its standby, and as many that are being displaced.
const ENGINES_LIMIT: usize = 4;
/// A killed engine may take this long to be gone.
const CLEAR_DEADLINE: Duration = Duration::from_secs(10);

// A job line names no members, a start line names all of them.
const _: () = assert!(MEMBERS_LIMIT * 64 < LINE_LIMIT);

/// What the pod must know of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A coordinator elsewhere works by this assignment, higher than any before.
    Coordinator(u64),
    /// An engine came or went.
    Changed,
    /// An engine that has gone was refused by a store: what this container was started with is of no use.
    Denied(String),
}

/// The member port. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Relay {
    facts: Arc<Facts>,
    state: Arc<Mutex<State>>,
    events: mpsc::UnboundedSender<Event>,
    results: Results,
}

#[derive(Debug, Default)]
struct State {
    /// Assignment and session of whom the engines here belong to.
    coordinator: (u64, u64),
    leaving: bool,
    next: u64,
    links: BTreeMap<u64, Arc<Link>>,
}

/// An engine for somebody elsewhere.
#[derive(Debug, Default)]
struct Link {
    end: Notify,
    leave: Notify,
    started: std::sync::atomic::AtomicBool,
    /// Why a store refused it.
    denied: std::sync::OnceLock<String>,
}

/// A link in the list of all.
struct Listed {
    relay: Relay,
    number: u64,
    link: Arc<Link>,
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.relay.state().links.remove(&self.number);
        let _ = self.relay.events.send(Event::Changed);
    }
}

impl Relay {
    /// Of a pod; [`Relay::serve`] must be called. Events are few: connections, and each only once it has the token.
    pub fn new(facts: Arc<Facts>, results: Results) -> (Self, mpsc::UnboundedReceiver<Event>) {
        let (events, receiver) = mpsc::unbounded_channel();
        (Self { facts, state: Arc::default(), events, results }, receiver)
    }

    /// Accepts connections for ever.
    pub async fn serve(self, listener: TcpListener) {
        let room = Arc::new(Semaphore::new(CONNECTIONS_LIMIT));
        loop {
            // Above the limit, callers wait in the listener's queue.
            let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, from)) => {
                    let relay = self.clone();
                    tokio::spawn(async move {
                        if let Err(error) = relay.connection(stream).await {
                            tracing::debug!(%error, %from, "a connection to the member port ended");
                        }
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "the member port cannot accept");
                    tokio::time::sleep(ANSWER_DEADLINE).await;
                }
            }
        }
    }

    /// This pod coordinates by this assignment: engines for others end.
    ///
    /// # Errors
    /// It has heard of a higher one.
    pub fn claim(&self, assignment: u64) -> Result<(), u64> {
        self.state().belong(assignment, self.facts.session)?;
        self.results.lead_elsewhere(None);
        Ok(())
    }

    /// Engines here for coordinators elsewhere.
    pub fn engines(&self) -> usize {
        self.state().links.len()
    }

    /// Tells coordinators that this pod goes, and gives no more engines.
    pub fn leave(&self) {
        let mut state = self.state();
        state.leaving = true;
        state.links.values().for_each(|link| link.leave.notify_one());
    }

    /// Ends all engines here.
    pub fn end(&self) {
        self.state().links.values().for_each(|link| link.end.notify_one());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn connection(self, stream: TcpStream) -> std::io::Result<()> {
        watch_over(&stream)?;
        let mut stream = BufReader::new(stream);
        let hello = match timeout(ANSWER_DEADLINE, hear::<Hello>(&mut stream, HELLO_LIMIT)).await {
            Ok(Ok(Some(hello))) => hello,
            // Whoever cannot introduce itself is told nothing.
            _ => return Ok(()),
        };
        let listed = match self.admit(&hello) {
            Ok(listed) => listed,
            Err(answer) => return say(&mut stream, &answer).await,
        };
        let job = match timeout(ANSWER_DEADLINE, hear::<Job>(&mut stream, LINE_LIMIT)).await {
            Ok(job) => job?,
            Err(_) => return Err(std::io::ErrorKind::TimedOut.into()),
        };
        let Some(job) = job else { return Ok(()) };
        let (sender, notices) = mpsc::unbounded_channel();
        let engine = match Engine::spawn(&self.facts.program, &job, &self.facts.listener, 0, sender) {
            Ok(engine) => engine,
            Err(error) => return say(&mut stream, &Answer::Refused(format!("no engine can be started: {error}"))).await,
        };
        tracing::info!(coordinator = hello.pod, assignment = hello.assignment, pid = engine.pid, "an engine for a coordinator");
        let hosted = host(stream, engine, notices, &listed.link).await;
        if let Some(message) = listed.link.denied.get() {
            let _ = self.events.send(Event::Denied(message.clone()));
        }
        hosted
    }

    fn admit(&self, hello: &Hello) -> Result<Listed, Answer> {
        if !self.facts.token.matches(&hello.token) {
            tracing::warn!("somebody called the member port with a wrong token");
            return Err(Answer::Refused("the token is not this job's".to_owned()));
        }
        if hello.job != self.facts.uid {
            return Err(Answer::Refused("this pod belongs to another job".to_owned()));
        }
        let mut state = self.state();
        if state.leaving {
            return Err(Answer::Leaving);
        }
        match state.belong(hello.assignment, hello.session) {
            Ok(true) => drop(self.events.send(Event::Coordinator(hello.assignment))),
            Ok(false) => {}
            Err(newer) => return Err(Answer::Replaced(newer)),
        }
        self.results.lead_elsewhere(hello.admin);
        if state.links.len() >= ENGINES_LIMIT {
            return Err(Answer::Refused(format!("{ENGINES_LIMIT} engines are here already")));
        }
        let (number, link) = (state.next, Arc::<Link>::default());
        state.next += 1;
        state.links.insert(number, Arc::clone(&link));
        Ok(Listed { relay: self.clone(), number, link })
    }
}

impl State {
    /// From now on engines here belong to this coordinator; others are displaced. True: its assignment is higher than
    /// any before.
    ///
    /// # Errors
    /// A higher assignment is known.
    fn belong(&mut self, assignment: u64, session: u64) -> Result<bool, u64> {
        let (known, owner) = self.coordinator;
        if assignment < known {
            return Err(known);
        }
        if session != owner {
            self.links.values().for_each(|link| link.end.notify_one());
        }
        self.coordinator = (assignment, session);
        Ok(assignment > known)
    }
}

/// Passes lines on, both ways, until the engine is gone.
async fn host(stream: BufReader<TcpStream>, engine: Engine, notices: mpsc::UnboundedReceiver<Notice>, link: &Link) -> std::io::Result<()> {
    let (read, write) = tokio::io::split(stream);
    let mut telling = std::pin::pin!(tell(write, notices, link, &engine));
    let obeying = obey(BufReader::new(read), &engine, link);
    let obeyed = tokio::select! {
        told = &mut telling => return told,
        obeyed = obeying => obeyed,
        () = link.end.notified() => Ok(()),
    };
    engine.kill();
    let told = timeout(CLEAR_DEADLINE, telling).await.unwrap_or(Ok(()));
    obeyed.and(told)
}

/// Passes the coordinator's lines on until it closes the connection.
async fn obey(mut read: impl AsyncBufRead + Unpin, engine: &Engine, link: &Link) -> std::io::Result<()> {
    let Some(start) = hear::<Start>(&mut read, LINE_LIMIT).await? else { return Ok(()) };
    link.started.store(true, std::sync::atomic::Ordering::Relaxed);
    engine.start(&start)?;
    while let Some(command) = hear::<Command>(&mut read, LINE_LIMIT).await? {
        engine.send(&command);
    }
    Ok(())
}

/// Passes on what the engine says, and its end. Returns when it is gone.
async fn tell(
    mut write: impl AsyncWrite + Unpin,
    mut notices: mpsc::UnboundedReceiver<Notice>,
    link: &Link,
    engine: &Engine,
) -> std::io::Result<()> {
    let mut told = say(&mut write, &Answer::Engine { pid: engine.pid.unwrap_or_default() }).await;
    loop {
        let up = tokio::select! {
            notice = notices.recv() => match notice {
                Some(Notice::Report(_, report)) => {
                    if let Report::Failed { kind, place, message, .. } = &report
                        && *kind == ErrorKind::Denied.to_string()
                    {
                        let failure = Failure { kind: kind.clone(), place: place.clone(), message: message.clone() };
                        let _ = link.denied.set(failure.to_string());
                    }
                    Up::Report(report)
                }
                Some(Notice::Exited(_, how)) => {
                    if told.is_ok() {
                        told = say(&mut write, &Up::Answer(Answer::Exited(how))).await;
                    }
                    return told;
                }
                Some(_) => continue,
                None => return told,
            },
            () = link.leave.notified() => {
                if !link.started.load(std::sync::atomic::Ordering::Relaxed) {
                    // Nothing that anybody would miss: the connection just ends, as at a pod that is gone.
                    told = Err(std::io::ErrorKind::ConnectionAborted.into());
                    engine.kill();
                }
                Up::Answer(Answer::Leaving)
            }
        };
        if told.is_ok() {
            told = say(&mut write, &up).await;
            if told.is_err() {
                // Nobody is there to hear it.
                engine.kill();
            }
        }
    }
}

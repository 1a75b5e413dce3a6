//! [io] Clients: made of a table's properties, with their errors in our words.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rheos_dataflow::error::{DataflowError, ErrorKind, Result};

use super::config::Properties;
use super::quiet::Quiet;
use crate::secret::Secrets;

/// A question to the brokers is given up after this long.
pub(super) const TIMEOUT: Duration = Duration::from_secs(30);
/// So long a commit waits for brokers that are away before the job goes back to its checkpoint. A transaction that was
/// open then is at its end: it lasts 5 minutes unless told, and is begun anew from what is staged.
pub(super) const ABSENCE: Duration = Duration::from_secs(240);
/// Within a question, how often to hear what the client has to say meanwhile.
pub(super) const SLICE: Duration = Duration::from_secs(1);
/// How long to wait for something that the client has to say.
pub(super) const HEAR: Duration = Duration::from_millis(20);

/// Sends the client's own lines to the log, and keeps the last thing that it said of its connections: a question that
/// fails tells only that nobody answered. Its errors come with the calls as well, so they are warnings here.
#[derive(Debug, Default, Clone)]
pub(super) struct Context {
    said: Arc<Mutex<Option<(Code, String)>>>,
}

impl Context {
    /// Why the brokers will have nothing to do with this client, once that is known: no later try can succeed.
    pub(super) fn refusal(&self) -> Option<DataflowError> {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let (code, reason) = said.as_ref()?;
        match code {
            Code::Authentication | Code::SaslAuthenticationFailed | Code::UnsupportedSASLMechanism => {
                Some(DataflowError::new("kafka", ErrorKind::Denied, format!("{reason}; check 'properties.sasl.*'")))
            }
            Code::SSL if reason.contains("certificate verify failed") => {
                let hint = "check 'properties.ssl.ca.location' or 'properties.ssl.ca.pem', and that the brokers' certificate has the names of 'properties.bootstrap.servers'";
                Some(DataflowError::new("kafka", ErrorKind::Denied, format!("{reason}; {hint}")))
            }
            _ => None,
        }
    }

    /// Puts a question to the brokers until it is answered, `limit` is over or they refuse. `ask` takes the time that it
    /// may last, and may be asked again; `hear` takes what the client has to say.
    pub(super) fn patiently<T>(
        &self,
        doing: &str,
        limit: Duration,
        mut ask: impl FnMut(Duration) -> std::result::Result<T, KafkaError>,
        hear: impl Fn(),
    ) -> Result<T> {
        let since = Instant::now();
        loop {
            let error = match ask(SLICE) {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            hear();
            if let Some(refusal) = self.refusal() {
                return Err(DataflowError::new("kafka", refusal.kind, format!("{doing}: {}", refusal.message)));
            }
            let failed = failed(doing, &error);
            if failed.kind != ErrorKind::Transient || !is_silence(&error) || since.elapsed() >= limit {
                return Err(self.explained(failed));
            }
        }
    }

    /// Puts what the client said last behind an error that only tells that nobody answered.
    pub(super) fn explained(&self, mut error: DataflowError) -> DataflowError {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if error.kind == ErrorKind::Transient {
            let hint = "are 'properties.bootstrap.servers' right, and 'properties.security.protocol' what they speak there?";
            let said = said.as_ref().map_or_else(|| hint.to_owned(), |(_, reason)| format!("the client says: {reason}"));
            error.message = format!("{}; {said}", error.message);
        }
        error
    }
}

/// Whether an error says that nobody has answered yet.
fn is_silence(error: &KafkaError) -> bool {
    let silent =
        [Code::OperationTimedOut, Code::RequestTimedOut, Code::BrokerTransportFailure, Code::AllBrokersDown, Code::WaitingForCoordinator];
    code(error).is_some_and(|code| silent.contains(&code)) || matches!(error, KafkaError::Transaction(inner) if inner.is_retriable())
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        // No error: a bounded table asks for it.
        if code(&error) == Some(Code::PartitionEOF) {
            return;
        }
        match QUIET.ask(&error.to_string()) {
            Some(more) => tracing::warn!(%error, reason, more, "kafka client"),
            None => tracing::debug!(%error, reason, "kafka client"),
        }
        // That all are down follows from what was said of each.
        if let Some(code) = code(&error).filter(|code| *code != Code::AllBrokersDown) {
            *self.said.lock().unwrap_or_else(PoisonError::into_inner) = Some((code, reason.to_owned()));
        }
    }
}

impl ConsumerContext for Context {}

/// One line of the client's log.
pub(super) fn log(level: RDKafkaLogLevel, facility: &str, message: &str) {
    // That a consumer leaves out what is for producers is known.
    let matters = facility != "CONFWARN" && (level as i32) <= RDKafkaLogLevel::Warning as i32;
    match matters.then(|| QUIET.ask(facility)).flatten() {
        Some(more) => tracing::warn!(facility, message, more, "kafka client"),
        None => tracing::debug!(facility, message, "kafka client"),
    }
}

/// Of this process: brokers that are away are told by each of its clients, and again with every try.
static QUIET: Quiet = Quiet::new();

/// The client's configuration, with Secrets in it: not to be shown.
pub(super) fn config(properties: &Properties, secrets: &Secrets) -> Result<ClientConfig> {
    let mut config = ClientConfig::new();
    config.set("client.id", "rheos");
    for (name, value) in &properties.0 {
        config.set(name, secrets.resolve(value)?);
    }
    Ok(config)
}

/// What went wrong while `doing` something.
pub(super) fn failed(doing: &str, error: &KafkaError) -> DataflowError {
    let (kind, hint) = match code(error) {
        Some(Code::UnknownTopic | Code::UnknownTopicOrPartition) => (ErrorKind::User, "; create the topic, or correct 'topic'"),
        Some(
            Code::TopicAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::TransactionalIdAuthorizationFailed
            | Code::ClusterAuthorizationFailed,
        ) => (ErrorKind::Denied, "; give the job's user the right to it on the brokers"),
        Some(Code::Authentication | Code::SaslAuthenticationFailed | Code::UnsupportedSASLMechanism) => {
            (ErrorKind::Denied, "; check 'properties.sasl.*' and 'properties.security.protocol'")
        }
        Some(Code::AutoOffsetReset | Code::OffsetOutOfRange) => (ErrorKind::State, ""),
        Some(Code::MessageSizeTooLarge) => (ErrorKind::User, "; raise 'properties.message.max.bytes' and the topic's max.message.bytes"),
        Some(Code::InvalidTransactionTimeout) => {
            (ErrorKind::User, "; lower 'properties.transaction.timeout.ms' to what the brokers allow (transaction.max.timeout.ms)")
        }
        _ if matches!(error, KafkaError::ClientConfig(..) | KafkaError::ClientCreation(_)) => (ErrorKind::User, "; check 'properties.*'"),
        _ => (ErrorKind::Transient, ""),
    };
    // Of a bad configuration the library shows the value, which may be secret.
    let shown = match error {
        KafkaError::ClientConfig(_, _, name, _) => format!("option 'properties.{name}' is not one of the client's, or not with this value"),
        other => other.to_string(),
    };
    DataflowError::new("kafka", kind, format!("{doing}: {shown}{hint}"))
}

/// The client's code of an error, if it has one.
pub(super) fn code(error: &KafkaError) -> Option<Code> {
    match error {
        KafkaError::Transaction(inner) => Some(inner.code()),
        other => other.rdkafka_error_code(),
    }
}

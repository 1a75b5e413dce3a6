//! [io] Clients: made of a table's properties, with their errors in our words.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rheos_dataflow::error::{DataflowError, ErrorKind, Result};

use super::config::Properties;
use crate::secret::Secrets;

/// A question to the brokers is given up after this long.
pub(super) const TIMEOUT: Duration = Duration::from_secs(30);

/// Sends the client's own lines to the log. Its errors come with the calls as well, so they are warnings here.
pub(super) struct Context;

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        // No error: a bounded table asks for it.
        if code(&error) == Some(Code::PartitionEOF) {
            return;
        }
        tracing::warn!(%error, reason, "kafka client");
    }
}

impl ConsumerContext for Context {}

/// One line of the client's log.
pub(super) fn log(level: RDKafkaLogLevel, facility: &str, message: &str) {
    // That a consumer leaves out what is for producers is known.
    if facility != "CONFWARN" && (level as i32) <= RDKafkaLogLevel::Warning as i32 {
        tracing::warn!(facility, message, "kafka client");
    } else {
        tracing::debug!(facility, message, "kafka client");
    }
}

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

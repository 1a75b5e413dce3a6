//! [pure] The bounds and CEL rules of the definitions: what [`crate::validate`] checks, said to the apiserver.
//!
//! One table of cases (`tests/cases.yaml`) runs through both. Texts are bounded so that the apiserver's estimate of what
//! a rule can cost stays small. Regular expressions keep to what RE2 and the crate `regex` read alike. A text that may
//! hold a secret has CEL rules only: the apiserver prints the value that misses a `pattern`.

use std::time::Duration;

use super::schema::{Field, Schema};
use crate::names::{JOB_NAME_LIMIT, SUBDOMAIN_LIMIT};
use crate::uri::URI_LIMIT;
use crate::validate::{
    HISTORY_LIMIT, MAX_PARALLELISM_LIMIT, MIN_CHECKPOINT_INTERVAL, MIN_SAVEPOINT_PERIOD, MIN_UPGRADE_DEADLINE, RESOURCES_LIMIT,
    RESTARTS_LIMIT, RETAIN_LIMIT, SLOTS_LIMIT, SQL_LIMIT, TEXT_LIMIT,
};
use crate::{cron, duration, quantity};

/// Most conditions of a status.
const CONDITIONS_LIMIT: usize = 16;
const LABEL: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";
const SUBDOMAIN: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";
/// The form of [`duration::DurationText`]; the rule on the value refuses the empty text.
pub(super) const DURATION: &str = "^([0-9]{1,11}d)?([0-9]{1,11}h)?([0-9]{1,11}m)?([0-9]{1,11}s)?([0-9]{1,11}ms)?$";

/// A CEL expression for the milliseconds of a duration's text. Every unit stands at most once, with so few digits that
/// nothing overflows; a unit that is not there counts as 0.
pub(super) fn millis(text: &str) -> String {
    const { assert!(duration::DIGITS_LIMIT == 11) };
    let unit = |form: &str, scale: u64| format!("int('0' + {text}.find('[0-9]+{form}').find('[0-9]+')) * {scale}");
    let units = [unit("d", 86_400_000), unit("h", 3_600_000), unit("m([^s]|$)", 60_000), unit("s", 1_000), unit("ms", 1)];
    format!("({})", units.join(" + "))
}

/// Everything about a StreamJob.
pub(super) fn stream_job(schema: &mut Schema<'_>) {
    schema
        .at("")
        .rule(
            format!("self.metadata.name.size() <= {JOB_NAME_LIMIT}"),
            format!("the name of a job has at most {JOB_NAME_LIMIT} characters"),
        )
        .rule("!self.metadata.name.contains('.')", "the name of a job has no dots");
    schema
        .at("spec")
        .rule("has(self.sql) != has(self.sqlFrom)", "set one of sql and sqlFrom")
        .rule("self.parallelism <= self.maxParallelism", "parallelism is at most maxParallelism")
        .rule(
            "!has(self.autoscaling) || self.autoscaling.maxParallelism <= self.maxParallelism",
            "autoscaling.maxParallelism is at most maxParallelism",
        );
    schema
        .at("spec.sql")
        .longest(SQL_LIMIT)
        .rule(r"self.matches('[^\\p{Z}\\p{Cc}]')", "the SQL script is empty")
        .rule(r"!self.contains('\u0000')", "the SQL script holds a NUL character")
        .rule(format!("bytes(self).size() <= {SQL_LIMIT}"), format!("the SQL script has at most {SQL_LIMIT} bytes"));
    subdomain(schema.at("spec.sqlFrom.configMapKeyRef.name"));
    schema.at("spec.sqlFrom.configMapKeyRef.key").longest(SUBDOMAIN_LIMIT).pattern("^[-._a-zA-Z0-9]+$");
    schema.at("spec.parallelism").range(1, MAX_PARALLELISM_LIMIT);
    schema.at("spec.maxParallelism").range(1, MAX_PARALLELISM_LIMIT).rule("self == oldSelf", "maxParallelism never changes");
    checkpoint(schema);
    schema.at("spec.upgrade.deadline").duration(MIN_UPGRADE_DEADLINE);
    schema.at("spec.upgrade.maxCheckpointAge").duration(Duration::from_secs(1));
    schema.at("spec.restore.nonce").at_least(0);
    schema.at("spec.restore.from").rule("has(self.savepoint) != has(self.uri)", "set one of savepoint and uri");
    subdomain(schema.at("spec.restore.from.savepoint"));
    storage_uri(schema.at("spec.restore.from.uri"));
    schema.at("spec.restart.maxRestarts").range(0, RESTARTS_LIMIT);
    schema.at("spec.restart.window").duration(Duration::from_secs(1));
    let (max, initial) = (millis("self.max"), millis("self.initial"));
    schema.at("spec.restart.backoff").rule(format!("{max} >= {initial}"), "max is at least initial");
    schema.at("spec.restart.backoff.initial").duration(Duration::from_millis(1));
    schema.at("spec.restart.backoff.max").duration(Duration::from_millis(1));
    schema.at("spec.replication.replicas").range(1, 2);
    schema.at("spec.autoscaling").rule("self.minParallelism <= self.maxParallelism", "minParallelism is at most maxParallelism");
    schema.at("spec.autoscaling.minParallelism").range(1, MAX_PARALLELISM_LIMIT);
    schema.at("spec.autoscaling.maxParallelism").range(1, MAX_PARALLELISM_LIMIT);
    schema.at("spec.autoscaling.targetUtilizationPercent").range(10, 95);
    schema.at("spec.savepoints").rule("!(has(self.every) && has(self.cron))", "set at most one of every and cron");
    schema.at("spec.savepoints.every").duration(MIN_SAVEPOINT_PERIOD);
    schema.at("spec.savepoints.cron").longest(cron::CRON_LIMIT).rule(
        format!("self.matches('{}')", cron::pattern()),
        "write minute, hour, day of month, month and day of week, for example 0 3 * * MON-FRI",
    );
    schema.at("spec.savepoints.historyLimit").range(1, HISTORY_LIMIT);
    schema.at("spec.savepoints.maxAge").duration(MIN_SAVEPOINT_PERIOD);
    schema.at("spec.ttlAfterFinished").duration(Duration::ZERO);
    schema.at("spec.worker.image").longest(TEXT_LIMIT).pattern("^[!-~]+$");
    schema.at("spec.worker.slots").range(1, SLOTS_LIMIT);
    for kind in ["requests", "limits"] {
        schema.at(&format!("spec.worker.resources.{kind}")).most(RESOURCES_LIMIT);
        schema.at(&format!("spec.worker.resources.{kind}.*")).at_least(0).pattern(quantity::PATTERN);
    }
    schema.at("status.conditions").most(CONDITIONS_LIMIT).keyed_by("type");
}

fn checkpoint(schema: &mut Schema<'_>) {
    let (timeout, interval) = (millis("self.timeout"), millis("self.interval"));
    schema.at("spec.checkpoint").rule(format!("{timeout} >= {interval}"), "timeout is at least interval");
    schema.at("spec.checkpoint.interval").duration(MIN_CHECKPOINT_INTERVAL);
    schema.at("spec.checkpoint.timeout").duration(MIN_CHECKPOINT_INTERVAL);
    schema.at("spec.checkpoint.retain").range(1, RETAIN_LIMIT);
    let storage = "spec.checkpoint.storage";
    schema.at(storage).rule("!(has(self.endpoint) && self.uri.startsWith('file:'))", "an endpoint means nothing for file://");
    storage_uri(schema.at(&format!("{storage}.uri")));
    uri(schema.at(&format!("{storage}.endpoint"))).rule(
        "self.matches('^https?://([a-zA-Z0-9._-]+|\\\\[[0-9a-fA-F:.]+\\\\])(:([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]))?(/.*)?$')",
        "write https://host:port",
    );
    schema.at(&format!("{storage}.region")).longest(TEXT_LIMIT).pattern("^[a-zA-Z0-9-]+$");
    subdomain(schema.at(&format!("{storage}.credentialsSecretRef.name")));
}

/// Everything about a Savepoint.
pub(super) fn savepoint(schema: &mut Schema<'_>) {
    schema.at("spec.job").longest(JOB_NAME_LIMIT).pattern(LABEL).rule("self == oldSelf", "job never changes");
}

fn subdomain(mut field: Field<'_>) {
    field.longest(SUBDOMAIN_LIMIT).pattern(SUBDOMAIN);
}

fn storage_uri(field: Field<'_>) {
    uri(field).rule(
        "self.matches('^s3://[a-z0-9]([a-z0-9.-]*[a-z0-9])?(/.*)?$') || self.matches('^file:///.+$')",
        "write s3://bucket/prefix or file:///absolute/path",
    );
}

fn uri(mut field: Field<'_>) -> Field<'_> {
    field
        .longest(URI_LIMIT)
        .rule(r"!self.matches('[\\p{Z}\\p{Cc}\\x5c]')", "a URI holds no spaces, backslashes or control characters")
        .rule("!self.matches('^[^/]*//[^/]*@')", "a URI holds no credentials: remove user:password@ and use credentialsSecretRef")
        .rule("!self.matches('[?#]')", "a URI has no query and no fragment here")
        .rule("!self.matches('/[.][.]?(/|$)') && !self.matches('%2[eE]')", "a URI walks through no . or ..");
    field
}

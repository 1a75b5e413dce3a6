//! [pure] Options and columns of `kafka` tables.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef, TimeUnit};
use rdkafka::ClientConfig;
use regex::Regex;
use rheos_dataflow::graph::{METADATA_KEY, SinkSpec, SourceSpec};
use rheos_dataflow::sink::Delivery;

use super::commit::{Expired, MarkerLife};
use crate::format::message::MessageFormat;
use crate::options::{Options, Problems};

/// New partitions are looked for this often, unless told.
const DEFAULT_DISCOVERY: Duration = Duration::from_secs(5 * 60);
/// How long the brokers remember a marker at least, unless told: their default is 7 days.
const DEFAULT_MARKER_LIFE: Duration = Duration::from_secs(6 * 24 * 3600);
/// Options of Flink's Java client that nothing here needs.
const JAVA_ONLY: [&str; 6] =
    ["key.deserializer", "value.deserializer", "key.serializer", "value.serializer", "sasl.jaas.config", "auto.offset.reset"];

/// What a table's messages come from.
#[derive(Debug, Clone)]
pub(crate) enum Topics {
    /// These.
    Named(Vec<String>),
    /// All whose names match.
    Matching(Regex),
}

/// A place in a partition, by the table's options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// The oldest message.
    Earliest,
    /// Behind the newest.
    Latest,
    /// What the group has committed; the place to take when it has not.
    Group(Option<Box<Place>>),
    /// The first message that is not older, ms since 1970.
    Timestamp(i64),
    /// By partition.
    Offsets(BTreeMap<i32, i64>),
}

/// What the client knows of a message besides its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Metadata {
    Topic,
    Partition,
    Offset,
    Timestamp,
    Key,
    Headers,
}

const METADATA: [(&str, Metadata); 6] = [
    ("topic", Metadata::Topic),
    ("partition", Metadata::Partition),
    ("offset", Metadata::Offset),
    ("timestamp", Metadata::Timestamp),
    ("key", Metadata::Key),
    ("headers", Metadata::Headers),
];

/// How to reach the brokers: librdkafka's properties, references to Secrets unresolved.
#[derive(Debug, Clone, Default)]
pub(crate) struct Properties(pub(crate) BTreeMap<String, String>);

impl Properties {
    fn parse(options: &mut Options<'_>) -> Self {
        options.required("properties.bootstrap.servers", "localhost:9092");
        let mut properties: BTreeMap<String, String> = BTreeMap::new();
        for (name, value) in options.prefixed("properties.") {
            if name == "sasl.jaas.config" {
                match jaas(value) {
                    Some((user, password)) => {
                        properties.insert("sasl.username".to_owned(), user);
                        properties.insert("sasl.password".to_owned(), password);
                    }
                    None => options.problem(
                        "option 'properties.sasl.jaas.config': expected … username=\"…\" password=\"…\"; other log-ins are not supported",
                    ),
                }
            }
            if !JAVA_ONLY.contains(&name) {
                properties.insert(name.to_owned(), value.to_owned());
            }
        }
        // The client's own list of properties and their forms; nothing is connected. The value may be secret: not shown.
        for (name, value) in &properties {
            if !value.contains("${") && ClientConfig::new().set(name, value).create_native_config().is_err() {
                options.problem(format!("option 'properties.{name}': the client has no such property, or not with this value"));
            }
        }
        Self(properties)
    }
}

/// User and password of a Java client's log-in line.
fn jaas(text: &str) -> Option<(String, String)> {
    let value = |name: &str| {
        let (_, rest) = text.split_once(&format!("{name}=\""))?;
        Some(rest.split_once('"')?.0.to_owned())
    };
    Some((value("username")?, value("password")?))
}

/// A table that is read.
#[derive(Debug, Clone)]
pub struct SourceConfig {
    pub(crate) topics: Topics,
    pub(crate) properties: Properties,
    pub(crate) group: Option<String>,
    pub(crate) startup: Place,
    pub(crate) bounded: Option<Place>,
    pub(crate) discovery: Option<Duration>,
    pub(crate) format: MessageFormat,
    /// Columns of the messages' values: all, and the wanted ones.
    pub(crate) declared: SchemaRef,
    pub(crate) wanted: SchemaRef,
    /// The columns to give: of the value by their place in `wanted`, or metadata.
    pub(crate) output: SchemaRef,
    pub(crate) columns: Vec<Column>,
}

/// Where a column that is given comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Column {
    Value(usize),
    Metadata(Metadata),
}

impl SourceConfig {
    /// Reads the options of a table.
    pub fn parse(spec: &SourceSpec) -> Result<Self, Problems> {
        let mut options = Options::new(&spec.table, &spec.options);
        let topics = topics(&mut options);
        let properties = Properties::parse(&mut options);
        let group = properties.0.get("group.id").cloned();
        let startup = startup(&mut options, group.is_some());
        let bounded = bounded(&mut options, group.is_some());
        let interval = options.duration("scan.topic-partition-discovery.interval").unwrap_or(DEFAULT_DISCOVERY);
        let declared = values(&spec.declared);
        let format = MessageFormat::parse(&mut options, &["value.format", "format"], &declared);
        options.unsupported(&["key.format", "key.fields", "key.fields-prefix"]);
        options.without_effect(&["value.fields-include", "scan.parallelism"]);
        if [&startup, bounded.as_ref().unwrap_or(&startup)].iter().any(|place| matches!(place, Place::Offsets(_)))
            && !matches!(&topics, Topics::Named(names) if names.len() == 1)
        {
            options.problem("offsets by partition are for a table of one topic");
        }
        let (mut columns, mut wanted) = (Vec::new(), Vec::new());
        for field in spec.physical.fields() {
            columns.push(match metadata(&mut options, field) {
                Some(metadata) => Column::Metadata(metadata),
                None => {
                    wanted.push(FieldRef::clone(field));
                    Column::Value(wanted.len() - 1)
                }
            });
        }
        options.finish()?;
        let format = format.ok_or_else(Problems::new)?;
        let output = spec.physical.fields().iter().map(|field| Arc::new(field.as_ref().clone().with_metadata(Default::default())));
        Ok(Self {
            topics,
            properties,
            group,
            startup,
            discovery: (bounded.is_none() && !interval.is_zero()).then_some(interval),
            bounded,
            format,
            declared,
            wanted: Arc::new(Schema::new(wanted)),
            output: Arc::new(Schema::new(output.collect::<Vec<_>>())),
            columns,
        })
    }
}

/// A table that is written.
#[derive(Debug, Clone)]
pub struct SinkConfig {
    pub(crate) topic: String,
    pub(crate) properties: Properties,
    pub(crate) format: MessageFormat,
    pub(crate) key: Option<(MessageFormat, Vec<usize>)>,
    /// Columns of the value; of a change-log the kind column, too, last, unless it is told by `kind`.
    pub(crate) value: Vec<usize>,
    /// `upsert-kafka` of a change-log: the kind column. A row that is gone is a message without a value.
    pub(crate) kind: Option<usize>,
    /// The column that is the message's time.
    pub(crate) timestamp: Option<usize>,
    /// What `sink.delivery-guarantee` says.
    pub(crate) guarantee: Option<Delivery>,
    pub(crate) prefix: String,
    pub(crate) life: MarkerLife,
}

impl SinkConfig {
    /// Reads the options of a table.
    pub fn parse(spec: &SinkSpec) -> Result<Self, Problems> {
        let mut options = Options::new(&spec.table, &spec.options);
        let topic = options.required("topic", "results").unwrap_or_default().to_owned();
        if topic.contains(';') {
            options.bad_value("topic", "one topic for a table that is written");
        }
        let mut properties = Properties::parse(&mut options);
        if properties.0.contains_key("transactional.id") {
            options.problem("option 'properties.transactional.id': each writer has one of its own; what they begin with is 'sink.transactional-id-prefix'");
        }
        let partitioners = [("default", "murmur2_random"), ("round-robin", "random")];
        let partitioner = options.choice("sink.partitioner", &partitioners, "murmur2_random");
        properties.0.entry("partitioner".to_owned()).or_insert_with(|| partitioner.to_owned());
        let (mut columns, mut timestamp) = (Vec::new(), None);
        for (index, field) in spec.schema.fields().iter().enumerate() {
            match metadata(&mut options, field) {
                None => columns.push(index),
                Some(Metadata::Timestamp) => timestamp = Some(index),
                Some(_) => options.problem(format!(
                    "column '{}': only the metadata 'timestamp' can be written; declare the column VIRTUAL to leave it out",
                    field.name()
                )),
            }
        }
        let upsert = spec.options.get("connector").is_some_and(|name| name == "upsert-kafka");
        let key_columns = if upsert { primary_key(&mut options, spec) } else { key_fields(&mut options, spec) };
        let value = if options.choice("value.fields-include", &[("ALL", true), ("EXCEPT_KEY", false)], true) {
            columns
        } else {
            columns.into_iter().filter(|index| !key_columns.contains(index)).collect()
        };
        let format = MessageFormat::parse(&mut options, &["value.format", "format"], &of(&spec.schema, &value));
        format.iter().for_each(|format| format.check_written(&mut options));
        let key = (!key_columns.is_empty()).then(|| {
            let format = MessageFormat::parse(&mut options, &["key.format"], &of(&spec.schema, &key_columns))?;
            if format.carries_changes() {
                options.bad_value("key.format", "'json', 'csv', 'avro' or 'raw'");
            }
            Some((format, key_columns))
        });
        let guarantees = [
            ("exactly-once", Some(Delivery::ExactlyOnce)),
            ("at-least-once", Some(Delivery::AtLeastOnce)),
            ("none", Some(Delivery::AtMostOnce)),
        ];
        let guarantee = options.choice("sink.delivery-guarantee", &guarantees, None);
        let prefix = options.text("sink.transactional-id-prefix").unwrap_or("rheos").to_owned();
        let life = MarkerLife {
            at_least: options.duration("sink.marker-retention").unwrap_or(DEFAULT_MARKER_LIFE),
            expired: options.choice("sink.expired-commits", &[("send", Some(Expired::Send)), ("drop", Some(Expired::Drop))], None),
        };
        if upsert && format.as_ref().is_some_and(MessageFormat::carries_changes) {
            options.bad_value("value.format", "'json', 'csv', 'avro' or 'raw': the key and a missing value tell what changed");
        }
        options.unsupported(&["key.fields-prefix", "sink.buffer-flush.max-rows", "sink.buffer-flush.interval"]);
        options.without_effect(&["sink.parallelism"]);
        options.finish()?;
        let format = format.ok_or_else(Problems::new)?;
        let kind = (spec.changelog && upsert).then(|| spec.schema.fields().len());
        let value = if spec.changelog && !upsert { [value, vec![spec.schema.fields().len()]].concat() } else { value };
        Ok(Self { topic, properties, format, key: key.flatten(), value, kind, timestamp, guarantee, prefix, life })
    }
}

/// The key of `upsert-kafka`.
fn primary_key(options: &mut Options<'_>, spec: &SinkSpec) -> Vec<usize> {
    if spec.primary_key.is_empty() {
        options.problem("the table needs a key: PRIMARY KEY (a, b) NOT ENFORCED");
    }
    if options.text("key.fields").is_some() {
        options.problem("option 'key.fields': the key is the table's PRIMARY KEY; remove the option");
    }
    spec.primary_key.iter().filter_map(|name| spec.schema.index_of(name).ok()).collect()
}

fn key_fields(options: &mut Options<'_>, spec: &SinkSpec) -> Vec<usize> {
    let names = options.text("key.fields").unwrap_or_default();
    let mut columns = Vec::new();
    for name in names.split(';').filter(|name| !name.is_empty()) {
        match spec.schema.index_of(name) {
            Ok(index) => columns.push(index),
            Err(_) => options.bad_value("key.fields", format!("columns of the table; '{name}' is none")),
        }
    }
    if columns.is_empty() && options.text("key.format").is_some() {
        options.problem("option 'key.format' without 'key.fields': name the columns of the key, 'a;b'");
    }
    columns
}

fn of(schema: &Schema, columns: &[usize]) -> Schema {
    Schema::new(columns.iter().map(|index| FieldRef::clone(&schema.fields()[*index])).collect::<Vec<_>>())
}

/// The columns that are in a message's value.
fn values(schema: &Schema) -> SchemaRef {
    let fields = schema.fields().iter().filter(|field| !field.metadata().contains_key(METADATA_KEY));
    Arc::new(Schema::new(fields.cloned().collect::<Vec<_>>()))
}

/// Which metadata a column is, when it is one.
fn metadata(options: &mut Options<'_>, field: &Field) -> Option<Metadata> {
    let name = field.metadata().get(METADATA_KEY)?;
    let Some((_, metadata)) = METADATA.iter().find(|(known, _)| known == name) else {
        let known: Vec<&str> = METADATA.iter().map(|(name, _)| *name).collect();
        options.problem(format!("column '{}': there is no metadata '{name}'; there is {}", field.name(), known.join(", ")));
        return Some(Metadata::Offset);
    };
    let fits = match metadata {
        Metadata::Topic => field.data_type() == &DataType::Utf8,
        Metadata::Partition => field.data_type() == &DataType::Int32,
        Metadata::Offset => field.data_type() == &DataType::Int64,
        Metadata::Timestamp => matches!(field.data_type(), DataType::Timestamp(TimeUnit::Millisecond, _)),
        Metadata::Key => is_text_or_bytes(field.data_type()),
        Metadata::Headers => match field.data_type() {
            DataType::Map(entries, _) => match entries.data_type() {
                DataType::Struct(entry) => entry.get(1).is_some_and(|value| is_text_or_bytes(value.data_type())),
                _ => false,
            },
            _ => false,
        },
    };
    if !fits {
        let types = "topic STRING, partition INT, offset BIGINT, timestamp TIMESTAMP_LTZ(3), key BYTES or STRING, headers MAP<STRING, BYTES> or MAP<STRING, STRING>";
        options.problem(format!("column '{}': metadata has the types {types}", field.name()));
    }
    Some(*metadata)
}

fn is_text_or_bytes(kind: &DataType) -> bool {
    matches!(kind, DataType::Utf8 | DataType::Binary)
}

fn topics(options: &mut Options<'_>) -> Topics {
    let pattern = options.parsed("topic-pattern", "a regular expression", |text| Regex::new(&format!("^(?:{text})$")).ok());
    match pattern {
        Some(pattern) => {
            if options.text("topic").is_some() {
                options.problem("give 'topic' or 'topic-pattern', not both");
            }
            Topics::Matching(pattern)
        }
        None => {
            let text = options.required("topic", "orders").unwrap_or_default();
            Topics::Named(text.split(';').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect())
        }
    }
}

/// What the option for places by partition looks like.
const OFFSETS: &str = "partition:0,offset:42;partition:1,offset:300";

fn startup(options: &mut Options<'_>, has_group: bool) -> Place {
    let resets = [("earliest", Some(Place::Earliest)), ("latest", Some(Place::Latest)), ("none", None)];
    let reset = options.parsed("properties.auto.offset.reset", "'earliest', 'latest' or 'none'", |text| {
        resets.iter().find(|(name, _)| *name == text).map(|(_, place)| place.clone())
    });
    let group = Place::Group(reset.flatten().map(Box::new));
    place(options, "scan.startup", "group-offsets", has_group, group).unwrap_or(Place::Earliest)
}

fn bounded(options: &mut Options<'_>, has_group: bool) -> Option<Place> {
    place(options, "scan.bounded", "unbounded", has_group, Place::Group(None))
}

/// What `<stem>.mode` and its companions say; `None` for `unbounded`.
fn place(options: &mut Options<'_>, stem: &str, default: &str, has_group: bool, group: Place) -> Option<Place> {
    let mode = format!("{stem}.mode");
    let (timestamp, offsets) = (format!("{stem}.timestamp-millis"), format!("{stem}.specific-offsets"));
    let time = options.parsed(&timestamp, "milliseconds since 1970", |text| text.parse().ok().filter(|time| *time >= 0));
    let by_partition = options.parsed(&offsets, OFFSETS, parse_offsets);
    let reads = stem == "scan.startup";
    match options.text(&mode).unwrap_or(default) {
        "earliest-offset" if reads => Some(Place::Earliest),
        "latest-offset" => Some(Place::Latest),
        "group-offsets" => {
            if !has_group {
                options.problem(format!(
                    "'{mode}' = 'group-offsets' needs 'properties.group.id'; or begin with '{mode}' = '{}'",
                    if reads { "earliest-offset" } else { "latest-offset" }
                ));
            }
            Some(group)
        }
        "timestamp" => {
            if time.is_none() {
                options.required(&timestamp, "1730000000000");
            }
            time.map(Place::Timestamp)
        }
        "specific-offsets" => {
            if by_partition.is_none() {
                options.required(&offsets, OFFSETS);
            }
            by_partition.map(Place::Offsets)
        }
        "unbounded" if !reads => None,
        _ => {
            let first = if reads { "'earliest-offset'" } else { "'unbounded'" };
            options.bad_value(&mode, format!("{first}, 'latest-offset', 'group-offsets', 'timestamp' or 'specific-offsets'"));
            None
        }
    }
}

/// `partition:0,offset:42;partition:1,offset:300`
fn parse_offsets(text: &str) -> Option<BTreeMap<i32, i64>> {
    let pair = |pair: &str| {
        let (partition, offset) = pair.split_once(',')?;
        let partition = partition.trim().strip_prefix("partition:")?.parse().ok().filter(|n: &i32| *n >= 0)?;
        let offset = offset.trim().strip_prefix("offset:")?.parse().ok().filter(|n: &i64| *n >= 0)?;
        Some((partition, offset))
    };
    text.split(';').filter(|part| !part.trim().is_empty()).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{schema, sink_spec, source_spec};

    const SERVERS: (&str, &str) = ("properties.bootstrap.servers", "b:1");

    fn source(more: &[(&str, &str)]) -> Result<SourceConfig, String> {
        let given = [&[("connector", "kafka"), SERVERS, ("format", "json")], more].concat();
        let schema = schema(&[("n", "INT")]);
        SourceConfig::parse(&source_spec(&given, &schema, &schema))
            .map_err(|problems| problems.iter().map(|problem| problem.message.clone()).collect::<Vec<_>>().join("\n"))
    }

    #[test]
    fn places_are_read_as_flink_reads_them() {
        let at = |mode: &[(&str, &str)]| source(&[&[("topic", "a")], mode].concat()).map(|config| (config.startup, config.bounded));
        assert_eq!(at(&[("scan.startup.mode", "earliest-offset")]).unwrap(), (Place::Earliest, None));
        let offsets = Place::Offsets(BTreeMap::from([(0, 42), (1, 300)]));
        let specific =
            [("scan.startup.mode", "specific-offsets"), ("scan.startup.specific-offsets", OFFSETS), ("scan.bounded.mode", "latest-offset")];
        assert_eq!(at(&specific).unwrap(), (offsets, Some(Place::Latest)));
        assert_eq!(
            at(&[("properties.group.id", "g"), ("properties.auto.offset.reset", "earliest")]).unwrap().0,
            Place::Group(Some(Box::new(Place::Earliest)))
        );
        assert!(at(&[]).unwrap_err().contains("needs 'properties.group.id'"));
        assert!(at(&[("scan.startup.mode", "timestamp")]).unwrap_err().contains("'scan.startup.timestamp-millis' is missing"));
        assert!(at(&[("scan.startup.mode", "middle")]).unwrap_err().contains("expected 'earliest-offset'"));
    }

    #[test]
    fn properties_are_checked_without_a_broker_and_values_not_shown() {
        let earliest = [("topic", "a"), ("scan.startup.mode", "earliest-offset")];
        let with = |name, value| source(&[&earliest[..], &[(name, value)]].concat());
        assert!(with("properties.no.such.thing", "1").unwrap_err().contains("no such property"));
        let refused = with("properties.security.protocol", "hunter2").unwrap_err();
        assert!(refused.contains("security.protocol") && !refused.contains("hunter2"), "{refused}");
        let jaas = "org.apache.kafka.common.security.plain.PlainLoginModule required username=\"u\" password=\"${secret:k/p}\";";
        let properties = with("properties.sasl.jaas.config", jaas).unwrap().properties.0;
        assert_eq!((properties["sasl.username"].as_str(), properties["sasl.password"].as_str()), ("u", "${secret:k/p}"));
    }

    #[test]
    fn a_sink_knows_its_key_and_value() {
        let given = [
            ("connector", "kafka"),
            SERVERS,
            ("topic", "t"),
            ("format", "json"),
            ("key.format", "raw"),
            ("key.fields", "s"),
            ("value.fields-include", "EXCEPT_KEY"),
        ];
        let config = SinkConfig::parse(&sink_spec(&given, &schema(&[("n", "INT"), ("s", "STRING")]), &[])).unwrap();
        assert_eq!((config.key.map(|(_, columns)| columns), config.value), (Some(vec![1]), vec![0]));
    }
}

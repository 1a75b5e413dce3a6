//! [io] A real Kafka broker as a child process: one node, KRaft, in a folder of its own; topics filled and read beside
//! the worker.

use std::collections::BTreeMap;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use rdkafka::{Offset, TopicPartitionList};

use crate::authority::Authority;

/// How long the broker may take to answer after its start.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How long a question to it may take.
const ANSWER: Duration = Duration::from_secs(30);
/// Names the folder with its libraries.
pub const LIBRARIES: &str = "RHEOS_KAFKA_LIBS";

/// Runs its arguments until its standard input ends, and kills them then: a broker does not outlive its test's process,
/// however that ends.
const KEEPER: &str = r#""$@" & broker=$!; cat; kill -KILL $broker; wait $broker"#;
/// Between two looks at a broker that starts.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// A broker; killed by its process id when dropped.
pub struct Broker {
    child: Option<Child>,
    libraries: PathBuf,
    folder: tempfile::TempDir,
    host: String,
    port: u16,
    /// Of the listener with TLS and log-in, where there is one.
    secured: Option<u16>,
}

/// Who may come in by the listener with TLS, by `PLAIN` or `SCRAM-SHA-512`.
#[derive(Debug)]
pub struct Login<'a> {
    /// Who signed the broker's certificate.
    pub authority: &'a Authority,
    /// The user's name.
    pub user: &'a str,
    /// The user's password.
    pub password: &'a str,
}

/// A message as it was read.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Record {
    /// Its partition.
    pub partition: i32,
    /// Its key, if it has one.
    pub key: Option<String>,
    /// Its value, if it has one.
    pub value: Option<String>,
}

impl Broker {
    /// Starts a broker on a free loopback port, over a new folder.
    ///
    /// # Errors
    /// When it cannot be started, or does not answer in time.
    pub fn start(libraries: &Path) -> Result<Self, String> {
        Self::start_with("127.0.0.1", libraries, None)
    }

    /// Starts a broker at another address of this machine.
    ///
    /// # Errors
    /// As [`Broker::start`].
    pub fn start_at(host: &str, libraries: &Path) -> Result<Self, String> {
        Self::start_with(host, libraries, None)
    }

    /// Starts a broker with a second listener, with TLS and log-in.
    ///
    /// # Errors
    /// As [`Broker::start`].
    pub fn start_secured(libraries: &Path, login: &Login<'_>) -> Result<Self, String> {
        Self::start_with("127.0.0.1", libraries, Some(login))
    }

    fn start_with(host: &str, libraries: &Path, login: Option<&Login<'_>>) -> Result<Self, String> {
        let text = |error: std::io::Error| error.to_string();
        let folder = tempfile::tempdir().map_err(text)?;
        let ports = [free_port(host).map_err(text)?, free_port("127.0.0.1").map_err(text)?];
        let secured = login.map(|login| free_port("127.0.0.1").map(|port| (port, login))).transpose().map_err(text)?;
        let properties = properties(host, ports, &folder.path().join("data"), secured);
        std::fs::write(folder.path().join("server.properties"), properties).map_err(text)?;
        let secured = secured.map(|(port, _)| port);
        let mut broker = Self { child: None, libraries: libraries.to_owned(), folder, host: host.to_owned(), port: ports[0], secured };
        let mut format = broker.java("kafka.tools.StorageTool");
        format.args(["format", "-t", "cmhlb3Mta2Fma2EtdGVzdA", "-c"]).arg(broker.properties());
        if let Some(Login { user, password, .. }) = login {
            format.arg("--add-scram").arg(format!("SCRAM-SHA-512=[name={user},password={password}]"));
        }
        let format = format.output().map_err(text)?;
        if !format.status.success() {
            return Err(format!("formatting: {}{}", String::from_utf8_lossy(&format.stdout), String::from_utf8_lossy(&format.stderr)));
        }
        broker.up()?;
        Ok(broker)
    }

    /// Starts the broker again after [`Broker::kill`], on the same port with the same data.
    ///
    /// # Errors
    /// When it does not answer in time.
    pub fn up(&mut self) -> Result<(), String> {
        let text = |error: std::io::Error| error.to_string();
        let log = std::fs::File::options().create(true).append(true).open(self.log()).map_err(text)?;
        let java = self.java("kafka.Kafka");
        let mut command = Command::new("sh");
        command.args(["-c", KEEPER, "keeper"]).arg(java.get_program()).args(java.get_args()).arg(self.properties());
        command.current_dir(self.folder.path()).stdin(Stdio::piped()).stdout(log.try_clone().map_err(text)?).stderr(log);
        self.child = Some(command.spawn().map_err(text)?);
        let deadline = Instant::now() + START_LIMIT;
        loop {
            let listens = TcpStream::connect((self.host.as_str(), self.port)).is_ok();
            if listens && self.consumer("probe").fetch_metadata(None, Duration::from_secs(5)).is_ok_and(|found| !found.brokers().is_empty())
            {
                return Ok(());
            }
            if Instant::now() > deadline {
                let log = std::fs::read_to_string(self.log()).unwrap_or_default();
                return Err(format!("the broker does not answer after {START_LIMIT:?}\n{log}"));
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            drop(child.stdin.take());
            let _ = child.wait();
        }
    }

    /// `host:port`.
    pub fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// The same of the listener with TLS and log-in.
    ///
    /// # Panics
    /// When there is none.
    pub fn secured_address(&self) -> String {
        format!("127.0.0.1:{}", self.secured.expect("Broker::start_secured"))
    }

    fn properties(&self) -> PathBuf {
        self.folder.path().join("server.properties")
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    fn java(&self, class: &str) -> Command {
        let mut command = Command::new("java");
        command.args(["-Xmx512m", "-cp"]).arg(self.libraries.join("*")).arg(class).current_dir(self.folder.path()).stdin(Stdio::null());
        command
    }

    /// A client's configuration.
    pub fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.address());
        config
    }

    /// Deletes all groups whose names begin so, with their offsets, as their expiry does; how many.
    ///
    /// # Panics
    /// When the broker refuses.
    pub async fn forget_groups(&self, prefix: &str) -> usize {
        let listed = self.consumer("probe").fetch_group_list(None, ANSWER).expect("the groups");
        let names: Vec<&str> = listed.groups().iter().map(|group| group.name()).filter(|name| name.starts_with(prefix)).collect();
        let admin: AdminClient<DefaultClientContext> = self.client().create().expect("an admin client");
        let gone = admin.delete_groups(&names, &AdminOptions::new().operation_timeout(Some(ANSWER))).await.expect("an answer");
        gone.into_iter().inspect(|gone| assert!(gone.is_ok(), "{gone:?}")).count()
    }

    fn consumer(&self, group: &str) -> BaseConsumer {
        let mut config = self.client();
        config.set("group.id", group).set("enable.auto.commit", "false").set("isolation.level", "read_committed");
        config.set("enable.partition.eof", "true").create().expect("a consumer")
    }

    /// Makes a topic.
    ///
    /// # Panics
    /// When the broker refuses.
    pub async fn create_topic(&self, name: &str, partitions: i32, settings: &[(&str, &str)]) {
        let admin: AdminClient<DefaultClientContext> = self.client().create().expect("an admin client");
        let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        for (name, value) in settings {
            topic = topic.set(name, value);
        }
        let made = admin.create_topics([&topic], &AdminOptions::new().operation_timeout(Some(ANSWER))).await.expect("an answer");
        made.into_iter().for_each(|made| drop(made.expect("the topic is made")));
        self.until_partitions(name, partitions);
    }

    /// Adds partitions to a topic, until it has so many.
    ///
    /// # Panics
    /// When the broker refuses.
    pub async fn add_partitions(&self, name: &str, partitions: i32) {
        let admin: AdminClient<DefaultClientContext> = self.client().create().expect("an admin client");
        let wanted = NewPartitions::new(name, partitions as usize);
        let made = admin.create_partitions([&wanted], &AdminOptions::new().operation_timeout(Some(ANSWER))).await.expect("an answer");
        made.into_iter().for_each(|made| drop(made.expect("the partitions are made")));
        self.until_partitions(name, partitions);
    }

    /// The answer may come before the broker's own view of its topics changes.
    fn until_partitions(&self, name: &str, partitions: i32) {
        let consumer = self.consumer("probe");
        for _ in 0..1_000 {
            let found = consumer.fetch_metadata(Some(name), ANSWER).expect("metadata");
            if found.topics().iter().any(|topic| topic.partitions().len() == partitions as usize && topic.error().is_none()) {
                return;
            }
        }
        panic!("topic {name} does not appear");
    }

    /// Deletes the messages of partition 0 below an offset, as retention does.
    ///
    /// # Panics
    /// When the broker refuses.
    pub async fn delete_below(&self, topic: &str, offset: i64) {
        let admin: AdminClient<DefaultClientContext> = self.client().create().expect("an admin client");
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, 0, Offset::Offset(offset)).expect("a partition");
        let _ = admin.delete_records(&list, &AdminOptions::new().operation_timeout(Some(ANSWER))).await.expect("an answer");
        assert_eq!(self.bounds(topic)[&0].0, offset);
    }

    /// A producer that writes each message once.
    pub fn producer(&self) -> ThreadedProducer<DefaultProducerContext> {
        self.client().set("linger.ms", "2").set("enable.idempotence", "true").create().expect("a producer")
    }

    /// Writes values into partitions, and waits until they are there.
    ///
    /// # Panics
    /// When the broker does not take them.
    pub fn fill(&self, topic: &str, values: impl IntoIterator<Item = (i32, String)>) {
        let producer = self.producer();
        for (partition, value) in values {
            send(&producer, topic, partition, &value);
        }
        producer.flush(ANSWER).expect("all is written");
    }

    /// By partition, the first offset and the one behind the last committed message.
    ///
    /// # Panics
    /// When the broker does not answer.
    pub fn bounds(&self, topic: &str) -> BTreeMap<i32, (i64, i64)> {
        let consumer = self.consumer("probe");
        let found = consumer.fetch_metadata(Some(topic), ANSWER).expect("metadata");
        let partitions = found.topics()[0].partitions().len() as i32;
        (0..partitions).map(|partition| (partition, consumer.fetch_watermarks(topic, partition, ANSWER).expect("offsets"))).collect()
    }

    /// The offset behind the last message of partition 0, committed or not.
    ///
    /// # Panics
    /// When the broker does not answer.
    pub fn uncommitted_end(&self, topic: &str) -> i64 {
        let consumer: BaseConsumer = self.client().set("isolation.level", "read_uncommitted").create().expect("a consumer");
        consumer.fetch_watermarks(topic, 0, ANSWER).expect("offsets").1
    }

    /// The committed offsets of a group.
    ///
    /// # Panics
    /// When the broker does not answer.
    pub fn committed(&self, group: &str, topic: &str, partitions: i32) -> BTreeMap<i32, Option<i64>> {
        let mut list = TopicPartitionList::new();
        list.add_partition_range(topic, 0, partitions - 1);
        let found = self.consumer(group).committed_offsets(list, ANSWER).expect("offsets");
        found
            .elements()
            .iter()
            .map(|element| (element.partition(), if let Offset::Offset(offset) = element.offset() { Some(offset) } else { None }))
            .collect()
    }

    /// All committed messages of a topic, partition by partition.
    ///
    /// # Panics
    /// When they cannot be read.
    pub fn read(&self, topic: &str) -> Vec<Record> {
        let consumer = self.consumer("reader");
        let mut left: BTreeMap<i32, i64> =
            self.bounds(topic).into_iter().filter(|(_, (low, high))| low < high).map(|(partition, (_, high))| (partition, high)).collect();
        let mut list = TopicPartitionList::new();
        for partition in left.keys() {
            list.add_partition_offset(topic, *partition, Offset::Beginning).expect("a partition");
        }
        consumer.assign(&list).expect("an assignment");
        let (mut records, deadline) = (Vec::new(), Instant::now() + START_LIMIT);
        while !left.is_empty() {
            assert!(Instant::now() < deadline, "{topic} cannot be read to its end");
            match consumer.poll(Duration::from_millis(100)) {
                None => {}
                Some(Ok(message)) => {
                    let text = |bytes: Option<&[u8]>| bytes.map(|bytes| String::from_utf8(bytes.to_vec()).expect("text"));
                    records.push(Record { partition: message.partition(), key: text(message.key()), value: text(message.payload()) });
                }
                // Behind the last message there may be the marks of transactions.
                Some(Err(KafkaError::PartitionEOF(partition))) => drop(left.remove(&partition)),
                Some(Err(error)) => panic!("reading {topic}: {error}"),
            }
        }
        records
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Hands a value to the client; waits while its queue is full.
///
/// # Panics
/// When the client refuses it.
pub fn send(producer: &ThreadedProducer<DefaultProducerContext>, topic: &str, partition: i32, value: &str) {
    let mut record = BaseRecord::<str, str>::to(topic).partition(partition).payload(value);
    while let Err((error, back)) = producer.send(record) {
        assert_eq!(error.rdkafka_error_code(), Some(rdkafka::types::RDKafkaErrorCode::QueueFull), "{error}");
        producer.poll(Duration::from_millis(1));
        record = back;
    }
}

fn free_port(host: &str) -> std::io::Result<u16> {
    Ok(TcpListener::bind((host, 0))?.local_addr()?.port())
}

fn properties(host: &str, [port, controller]: [u16; 2], data: &Path, secured: Option<(u16, &Login<'_>)>) -> String {
    let (mut more, mut login) = (String::new(), String::new());
    if let Some((port, Login { authority, user, password })) = secured {
        more = format!(",SASL_SSL://127.0.0.1:{port}");
        login = format!(
            "ssl.keystore.type=PEM\nssl.keystore.location={}\nsasl.enabled.mechanisms=PLAIN,SCRAM-SHA-512\n\
             listener.name.sasl_ssl.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required \
             user_{user}=\"{password}\";\n\
             listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;\n",
            authority.keystore().display()
        );
    }
    format!(
        "process.roles=broker,controller\nnode.id=1\ncontroller.quorum.voters=1@127.0.0.1:{controller}\n\
         listeners=PLAINTEXT://{host}:{port},CONTROLLER://127.0.0.1:{controller}{more}\n\
         advertised.listeners=PLAINTEXT://{host}:{port}{more}\n\
         controller.listener.names=CONTROLLER\n\
         listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL_SSL:SASL_SSL\n{login}\
         log.dirs={}\nauto.create.topics.enable=false\nnum.partitions=1\ngroup.initial.rebalance.delay.ms=0\n\
         offsets.topic.replication.factor=1\noffsets.topic.num.partitions=5\ntransaction.state.log.replication.factor=1\n\
         transaction.state.log.min.isr=1\ntransaction.state.log.num.partitions=5\nshare.coordinator.state.topic.replication.factor=1\n\
         share.coordinator.state.topic.min.isr=1\nlog.retention.check.interval.ms=1000\nlog.initial.task.delay.ms=100\n\
         transaction.abort.timed.out.transaction.cleanup.interval.ms=500\n",
        data.display()
    )
}

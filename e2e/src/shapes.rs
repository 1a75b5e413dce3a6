//! [pure] The jobs that the tests run: one for each shape of state, over the same Nexmark events.

use crate::nexmark;

/// One job.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// For messages and folders.
    pub name: &'static str,
    /// Tables written: name and columns. Their folders have the same names.
    pub sinks: &'static [(&'static str, &'static str)],
    /// Whether the sinks take change-logs.
    pub changelog: bool,
    /// The `INSERT`s.
    pub inserts: &'static str,
}

/// All shapes.
pub const SHAPES: &[Shape] = &[
    Shape {
        name: "filter",
        sinks: &[("out", "auction BIGINT, price DECIMAL(23, 3), url VARCHAR")],
        changelog: false,
        inserts: "INSERT INTO out SELECT auction, 0.908 * price, url FROM bid WHERE MOD(auction, 7) = 0;",
    },
    Shape {
        name: "tumble",
        sinks: &[("out", "auction BIGINT, num BIGINT, total BIGINT, top BIGINT, mean DOUBLE, starttime TIMESTAMP(3)")],
        changelog: false,
        inserts: "INSERT INTO out SELECT auction, COUNT(*), SUM(price), MAX(price), AVG(CAST(price AS DOUBLE)), window_start
            FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(`dateTime`), INTERVAL '2' SECOND)) GROUP BY auction, window_start, window_end;",
    },
    Shape {
        name: "hop",
        sinks: &[("out", "auction BIGINT, num BIGINT, starttime TIMESTAMP(3), endtime TIMESTAMP(3)")],
        changelog: false,
        inserts: "INSERT INTO out SELECT auction, COUNT(*), window_start, window_end
            FROM TABLE(HOP(TABLE bid, DESCRIPTOR(`dateTime`), INTERVAL '1' SECOND, INTERVAL '5' SECOND)) GROUP BY auction, window_start, window_end;",
    },
    Shape {
        name: "cumulate",
        sinks: &[("out", "bidder BIGINT, low BIGINT, total BIGINT, endtime TIMESTAMP(3)")],
        changelog: false,
        inserts: "INSERT INTO out SELECT bidder, MIN(price), SUM(price), window_end
            FROM TABLE(CUMULATE(TABLE bid, DESCRIPTOR(`dateTime`), INTERVAL '1' SECOND, INTERVAL '4' SECOND)) GROUP BY bidder, window_start, window_end;",
    },
    Shape {
        name: "distinct",
        sinks: &[("out", "channel VARCHAR, bidders BIGINT, dear BIGINT, starttime TIMESTAMP(3)")],
        changelog: false,
        inserts: "INSERT INTO out SELECT channel, COUNT(DISTINCT bidder), COUNT(DISTINCT auction) FILTER (WHERE price > 10000), window_start
            FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(`dateTime`), INTERVAL '3' SECOND)) GROUP BY channel, window_start, window_end;",
    },
    // A row of state for nearly every bid, a hundred bytes and more each, until the only window closes.
    Shape {
        name: "hoard",
        sinks: &[("out", "auction BIGINT, bidder BIGINT, num BIGINT, starttime TIMESTAMP(3)")],
        changelog: false,
        inserts: "INSERT INTO out SELECT auction, bidder, COUNT(*), window_start
            FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(`dateTime`), INTERVAL '1' HOUR)) GROUP BY auction, bidder, url, extra, window_start, window_end;",
    },
    Shape {
        name: "group",
        sinks: &[("out", "bidder BIGINT, num BIGINT, total BIGINT, auctions BIGINT")],
        changelog: true,
        inserts: "INSERT INTO out SELECT bidder, COUNT(*), SUM(price), COUNT(DISTINCT auction) FROM bid GROUP BY bidder;",
    },
    Shape {
        name: "group-over-group",
        sinks: &[("out", "bids BIGINT, bidders BIGINT, richest BIGINT")],
        changelog: true,
        inserts: "INSERT INTO out SELECT num, COUNT(*), MAX(top) FROM (SELECT bidder, COUNT(*) AS num, MAX(price) AS top FROM bid GROUP BY bidder) GROUP BY num;",
    },
    Shape {
        name: "union",
        sinks: &[("out", "id BIGINT, kind VARCHAR, num BIGINT, starttime TIMESTAMP(3)")],
        changelog: false,
        inserts: "INSERT INTO out SELECT id, kind, COUNT(*), window_start FROM TABLE(TUMBLE(TABLE things, DESCRIPTOR(`dateTime`), INTERVAL '2' SECOND))
            GROUP BY id, kind, window_start, window_end;",
    },
    Shape {
        name: "two-sinks",
        sinks: &[("people", "id BIGINT, name VARCHAR, city VARCHAR"), ("counts", "category BIGINT, num BIGINT, starttime TIMESTAMP(3)")],
        changelog: false,
        inserts: "INSERT INTO people SELECT id, UPPER(name), city FROM person WHERE state = 'OR';
            INSERT INTO counts SELECT category, COUNT(*), window_start FROM TABLE(TUMBLE(TABLE auction, DESCRIPTOR(`dateTime`), INTERVAL '2' SECOND))
            GROUP BY category, window_start, window_end;",
    },
];

/// The view that the `union` shape reads.
const UNION_VIEW: &str = "CREATE VIEW things AS
    SELECT MOD(auction, 50) AS id, 'bid' AS kind, `dateTime` FROM bid
    UNION ALL SELECT MOD(id, 50), 'person', `dateTime` FROM person
    UNION ALL SELECT MOD(id, 50), 'auction', `dateTime` FROM auction;\n";

/// Events a second of event time.
const EVENTS_RATE: u64 = 10_000;

/// How much a job reads and how it runs.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Events in all.
    pub events: u64,
    /// Pace; `None`: as fast as it goes.
    pub events_per_second: Option<u64>,
    /// Workers.
    pub parallelism: u32,
    /// Between checkpoints, ms.
    pub checkpoint_ms: u32,
    /// Where checkpoints go; `None`: the data folder.
    pub storage: Option<String>,
    /// Whether the sinks keep results instead of writing files.
    pub results: bool,
    /// What the sinks' folders are below, with its slash; empty: the manifest's folder.
    pub output: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            events: 200_000,
            events_per_second: None,
            parallelism: 2,
            checkpoint_ms: 200,
            storage: None,
            results: false,
            output: String::new(),
        }
    }
}

impl Shape {
    /// The shape of this name.
    pub fn named(name: &str) -> Option<&'static Shape> {
        SHAPES.iter().find(|shape| shape.name == name)
    }

    /// The SQL.
    pub fn sql(&self, settings: &Settings) -> String {
        let pace = settings.events_per_second.map(|pace| format!(", 'rows-per-second' = '{pace}'")).unwrap_or_default();
        let mut sql = nexmark::tables(EVENTS_RATE, settings.events, &pace);
        if self.name == "union" {
            sql.push_str(UNION_VIEW);
        }
        let format = if self.changelog { "debezium-json" } else { "json" };
        for (table, columns) in self.sinks {
            let sink = match settings.results {
                true => "'connector' = 'results'".to_owned(),
                false => format!("'connector' = 'filesystem', 'path' = '{}{table}', 'format' = '{format}'", settings.output),
            };
            sql.push_str(&format!("CREATE TABLE {table} ({columns}) WITH ({sink});\n"));
        }
        sql + self.inserts
    }

    /// The manifest.
    pub fn manifest(&self, settings: &Settings) -> String {
        manifest(self.name, &self.sql(settings), settings)
    }
}

/// A manifest around any SQL.
pub fn manifest(name: &str, sql: &str, settings: &Settings) -> String {
    let sql: String = sql.trim().lines().map(|line| format!("    {line}\n")).collect();
    let storage = settings.storage.as_ref().map(|storage| format!("    storage: {storage}\n")).unwrap_or_default();
    format!(
        "apiVersion: rheos.dev/v1alpha1\nkind: StreamJob\nmetadata:\n  name: {name}\nspec:\n  parallelism: {}\n  maxParallelism: 64\n  \
         checkpoint:\n    interval: {}ms\n{storage}  restart:\n    maxRestarts: 1000\n    backoff: {{initial: 10ms, max: 100ms}}\n  sql: |\n{sql}",
        settings.parallelism, settings.checkpoint_ms
    )
}

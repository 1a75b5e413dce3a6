//! [io] Folders that grow, files that change, and what follows from where a file lies; the same for folders and stores.

use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use object_store::{ObjectStoreExt, PutPayload};
use rheos_dataflow::error::ErrorKind;
use rheos_dataflow::graph::{METADATA_KEY, OperatorId, SourceSpec};
use rheos_dataflow::snapshot::SplitState;
use rheos_dataflow::source::{Source, SplitAssignment, SplitId};

use super::super::config::SourceConfig;
use super::super::location::Location;
use super::super::source::{FilesystemSource, MAX_SPLITS};
use super::super::split::FileSplit;
use super::{remote, write};
use crate::testing::{Opened, read_all, read_split, runtime, schema, source_spec};

/// A folder, local or in a store.
struct Place {
    location: Location,
    _folder: Option<tempfile::TempDir>,
}

impl Place {
    fn all() -> [Self; 2] {
        let folder = tempfile::tempdir().unwrap();
        let local = Self { location: Location::Local(folder.path().to_owned()), _folder: Some(folder) };
        [local, Self { location: remote().1, _folder: None }]
    }

    fn put(&self, name: &str, content: &str) {
        match &self.location {
            Location::Local(folder) => write(folder, name, content),
            Location::Remote(remote) => {
                let put = PutPayload::from(content.as_bytes().to_vec());
                runtime().block_on(remote.store.put(&remote.object(name), put)).unwrap();
            }
        }
    }

    fn remove(&self, name: &str) {
        match &self.location {
            Location::Local(folder) => std::fs::remove_file(folder.join(name)).unwrap(),
            Location::Remote(remote) => runtime().block_on(remote.store.delete(&remote.object(name))).unwrap(),
        }
    }

    fn source(&self, spec: &SourceSpec) -> FilesystemSource {
        FilesystemSource::at(SourceConfig::parse(spec).unwrap(), self.location.clone())
    }
}

fn spec(options: &[(&str, &str)], columns: &SchemaRef) -> SourceSpec {
    let given = [("connector", "filesystem"), ("path", "in"), ("format", "csv")];
    let given: Vec<_> = given.into_iter().chain(options.iter().copied()).collect();
    source_spec(&given, columns, columns)
}

fn growing() -> SourceSpec {
    spec(&[("source.monitor-interval", "1 s")], &schema(&[("n", "INT")]))
}

fn files(splits: &[SplitId]) -> Vec<String> {
    splits.iter().map(|split| FileSplit::parse(split).file).collect()
}

/// The split in a checkpoint.
fn state(split: &str, ordinal: usize) -> SplitState {
    let assignment =
        SplitAssignment { source: OperatorId("source:t".into()), split: split.to_owned(), ordinal: ordinal as u32, late: false };
    SplitState { assignment, offset: None, finished: true, watermark: None }
}

#[test]
fn what_is_new_in_a_folder_is_found_once_and_by_the_next_generation_not_again() {
    for place in Place::all() {
        place.put("b.csv", "1\n");
        let source = place.source(&growing());
        assert_eq!(source.discovery_interval(), Some(std::time::Duration::from_secs(1)));
        let first = source.discover().unwrap();
        assert_eq!(files(&first), ["b.csv"]);
        assert_eq!(source.discover().unwrap(), [""; 0]);
        place.put("a.csv", "2\n");
        place.put("_a.csv", "3\n");
        place.put("a.csv.tmp", "4\n");
        let second = source.discover().unwrap();
        assert_eq!(files(&second), ["a.csv"]);
        assert_eq!(read_split(&source, &second[0], 10).unwrap(), ["2"]);
        let next = place.source(&growing());
        let states = [state(&first[0], 0), state(&second[0], 1)];
        next.restored(&states.iter().collect::<Vec<_>>());
        assert_eq!(next.discover().unwrap(), [""; 0]);
        place.put("c.csv", "5\n");
        assert_eq!(files(&next.discover().unwrap()), ["c.csv"]);
        // One that was read may go.
        place.remove("b.csv");
        assert_eq!(next.discover().unwrap(), [""; 0]);
    }
}

#[test]
fn a_file_that_changes_after_it_was_found_is_told_whoever_looks() {
    for place in Place::all() {
        place.put("a.csv", "1\n2\n");
        let source = place.source(&growing());
        let split = source.discover().unwrap().remove(0);
        let mut opened = Opened::new(&source, &split, None).unwrap();
        assert_eq!(opened.next(1).unwrap().unwrap().num_rows(), 1);
        let offset = opened.reader.offset();
        // Of the same size.
        place.put("a.csv", "3\n4\n");
        let next = place.source(&growing());
        next.restored(&[&state(&split, 0)]);
        let told = [
            source.discover().unwrap_err(),
            next.discover().unwrap_err(),
            Opened::new(&source, &split, None).and_then(|mut opened| opened.rest(10)).unwrap_err(),
            Opened::new(&source, &split, Some(&offset)).and_then(|mut opened| opened.rest(10)).unwrap_err(),
        ];
        for error in told {
            assert_eq!(error.kind, ErrorKind::Data, "{error}");
            assert!(error.message.contains("a.csv has changed since it was found (4 bytes then, 4 now"), "{error}");
        }
        if matches!(place.location, Location::Local(_)) {
            let error = opened.rest(10).unwrap_err();
            assert!(error.message.contains("a.csv has changed since it was found"), "while it is read: {error}");
        }
    }
}

#[test]
fn a_file_that_is_gone_before_it_was_read_is_told() {
    for place in Place::all() {
        place.put("a.csv", "1\n");
        let source = place.source(&growing());
        let split = source.discover().unwrap().remove(0);
        place.remove("a.csv");
        let error = Opened::new(&source, &split, None).and_then(|mut opened| opened.rest(10)).unwrap_err();
        assert!(!matches!(error.kind, ErrorKind::Transient) && error.message.contains("a.csv"), "{error}");
    }
}

#[test]
fn splits_hold_at_their_limit_and_not_beyond() {
    for place in Place::all() {
        place.put("a.csv", "1\n");
        let known: Vec<SplitState> = (1..MAX_SPLITS).map(|n| state(&format!("{n}.csv#found=1,1"), n)).collect();
        let source = place.source(&growing());
        source.restored(&known.iter().collect::<Vec<_>>());
        assert_eq!(files(&source.discover().unwrap()), ["a.csv"]);
        place.put("b.csv", "1\n");
        let error = source.discover().unwrap_err();
        assert_eq!(error.kind, ErrorKind::User);
        assert!(error.message.contains(&format!("more than {MAX_SPLITS} files")), "{error}");
    }
}

#[test]
fn columns_follow_from_where_a_file_lies_and_what_it_is() {
    let metadata = |name: &str, kind: &str, key: &str| {
        let field = schema(&[(name, kind)]).field(0).clone();
        field.with_metadata([(METADATA_KEY.to_owned(), key.to_owned())].into())
    };
    let mut fields: Vec<Field> =
        schema(&[("day", "DATE"), ("n", "INT"), ("who", "STRING")]).fields().iter().map(|field| field.as_ref().clone()).collect();
    fields.push(metadata("name", "STRING", "file.name"));
    fields.push(metadata("file.size", "BIGINT", "file.size"));
    let columns: SchemaRef = Arc::new(Schema::new(fields.clone()));
    for place in Place::all() {
        place.put("day=2013-01-31/who=a%2Fb/x.csv", "1\n2\n");
        place.put("day=__DEFAULT_PARTITION__/who=c/y.csv", "3\n");
        let spec = |columns: &SchemaRef| SourceSpec { partition_by: vec!["day".into(), "who".into()], ..spec(&[], columns) };
        let rows = read_all(&place.source(&spec(&columns)), 10).unwrap();
        assert_eq!(rows, ["2013-01-31, 1, a/b, x.csv, 4", "2013-01-31, 2, a/b, x.csv, 4", "null, 3, c, y.csv, 2"]);
        // Nothing of the file itself is wanted.
        let mut only = spec(&columns);
        only.physical = schema(&[("who", "STRING")]);
        assert_eq!(read_all(&place.source(&only), 10).unwrap(), ["a/b", "a/b", "c"]);
        let mut times = spec(&columns);
        times.physical =
            Arc::new(Schema::new(vec![metadata("t", "TIMESTAMP_LTZ", "file.modification-time"), metadata("p", "STRING", "file.path")]));
        let row = read_all(&place.source(&times), 10).unwrap().remove(0);
        assert!(row.starts_with("20") && row.ends_with("/day=2013-01-31/who=a%2Fb/x.csv"), "{row}");
        place.put("day=soon/who=c/z.csv", "4\n");
        let error = read_all(&place.source(&spec(&columns)), 10).unwrap_err();
        assert!(error.kind == ErrorKind::Data && error.message.contains("day=soon/who=c/z.csv: PARTITIONED BY (day): "), "{error}");
        place.remove("day=soon/who=c/z.csv");
        place.put("w.csv", "4\n");
        let error = read_all(&place.source(&spec(&columns)), 10).unwrap_err();
        assert!(error.message.contains("w.csv: PARTITIONED BY (day): the path has no folder 'day=…'"), "{error}");
    }
    fields.push(metadata("bad", "INT", "file.size"));
    fields.push(metadata("worse", "INT", "file.colour"));
    let problems = SourceConfig::parse(&spec(&[], &Arc::new(Schema::new(fields)))).unwrap_err();
    assert!(problems[0].message.contains("column 'bad' METADATA FROM 'file.size' must be BIGINT"), "{problems:#?}");
    assert!(problems[1].message.contains("there is: file.path, file.name, file.size, file.modification-time"), "{problems:#?}");
}

//! [io] Damaged objects: every truncation and every flipped bit gives a typed error that names the object; none panics,
//! and none passes for something else. Single cases with their texts (missing, foreign, misplaced, of another version) are
//! in `e2e/corpus/checkpoints`.

use std::sync::Arc;

use bytes::Bytes;
use rheos_checkpoint::codec::{self, Document, ReadError, Reason};
use rheos_checkpoint::manifest::{Block, Manifest, StateFile};
use rheos_checkpoint::protocol::fence::Fence;
use rheos_checkpoint::record::Record;
use rheos_checkpoint::state_file::{self, MAX_BLOCK_BYTES, MAX_FILE_BYTES, StateFileWriter, WriteError};
use rheos_checkpoint::store::memory::MemoryStore;
use rheos_checkpoint::workflow::ProtocolError;
use rheos_checkpoint::{Protocol, Store};

use crate::block_on;
use crate::job::{self, committable, manifest, process};

/// A job with one checkpoint, and the paths of its fence, record, manifest and state file.
fn job_with_a_checkpoint() -> (Arc<MemoryStore>, [String; 4]) {
    let memory = Arc::new(MemoryStore::new());
    let store: Arc<dyn Store> = Arc::clone(&memory) as Arc<dyn Store>;
    block_on(async {
        let begun = process(&store, 1).begin(None).await.unwrap();
        let engine = process(&store, 2);
        let (mut publisher, _) = engine.attach(begun.generation, begun.start_record).await.unwrap();
        let file = job::put_file(&engine, 1, 1).await.unwrap();
        publisher.publish(&manifest(1, 1, vec![file]), &[committable(1, 0, 1)]).await.unwrap();
    });
    let find = |part: &str| memory.paths().into_iter().rfind(|path| path.contains(part)).unwrap();
    let paths = [find("/fence"), find("/log/"), find(".manifest"), find(".state")];
    (memory, paths)
}

/// Restores everything, as a new generation does.
async fn restore(store: &Arc<dyn Store>) -> Result<(), ProtocolError> {
    let protocol: Protocol = process(store, 3);
    let begun = protocol.begin(None).await?;
    for file in job::files(&begun.point.manifest.unwrap()) {
        protocol.read_state(&file).await?;
    }
    Ok(())
}

/// What a restore says when one object has become `bytes`.
fn restore_with(memory: &MemoryStore, path: &str, bytes: Vec<u8>) -> Result<(), ProtocolError> {
    let copy = memory.snapshot();
    copy.overwrite(path, Bytes::from(bytes));
    let store: Arc<dyn Store> = Arc::new(copy);
    block_on(restore(&store))
}

fn bytes_of(memory: &MemoryStore, path: &str) -> Vec<u8> {
    let path = rheos_checkpoint::paths::ObjectPath::parse(path).unwrap();
    block_on(memory.get(&path, u64::MAX)).unwrap().bytes.to_vec()
}

#[test]
fn every_truncation_of_every_object_is_refused_by_name() {
    let (memory, paths) = job_with_a_checkpoint();
    for path in &paths {
        let whole = bytes_of(&memory, path);
        // The index and footer of a state file serve inspection only; a restore reads blocks.
        let lengths = if path.ends_with(".state") { block_end(&memory) } else { whole.len() };
        for length in 0..lengths {
            let error = restore_with(&memory, path, whole[..length].to_vec()).expect_err("a truncated object was used");
            let ProtocolError::Unusable(ReadError { object, reason }) = &error else { panic!("{path} at {length}: {error}") };
            assert!(path.ends_with(object.as_str()), "{object} for {path}");
            assert!(matches!(reason, Reason::Truncated(_)), "{path} at {length}: {error}");
        }
        restore_with(&memory, path, whole).unwrap();
    }
}

#[test]
fn every_flipped_bit_of_every_object_is_refused_by_name() {
    let (memory, paths) = job_with_a_checkpoint();
    for path in &paths {
        let whole = bytes_of(&memory, path);
        let bytes = if path.ends_with(".state") { 12..block_end(&memory) } else { 0..whole.len() };
        for at in bytes {
            for bit in 0..8 {
                let mut flipped = whole.clone();
                flipped[at] ^= 1 << bit;
                let error = restore_with(&memory, path, flipped).expect_err("a damaged object was used");
                let ProtocolError::Unusable(ReadError { object, .. }) = &error else { panic!("{path}, byte {at}: {error}") };
                assert!(path.ends_with(object.as_str()), "{object} for {path}");
            }
        }
    }
}

/// Where the last block of the job's only state file ends.
fn block_end(memory: &MemoryStore) -> usize {
    let path = memory.paths().into_iter().find(|path| path.ends_with(".state")).unwrap();
    let blocks = state_file::read_whole(&path, &bytes_of(memory, &path)).unwrap();
    blocks.iter().map(|block| (block.offset + block.length) as usize).max().unwrap()
}

#[test]
fn a_whole_state_file_is_refused_at_every_truncation_and_flipped_bit() {
    let (memory, paths) = job_with_a_checkpoint();
    let whole = bytes_of(&memory, &paths[3]);
    assert_eq!(state_file::read_whole("f", &whole).unwrap().len(), 2);
    for length in 0..whole.len() {
        let error = state_file::read_whole("f", &whole[..length]).unwrap_err();
        assert!(matches!(error.reason, Reason::Truncated(_) | Reason::Corrupted(_)), "{error}");
    }
    for at in 0..whole.len() {
        for bit in 0..8 {
            let mut flipped = whole.clone();
            flipped[at] ^= 1 << bit;
            assert!(state_file::read_whole("f", &flipped).is_err(), "byte {at}");
        }
    }
}

#[test]
fn a_newer_version_says_so() {
    fn newer<D: Document>(document: &D) -> Reason {
        let bytes = codec::encode("x", document).unwrap();
        let head = format!("rheos {} {} ", D::KIND, D::VERSION);
        let newer = format!("rheos {} {} ", D::KIND, D::VERSION + 1);
        assert!(bytes.starts_with(head.as_bytes()));
        let bytes = [newer.as_bytes(), &bytes[head.len()..]].concat();
        codec::decode::<D>("x", &bytes).err().unwrap().reason
    }
    let reason = newer(&manifest(1, 1, Vec::new()));
    assert_eq!(reason, Reason::NewerVersion { found: 2, known: 1 });
    let mut state = StateFileWriter::new().finish().0.to_vec();
    state[8] += 1;
    assert_eq!(state_file::read_whole("x", &state).unwrap_err().reason, Reason::NewerVersion { found: 2, known: 1 });
}

#[test]
fn objects_above_their_limit_are_refused_before_they_are_read() {
    let fence = vec![b' '; Fence::LIMIT as usize + 1];
    assert!(matches!(codec::decode::<Fence>("x", &fence).unwrap_err().reason, Reason::TooLarge(_)));
    let mut large: Record = codec::decode("x", &golden_record()).unwrap();
    large.token = "t".repeat(Record::LIMIT as usize);
    assert!(matches!(codec::encode("x", &large).unwrap_err().reason, Reason::TooLarge(_)));
}

fn golden_record() -> Vec<u8> {
    let record = r#"{"version":1,"seq":1,"generation":1,"kind":"Start","epoch":0,"manifest":null,"committables":[],"token":"t"}"#;
    let record: Record = serde_json::from_str(record).unwrap();
    codec::encode("x", &record).unwrap()
}

#[test]
fn what_a_manifest_claims_about_a_file_is_checked_before_anything_is_read() {
    let block = Block { first_group: 0, last_group: 1, offset: 12, length: 8, crc: 0, rows: 1 };
    let check = |bytes: u64, block: Block| state_file::check_file(&StateFile { path: "f".to_string(), bytes, blocks: vec![block] });
    check(20, block.clone()).unwrap();
    check(19, block.clone()).unwrap_err();
    check(MAX_FILE_BYTES, Block { length: MAX_BLOCK_BYTES, ..block.clone() }).unwrap();
    check(MAX_FILE_BYTES, Block { length: MAX_BLOCK_BYTES + 1, ..block.clone() }).unwrap_err();
    check(MAX_FILE_BYTES + 1, block.clone()).unwrap_err();
    check(20, Block { offset: u64::MAX, ..block.clone() }).unwrap_err();
    check(20, Block { offset: 11, ..block.clone() }).unwrap_err();
    check(20, Block { first_group: 2, ..block }).unwrap_err();
    let escape = StateFile { path: "../../other/uid/g1/e1-s0-0.state".to_string(), bytes: 20, blocks: Vec::new() };
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    assert!(matches!(block_on(process(&store, 1).read_state(&escape)), Err(ProtocolError::Path(_))));
}

#[test]
fn a_writer_refuses_blocks_that_no_reader_would_take() {
    let mut writer = StateFileWriter::new();
    assert_eq!(writer.push(3, 2, 0, b""), Err(WriteError::Groups(3, 2)));
    writer.push(2, 2, 0, b"").unwrap();
    let too_large = vec![0; MAX_BLOCK_BYTES as usize + 1];
    assert_eq!(writer.push(0, 0, 1, &too_large), Err(WriteError::Block(MAX_BLOCK_BYTES + 1)));
}

/// Compares with a file of version 1 that must be readable for ever; `RHEOS_BLESS=1` writes it anew.
fn golden(name: &str, bytes: &[u8]) {
    let path = std::path::Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("testdata").join(name);
    if std::env::var_os("RHEOS_BLESS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
    }
    assert_eq!(std::fs::read(&path).unwrap(), bytes, "{name}");
}

#[test]
fn the_files_of_version_1_are_read_and_written_as_ever() {
    let mut writer = StateFileWriter::new();
    writer.push(0, 3, 2, b"the rows of key groups 0 to 3").unwrap();
    writer.push(4, 4, 1, b"").unwrap();
    writer.push(5, 7, 9, b"and those of 5 to 7").unwrap();
    let (bytes, blocks) = writer.finish();
    golden("state-v1", &bytes);
    assert_eq!(state_file::read_whole("state-v1", &bytes).unwrap(), blocks);
    let file = StateFile { path: "g1/e3-s0-0.state".to_string(), bytes: bytes.len() as u64, blocks };
    let manifest: Manifest = manifest(1, 3, vec![file]);
    let bytes = codec::encode("x", &manifest).unwrap();
    golden("manifest-v1", &bytes);
    assert_eq!(codec::decode::<Manifest>("x", &bytes).unwrap(), manifest);
    golden("record-v1", &golden_record());
}

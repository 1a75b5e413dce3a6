//! [io] What a job experiences: generations, restores, zombies, savepoints, retention, on a store in memory.

use std::sync::Arc;

use rheos_checkpoint::codec::{ReadError, Reason};
use rheos_checkpoint::paths::ObjectPath;
use rheos_checkpoint::record::RecordKind;
use rheos_checkpoint::store::faulty::{Fault, FaultyStore};
use rheos_checkpoint::store::memory::MemoryStore;
use rheos_checkpoint::store::{Action, PutMode};
use rheos_checkpoint::workflow::{ProtocolError, Restore, dispose_at};
use rheos_checkpoint::{Protocol, Publisher, Store};

use crate::block_on;
use crate::job::{self, committable, content, manifest, process};

fn store() -> (Arc<MemoryStore>, Arc<dyn Store>) {
    let memory = Arc::new(MemoryStore::new());
    (Arc::clone(&memory), memory)
}

/// A new generation in a process of its own, with its publisher.
async fn generation(store: &Arc<dyn Store>, nonce: u64) -> (Protocol, Publisher) {
    let begun = process(store, nonce).begin(None).await.unwrap();
    let engine = process(store, nonce + 1_000);
    let (publisher, point) = engine.attach(begun.generation, begun.start_record).await.unwrap();
    assert_eq!(point, begun.point);
    (engine, publisher)
}

/// Writes a state file and publishes it on top of the files of the last manifest.
async fn checkpoint(
    engine: &Protocol,
    publisher: &mut Publisher,
    epoch: u64,
    chain: usize,
) -> Result<rheos_checkpoint::CommitPermit, ProtocolError> {
    let generation = publisher.last().generation;
    let point = engine.log_end().await?.unwrap();
    let mut files = match &point.manifest {
        Some(_) => job::files(&engine.manifest_of(&point).await?.unwrap()),
        None => Vec::new(),
    };
    files.push(job::put_file(engine, generation, epoch).await?);
    let first = files.len().saturating_sub(chain);
    let committables = [committable(generation, epoch - 1, epoch)];
    publisher.publish(&manifest(generation, epoch, files.split_off(first)), &committables).await
}

#[test]
fn the_first_generation_starts_from_nothing() {
    block_on(async {
        let (_, store) = store();
        let begun = process(&store, 1).begin(None).await.unwrap();
        assert_eq!((begun.generation, begun.start_record), (1, 1));
        assert_eq!((begun.point.record.epoch, &begun.point.manifest), (0, &None));
        assert_eq!((begun.permit.generation(), begun.permit.record(), begun.permit.epoch()), (1, 1, 0));
    });
}

#[test]
fn a_generation_resumes_the_last_checkpoint_with_its_unconfirmed_committables() {
    block_on(async {
        let (_, store) = store();
        let (engine, mut publisher) = generation(&store, 1).await;
        let permit = checkpoint(&engine, &mut publisher, 10, 1).await.unwrap();
        assert_eq!((permit.generation(), permit.record(), permit.epoch()), (1, 2, 10));
        let begun = process(&store, 2).begin(None).await.unwrap();
        assert_eq!((begun.generation, begun.start_record, begun.point.record.epoch), (2, 3, 10));
        assert_eq!(begun.point.record.kind, RecordKind::Start);
        assert_eq!(begun.point.record.committables, [committable(1, 9, 10)]);
        assert_eq!(begun.permit.epoch(), 10);
        let files = job::files(&begun.point.manifest.unwrap());
        let blocks = process(&store, 3).read_state(&files[0]).await.unwrap();
        assert_eq!(blocks, [content(1, 10, 0), content(1, 10, 4)]);
    });
}

#[test]
fn a_zombie_is_fenced_at_its_next_record_and_cannot_attach_or_collect() {
    block_on(async {
        let (_, store) = store();
        let (zombie, mut old) = generation(&store, 1).await;
        checkpoint(&zombie, &mut old, 1, 1).await.unwrap();
        let (engine, mut new) = generation(&store, 2).await;
        let fenced = |error: ProtocolError| assert_eq!(error, ProtocolError::Fenced { mine: 1, current: 2 });
        fenced(checkpoint(&zombie, &mut old, 2, 1).await.unwrap_err());
        fenced(old.collect(1).await.unwrap_err());
        fenced(zombie.attach(1, 1).await.unwrap_err());
        checkpoint(&engine, &mut new, 2, 1).await.unwrap();
        new.collect(1).await.unwrap();
        // Its start record is gone by now.
        fenced(zombie.restore_point(1, 1).await.unwrap_err());
        // The number after its last record is free again; the fence read refuses the permit all the same.
        fenced(checkpoint(&zombie, &mut old, 3, 1).await.unwrap_err());
        let end = engine.log_end().await.unwrap().unwrap();
        assert_eq!((end.generation, end.epoch), (2, 2));
    });
}

#[test]
fn epochs_rise_and_manifests_are_of_their_job_and_generation() {
    block_on(async {
        let (_, store) = store();
        let (engine, mut publisher) = generation(&store, 1).await;
        checkpoint(&engine, &mut publisher, 5, 1).await.unwrap();
        let mut foreign = manifest(1, 6, Vec::new());
        foreign.job_uid = "another".to_string();
        for refused in [manifest(1, 5, Vec::new()), manifest(2, 6, Vec::new()), foreign] {
            assert!(matches!(publisher.publish(&refused, &[]).await, Err(ProtocolError::Refused(_))));
        }
        publisher.publish(&manifest(1, 6, Vec::new()), &[]).await.unwrap();
    });
}

#[test]
fn a_publication_without_an_answer_is_found_by_the_next_one() {
    block_on(async {
        let (memory, store) = store();
        let begun = process(&store, 1).begin(None).await.unwrap();
        // The record's put happens, but neither it nor any look at it is heard.
        let script = |_: u64, action: Action, path: &ObjectPath| match action {
            Action::Write if path.name().ends_with("02") => Fault::Unheard,
            Action::Read if path.name().ends_with("02") => Fault::Refused,
            _ => Fault::None,
        };
        let deaf: Arc<dyn Store> = Arc::new(FaultyStore::new(Arc::clone(&store), script));
        let (mut publisher, _) = process(&deaf, 2).attach(1, begun.start_record).await.unwrap();
        let error = publisher.publish(&manifest(1, 1, Vec::new()), &[committable(1, 0, 1)]).await.unwrap_err();
        assert!(error.is_transient() && !error.is_fenced(), "{error}");
        assert_eq!(publisher.last().seq, 1);
        // The next one carries the committables of both, and goes behind.
        let mut publisher = publisher.with_store(Arc::clone(&store));
        let unconfirmed = [committable(1, 0, 1), committable(1, 1, 2)];
        let permit = publisher.publish(&manifest(1, 2, Vec::new()), &unconfirmed).await.unwrap();
        assert_eq!((permit.record(), permit.epoch()), (3, 2));
        assert_eq!(memory.paths().iter().filter(|path| path.contains("/log/")).count(), 3);
    });
}

#[test]
fn retention_keeps_what_the_kept_checkpoints_reference_and_nothing_else() {
    block_on(async {
        let (memory, store) = store();
        let (engine, mut publisher) = generation(&store, 1).await;
        for epoch in 1..=6 {
            checkpoint(&engine, &mut publisher, epoch, 2).await.unwrap();
        }
        // Of an abandoned checkpoint, of a dead generation, of a probe, of somebody else; and one on its way.
        for leftover in ["g1/e3-s7-0.state", "g1/e4-9.manifest", "probe-0000000000000001", "log/probe-0000000000000002"] {
            memory.overwrite(&format!("default/bids/uid-1/{leftover}"), bytes::Bytes::from_static(b"x"));
        }
        for kept in ["g1/e7-s0-0.state", "g2/e1-s0-0.state", "README", "g1/notes", "savepoints/s/manifest"] {
            memory.overwrite(&format!("default/bids/uid-1/{kept}"), bytes::Bytes::from_static(b"x"));
        }
        let collected = publisher.collect(2).await.unwrap();
        // Start record and four of six records; four manifests; files 1 to 3 (4 is in the chain of 5); leftovers.
        assert_eq!((collected.records, collected.objects), (5, 4 + 3 + 4));
        assert!(collected.bytes > 100);
        let left: Vec<String> = memory.paths().iter().map(|path| path.trim_start_matches("default/bids/uid-1/").to_string()).collect();
        let expected = [
            "README",
            "fence",
            "g1/e4-s0-0.state",
            "g1/e5-10.manifest",
            "g1/e5-s0-0.state",
            "g1/e6-12.manifest",
            "g1/e6-s0-0.state",
            "g1/e7-s0-0.state",
            "g1/notes",
            "g2/e1-s0-0.state",
            "log/00000000000000000006",
            "log/00000000000000000007",
            "savepoints/s/manifest",
        ];
        let numbers = |name: &String| name.replace("-9.", "-10.");
        assert_eq!(left.iter().map(|name| mask_attempt(&numbers(name))).collect::<Vec<_>>(), expected.map(mask_attempt));
        assert_eq!(publisher.collect(2).await.unwrap(), Default::default());
        for (_, file) in [(5, "e5"), (6, "e6")] {
            assert!(left.iter().any(|name| name.contains(file)));
        }
        let point = process(&store, 9).begin(None).await.unwrap().point;
        for file in job::files(&point.manifest.unwrap()) {
            engine.read_state(&file).await.unwrap();
        }
    });
}

/// The attempt in a manifest's name is the writer's affair.
fn mask_attempt(name: &str) -> String {
    match name.strip_suffix(".manifest").and_then(|name| name.rsplit_once('-')) {
        Some((name, _)) => format!("{name}-N.manifest"),
        None => name.to_string(),
    }
}

#[test]
fn what_generations_left_behind_is_found_by_the_next_sweep() {
    block_on(async {
        let (memory, store) = store();
        let (engine, mut publisher) = generation(&store, 1).await;
        checkpoint(&engine, &mut publisher, 1, 1).await.unwrap();
        // A state file for a checkpoint that its generation never published.
        job::put_file(&engine, 1, 2).await.unwrap();
        let (engine, mut publisher) = generation(&store, 2).await;
        checkpoint(&engine, &mut publisher, 2, 1).await.unwrap();
        publisher.collect(1).await.unwrap();
        let left = memory.paths();
        assert!(left.iter().all(|path| !path.contains("/g1/")), "{left:?}");
        assert_eq!(left.len(), 4, "{left:?}");
    });
}

#[test]
fn a_crash_loop_without_a_checkpoint_leaves_one_record() {
    block_on(async {
        let (memory, store) = store();
        for nonce in 1..20 {
            generation(&store, nonce).await;
        }
        let (_, mut publisher) = generation(&store, 20).await;
        publisher.collect(3).await.unwrap();
        assert_eq!(memory.paths(), ["default/bids/uid-1/fence", "default/bids/uid-1/log/00000000000000000020"]);
    });
}

/// A published checkpoint, taken as the savepoint `a`.
async fn savepoint(store: &Arc<dyn Store>) -> (Protocol, Publisher) {
    let (engine, mut publisher) = generation(store, 1).await;
    assert!(matches!(publisher.savepoint("a").await, Err(ProtocolError::Refused(_))), "there is no checkpoint yet");
    checkpoint(&engine, &mut publisher, 1, 2).await.unwrap();
    checkpoint(&engine, &mut publisher, 2, 2).await.unwrap();
    let taken = publisher.savepoint("a").await.unwrap();
    assert_eq!((taken.folder.as_str(), taken.epoch), ("default/bids/uid-1/savepoints/a", 2));
    assert_eq!(publisher.savepoint("a").await.unwrap(), taken, "taking it again is harmless");
    (engine, publisher)
}

#[test]
fn a_savepoint_outlives_its_checkpoint_and_is_restored_once_for_each_request() {
    block_on(async {
        let (memory, store) = store();
        let (engine, mut publisher) = savepoint(&store).await;
        for epoch in 3..6 {
            checkpoint(&engine, &mut publisher, epoch, 1).await.unwrap();
        }
        assert!(matches!(publisher.savepoint("a").await, Err(ProtocolError::Refused(_))), "the id is taken");
        publisher.collect(1).await.unwrap();
        assert_eq!(engine.savepoints().await.unwrap().len(), 1);
        let folder = ObjectPath::parse("default/bids/uid-1/savepoints/a").unwrap();
        let restore = Restore { request: "a#1".to_string(), store: None, folder, first: false };
        let begun = process(&store, 2).begin(Some(&restore)).await.unwrap();
        assert_eq!((begun.generation, begun.point.record.epoch), (2, 2));
        assert_eq!(begun.point.record.committables, [committable(1, 1, 2)]);
        let files = job::files(begun.point.manifest.as_ref().unwrap());
        assert_eq!(files.len(), 2);
        assert!(files.iter().all(|file| file.path.starts_with("g2/e2-import-")));
        for (file, epoch) in files.iter().zip([1, 2]) {
            assert_eq!(engine.read_state(file).await.unwrap()[0], content(1, epoch, 0));
        }
        // Restarts with the same request go on; with another nonce they restore again.
        let (engine, mut publisher) = {
            let begun = process(&store, 3).begin(Some(&restore)).await.unwrap();
            let engine = process(&store, 4);
            assert_eq!((begun.point.record.epoch, job::files(begun.point.manifest.as_ref().unwrap())), (2, files));
            let (publisher, _) = engine.attach(begun.generation, begun.start_record).await.unwrap();
            (engine, publisher)
        };
        checkpoint(&engine, &mut publisher, 3, 3).await.unwrap();
        publisher.collect(1).await.unwrap();
        assert!(memory.paths().iter().filter(|path| path.contains("import")).count() == 2, "the chain still references them");
        assert_eq!(process(&store, 5).begin(Some(&restore)).await.unwrap().point.record.epoch, 3);
        let again = Restore { request: "a#2".to_string(), ..restore };
        assert_eq!(process(&store, 6).begin(Some(&again)).await.unwrap().point.record.epoch, 2);
    });
}

#[test]
fn a_savepoint_is_restored_by_another_job_from_another_store() {
    block_on(async {
        let (_, source) = store();
        savepoint(&source).await;
        let (_, target) = store();
        let job = rheos_checkpoint::paths::JobPaths::new("default", "other", "uid-2").unwrap();
        let protocol = Protocol::new(Arc::clone(&target), job, 1);
        let folder = ObjectPath::parse("default/bids/uid-1/savepoints/a").unwrap();
        let restore = Restore { request: "a".to_string(), store: Some(Arc::clone(&source)), folder: folder.clone(), first: false };
        let begun = protocol.begin(Some(&restore)).await.unwrap();
        let manifest = begun.point.manifest.unwrap();
        assert_eq!((manifest.job_uid.as_str(), manifest.epoch), ("uid-2", 2));
        for file in job::files(&manifest) {
            protocol.read_state(&file).await.unwrap();
        }
        let missing = Restore { request: "b".to_string(), store: None, folder, first: false };
        let error = protocol.begin(Some(&missing)).await.unwrap_err();
        assert!(matches!(&error, ProtocolError::Unusable(ReadError { reason: Reason::Missing, .. })), "{error}");
    });
}

#[test]
fn a_disposed_savepoint_is_gone_and_half_a_one_is_told_apart() {
    block_on(async {
        let (memory, store) = store();
        let (engine, _) = savepoint(&store).await;
        memory.overwrite("default/bids/uid-1/savepoints/half/g1-e1-0.state", bytes::Bytes::from_static(b"x"));
        let found: Vec<_> = engine.savepoints().await.unwrap().into_iter().map(|found| (found.id, found.whole)).collect();
        assert_eq!(found, [("a".to_string(), true), ("half".to_string(), false)]);
        for id in ["a", "half", "never"] {
            engine.dispose(id).await.unwrap();
        }
        assert!(engine.savepoints().await.unwrap().is_empty());
        assert!(matches!(engine.dispose("../x").await, Err(ProtocolError::Path(_))));
    });
}

#[test]
fn a_savepoint_is_disposed_of_by_its_folder_and_nothing_else_is() {
    block_on(async {
        let (memory, store) = store();
        let (engine, _) = savepoint(&store).await;
        let folder = |path: &str| ObjectPath::parse(&format!("default/bids/uid-1{path}")).unwrap();
        let before = memory.paths();
        for wrong in ["", "/log", "/g1", "/savepoints"] {
            let error = dispose_at(store.as_ref(), &folder(wrong)).await.unwrap_err();
            assert!(matches!(&error, ProtocolError::Refused(why) if why.contains("no savepoint")), "{wrong}: {error}");
        }
        assert_eq!(memory.paths(), before, "a refusal deletes nothing");
        // What a call that was cut short has left: files without their description.
        memory.overwrite("default/bids/uid-1/savepoints/half/g1-e1-0.state", bytes::Bytes::from_static(b"x"));
        for id in ["a", "half", "a", "never"] {
            dispose_at(store.as_ref(), &folder(&format!("/savepoints/{id}"))).await.unwrap();
        }
        assert!(engine.savepoints().await.unwrap().is_empty());
        assert!(!memory.paths().iter().any(|path| path.contains("savepoints")), "{:?}", memory.paths());
    });
}

#[test]
fn a_coordinator_that_was_replaced_does_not_fence_its_successor() {
    block_on(async {
        let (_, store) = store();
        let begin = async |nonce: u64, claim: u64| process(&store, nonce).with_claim(claim).begin(None).await;
        assert_eq!(begin(1, 4).await.unwrap().generation, 1);
        assert_eq!(begin(1, 4).await.unwrap().generation, 2, "its own restart goes on");
        assert_eq!(begin(2, 5).await.unwrap().generation, 3);
        let error = begin(1, 4).await.unwrap_err();
        assert_eq!(error, ProtocolError::Replaced { claim: 4, newer: 5, current: 3 });
        assert!(error.is_fenced() && !error.is_transient());
        assert_eq!(begin(2, 5).await.unwrap().generation, 4, "the successor was not disturbed");
    });
}

#[test]
fn a_restore_for_the_first_start_leaves_a_checkpoint_alone() {
    block_on(async {
        let (_, store) = store();
        let (engine, mut publisher) = savepoint(&store).await;
        checkpoint(&engine, &mut publisher, 3, 1).await.unwrap();
        let folder = ObjectPath::parse("default/bids/uid-1/savepoints/a").unwrap();
        let restore = Restore { request: "a".to_string(), store: None, folder, first: true };
        assert_eq!(process(&store, 2).begin(Some(&restore)).await.unwrap().point.record.epoch, 3);
        // Where there is none it is served, and stays served.
        let job = rheos_checkpoint::paths::JobPaths::new("default", "bids", "uid-2").unwrap();
        let other = Protocol::new(Arc::clone(&store), job, 3);
        for _ in 0..2 {
            let begun = other.begin(Some(&restore)).await.unwrap();
            assert_eq!((begun.point.record.epoch, begun.point.record.restored.as_deref()), (2, Some("a")));
        }
    });
}

#[test]
fn objects_of_another_job_are_refused_by_name() {
    block_on(async {
        let (_, store) = store();
        let (engine, mut publisher) = generation(&store, 1).await;
        checkpoint(&engine, &mut publisher, 1, 1).await.unwrap();
        // The folder was copied to another job's.
        let job = rheos_checkpoint::paths::JobPaths::new("default", "bids", "uid-2").unwrap();
        let fence = store.get(&engine.job().fence(), 1_000_000).await.unwrap();
        store.put(&job.fence(), fence.bytes, PutMode::Create).await.unwrap();
        let error = Protocol::new(Arc::clone(&store), job, 3).begin(None).await.unwrap_err();
        assert_eq!(error.to_string(), "default/bids/uid-2/fence cannot be used: it belongs to the job with uid \"uid-1\", not \"uid-2\"");
    });
}

#[test]
fn a_fence_that_was_set_back_is_refused() {
    block_on(async {
        let (memory, store) = store();
        let first = {
            generation(&store, 1).await;
            store.get(&process(&store, 1).job().fence(), 1_000_000).await.unwrap()
        };
        generation(&store, 2).await;
        generation(&store, 3).await;
        memory.overwrite("default/bids/uid-1/fence", first.bytes);
        let error = process(&store, 4).begin(None).await.unwrap_err();
        assert!(error.to_string().contains("behind the log's 3"), "{error}");
    });
}

#[test]
fn many_coordinators_at_once_get_a_generation_each_or_are_fenced() {
    block_on(async {
        let (_, store) = store();
        let begins = (1..=8).map(|nonce| {
            let store = Arc::clone(&store);
            async move { process(&store, nonce).begin(None).await }
        });
        let begun = futures::future::join_all(begins).await;
        let mut generations: Vec<u64> = begun.iter().filter_map(|begun| Some(begun.as_ref().ok()?.generation)).collect();
        generations.sort_unstable();
        generations.dedup();
        assert_eq!(generations.len(), begun.iter().filter(|begun| begun.is_ok()).count());
        assert!(generations.contains(&8));
    });
}

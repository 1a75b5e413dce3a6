//! [io] A job's life, with every call of it failing once: refused, lost, done but unheard, or the process dying there.
//!
//! The life has three generations; each publishes two checkpoints, commits what it has permits for, and collects. After
//! the fault the next generation takes over on a healthy store. Whatever was hit: each unit of input is committed exactly
//! once at the end, the last checkpoint is whole, and one collection later nothing is left over.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use rheos_checkpoint::paths::ObjectPath;
use rheos_checkpoint::protocol::carry::Carried;
use rheos_checkpoint::store::Action;
use rheos_checkpoint::store::faulty::{Fault, FaultyStore};
use rheos_checkpoint::store::memory::MemoryStore;
use rheos_checkpoint::workflow::{ProtocolError, ProtocolResult};
use rheos_checkpoint::{CommitPermit, Store};
use serde_json::Value;

use crate::block_on;
use crate::job::{self, committable, manifest, process};

/// What is committed outside: committables by identity; repeating one is harmless, as sinks promise.
type Sink = Mutex<BTreeMap<String, (u64, u64)>>;

/// Units of input that each generation processes.
const UNITS: u64 = 2;

fn commit(sink: &Sink, _permit: &CommitPermit, committables: &[Value]) {
    for value in committables {
        let unit = |at: usize| value[at].as_u64().unwrap();
        sink.lock().unwrap().insert(value.to_string(), (unit(1), unit(2)));
    }
}

/// One generation: goes on after errors as an engine does, ends when it is fenced or cannot begin. Returns where it got.
async fn live(store: &Arc<dyn Store>, nonce: u64, sink: &Sink, savepoint: bool) -> ProtocolResult<()> {
    let begun = process(store, nonce).begin(None).await?;
    let engine = process(store, nonce + 1_000);
    let (mut publisher, point) = engine.attach(begun.generation, begun.start_record).await?;
    commit(sink, publisher.start_permit(), &point.record.committables);
    let mut carried: Carried<(), Value> = Carried::default();
    let mut files = point.manifest.as_ref().map(job::files).unwrap_or_default();
    for file in &files {
        engine.read_state(file).await?;
    }
    let mut done = point.record.epoch;
    for epoch in point.record.epoch + 1..=point.record.epoch + UNITS {
        carried.add((), epoch, [committable(begun.generation, epoch - 1, epoch)]);
        // A failed upload abandons the checkpoint.
        let Ok(file) = job::put_file(&engine, begun.generation, epoch).await else { continue };
        files.push(file);
        files = files.split_off(files.len().saturating_sub(2));
        let unconfirmed: Vec<Value> = carried.all().cloned().collect();
        match publisher.publish(&manifest(begun.generation, epoch, files.clone()), &unconfirmed).await {
            Ok(permit) => {
                commit(sink, &permit, &unconfirmed);
                carried.confirm(&(), permit.epoch());
                done = epoch;
            }
            Err(error) if error.is_fenced() => return Err(error),
            Err(_) => {}
        }
        if savepoint && done == epoch {
            let _ = publisher.savepoint(&format!("s{epoch}")).await;
        }
        // A failed collection is tried again after the next checkpoint.
        if let Err(error @ ProtocolError::Fenced { .. }) = publisher.collect(1).await {
            return Err(error);
        }
    }
    Ok(())
}

/// Checks what must hold once a generation has gone through undisturbed.
fn check(memory: &MemoryStore, store: &Arc<dyn Store>, sink: &Sink, what: &str) {
    block_on(async {
        let end = process(store, 77).log_end().await.unwrap().unwrap();
        let mut seen = vec![0; end.epoch as usize];
        for (from, to) in sink.lock().unwrap().values() {
            (*from..*to).for_each(|unit| seen[unit as usize] += 1);
        }
        assert!(seen.iter().all(|times| *times == 1), "{what}: commits by unit {seen:?}");
        let begun = process(store, 78).begin(None).await.unwrap();
        for file in job::files(begun.point.manifest.as_ref().unwrap()) {
            process(store, 79).read_state(&file).await.unwrap();
        }
        let (mut publisher, _) = process(store, 80).attach(begun.generation, begun.start_record).await.unwrap();
        publisher.collect(1).await.unwrap();
        let left: Vec<String> = memory.paths().into_iter().filter(|path| !path.contains("/savepoints/")).collect();
        // Fence, the start record, a manifest and its two files.
        assert_eq!(left.len(), 5, "{what}: {left:?}");
        for found in process(store, 81).savepoints().await.unwrap().iter().filter(|found| found.whole) {
            let folder = process(store, 82).job().savepoint(&found.id).unwrap();
            let restore = rheos_checkpoint::workflow::Restore { request: found.id.clone(), store: None, folder, first: false };
            let begun = process(store, 83).begin(Some(&restore)).await.unwrap();
            for file in job::files(begun.point.manifest.as_ref().unwrap()) {
                process(store, 84).read_state(&file).await.unwrap();
            }
        }
    });
}

/// Runs one life with a fault at call `at` of the second generation; false when it has fewer calls.
fn run(at: u64, fault: Fault, dies: bool) -> bool {
    let memory = Arc::new(MemoryStore::new());
    let store: Arc<dyn Store> = Arc::clone(&memory) as Arc<dyn Store>;
    let sink = Sink::default();
    block_on(live(&store, 1, &sink, false)).unwrap();
    let script = move |call: u64, _: Action, _: &ObjectPath| match call.cmp(&at) {
        std::cmp::Ordering::Less => Fault::None,
        std::cmp::Ordering::Equal => fault,
        // A dead process does nothing more.
        std::cmp::Ordering::Greater if dies => Fault::Refused,
        std::cmp::Ordering::Greater => Fault::None,
    };
    let faulty = Arc::new(FaultyStore::new(Arc::clone(&store), script));
    let seen: Arc<dyn Store> = Arc::clone(&faulty) as Arc<dyn Store>;
    let _ = block_on(live(&seen, 2, &sink, true));
    block_on(live(&store, 3, &sink, false)).unwrap();
    check(&memory, &store, &sink, &format!("{fault:?} at call {at}, dies {dies}"));
    faulty.calls() > at
}

#[test]
fn a_fault_at_any_call_loses_nothing_repeats_nothing_and_leaves_nothing() {
    let mut runs = 0;
    for (fault, dies) in [
        (Fault::Refused, false),
        (Fault::Lost, false),
        (Fault::Unheard, false),
        (Fault::Refused, true),
        (Fault::Unheard, true),
        (Fault::None, true),
    ] {
        let mut at = 0;
        while run(at, fault, dies) {
            at += 1;
            runs += 1;
            assert!(at < 1_000, "the life does not end");
        }
        assert!(at > 40, "only {at} calls");
    }
    println!("{runs} runs");
}

#[test]
fn two_faults_in_one_life_are_survived_as_well() {
    let faults = [Fault::Refused, Fault::Lost, Fault::Unheard];
    for first in 0..70 {
        for gap in [1, 2, 3, 7] {
            for (one, other) in faults.into_iter().flat_map(|one| faults.map(|other| (one, other))) {
                let memory = Arc::new(MemoryStore::new());
                let store: Arc<dyn Store> = Arc::clone(&memory) as Arc<dyn Store>;
                let sink = Sink::default();
                block_on(live(&store, 1, &sink, false)).unwrap();
                let script = move |call: u64, _: Action, _: &ObjectPath| match call {
                    call if call == first => one,
                    call if call == first + gap => other,
                    _ => Fault::None,
                };
                let seen: Arc<dyn Store> = Arc::new(FaultyStore::new(Arc::clone(&store), script));
                let _ = block_on(live(&seen, 2, &sink, false));
                block_on(live(&store, 3, &sink, false)).unwrap();
                check(&memory, &store, &sink, &format!("{one:?} at {first}, {other:?} {gap} later"));
            }
        }
    }
}

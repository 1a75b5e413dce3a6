//! [pure] What a run consists of, drawn from its seed: the job, its input, the workers, the faults.

use super::jobs::Shape;
use super::random::Random;
use super::source::Content;
use crate::coordinator::Pacing;
use crate::sink::Delivery;

/// Where a generation can be hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Point {
    /// At any step.
    Anywhere,
    /// While it begins: minting, reading state.
    Restore,
    /// While committables of the restored record are committed again.
    Recommit,
    /// While a stage's part of a checkpoint is made durable.
    Upload,
    /// While manifest and record are written.
    Publish,
    /// Between the record and the commit.
    Noticed,
    /// While a worker's sinks commit.
    Commit,
    /// Between the last record and the end.
    Draining,
}

impl Point {
    /// All of them.
    pub const ALL: [Self; 8] =
        [Self::Anywhere, Self::Restore, Self::Recommit, Self::Upload, Self::Publish, Self::Noticed, Self::Commit, Self::Draining];
}

/// What happens there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultKind {
    /// A worker is lost, and with it the generation: timely ends all of its processes.
    Crash,
    /// The generation is cut off but goes on for a while beside its successor.
    Zombie,
    /// The job is suspended with a checkpoint and resumed.
    Suspend,
    /// A savepoint is asked for.
    Savepoint,
}

/// One fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// Where.
    pub point: Point,
    /// Not before so many steps have passed since the last one.
    pub after: u64,
    /// What.
    pub kind: FaultKind,
    /// Workers of the generation that follows, if one does.
    pub workers: u32,
}

/// A defect that the simulator can build into the engine's driver, to show that it would be seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlantedBug {
    /// A restore reads every split from its beginning.
    SkipOffsets,
    /// A sink that commits a name again makes a second copy under another name.
    CopyOnRepeat,
    /// A record holds only the committables of its own checkpoint.
    DropCarried,
    /// Stages behind an exchange take their snapshot one epoch late.
    LateSnapshots,
    /// The committables of the restored record are not committed again.
    NoRecommit,
    /// State whose upload failed is not written with the next checkpoint.
    ForgetFailedUpload,
    /// Sinks commit when the record is about to be written.
    CommitBeforeRecord,
    /// A worker says that its output is committed when it has only heard that it may be.
    ConfirmUnfinished,
    /// Sinks show what comes from state when its epoch closes; no fault in a job that is at most once without state.
    WriteAtOnce,
}

impl PlantedBug {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::SkipOffsets,
        Self::CopyOnRepeat,
        Self::DropCarried,
        Self::LateSnapshots,
        Self::NoRecommit,
        Self::ForgetFailedUpload,
        Self::CommitBeforeRecord,
        Self::ConfirmUnfinished,
        Self::WriteAtOnce,
    ];
}

/// One run.
#[derive(Debug, Clone, PartialEq)]
pub struct Scenario {
    /// What it was drawn from; decides the interleaving, too.
    pub seed: u64,
    /// The job.
    pub shape: Shape,
    /// Its input.
    pub content: Content,
    /// What is promised: `ExactlyOnce` or `AtMostOnce`.
    pub delivery: Delivery,
    /// Workers of the first generation.
    pub workers: u32,
    /// Ticks and checkpoints.
    pub pacing: Pacing,
    /// Faults, one after the other.
    pub faults: Vec<Fault>,
    /// One in so many puts of the checkpoint store fails; 0: none.
    pub put_failures: u64,
    /// Longest wait of a call on the store, polls.
    pub store_rests: u64,
    /// Longest wait of a sink before each thing it commits, polls.
    pub commit_rests: u64,
    /// A defect, to see it found.
    pub bug: Option<PlantedBug>,
}

impl Scenario {
    /// The scenario of a seed.
    pub fn draw(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let shape = Shape::ALL[(seed % Shape::ALL.len() as u64) as usize];
        let content = Content {
            seed: random.number(),
            splits: random.between(1, 4) as u32,
            rows: random.between(60, 400),
            keys: random.between(1, 12),
        };
        let pacing = Pacing {
            epoch_min: 2,
            epoch_max: 10,
            checkpoint_interval: random.between(5, 60) as i64,
            checkpoint_timeout: if random.one_in(4) { random.between(60, 200) as i64 } else { 2_000 },
            window: random.between(1, 5),
        };
        let mut faults = Vec::new();
        for _ in 0..random.below(6) {
            let fault = Self::fault(&mut random);
            faults.push(fault);
            if fault.kind != FaultKind::Savepoint && random.one_in(2) {
                // The successor is hit while it begins.
                let points = [Point::Restore, Point::Recommit, Point::Anywhere];
                let point = points[random.below(points.len() as u64) as usize];
                faults.push(Fault { point, after: random.below(40), kind: FaultKind::Crash, workers: random.between(1, 4) as u32 });
            }
        }
        let put_failures = if random.one_in(2) { random.between(8, 40) } else { 0 };
        let workers = random.between(1, 4) as u32;
        let store_rests = *random.pick(&[2, 4, 16]).unwrap_or(&4);
        let commit_rests = *random.pick(&[2, 16, 128]).unwrap_or(&4);
        let delivery = Delivery::ExactlyOnce;
        Self { seed, shape, content, delivery, workers, pacing, faults, put_failures, store_rests, commit_rests, bug: None }
    }

    fn fault(random: &mut Random) -> Fault {
        let kind = match random.below(10) {
            0 => FaultKind::Savepoint,
            1 | 2 => FaultKind::Suspend,
            3 | 4 => FaultKind::Zombie,
            _ => FaultKind::Crash,
        };
        // A generation that begins is hit by what follows a fault.
        let points = [Point::Anywhere, Point::Upload, Point::Publish, Point::Noticed, Point::Commit, Point::Draining];
        let point = points[random.below(points.len() as u64) as usize];
        Fault { point, after: random.below(800), kind, workers: random.between(1, 4) as u32 }
    }

    /// The one line that runs it again.
    pub fn repeat(&self) -> String {
        format!("RHEOS_SIM_SEED={} cargo test -p rheos-dataflow --test it simulation -- seeds", self.seed)
    }
}

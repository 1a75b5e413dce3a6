//! [pure] The decisions of the checkpoint protocol, over observed facts. I/O is in [`crate::workflow`].
//!
//! The rules, and what each one is for (`tests/it/interleavings.rs` leaves each out and finds the run that breaks):
//! 1. **Mint**: a generation begins by a conditional replacement of the fence ([`fence`]). Two never share a number.
//! 2. **Dense log**: a record's name is the last number + 1, and it is created only if absent ([`publish`]). Two
//!    writers that disagree meet at the next number, whatever epochs they are at; one of them loses and ends.
//! 3. **Start record**: a generation's first act is a record of its own ([`start`]), so that a paused predecessor
//!    meets it at once. Not needed for safety.
//! 4. **Fence read**: retention frees numbers, so a writer that slept long may create a record at a number that the
//!    log has left behind. After creating a record its writer reads the fence once more; only if the generation is
//!    still its own there is a [`CommitPermit`](crate::CommitPermit).
//! 5. **Carry**: a record holds every committable that no sink has confirmed ([`carry`]), for record n may be written
//!    before the commit of n-1 has run. A restore commits them again.
//! 6. **Tokens**: each put holds an id of its writer, so that a lost reply is told from a lost race.
//! 7. **Retention** deletes records before what they reference, and only what no kept record references ([`retain`]).

pub mod carry;
pub mod fence;
pub mod publish;
pub mod retain;
pub mod start;

/// How a put ended, as far as its caller heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutOutcome {
    /// It happened.
    Done,
    /// Its condition did not hold, at that time.
    Refused,
    /// Not heard: it may have happened, and may still happen.
    Unknown,
}

/// The identity of one writer: its generation and a random number of its process. Makes the tokens of its puts.
#[derive(Debug, Clone)]
pub struct Writer {
    generation: u64,
    nonce: u64,
    puts: u64,
}

impl Writer {
    /// A writer; `nonce` must differ between any two processes that ever write for a job.
    pub fn new(generation: u64, nonce: u64) -> Self {
        Self { generation, nonce, puts: 0 }
    }

    /// Its generation.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// A token that no other put has.
    pub fn token(&mut self) -> String {
        let put = self.attempt();
        format!("g{}-{:016x}-{put}", self.generation, self.nonce)
    }

    /// A number that no other put of this writer has.
    pub fn attempt(&mut self) -> u64 {
        self.puts += 1;
        self.puts
    }

    /// Whether `token` is one of this writer's.
    pub fn made(&self, token: &str) -> bool {
        token.rsplit_once('-').is_some_and(|(writer, _)| writer == format!("g{}-{:016x}", self.generation, self.nonce))
    }
}

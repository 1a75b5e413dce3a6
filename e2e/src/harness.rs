//! [io] What a scenario on a real Kubernetes is made of: a namespace of its own, a job in it, waiting on conditions,
//! faults, and the job's output read back.
//!
//! The cluster is whatever `KUBECONFIG` names. Nothing but `kubectl` and the apiserver is used to reach into it, so that
//! the same scenarios run on the bare cluster and on any other. A scenario that fails prints what its namespace holds.

pub mod coordinator;
pub mod install;
pub mod job;
pub mod kubectl;
pub mod operator;
pub mod output;
pub mod space;
pub mod watch;

pub use self::job::JobSpec;
pub use self::space::{Space, scenario, scenario_alone};

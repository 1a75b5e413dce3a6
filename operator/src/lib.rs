//! [pure] The operator: reconciles `StreamJob` and `Savepoint` into pods, and never touches data.

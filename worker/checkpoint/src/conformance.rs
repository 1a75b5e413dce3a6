//! [io] What every store must pass; see the guarantees of [`crate::store`].

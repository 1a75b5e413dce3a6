//! What operator, driver and worker say to each other.

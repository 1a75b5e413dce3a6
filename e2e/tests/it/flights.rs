//! Real data: a month of departures. The year is in the `servers` tests, which fetch it.

use rheos_e2e::flights::{equals_sqlite, month};

use crate::support::block_on;

#[test]
fn a_month_of_departures_equals_sqlite() {
    block_on(equals_sqlite(&month(), 27_004));
}

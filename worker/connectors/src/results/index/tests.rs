//! Chains against a plain list of all rows.

use proptest::prelude::*;

use super::*;

fn entry(epoch: Epoch, start: u64, rows: u64) -> Entry {
    Entry { epoch, start, rows, bytes: rows * 10 }
}

fn chain(rows: &[u64]) -> Chain {
    let mut chain = Chain::default();
    for (epoch, rows) in (1..).zip(rows) {
        chain.push(entry(epoch * 10, chain.end(), *rows)).unwrap();
    }
    chain
}

const LIMITS: Limits = Limits { rows: 10, bytes: 1_000, epochs: 100, view_rows: 5 };

#[test]
fn names_are_read_back_and_others_are_passed_over() {
    let view = ViewAt { epoch: 20, position: 7, size: Some((3, 99)) };
    let over = ViewAt { epoch: 30, position: 9, size: None };
    let (first, second) = (entry(10, 0, 4), entry(20, 4, 5));
    let names =
        [second.name(), first.name(), view.name(), "e1-2.index".into(), "notes".into(), "e-1-2-3-4.index".into(), "v1-2.view".into()];
    let chain = Chain::of_names(names.iter().map(String::as_str));
    assert_eq!(chain.entries().collect::<Vec<_>>(), [first, second]);
    assert_eq!(chain.view, Some(view));
    assert_eq!(Chain::of_names([view.name().as_str(), over.name().as_str()]).view, Some(over), "the newer one counts");
}

#[test]
fn an_index_that_came_too_late_is_no_part_of_the_chain() {
    let (late, kept, newest) = (entry(10, 0, 4), entry(50, 20, 5), entry(60, 25, 1));
    let names = [late.name(), kept.name(), newest.name()];
    let chain = Chain::of_names(names.iter().map(String::as_str));
    assert_eq!(chain.entries().collect::<Vec<_>>(), [kept, newest]);
    assert_eq!(chain.behind(10, 3), Err(BadCursor::Gone));
}

#[test]
fn a_gap_is_refused_and_what_is_there_changes_nothing() {
    let mut chain = chain(&[2, 3]);
    assert_eq!(chain.push(entry(30, 6, 1)), Err(Gap));
    assert_eq!(chain.push(entry(20, 2, 3)), Ok(()));
    assert_eq!(chain.end(), 5);
}

#[test]
fn a_cursor_leads_to_the_row_behind_it() {
    let chain = chain(&[2, 3]);
    assert_eq!(chain.behind(0, 0), Ok(0));
    assert_eq!(chain.behind(10, 0), Ok(1));
    assert_eq!(chain.behind(10, 1), Ok(2));
    assert_eq!(chain.behind(20, 2), Ok(5));
    assert_eq!(chain.behind(20, 3), Err(BadCursor::Unknown));
    assert_eq!(chain.behind(15, 0), Err(BadCursor::Unknown));
    assert_eq!(chain.behind(30, 0), Err(BadCursor::Unknown));
    assert_eq!(chain.before(0), (0, 0));
    assert_eq!(chain.before(2), (10, 1));
    assert_eq!(chain.before(3), (20, 0));
}

#[test]
fn the_oldest_go_first_and_the_newest_stays_however_large() {
    let mut rows = chain(&[4, 4, 4]);
    assert_eq!(rows.expire(&LIMITS, false), [entry(10, 0, 4)]);
    assert_eq!(rows.expire(&LIMITS, false), []);
    let mut large = chain(&[1, 100]);
    assert_eq!(large.expire(&LIMITS, false), [entry(10, 0, 1)]);
    assert_eq!(large.end(), 101);
    let mut bytes = chain(&[4, 4]);
    assert_eq!(bytes.expire(&Limits { bytes: 80, ..LIMITS }, false), []);
    assert_eq!(bytes.expire(&Limits { bytes: 79, ..LIMITS }, false).len(), 1);
    let mut epochs = chain(&[1, 1, 1]);
    assert_eq!(epochs.expire(&Limits { epochs: 3, ..LIMITS }, false), []);
    assert_eq!(epochs.expire(&Limits { epochs: 2, ..LIMITS }, false).len(), 1);
}

#[test]
fn what_the_view_does_not_hold_is_kept() {
    assert_eq!(chain(&[8, 8, 8]).expire(&LIMITS, true).len(), 2, "no view is known");
    let mut log = chain(&[8, 8, 8]);
    log.renew(ViewAt { epoch: 0, position: 0, size: Some((0, 5)) });
    assert_eq!(log.expire(&LIMITS, true), []);
    log.renew(ViewAt { epoch: 10, position: 8, size: Some((2, 20)) });
    assert_eq!(log.expire(&LIMITS, true), [entry(10, 0, 8)]);
    log.renew(ViewAt { epoch: 20, position: 16, size: None });
    assert_eq!(log.expire(&LIMITS, true), [entry(20, 8, 8)], "a view that was given up holds nothing back");
    assert!(!log.wants_view(&LIMITS, 1));
}

#[test]
fn a_view_is_made_anew_when_it_pays() {
    let limits = Limits { rows: 1_000, ..LIMITS };
    let mut log = chain(&[5, 4]);
    log.renew(ViewAt { epoch: 0, position: 0, size: Some((0, 5)) });
    assert!(!log.wants_view(&limits, 10));
    log.push(entry(30, 9, 1)).unwrap();
    assert!(log.wants_view(&limits, 10));
    log.renew(ViewAt { epoch: 30, position: 10, size: Some((20, 9)) });
    log.push(entry(40, 10, 19)).unwrap();
    assert!(!log.wants_view(&limits, 10));
    log.push(entry(50, 29, 1)).unwrap();
    assert!(log.wants_view(&limits, 10));
}

#[test]
fn cursors_are_written_and_read() {
    for text in ["0-0", "42-7", "42-7-1a2b3c4d", "42-7-00000000"] {
        assert_eq!(text.parse::<Cursor>().unwrap().to_string(), text);
    }
    for wrong in ["", "42", "-1-2", "42-7-", "42-7-1a2b3c4", "42-7-1a2b3c4d-1", "42-x", "+1-2", "99999999999999999999-1", "1-2-+1234567"] {
        assert!(wrong.parse::<Cursor>().is_err(), "{wrong}");
    }
}

proptest! {
    /// Against the plain list: whatever is kept, a reader that goes on from any cursor meets every row behind it, once
    /// and in order, or is told.
    #[test]
    fn whoever_goes_on_from_a_cursor_misses_nothing(rows in prop::collection::vec(1_u64..6, 1..12), limit in 1_u64..30, from in 0_usize..60) {
        let all: Vec<(Epoch, u64)> = (1..).zip(&rows).flat_map(|(epoch, rows)| (0..*rows).map(move |row| (epoch * 10, row))).collect();
        let mut chain = chain(&rows);
        chain.expire(&Limits { rows: limit, ..LIMITS }, false);
        let from = from % all.len();
        match chain.behind(all[from].0, all[from].1) {
            Err(bad) => {
                prop_assert_eq!(bad, BadCursor::Gone);
                prop_assert!(chain.start() > from as u64);
            }
            Ok(mut position) => {
                let mut met = Vec::new();
                while let At::Row(entry, sequence) = chain.at(position) {
                    prop_assert_eq!(chain.before(position + 1), (entry.epoch, sequence));
                    met.push((entry.epoch, sequence));
                    position += 1;
                }
                prop_assert_eq!(chain.at(position), At::End);
                prop_assert_eq!(&met[..], &all[from + 1..]);
            }
        }
    }

    /// Listing gives back what was kept.
    #[test]
    fn a_listing_says_what_is_kept(rows in prop::collection::vec(1_u64..6, 0..12), limit in 1_u64..30) {
        let mut chain = chain(&rows);
        chain.expire(&Limits { rows: limit, ..LIMITS }, false);
        let mut names: Vec<String> = chain.entries().map(|entry| entry.name()).collect();
        names.reverse();
        prop_assert_eq!(Chain::of_names(names.iter().map(String::as_str)), chain);
    }
}

//! Window arithmetic against its definition.

use proptest::prelude::*;

use super::*;
use crate::time::{WATERMARK_MAX, WATERMARK_MIN};

/// Every window of the shape with an end in `range`, straight from the definition, by trying every start.
fn brute_windows(window: Window, range: std::ops::RangeInclusive<Millis>) -> Vec<Span> {
    let mut spans = Vec::new();
    for start in *range.start() - 500..=*range.end() {
        let lengths: Vec<Millis> = match window {
            Window::Tumble { size, offset } => ((start - offset) % size == 0).then_some(size).into_iter().collect(),
            Window::Hop { size, slide, offset } => ((start - offset) % slide == 0).then_some(size).into_iter().collect(),
            Window::Cumulate { max, step, offset } if (start - offset) % max == 0 => (1..=max / step).map(|k| k * step).collect(),
            Window::Cumulate { .. } => Vec::new(),
        };
        spans.extend(lengths.into_iter().map(|length| Span { start, end: start + length }).filter(|span| range.contains(&span.end)));
    }
    spans.sort_by_key(|span| span.end);
    spans
}

fn windows() -> impl Strategy<Value = Window> {
    let offset = -100..100i64;
    prop_oneof![
        (1..60i64, offset.clone()).prop_map(|(size, offset)| Window::Tumble { size, offset }),
        (1..60i64, 1..60i64, offset.clone()).prop_map(|(size, slide, offset)| Window::Hop { size, slide, offset }),
        (1..12i64, 1..12i64, offset).prop_map(|(steps, step, offset)| Window::Cumulate { max: steps * step, step, offset }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn windows_of_a_row_are_those_of_the_definition(window in windows(), time in -300..300i64) {
        prop_assert_eq!(window.validate(), Ok(()));
        let expected: Vec<Span> =
            brute_windows(window, time..=time + 200).into_iter().filter(|span| span.start <= time && time < span.end).collect();
        prop_assert_eq!(window.windows_of(time).collect::<Vec<_>>(), expected.clone());
        let slice = window.slice_end(time);
        prop_assert!(slice - window.slices().width <= time && time < slice);
        prop_assert_eq!(window.last_window_end(slice), expected.last().map(|span| span.end));
        for span in expected {
            // Slices tile the window, and the row's slice is one of them.
            let slices: Vec<Millis> = window.slices_of(span).collect();
            prop_assert!(slices.contains(&slice));
            prop_assert_eq!(slices.last(), Some(&span.end));
            prop_assert_eq!(slices.len() as i64 * window.slices().width, span.end - span.start);
        }
    }

    #[test]
    fn the_first_open_window_is_the_first_that_has_not_fired(
        window in windows(), time in -300..300i64, watermark in -400..500i64,
    ) {
        let slice = window.slice_end(time);
        let expected = brute_windows(window, time..=time + 200)
            .into_iter()
            .find(|span| span.start <= time && time < span.end && span.end - 1 > watermark);
        prop_assert_eq!(window.first_open_window(slice, watermark), expected);
        prop_assert_eq!(window.is_expired(slice, watermark), expected.is_none());
        // A later slice never opens a window earlier.
        if let (Some(span), Some(next)) = (expected, window.first_open_window(slice + window.slices().width, watermark)) {
            prop_assert!(next.end >= span.end);
        }
    }

    #[test]
    fn nothing_overflows_at_the_ends_of_time(
        length in 1..=MAX_LENGTH, distance in 1..=MAX_LENGTH, offset in -MAX_LENGTH..=MAX_LENGTH, near in 0..1000i64,
    ) {
        let distance = distance.max(length / MAX_WINDOWS_OF_A_ROW + 1);
        for window in [
            Window::Tumble { size: length, offset },
            Window::Hop { size: length, slide: distance, offset },
            Window::Cumulate { max: length, step: length, offset },
        ] {
            prop_assert_eq!(window.validate(), Ok(()));
            for time in [EVENT_TIME_MIN, EVENT_TIME_MIN + near, EVENT_TIME_MAX - near, EVENT_TIME_MAX] {
                let slice = window.slice_end(time);
                for span in window.windows_of(time).take(3) {
                    prop_assert!(span.start <= time && time < span.end);
                }
                prop_assert_eq!(window.first_open_window(slice, WATERMARK_MAX), None);
                prop_assert_eq!(window.first_open_window(slice, WATERMARK_MAX - 1), None);
                prop_assert_eq!(window.first_open_window(slice, WATERMARK_MIN), window.windows_of(time).next());
            }
        }
    }
}

#[test]
fn hop_of_ten_by_two_seconds_cuts_slices_of_two_seconds() {
    let window = Window::Hop { size: 10_000, slide: 2_000, offset: 0 };
    assert_eq!(window.slices(), Grid { width: 2_000, offset: 0 });
    let ends: Vec<Millis> = window.windows_of(-1).map(|span| span.end).collect();
    assert_eq!(ends, [0, 2_000, 4_000, 6_000, 8_000]);
    assert_eq!(window.first_open_window(0, 1_999), Some(Span { start: -6_000, end: 4_000 }));
}

#[test]
fn a_hop_longer_than_its_window_leaves_gaps() {
    let window = Window::Hop { size: 10, slide: 30, offset: 0 };
    assert_eq!(window.windows_of(10).next(), None);
    assert_eq!(window.last_window_end(window.slice_end(29)), None);
    assert!(window.is_expired(window.slice_end(29), WATERMARK_MIN));
}

#[test]
fn shapes_outside_the_limits_are_refused() {
    let tumble = |size, offset| Window::Tumble { size, offset }.validate();
    assert_eq!(tumble(MAX_LENGTH, MAX_LENGTH), Ok(()));
    assert!(tumble(MAX_LENGTH + 1, 0).is_err());
    assert!(tumble(0, 0).is_err());
    assert!(tumble(1, MAX_LENGTH + 1).is_err());
    let hop = |size| Window::Hop { size, slide: 1, offset: 0 }.validate();
    assert_eq!(hop(MAX_WINDOWS_OF_A_ROW), Ok(()));
    assert!(hop(MAX_WINDOWS_OF_A_ROW + 1).unwrap_err().contains("100001 windows"));
    assert!(Window::Cumulate { max: 10, step: 3, offset: 0 }.validate().unwrap_err().contains("multiple"));
}

//! `results`: rows over connections that break, views, cursors; and what is refused.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::extract::RawQuery;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::{Value, json};

use crate::cluster::Cluster;

/// Rows of the table.
const ROWS: u64 = 25;
/// A connection breaks after so many.
const BREAKS: u64 = 10;

/// The results of every job here: one table, whose streams break.
pub(crate) fn routes() -> Router {
    let table = json!({"tables": [{"name": "counts", "columns": ["auction", "n"], "changelog": true, "rows": ROWS}]});
    let views = Arc::new(AtomicU64::new(0));
    Router::new()
        .route("/v1/results", get(move || async move { table.to_string() }))
        .route("/v1/results/counts", get(move |RawQuery(query): RawQuery| async move { stream(&query.unwrap_or_default(), &views) }))
}

fn row(sequence: u64) -> String {
    format!("{{\"cursor\":\"7-{sequence}-0000000a\",\"op\":\"+I\",\"row\":{{\"auction\":{sequence},\"n\":1}}}}\n")
}

fn stream(query: &str, views: &AtomicU64) -> Response {
    let after = query.split('&').find_map(|part| part.strip_prefix("after="));
    let mut text = String::new();
    let next = match after.map(|cursor| cursor.split('-').map(str::to_owned).collect::<Vec<_>>()) {
        Some(cursor) if cursor[0] != "7" => {
            return (StatusCode::GONE, json!({"error": "rows behind the cursor are not kept any more"}).to_string()).into_response();
        }
        Some(cursor) => cursor[1].parse::<u64>().unwrap() + 1,
        None if query.contains("view=true") => {
            text += "{\"op\":\"+I\",\"row\":{\"auction\":100,\"n\":5}}\n";
            if views.fetch_add(1, Ordering::Relaxed) == 0 {
                // Half a view.
                return broken(text);
            }
            text += "{\"op\":\"+I\",\"row\":{\"auction\":101,\"n\":6}}\n{\"cursor\":\"7-21-0000000a\",\"view\":2}\n";
            22
        }
        None => 0,
    };
    let end = ROWS.min(next + BREAKS);
    text.extend((next..end).map(row));
    if end < ROWS {
        // In the middle of a line.
        text += &row(end)[..20];
        return broken(text);
    }
    text += if query.contains("follow=true") { "{\"end\":\"Finished\"}\n" } else { "{\"end\":\"newest\"}\n" };
    text.into_response()
}

/// An answer that ends without a last word.
fn broken(text: String) -> Response {
    text.into_response()
}

fn auctions(out: &str) -> Vec<u64> {
    out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["row"]["auction"].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn every_row_is_printed_once_over_connections_that_break() {
    let cluster = Cluster::with_job("bids").await;
    for arguments in [&["results", "bids", "--follow", "-o", "json"][..], &["results", "bids", "counts", "-o", "json"]] {
        let ran = cluster.run(arguments).await;
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert_eq!(auctions(&ran.out), (0..ROWS).collect::<Vec<_>>());
        assert!(ran.err.contains("trying again") && ran.err.contains("--after 7-24-0000000a goes on from here"), "{}", ran.err);
    }
    let rest = cluster.run(&["results", "bids", "--after", "7-22-0000000a", "-o", "json"]).await;
    assert_eq!(auctions(&rest.out), [23, 24]);
}

#[tokio::test]
async fn a_table_is_for_people() {
    let cluster = Cluster::with_job("bids").await;
    let ran = cluster.run(&["results", "bids", "--after", "7-22-0000000a"]).await;
    assert_eq!(ran.out, "OP   auction   n\n+I   23        1\n+I   24        1\n");
}

#[tokio::test]
async fn a_view_is_shown_when_it_is_whole() {
    let cluster = Cluster::with_job("bids").await;
    let ran = cluster.run(&["results", "bids", "--view", "--follow", "-o", "json"]).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(auctions(&ran.out), [100, 101, 22, 23, 24]);
}

#[tokio::test]
async fn what_cannot_be_had_is_told_by_name() {
    let cluster = Cluster::with_job("bids").await;
    let gone = cluster.run(&["results", "bids", "--after", "3-0-0000000a"]).await;
    assert_eq!(gone.code, Some(1), "{gone:?}");
    assert!(gone.err.contains("not kept any more") && gone.err.contains("begin without --after"), "{}", gone.err);
    let missing = cluster.run(&["results", "bids", "other"]).await;
    assert_eq!(missing.code, Some(3), "{missing:?}");
    assert!(missing.err.contains("no results table other; it has counts"), "{}", missing.err);
    for wrong in [&["results", "bids", "--after", "x"][..], &["results", "bids", "--new"], &["results", "bids", "--view", "--after", "1-1"]]
    {
        assert_eq!(cluster.run(wrong).await.code, Some(2), "{wrong:?}");
    }
    cluster.pods.forbidden.lock().unwrap().push("/portforward");
    let refused = cluster.run(&["results", "bids"]).await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.err.contains("you may not"), "{}", refused.err);
}

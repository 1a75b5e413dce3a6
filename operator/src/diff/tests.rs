//! Classes of fields, and revisions.

use rheos_api::duration::DurationText;
use rheos_api::metadata::{ConfigMapKeyRef, SecretRef};
use rheos_api::stream_job::{Autoscaling, Delivery, DesiredState, Restore, RestoreFrom, SqlFrom, Storage};

use super::*;

fn spec() -> StreamJobSpec {
    StreamJobSpec {
        sql: Some("SELECT 1".to_owned()),
        restore: Some(Restore { from: RestoreFrom::default(), allow_non_restored_state: false, nonce: 0 }),
        autoscaling: Some(Autoscaling { min_parallelism: 1, max_parallelism: 4, target_utilization_percent: 70 }),
        sql_from: Some(SqlFrom { config_map_key_ref: ConfigMapKeyRef { name: "a".into(), key: "b".into() } }),
        ..Default::default()
    }
}

/// Every path of a JSON value down to what is no object.
fn leaves(path: &str, value: &Value, into: &mut Vec<String>) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            fields.iter().for_each(|(name, field)| leaves(&join(path, name), field, into));
        }
        _ => into.push(path.to_owned()),
    }
}

#[test]
fn every_field_of_a_spec_has_a_class_and_every_class_a_field() {
    let mut paths = Vec::new();
    leaves("", &serde_json::to_value(spec()).unwrap(), &mut paths);
    assert!(paths.len() > 20, "{paths:?}");
    for path in &paths {
        let known = CLASSES.iter().any(|(known, _)| path == known || path.starts_with(&format!("{known}.")));
        assert!(known, "{path} has no class; put it into the table");
    }
    for (known, _) in CLASSES {
        let optional = ["checkpoint.storage"];
        let used = paths.iter().any(|path| path == known || path.starts_with(&format!("{known}.")));
        assert!(used || optional.contains(known), "{known} is no field");
    }
}

#[test]
fn the_strongest_changed_field_decides() {
    type Edit = fn(&mut StreamJobSpec);
    let cases: &[(&str, Edit, Class)] = &[
        ("nothing", |_| {}, Class::Ignore),
        ("upgrade mode", |spec| spec.upgrade.rollback = false, Class::Ignore),
        ("where the SQL stands", |spec| spec.sql_from = None, Class::Ignore),
        ("what restore names", |spec| spec.restore.as_mut().unwrap().from.uri = Some("s3://b/x".into()), Class::Ignore),
        ("restore gone", |spec| spec.restore = None, Class::Ignore),
        ("autoscaling gone", |spec| spec.autoscaling = None, Class::Ignore),
        ("interval", |spec| spec.checkpoint.interval = DurationText::from("1s"), Class::InPlace),
        ("restarts", |spec| spec.restart.max_restarts = 3, Class::InPlace),
        ("suspension", |spec| spec.state = DesiredState::Suspended, Class::Lifecycle),
        ("parallelism", |spec| spec.parallelism = 4, Class::Rescale),
        ("SQL", |spec| spec.sql = Some("SELECT 2".into()), Class::Redeploy),
        ("delivery", |spec| spec.delivery = Delivery::AtLeastOnce, Class::Redeploy),
        ("image", |spec| spec.worker.image = Some("x".into()), Class::Redeploy),
        ("risen nonce", |spec| spec.restore.as_mut().unwrap().nonce = 1, Class::Redeploy),
        ("key groups", |spec| spec.max_parallelism = 64, Class::Refused),
        (
            "several",
            |spec| {
                spec.parallelism = 4;
                spec.checkpoint.interval = DurationText::from("1s");
            },
            Class::Rescale,
        ),
    ];
    for (name, edit, class) in cases {
        let mut changed = spec();
        edit(&mut changed);
        assert_eq!(strongest(&diff(&spec(), &changed, 0)), *class, "{name}");
        let same = revision(&spec(), 0) == revision(&changed, 0);
        assert_eq!(same, *class != Class::Redeploy, "{name}: the revision changes exactly with what asks for new pods");
    }
}

#[test]
fn a_group_that_comes_or_goes_is_a_change_of_its_fields() {
    let mut changed = spec();
    let secret = SecretRef { name: "s3".into() };
    let storage = Storage { uri: "s3://b/p".into(), endpoint: None, region: None, credentials_secret_ref: Some(secret) };
    changed.checkpoint.storage = Some(storage);
    let paths: Vec<String> = diff(&spec(), &changed, 0).into_iter().map(|change| change.path).collect();
    assert_eq!(paths, ["checkpoint.storage.credentialsSecretRef.name", "checkpoint.storage.uri"]);
    assert_ne!(revision(&spec(), 0), revision(&changed, 0));
}

#[test]
fn a_nonce_that_was_acted_on_asks_for_nothing_when_it_goes_back() {
    let mut risen = spec();
    risen.restore.as_mut().unwrap().nonce = 5;
    assert_ne!(revision(&spec(), 0), revision(&risen, 0));
    assert_eq!(revision(&spec(), 5), revision(&risen, 5));
    assert_eq!(revision(&risen, 0), revision(&spec(), 5));
    assert_eq!(strongest(&diff(&risen, &StreamJobSpec { restore: None, ..risen.clone() }, 5)), Class::Ignore);
}

//! Classes, effects and what becomes of the state.

use expect_test::expect;
use rheos_api::stream_job::{Restore, RestoreFrom, Storage};

use super::*;

fn spec() -> StreamJobSpec {
    let storage = Storage { uri: "s3://b/p".into(), endpoint: None, region: None, credentials_secret_ref: None };
    let mut spec = StreamJobSpec { sql: Some("a\nb\nc\nd\ne\nf\ng\nh".into()), parallelism: 2, ..StreamJobSpec::default() };
    spec.checkpoint.storage = Some(storage);
    spec
}

fn fate(fate: Fate) -> OperatorFate {
    OperatorFate { id: "group-aggregate:bid:1".into(), title: "COUNT(*) by auction".into(), fate }
}

fn changed(edit: impl FnOnce(&mut StreamJobSpec)) -> (StreamJobSpec, StreamJobSpec) {
    let mut new = spec();
    edit(&mut new);
    (spec(), new)
}

#[test]
fn nothing_is_no_change() {
    assert_eq!(page(&change(&spec(), &spec(), 0, Ok(Vec::new())), Paint::Plain), "no change\n");
}

#[test]
fn an_upgrade_that_keeps_its_state() {
    let (old, new) = changed(|spec| {
        spec.sql = Some("a\nb\nc\nd\nE\nf\ng\nh\ni".into());
        spec.checkpoint.interval = "1s".into();
    });
    let change = change(&old, &new, 0, Ok(vec![fate(Fate::Kept), fate(Fate::New)]));
    expect![[r#"
        InPlace   spec.checkpoint.interval  10s -> 1s
        Redeploy  spec.sql
              c
              d
            - e
            + E
              f
              g
              h
            + i

        This is: Redeploy
          - pods of a new revision start beside the running ones
          - then the job stops with a checkpoint, and the new pods take over
          - a revision that has no checkpoint within 5m is taken back

        State: carries over
          group-aggregate:bid:1  COUNT(*) by auction  kept
          group-aggregate:bid:1  COUNT(*) by auction  new, begins empty
    "#]]
    .assert_eq(&page(&change, Paint::Plain));
    assert_eq!(value(&change)["state"]["carriesOver"], json!(true));
}

#[test]
fn an_upgrade_whose_state_does_not_fit() {
    let (old, new) = changed(|spec| spec.sql = Some("x".into()));
    let fates = vec![fate(Fate::Changed { from: "keys a".into(), to: "keys b".into() }), fate(Fate::Dropped)];
    let change = change(&old, &new, 0, Ok(fates));
    expect![[r#"
        Redeploy  spec.sql
            - a
            - b
            - c
            - d
            - e
            - f
            - g
            - h
            + x

        This is: Redeploy
          - pods of a new revision start beside the running ones
          - then the job stops with a checkpoint, and the new pods take over
          - a revision that has no checkpoint within 5m is taken back

        State: does not fit: the new revision would refuse it, and be taken back
          group-aggregate:bid:1  COUNT(*) by auction  another layout: keys a -> keys b
          group-aggregate:bid:1  COUNT(*) by auction  no operator takes it any more
          to go on without that part: take a savepoint, then name it in spec.restore with allowNonRestoredState and a higher nonce
          to begin anew: set spec.upgrade.mode to Stateless
    "#]]
    .assert_eq(&page(&change, Paint::Plain));
    assert_eq!(value(&change)["state"]["carriesOver"], json!(false));
}

#[test]
fn each_class_has_its_effect_and_its_state() {
    type Edit = fn(&mut StreamJobSpec);
    let cases: [(Edit, Class, &str); 7] = [
        (|spec| spec.upgrade.rollback = false, Class::Ignore, "nothing happens now"),
        (|spec| spec.restart.max_restarts = 3, Class::InPlace, "without a stop"),
        (|spec| spec.state = DesiredState::Suspended, Class::Lifecycle, "stops with a checkpoint"),
        (|spec| spec.parallelism = 4, Class::Rescale, "2 workers become 4"),
        (|spec| spec.max_parallelism = 64, Class::Refused, "goes on as it is"),
        (|spec| spec.checkpoint.storage.as_mut().unwrap().uri = "s3://other".into(), Class::Refused, "goes on as it is"),
        (|spec| spec.worker.image = Some("w:2".into()), Class::Redeploy, "taken back"),
    ];
    for (edit, class, words) in cases {
        let (old, new) = changed(edit);
        let change = change(&old, &new, 0, Ok(vec![fate(Fate::Kept)]));
        assert_eq!(change.class, class, "{change:?}");
        assert_eq!(change.refused.is_some(), class == Class::Refused, "{change:?}");
        assert!(change.effects.iter().any(|effect| effect.contains(words)), "{words}: {change:?}");
        assert!(matches!(change.state, State::Untouched | State::Carries(_)), "{change:?}");
    }
}

#[test]
fn a_state_that_begins_anew_is_told() {
    let (old, new) = changed(|spec| {
        spec.sql = Some("x".into());
        spec.upgrade.mode = UpgradeMode::Stateless;
    });
    assert!(matches!(change(&old, &new, 0, Ok(Vec::new())).state, State::Anew(why) if why.contains("Stateless")));
    let from = RestoreFrom { savepoint: Some("s".into()), uri: None };
    let (old, new) = changed(|spec| spec.restore = Some(Restore { from, allow_non_restored_state: false, nonce: 2 }));
    assert!(matches!(change(&old, &new, 1, Ok(Vec::new())).state, State::Anew(why) if why.contains("spec.restore")));
    assert_eq!(change(&old, &new, 2, Ok(Vec::new())).class, Class::Ignore, "a nonce that was acted on asks for nothing");
}

#[test]
fn a_suspended_job_changes_when_it_is_resumed() {
    let (mut old, mut new) = changed(|spec| spec.parallelism = 4);
    (old.state, new.state) = (DesiredState::Suspended, DesiredState::Suspended);
    assert_eq!(change(&old, &new, 0, Ok(Vec::new())).effects, ["the job is suspended: all of it happens when it is resumed"]);
}

#[test]
fn an_edit_script_is_the_shortest() {
    let count = |old: &str, new: &str| {
        let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
        script(&old, &new).iter().filter(|(mark, _)| *mark != ' ').count()
    };
    for (old, new, edits) in [("a\nb\nc", "a\nc", 1), ("a\nb", "b\na", 2), ("", "a", 1), ("a\nb\nc\nd", "x\nb\ny\nd", 4), ("a", "a", 0)] {
        assert_eq!(count(old, new), edits, "{old:?} {new:?}");
    }
}

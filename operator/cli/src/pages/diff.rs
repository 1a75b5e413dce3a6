//! [pure] What a change of a job means: its class field by field, what will happen, and whether state carries over.

use rheos_api::StreamJobSpec;
use rheos_api::stream_job::{DesiredState, UpgradeMode};
use rheos_operator::diff::{self, Class};
use serde_json::{Value, json};

use super::paint::{self, Paint, Tone};
use crate::carry::{self, Fate, OperatorFate};

/// Longest value in the page, characters.
const VALUE_LIMIT: usize = 120;
/// Lines around a changed line of SQL.
const CONTEXT: usize = 2;
/// Longest SQL that is compared line by line: beyond it only its ends are.
const LINES: usize = 2_000;

/// One changed field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// The field, from the root of the spec.
    pub path: String,
    /// What its change asks for.
    pub class: Class,
    /// Before.
    pub old: Value,
    /// After.
    pub new: Value,
}

/// What becomes of the state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It is not touched.
    Untouched,
    /// It carries over, all of it.
    Carries(Vec<OperatorFate>),
    /// A checkpoint does not fit: the new revision would fail to start.
    DoesNotFit(Vec<OperatorFate>),
    /// The new revision begins without it, as asked for.
    Anew(String),
    /// It cannot be told.
    Unknown(String),
}

/// A change of a job.
#[derive(Debug, Clone)]
pub struct Change {
    /// All changed fields.
    pub fields: Vec<Field>,
    /// The strongest of their classes.
    pub class: Class,
    /// Why it cannot be done, if it cannot.
    pub refused: Option<String>,
    /// What will happen, a sentence each.
    pub effects: Vec<String>,
    /// What becomes of the state.
    pub state: State,
}

/// Works out a change between two specs whose SQL is in place. `fates` are those of the state between the two SQL texts,
/// or why they are not known.
pub fn change(old: &StreamJobSpec, new: &StreamJobSpec, acted_nonce: i64, fates: Result<Vec<OperatorFate>, String>) -> Change {
    let (before, after) = (serde_json::to_value(old).unwrap_or_default(), serde_json::to_value(new).unwrap_or_default());
    let fields: Vec<Field> = diff::diff(old, new, acted_nonce)
        .into_iter()
        .map(|change| Field { old: at(&before, &change.path), new: at(&after, &change.path), path: change.path, class: change.class })
        .collect();
    let mut class = fields.iter().map(|field| field.class).max().unwrap_or(Class::Ignore);
    let nonce = new.restore.as_ref().map_or(0, |restore| restore.nonce);
    let restores = nonce > acted_nonce && fields.iter().any(|field| field.path == "restore.nonce");
    let anew = restores || new.upgrade.mode == UpgradeMode::Stateless;
    let refused = refused(old, new, anew);
    if refused.is_some() {
        class = Class::Refused;
    }
    let state = match class {
        Class::Redeploy if restores => State::Anew("the state that spec.restore names takes the place of the job's own".to_owned()),
        Class::Redeploy if anew => State::Anew("spec.upgrade.mode is Stateless: the job begins without its state".to_owned()),
        Class::Redeploy => match fates {
            Ok(fates) if carry::is_restorable(&fates) => State::Carries(fates),
            Ok(fates) => State::DoesNotFit(fates),
            Err(why) => State::Unknown(why),
        },
        _ => State::Untouched,
    };
    let effects = effects(old, new, class);
    Change { fields, class, refused, effects, state }
}

fn at(value: &Value, path: &str) -> Value {
    path.split('.').try_fold(value, |value, name| value.get(name)).cloned().unwrap_or(Value::Null)
}

fn refused(old: &StreamJobSpec, new: &StreamJobSpec, anew: bool) -> Option<String> {
    if old.max_parallelism != new.max_parallelism {
        let (old, new) = (old.max_parallelism, new.max_parallelism);
        return Some(format!("spec.maxParallelism cannot change ({old} to {new}): the state is cut into that many key groups"));
    }
    let place = |spec: &StreamJobSpec| spec.checkpoint.storage.as_ref().map(|storage| storage.uri.clone());
    (!anew && place(old) != place(new)).then(|| {
        "spec.checkpoint.storage.uri changes, and the state is at the old place: take a savepoint and name it in spec.restore with a \
         higher nonce, or set spec.upgrade.mode to Stateless"
            .to_owned()
    })
}

fn effects(old: &StreamJobSpec, new: &StreamJobSpec, class: Class) -> Vec<String> {
    let mut effects = Vec::new();
    let runs = new.state == DesiredState::Running;
    match class {
        Class::Ignore => effects.push("nothing happens now".to_owned()),
        Class::InPlace => effects.push("the running job takes the new settings over, without a stop".to_owned()),
        Class::Refused => effects.push("the operator refuses it; the job goes on as it is".to_owned()),
        Class::Lifecycle if runs => effects.push("the job goes on from its last checkpoint".to_owned()),
        Class::Lifecycle => effects.push("the job stops with a checkpoint; its pods go".to_owned()),
        Class::Rescale => {
            let (from, to) = (old.parallelism, new.parallelism);
            effects.push(format!(
                "{from} workers become {to}: new pods start first, then the job stops with a checkpoint and goes on from it"
            ));
        }
        Class::Redeploy => {
            effects.push("pods of a new revision start beside the running ones".to_owned());
            if new.upgrade.savepoint_on_upgrade || new.upgrade.mode == UpgradeMode::Savepoint {
                effects.push("a savepoint is taken".to_owned());
            }
            effects.push("then the job stops with a checkpoint, and the new pods take over".to_owned());
            effects.push(match new.upgrade.rollback {
                true => format!("a revision that has no checkpoint within {} is taken back", new.upgrade.deadline),
                false => "a revision that fails stays: spec.upgrade.rollback is off".to_owned(),
            });
        }
    }
    if !runs && class > Class::Lifecycle && class != Class::Refused {
        effects = vec!["the job is suspended: all of it happens when it is resumed".to_owned()];
    }
    effects
}

/// The name of a class.
pub fn name(class: Class) -> &'static str {
    match class {
        Class::Ignore => "Ignore",
        Class::InPlace => "InPlace",
        Class::Lifecycle => "Lifecycle",
        Class::Rescale => "Rescale",
        Class::Redeploy => "Redeploy",
        Class::Refused => "Refused",
    }
}

fn tone(class: Class) -> Tone {
    match class {
        Class::Ignore | Class::InPlace => Tone::Good,
        Class::Lifecycle | Class::Rescale | Class::Redeploy => Tone::Watch,
        Class::Refused => Tone::Bad,
    }
}

/// The page.
pub fn page(change: &Change, paint: Paint) -> String {
    if change.fields.is_empty() {
        return "no change\n".to_owned();
    }
    let mut text = String::new();
    for field in &change.fields {
        let class = paint.text(tone(field.class), name(field.class));
        text += &format!("{class:<9} {}", paint.text(Tone::Strong, &format!("spec.{}", field.path)));
        match (&field.old, &field.new) {
            (Value::String(old), Value::String(new)) if old.contains('\n') || new.contains('\n') => {
                text += "\n";
                text += &lines(old, new, paint);
            }
            (old, new) => text += &format!("  {} -> {}\n", short(old), short(new)),
        }
    }
    text += &format!("\n{}: {}\n", paint.text(Tone::Strong, "This is"), paint.text(tone(change.class), name(change.class)));
    if let Some(refused) = &change.refused {
        text += &format!("  {}\n", paint.text(Tone::Bad, refused));
    }
    change.effects.iter().for_each(|effect| text += &format!("  - {effect}\n"));
    text + &state(&change.state, paint)
}

fn state(state: &State, paint: Paint) -> String {
    let head = |tone: Tone, text: &str| format!("\n{}: {}\n", paint.text(Tone::Strong, "State"), paint.text(tone, text));
    match state {
        State::Untouched => head(Tone::Good, "carries over"),
        State::Carries(fates) => head(Tone::Good, "carries over") + &operators(fates, paint),
        State::DoesNotFit(fates) => {
            head(Tone::Bad, "does not fit: the new revision would refuse it, and be taken back")
                + &operators(fates, paint)
                + "  to go on without that part: take a savepoint, then name it in spec.restore with allowNonRestoredState and a higher nonce\n"
                + "  to begin anew: set spec.upgrade.mode to Stateless\n"
        }
        State::Anew(why) => head(Tone::Watch, why),
        State::Unknown(why) => head(Tone::Watch, &format!("not known: {why}")),
    }
}

fn operators(fates: &[OperatorFate], paint: Paint) -> String {
    let line = |operator: &OperatorFate| {
        let (tone, what) = match &operator.fate {
            Fate::Kept => (Tone::Good, "kept".to_owned()),
            Fate::New => (Tone::Watch, "new, begins empty".to_owned()),
            Fate::Dropped => (Tone::Bad, "no operator takes it any more".to_owned()),
            Fate::Changed { from, to } => (Tone::Bad, format!("another layout: {from} -> {to}")),
        };
        format!("  {}  {}  {}\n", operator.id, operator.title, paint.text(tone, &what))
    };
    fates.iter().map(line).collect()
}

fn short(value: &Value) -> String {
    let text = match value {
        Value::Null => "(absent)".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let text = paint::clean(&text);
    match text.char_indices().nth(VALUE_LIMIT) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// Changed lines of a text with a little of what is around them.
fn lines(old: &str, new: &str, paint: Paint) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let script = script(&old, &new);
    let near = |place: usize| {
        let (first, last) = (place.saturating_sub(CONTEXT), (place + CONTEXT).min(script.len().saturating_sub(1)));
        script[first..=last].iter().any(|(mark, _)| *mark != ' ')
    };
    let mut text = String::new();
    let mut gap = false;
    for (place, (mark, line)) in script.iter().enumerate() {
        if !near(place) {
            gap = true;
            continue;
        }
        if std::mem::take(&mut gap) && !text.is_empty() {
            text += "    …\n";
        }
        let tone = match mark {
            '+' => Tone::Good,
            '-' => Tone::Bad,
            _ => Tone::Plain,
        };
        text += &format!("    {}\n", paint.text(tone, paint::clean(&format!("{mark} {line}")).trim_end()));
    }
    text
}

/// The shortest edit of lines, by the longest common subsequence.
fn script<'a>(old: &[&'a str], new: &[&'a str]) -> Vec<(char, &'a str)> {
    let same = old.iter().zip(new).take_while(|(old, new)| old == new).count();
    let (before, old_rest, new_rest) = (&old[..same], &old[same..], &new[same..]);
    let mut script: Vec<(char, &str)> = before.iter().map(|line| (' ', *line)).collect();
    if old_rest.len() > LINES || new_rest.len() > LINES {
        script.extend(old_rest.iter().map(|line| ('-', *line)));
        script.extend(new_rest.iter().map(|line| ('+', *line)));
        return script;
    }
    // longest[i][j]: lines in common from old[i..] and new[j..].
    let mut longest = vec![vec![0_u32; new_rest.len() + 1]; old_rest.len() + 1];
    for i in (0..old_rest.len()).rev() {
        for j in (0..new_rest.len()).rev() {
            longest[i][j] = if old_rest[i] == new_rest[j] { longest[i + 1][j + 1] + 1 } else { longest[i + 1][j].max(longest[i][j + 1]) };
        }
    }
    let (mut i, mut j) = (0, 0);
    while i < old_rest.len() || j < new_rest.len() {
        if i < old_rest.len() && j < new_rest.len() && old_rest[i] == new_rest[j] {
            script.push((' ', old_rest[i]));
            (i, j) = (i + 1, j + 1);
        } else if j == new_rest.len() || (i < old_rest.len() && longest[i + 1][j] >= longest[i][j + 1]) {
            script.push(('-', old_rest[i]));
            i += 1;
        } else {
            script.push(('+', new_rest[j]));
            j += 1;
        }
    }
    script
}

/// The same for programs.
pub fn value(change: &Change) -> Value {
    let field =
        |field: &Field| json!({"path": format!("spec.{}", field.path), "class": name(field.class), "old": field.old, "new": field.new});
    let operator = |operator: &OperatorFate| {
        let (fate, layouts) = match &operator.fate {
            Fate::Kept => ("Kept", Value::Null),
            Fate::New => ("New", Value::Null),
            Fate::Dropped => ("Dropped", Value::Null),
            Fate::Changed { from, to } => ("Changed", json!({"from": from, "to": to})),
        };
        json!({"id": operator.id, "title": operator.title, "fate": fate, "layout": layouts})
    };
    let (carries, why, operators) = match &change.state {
        State::Untouched => (Some(true), None, &[][..]),
        State::Carries(fates) => (Some(true), None, fates.as_slice()),
        State::DoesNotFit(fates) => (Some(false), None, fates.as_slice()),
        State::Anew(why) => (Some(false), Some(why), &[][..]),
        State::Unknown(why) => (None, Some(why), &[][..]),
    };
    json!({
        "changed": !change.fields.is_empty(),
        "class": name(change.class),
        "refused": change.refused,
        "fields": change.fields.iter().map(field).collect::<Vec<_>>(),
        "effects": change.effects,
        "state": {"carriesOver": carries, "why": why, "operators": operators.iter().map(operator).collect::<Vec<_>>()},
    })
}

#[cfg(test)]
mod tests;

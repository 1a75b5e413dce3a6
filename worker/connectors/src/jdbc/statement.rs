//! [pure] The shape of what is written, and its statements.

use arrow::datatypes::{DataType, SchemaRef};

use super::arrays::element;
use super::name::{TableName, quoted};
use super::types::{TargetColumn, declared, expression, takes};
use crate::options::did_you_mean;

/// A table that is written, and with which columns.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Shape {
    pub(super) table: TableName,
    /// Without the kind column.
    pub(super) columns: SchemaRef,
    /// Names of the key's columns; none: rows are only added.
    pub(super) key: Vec<String>,
}

/// What the catalog says of the target.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) columns: Vec<TargetColumn>,
    /// Columns of its unique keys, sorted.
    pub(super) unique: Vec<Vec<String>>,
    /// Rights that the user does not have.
    pub(super) missing_rights: Vec<String>,
}

/// Statements over arrays of columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Statements {
    /// One array a column.
    pub(super) insert: String,
    /// One array a column of the key, in the order of the columns.
    pub(super) delete: Option<String>,
}

impl Shape {
    /// Indexes of the key's columns, in the order of the columns.
    pub(super) fn key_columns(&self) -> Vec<usize> {
        (0..self.columns.fields().len()).filter(|index| self.key.contains(self.columns.field(*index).name())).collect()
    }

    /// All that is wrong with the target for this shape.
    pub(super) fn problems(&self, target: &Target) -> Vec<String> {
        let mut problems = Vec::new();
        let names: Vec<&str> = target.columns.iter().map(|column| column.name.as_str()).collect();
        for field in self.columns.fields() {
            let right = declared(field.data_type());
            match target.columns.iter().find(|column| column.name == *field.name()) {
                None => problems.push(format!(
                    "there is no column '{}'{} Add it (ALTER TABLE {} ADD COLUMN {} {right}), or rename the column of this table",
                    field.name(),
                    did_you_mean(field.name(), &names),
                    self.table.sql(),
                    quoted(field.name()),
                )),
                Some(column) if column.generated => {
                    problems.push(format!("column '{}' is computed by the server and cannot be written: leave it out", column.name));
                }
                Some(column) if !takes(column, field.data_type()) => problems.push(format!(
                    "column '{}' is {}, which does not hold every value that is written to it; {right} would",
                    column.name, column.shown
                )),
                Some(_) => {}
            }
        }
        let given = |column: &TargetColumn| self.columns.index_of(&column.name).is_ok();
        for column in target.columns.iter().filter(|column| column.not_null && !column.has_default && !column.generated && !given(column)) {
            problems.push(format!("column '{}' is NOT NULL and has no default, and this table does not write it", column.name));
        }
        let mut key = self.key.clone();
        key.sort();
        if !key.is_empty() && !target.unique.contains(&key) {
            let columns: Vec<String> = self.key.iter().map(|name| quoted(name)).collect();
            let columns = columns.join(", ");
            problems.push(format!(
                "the key of this table, ({columns}), is not a PRIMARY KEY or UNIQUE there: ALTER TABLE {} ADD PRIMARY KEY ({columns})",
                self.table.sql()
            ));
        }
        problems
    }

    /// The statements, for a target without problems.
    pub(super) fn statements(&self, target: &Target) -> Statements {
        let all: Vec<usize> = (0..self.columns.fields().len()).collect();
        let key = self.key_columns();
        let names: Vec<String> = self.columns.fields().iter().map(|field| quoted(field.name())).collect();
        let value = |place: usize, index: usize| {
            let field = self.columns.field(index);
            let column = target.columns.iter().find(|column| column.name == *field.name());
            column.map_or_else(|| format!("r.c{place}"), |column| expression(&format!("r.c{place}"), field.data_type(), column))
        };
        let values: Vec<String> = all.iter().map(|index| value(*index, *index)).collect();
        let table = self.table.sql();
        let mut insert = format!("INSERT INTO {table} ({}) SELECT {} FROM {}", names.join(", "), values.join(", "), self.unnest(&all));
        if key.is_empty() {
            return Statements { insert, delete: None };
        }
        let of_key: Vec<&str> = key.iter().map(|index| names[*index].as_str()).collect();
        let others: Vec<String> = (all.iter().filter(|index| !key.contains(index)).map(|index| &names[*index]))
            .map(|name| format!("{name} = EXCLUDED.{name}"))
            .collect();
        let update = if others.is_empty() { "NOTHING".to_owned() } else { format!("UPDATE SET {}", others.join(", ")) };
        insert.push_str(&format!(" ON CONFLICT ({}) DO {update}", of_key.join(", ")));
        let same: Vec<String> = (0..).zip(&key).map(|(place, index)| format!("t.{} = {}", names[*index], value(place, *index))).collect();
        let delete = format!("DELETE FROM {table} AS t USING {} WHERE {}", self.unnest(&key), same.join(" AND "));
        Statements { insert, delete: Some(delete) }
    }

    /// Arrays as rows.
    fn unnest(&self, columns: &[usize]) -> String {
        let arrays: Vec<String> =
            (1..).zip(columns).map(|(place, index)| format!("${place}::{}[]", carrier(self.columns.field(*index).data_type()))).collect();
        let names: Vec<String> = (0..columns.len()).map(|place| format!("c{place}")).collect();
        format!("unnest({}) AS r({})", arrays.join(", "), names.join(", "))
    }
}

fn carrier(ty: &DataType) -> &'static str {
    element(ty).map_or("text", |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::super::types::tests::column;
    use super::*;
    use crate::testing::schema;

    fn shape(key: &[&str]) -> Shape {
        Shape {
            table: TableName::parse("sales.orders").unwrap(),
            columns: schema(&[("name", "STRING"), ("id", "BIGINT"), ("at", "TIMESTAMP")]),
            key: key.iter().map(ToString::to_string).collect(),
        }
    }

    fn target() -> Target {
        let columns = vec![column("id", "int8", -1), column("name", "uuid", -1), column("at", "timestamp", -1)];
        Target { columns, unique: vec![vec!["id".into(), "name".into()]], missing_rights: vec![] }
    }

    #[test]
    fn statements_take_arrays() {
        let statements = shape(&["id", "name"]).statements(&target());
        expect![[r#"INSERT INTO "sales"."orders" ("name", "id", "at") SELECT r.c0::uuid, r.c1::int8, r.c2::timestamp FROM unnest($1::text[], $2::int8[], $3::timestamp[]) AS r(c0, c1, c2) ON CONFLICT ("name", "id") DO UPDATE SET "at" = EXCLUDED."at""#]]
        .assert_eq(&statements.insert);
        expect![[r#"DELETE FROM "sales"."orders" AS t USING unnest($1::text[], $2::int8[]) AS r(c0, c1) WHERE t."name" = r.c0::uuid AND t."id" = r.c1::int8"#]]
        .assert_eq(&statements.delete.unwrap());
        assert_eq!(shape(&[]).statements(&target()).delete, None);
        assert!(shape(&["name", "id", "at"]).statements(&target()).insert.ends_with("DO NOTHING"));
    }

    #[test]
    fn what_is_wrong_with_a_target_is_told_column_by_column() {
        assert_eq!(shape(&["id", "name"]).problems(&target()), Vec::<String>::new());
        let mut bad = target();
        bad.columns[0] = column("id", "int4", -1);
        bad.columns[1].name = "named".into();
        bad.columns[1].not_null = true;
        bad.columns[2].generated = true;
        bad.unique.clear();
        let problems = shape(&["id"]).problems(&bad);
        let parts = [
            "'name'; did you mean 'named'?",
            "'id' is int4",
            "bigint would",
            "'at' is computed",
            "'named' is NOT NULL",
            "ADD PRIMARY KEY (\"id\")",
        ];
        for part in parts {
            assert!(problems.iter().any(|problem| problem.contains(part)), "{part}: {problems:#?}");
        }
    }
}

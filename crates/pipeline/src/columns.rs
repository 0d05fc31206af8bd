//! The columns of an output table, in their order. This module only reads the model; whether names collide was settled
//! when the pipeline was validated.

use crate::model::{History, Pipeline, Table};

/// A column of an output table and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutputColumn {
    /// The table's own ID.
    Id {
        /// The name of the column.
        name: String,
    },
    /// The number within its group.
    Number {
        /// The name of the column.
        name: String,
    },
    /// The text of the table's own ID.
    Text {
        /// The name of the column.
        name: String,
    },
    /// A column of the table's natural key.
    Key {
        /// The name of the column, in the output and in the records.
        name: String,
    },
    /// The ID of the thing in another table that a row refers to.
    Reference {
        /// The name of the column: that of the other table's ID column.
        name: String,
        /// The other table.
        table: String,
    },
    /// An attribute.
    Column {
        /// The name of the column, in the output and in the records.
        name: String,
    },
    /// What tells the versions of a thing apart.
    Version {
        /// The name of the column.
        name: String,
        /// The column of the records that it follows from, if it does.
        from: Option<String>,
    },
}

impl OutputColumn {
    /// The name of the column in the output.
    pub fn name(&self) -> &str {
        match self {
            Self::Id { name }
            | Self::Number { name }
            | Self::Text { name }
            | Self::Key { name }
            | Self::Reference { name, .. }
            | Self::Column { name }
            | Self::Version { name, .. } => name,
        }
    }
}

impl Pipeline {
    /// The table of that name.
    pub fn table(&self, name: &str) -> Option<&Table> {
        self.tables.iter().find(|table| table.name == name)
    }

    /// The columns of `table` in the order of the output: its ID with its number within its group and its text, its key, its references, its columns,
    /// and those of its versions.
    ///
    /// A reference to a table that is not in the pipeline, or has no ID, adds no column; in a validated pipeline there
    /// is no such reference.
    pub fn output_columns(&self, table: &Table) -> Vec<OutputColumn> {
        let id = table.id.iter().map(|id| OutputColumn::Id { name: id.column.clone() });
        let number = table.id.iter().filter_map(|id| id.group.as_ref());
        let number = number.map(|group| OutputColumn::Number { name: group.number.clone() });
        let text = table.id.iter().filter_map(|id| id.text.as_ref());
        let text = text.map(|text| OutputColumn::Text { name: text.column.clone() });
        let key = table.key.iter().map(|name| OutputColumn::Key { name: name.clone() });
        let references = table.references.iter().filter_map(|other| {
            let id = self.table(other)?.id.as_ref()?;
            Some(OutputColumn::Reference { name: id.column.clone(), table: other.clone() })
        });
        let columns = table.columns.iter().map(|name| OutputColumn::Column { name: name.clone() });
        let versions = table.history.iter().filter(|history| history.keeps_versions()).flat_map(|history| {
            crate::history::COLUMNS.iter().map(|name| {
                let from = history.valid_from.clone().filter(|_| *name != History::IS_CURRENT);
                OutputColumn::Version { name: (*name).to_owned(), from }
            })
        });
        id.chain(number).chain(text).chain(key).chain(references).chain(columns).chain(versions).collect()
    }
}

//! `salience features ...`.

use std::path::PathBuf;

use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(crate) enum FeaturesCommand {
    /// Writes what is declared as Markdown: entities, columns, windows and how exact they are, state,
    /// the model's inputs. Needs no cluster.
    Docs {
        /// Where to, instead of standard output.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
}

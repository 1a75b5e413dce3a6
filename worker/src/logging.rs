//! [io] Logs: `tracing` to standard error, as text or JSON. Fields: `job`, `generation`; never an option's value.

use std::io::Write;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::cli::LogFormat;

/// What is logged when RUST_LOG says nothing.
const DEFAULT_FILTER: &str = "info";

/// Starts logging for this process, into `writer`. Later calls change nothing.
pub fn start<W>(format: LogFormat, color: bool, writer: W)
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(DEFAULT_FILTER));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).with_target(false);
    // An error means that another part of this process logs already.
    let _ = match format {
        LogFormat::Text => builder.with_ansi(color).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).with_ansi(false).try_init(),
    };
}

/// Writes log lines through a function: one call a line.
#[derive(Clone)]
pub struct LineWriter<F>(pub F);

impl<F: Fn(&[u8])> Write for LineWriter<F> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        (self.0)(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'w, F: Fn(&[u8]) + Clone + 'w> MakeWriter<'w> for LineWriter<F> {
    type Writer = Self;

    fn make_writer(&'w self) -> Self::Writer {
        self.clone()
    }
}

//! [io] `rheos-worker leave`: what a pod's preStop hook runs.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::ExitCode;

use rheos_control_api::Client;

use crate::cli::{ADMIN_PORT, EXIT_FAILED, EXIT_GOOD, LeaveArguments, POD_IP};
use crate::pod::facts::read_token;

/// Runs the command.
pub fn main(arguments: &LeaveArguments) -> ExitCode {
    match leave(arguments) {
        Ok(()) => EXIT_GOOD.into(),
        Err(problem) => {
            eprintln!("error: {problem}");
            EXIT_FAILED.into()
        }
    }
}

fn leave(arguments: &LeaveArguments) -> Result<(), String> {
    let token = read_token(&arguments.token)?;
    let address = arguments.admin.unwrap_or_else(|| {
        let ip = std::env::var(POD_IP).ok().and_then(|ip| ip.parse().ok());
        SocketAddr::new(ip.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)), ADMIN_PORT)
    });
    let client = Client::new(&format!("http://{address}")).map_err(|error| error.to_string())?.with_token(token);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
    runtime.block_on(client.leave()).map(drop).map_err(|error| error.to_string())
}

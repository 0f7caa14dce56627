//! What the figures were read on.

use std::fs;
use std::process::Command;

/// A line for each thing that the figures depend on.
pub(super) fn describe(module: &str) -> Vec<String> {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map(|(_, name)| name);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let system = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let system = system.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    let rustc = Command::new("rustc").arg("--version").output().ok();
    let rustc = rustc.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    vec![
        format!("processor   {cores} cores, {}", cpu.unwrap_or("of an unknown model")),
        format!("system      {}, Linux {}", system.unwrap_or("unknown").trim_matches('"'), kernel.trim()),
        format!("module      {module}"),
        format!("keystored   {}, {}", env!("CARGO_PKG_VERSION"), rustc.as_deref().unwrap_or("unknown compiler")),
    ]
}

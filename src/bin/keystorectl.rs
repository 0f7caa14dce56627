//! keystorectl: the operators' command of keystored.

use std::process::ExitCode;

use model::clock::Clock;

/// Threads of one HSM worker allocate at once, and the load generator must not be slower than the service.
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let clock = Clock::system();
    // Hidden: how a program that holds HSMs starts its workers. It takes everything from its standard input.
    if std::env::args_os().nth(1).is_some_and(|argument| argument == "hsm-worker") {
        worker::run(&clock);
    }
    cli::run(std::env::args_os().collect(), clock)
}

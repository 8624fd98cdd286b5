//! The one binary.

/// The C library's gives memory back and takes it again for every burst of large requests, one page fault per 4 KiB, and
/// grows a thread's share a few pages at a time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    gannet::cli::main()
}

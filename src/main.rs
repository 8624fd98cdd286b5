fn main() -> std::process::ExitCode {
    gannet::cli::main()
}

//! The real `taskcreds` binary over loopback, beside a bare axum server that answers the same bytes from memory.
//!
//! `cargo build --release && cargo run --release -p taskcreds-benches --bin loopback`. What is shipped has another profile:
//! `cargo build --profile dist && cargo run --profile dist -p taskcreds-benches --bin loopback`.

use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::Duration;

use clap::{Parser, Subcommand};
use taskcreds_benches::answer::Answer;
use taskcreds_benches::load::{self, Exchange, Round};
use taskcreds_benches::process::{self, Process};
use taskcreds_benches::proxy::Proxy;
use taskcreds_benches::report::{self, Alone, Level, Spread};
use taskcreds_benches::{bare, machine, start};
use taskcreds_sts_emulator::{Emulator, Options};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

/// Measures the proxy over loopback beside a bare axum server and prints Markdown.
#[derive(Debug, Parser)]
#[command(name = "loopback")]
struct Flags {
    #[command(subcommand)]
    role: Option<Role>,
    /// How long each server is measured in each round.
    #[arg(long, default_value_t = 2.5, value_parser = seconds)]
    seconds: f64,
    /// Rounds for each number of connections; the servers take turns and the order alternates.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Numbers of connections, separated by commas.
    #[arg(long, value_delimiter = ',', default_value = "1,16,64,256")]
    connections: Vec<usize>,
    /// Starts for each of the two times from start to answer.
    #[arg(long, default_value_t = 20)]
    starts: usize,
    /// The binary to measure. [default: taskcreds beside this program]
    #[arg(long)]
    proxy: Option<PathBuf>,
    /// Exit with 1 if an aim is missed.
    #[arg(long)]
    require: bool,
    /// With the audit log on, in a file.
    #[arg(long)]
    audit: bool,
}

#[derive(Debug, Subcommand)]
enum Role {
    /// What this program starts itself as: the bare server. Takes the answer from standard input and ends with it.
    #[command(hide = true)]
    Bare,
}

fn main() -> ExitCode {
    let flags = Flags::parse();
    let done = match flags.role {
        Some(Role::Bare) => be_bare().map(|()| ExitCode::SUCCESS),
        None => measure(&flags),
    };
    done.unwrap_or_else(|error| {
        note(format_args!("loopback: {error}"));
        ExitCode::FAILURE
    })
}

const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

fn measure(flags: &Flags) -> io::Result<ExitCode> {
    let beside = std::env::current_exe()?.with_file_name("taskcreds");
    let program = flags.proxy.clone().unwrap_or_else(|| beside.clone());
    if cfg!(debug_assertions) {
        note(format_args!("attention: a debug build; the figures are worth nothing"));
    }
    let workers = std::thread::available_parallelism()?.get();
    let runtime = Runtime::new()?;

    // The STS is in this process, so that it counts for nothing of the proxy's.
    let emulator = Emulator::new(Options::default());
    let key = emulator.add_caller("arn:aws:iam::111122223333:user/bench").map_err(io::Error::other)?;
    let listener = runtime.block_on(TcpListener::bind(ANY_PORT))?;
    let proxy = Proxy::new(&program, listener.local_addr()?, &key, workers, flags.audit)?;
    runtime.spawn(emulator.run(listener, std::future::pending()));
    let mut description = machine::description(&program);
    // The bare server is this program, and a comparison of two compiler settings says nothing of two servers.
    if program.parent().map(Path::canonicalize).transpose()?.as_deref() != beside.parent() {
        description += "\n- attention: the bare server was not built with the proxy; the ratios hold only if both profiles are the same";
    }
    compare(flags, &proxy, workers, &runtime, &description)
        .inspect_err(|_| note(format_args!("what the proxy has logged last:\n{}", proxy.log())))
}

fn compare(flags: &Flags, proxy: &Proxy, workers: usize, runtime: &Runtime, description: &str) -> io::Result<ExitCode> {
    note(format_args!("starting the proxy 2 x {} times", flags.starts));
    let request = proxy.request();
    let first_answer = start::times(proxy, flags.starts, start::ANY, |_| true)?;
    let first_session = start::times(proxy, flags.starts, &request, |answer| answer.status() == "HTTP/1.1 200")?;

    let (proxied, proxy_address) = Process::start_server(&mut proxy.command(ANY_PORT)?, &[])?;
    let answer = Answer::fetch(proxy_address, &request)?;
    let (bare, bare_address) = start_bare(&answer, workers)?;
    let same = Answer::fetch(bare_address, &request)?;
    if same.without_date() != answer.without_date() {
        let both = [&answer, &same].map(|answer| String::from_utf8_lossy(answer.bytes()).into_owned());
        return Err(io::Error::other(format!("the servers do not answer the same: {both:#?}")));
    }
    let size = (request.len(), answer.bytes().len());
    let exchange = Arc::new(Exchange::new(request, answer)?);
    rest(runtime);
    let before = process::memory(proxied.id())?;

    let mut levels = Vec::new();
    for &connections in &flags.connections {
        note(format_args!("{connections} connections"));
        let one = |address, server: &Process| {
            let length = Duration::from_secs_f64(flags.seconds);
            let cpu = || process::cpu_seconds(server.id());
            let round = runtime.block_on(load::round(address, &exchange, connections, length, cpu))?;
            if round.requests() == 0 { Err(io::Error::other("no answer while it was measured")) } else { Ok(round) }
        };
        let mut rounds: Vec<(Round, Round)> = Vec::new();
        for number in 0..flags.rounds {
            rounds.push(if number % 2 == 0 {
                let first = one(proxy_address, &proxied)?;
                (first, one(bare_address, &bare)?)
            } else {
                let first = one(bare_address, &bare)?;
                (one(proxy_address, &proxied)?, first)
            });
        }
        levels.push(Level { connections, rounds });
    }
    let threads = (process::threads(proxied.id())?, process::threads(bare.id())?);
    rest(runtime);
    let after = process::memory(proxied.id())?;
    drop((proxied, bare));

    let milliseconds = |times: Vec<Duration>| Spread::of(times.iter().map(|time| time.as_secs_f64() * 1e3));
    let (first_answer, first_session) = (milliseconds(first_answer), milliseconds(first_session));
    say(format_args!(
        "{description}\n- {} rounds of {} s for each server and number of connections, order alternating; the load \
         generator shares the CPUs\n- {workers} tokio workers each; {} and {} threads at the end; {} bytes asked, {} \
         answered\n\n{}",
        flags.rounds,
        flags.seconds,
        threads.0,
        threads.1,
        size.0,
        size.1,
        report::table(&levels)
    ))?;
    say(format_args!(
        "| taskcreds alone | median | smallest | largest |\n|---|--:|--:|--:|\n{}{}{}{}{}{}",
        row("start to first answer, ms", first_answer),
        row("start to first 200, session from STS included, ms", first_session),
        row("resident, idle, before the load, MB", Spread::of([before.resident])),
        row("of it anonymous, MB", Spread::of([before.anonymous])),
        row("resident, idle, after the load, MB", Spread::of([after.resident])),
        row("of it anonymous, MB", Spread::of([after.anonymous])),
    ))?;
    let aim_cpu = if flags.audit { report::AIM_CPU_WITH_AUDIT } else { report::AIM_CPU };
    let alone = Alone { idle_mb: before.resident, first_answer_ms: first_answer };
    let missed = report::missed(&levels, &alone, aim_cpu);
    for miss in &missed {
        say(format_args!("missed: {miss}"))?;
    }
    Ok(if flags.require && !missed.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn row(name: &str, Spread { min, median, max }: Spread) -> String {
    format!("| {name} | {median:.1} | {min:.1} | {max:.1} |\n")
}

/// Lets a server that has just started or has just been loaded come to rest.
fn rest(runtime: &Runtime) {
    runtime.block_on(async { tokio::time::sleep(Duration::from_secs(2)).await });
}

fn start_bare(answer: &Answer, workers: usize) -> io::Result<(Process, SocketAddr)> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("bare").env_clear().env("TOKIO_WORKER_THREADS", workers.to_string());
    command.stdin(Stdio::piped());
    Process::start_server(&mut command, answer.bytes())
}

/// The bare server's process.
fn be_bare() -> io::Result<()> {
    let answer = Answer::read(io::stdin().lock())?;
    let runtime = Runtime::new()?;
    let listener = runtime.block_on(TcpListener::bind(ANY_PORT))?;
    say(format_args!("listening on http://{}", listener.local_addr()?))?;
    // Ends when the one who has started it is gone, however that came.
    std::thread::spawn(|| {
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        std::process::exit(0);
    });
    runtime.block_on(bare::serve(listener, &answer))
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.1..=600.0).contains(&seconds) => Ok(seconds),
        _ => Err("must be 0.1 to 600".to_owned()),
    }
}

fn say(text: std::fmt::Arguments<'_>) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()
}

/// Progress and trouble: to standard error, so that standard output is Markdown and nothing else.
fn note(text: std::fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

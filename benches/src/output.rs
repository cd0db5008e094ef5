//! What jobs print: one that prints much, a hundred at once, and one that somebody follows.

use std::fs::File;
use std::io::{BufWriter, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use memchr::memmem;
use serde_json::json;

use crate::client::Request;
use crate::floor::Cat;
use crate::server::Server;
use crate::table::{Figure, Goal, Table};
use crate::{Bench, proc};

/// Bytes of a line, its end included.
const LINE: usize = 64;
const MIB: usize = 1 << 20;
/// Jobs that print at once.
const MANY: usize = 100;

/// Measures it.
pub(crate) fn measure(bench: &Bench, table: &mut Table) -> Result<()> {
    let one = Source::make(bench, "one", bench.size(1024 * 1024, 64 * 1024))?;
    let each = Source::make(bench, "each", bench.size(8 * 1024, 128))?;
    let followed = Source::make(bench, "followed", bench.size(256 * 1024, 2 * 1024))?;
    let mut figures = [(); 4].map(|()| (Vec::new(), Vec::new()));
    for _ in 0..bench.rounds {
        // A store of its own each time, for the disk to hold no more than one of them.
        let server = Server::start(bench, &["--log-bytes-per-job", "4GiB"])?;
        let [speed, cpu] = alone(bench, &server, &one)?;
        let live = follow(bench, &server, &followed)?;
        let many = many(bench, &server, &each)?;
        for (into, (value, floor)) in [speed, cpu, live, many].into_iter().enumerate() {
            figures[into].0.push(value);
            figures[into].1.push(floor);
        }
    }
    let [speed, cpu, live, many] = figures;
    let goal = Some(Goal::RatioFrom(0.5));
    for (what, unit, (values, floor), name, goal) in [
        (
            format!("one job prints {} MiB", one.mib()),
            "MiB/s",
            speed,
            "by cat > file",
            goal,
        ),
        (
            "server's own CPU for that".to_owned(),
            "s/GiB",
            cpu,
            "by cat > file",
            Some(Goal::RatioBelow(2.0)),
        ),
        (
            format!("{MANY} jobs print {} MiB each at once", each.mib()),
            "MiB/s",
            many,
            "by as many cat > file",
            None,
        ),
        (
            format!("a listener follows {} MiB live", followed.mib()),
            "MiB/s",
            live,
            "by cat > file",
            None,
        ),
    ] {
        table.add(Figure {
            what,
            unit,
            values,
            floor: Some((name.to_owned(), floor)),
            goal,
        });
    }
    std::fs::remove_file(bench.folder.join("copy"))?;
    table.note("the logs have every byte, by their length, and the last MiB is compared; the listener got every line");
    Ok(())
}

/// Of the server, and of its floor.
type Pair = (f64, f64);

/// The kernel counts processor time in steps of so many seconds.
const TICK: f64 = 0.01;

/// MiB a second, and seconds of processor time for a GiB; of the server, and of cat.
fn alone(bench: &Bench, server: &Server, source: &Source) -> Result<[Pair; 2]> {
    let started = Instant::now();
    let cat = Cat::start(&source.path, &bench.folder.join("copy"))?;
    let receiving = cat.wait()?;
    let floor = source.rate(started);
    let before = cpu(server)?;
    let started = Instant::now();
    let job = server.client()?.run(&source.request())?;
    server.completed(1)?;
    let speed = source.rate(started);
    let used = cpu(server)? - before;
    source.compare(server, &job)?;
    let per_gib = |seconds: f64| seconds * 1024.0 / source.mib();
    Ok([(speed, floor), (per_gib(used), per_gib(receiving.max(TICK)))])
}

/// Of the server and of those that it keeps for its jobs; the jobs' own time is nobody's doing here.
fn cpu(server: &Server) -> Result<f64> {
    let spawners = proc::spawners(server.pid());
    let theirs: f64 = spawners.into_iter().filter_map(|pid| proc::cpu(pid).ok()).sum();
    Ok(proc::cpu(server.pid())? + theirs)
}

/// MiB a second to a listener who was there before the first line.
fn follow(bench: &Bench, server: &Server, source: &Source) -> Result<Pair> {
    let started = Instant::now();
    Cat::start(&source.path, &bench.folder.join("copy"))?.wait()?;
    let floor = source.rate(started);
    server.pool("stopWorkers")?;
    let job = server.client()?.run(&source.request())?;
    let query = "subscription($id: ID!) { jobLogs(id: $id, filter: { streams: [STDOUT] }) {
        cursor lines { number message } } }";
    let mut socket = server.listen(query, &json!({ "id": job }))?;
    let started = Instant::now();
    server.pool("startWorkers")?;
    let mut lines = 0;
    while let Some(batch) = socket.next()? {
        lines += memmem::find_iter(batch, b"\"number\":").count();
    }
    let speed = source.rate(started);
    let wanted = source.bytes / LINE;
    ensure!(lines == wanted, "the listener got {lines} lines of {wanted}");
    Ok((speed, floor))
}

/// MiB a second of all together.
fn many(bench: &Bench, server: &Server, source: &Source) -> Result<Pair> {
    let files: Vec<PathBuf> = (0..MANY)
        .map(|index| bench.folder.join(format!("copy-{index}")))
        .collect();
    let started = Instant::now();
    let cats = files
        .iter()
        .map(|file| Cat::start(&source.path, file))
        .collect::<Result<Vec<_>>>()?;
    for cat in cats {
        cat.wait()?;
    }
    let floor = source.rate(started) * MANY as f64;
    for file in files {
        std::fs::remove_file(file)?;
    }
    let mut client = server.client()?;
    let scale = format!("mutation {{ scaleWorkers(input: {{ size: {MANY} }}) {{ errors {{ message }} }} }}");
    client.query(&scale, &json!({}))?;
    let inputs = vec![source.input(); MANY];
    let started = Instant::now();
    let query =
        "mutation($inputs: [RunInput!]!) { runMany(inputs: $inputs) { jobs { id } errors { message } } }";
    let stored = client.query(query, &json!({ "inputs": inputs }))?;
    // Those two that were alone came before.
    server.completed(i64::try_from(MANY)? + 2)?;
    let speed = source.rate(started) * MANY as f64;
    for job in stored["runMany"]["jobs"].as_array().into_iter().flatten() {
        source.compare(server, job["id"].as_str().context("a job has an id")?)?;
    }
    Ok((speed, floor))
}

/// A file of lines, all of them different.
struct Source {
    path: PathBuf,
    bytes: usize,
}

impl Source {
    fn make(bench: &Bench, name: &str, kib: usize) -> Result<Self> {
        let path = bench.folder.join(format!("{name}-{kib}-kib"));
        let mut file = BufWriter::new(File::create(&path)?);
        // As a service writes them: the server compresses logs, so what repeats itself would be too easy.
        let words = [
            "request", "served", "order", "payment", "cache", "miss", "retry", "timeout", "queue", "worker",
        ];
        let mut dice = fastrand::Rng::with_seed(1);
        for number in 0..(kib << 10) / LINE {
            let mut line = format!("{number:010} {:016x}", dice.u64(..));
            while line.len() < LINE {
                line.push(' ');
                line.push_str(words[dice.usize(..words.len())]);
            }
            writeln!(file, "{}", &line[..LINE - 1])?;
        }
        file.flush()?;
        Ok(Self {
            path,
            bytes: kib << 10,
        })
    }

    fn mib(&self) -> f64 {
        self.bytes as f64 / MIB as f64
    }

    fn rate(&self, started: Instant) -> f64 {
        self.mib() / started.elapsed().as_secs_f64()
    }

    fn text(&self) -> String {
        self.path.display().to_string()
    }

    fn request(&self) -> Request {
        Request::run("/bin/cat", &[&self.text()])
    }

    fn input(&self) -> serde_json::Value {
        json!({ "command": { "exec": { "program": "/bin/cat", "args": [self.text()] } } })
    }

    /// The log of a job that printed it has its length and its end.
    fn compare(&self, server: &Server, job: &str) -> Result<()> {
        let tail = self.bytes.min(MIB);
        let range = format!("{}-{}", self.bytes - tail, self.bytes - 1);
        let request = Request::get(&format!("/jobs/{job}/log?stream=stdout"), Some(&range));
        let mut client = server.client()?;
        let (head, body) = client.fetch(&request)?;
        let head = String::from_utf8_lossy(head).to_lowercase();
        let wanted = format!("content-range: bytes {range}/{}", self.bytes);
        ensure!(head.contains(&wanted), "a log is not {wanted}, but: {head}");
        ensure!(
            body == end_of(&self.path, tail)?,
            "a log does not end as its job did"
        );
        Ok(())
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

fn end_of(path: &Path, bytes: usize) -> Result<Vec<u8>> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::End(-i64::try_from(bytes)?))?;
    let mut end = Vec::with_capacity(bytes);
    file.read_to_end(&mut end)?;
    Ok(end)
}

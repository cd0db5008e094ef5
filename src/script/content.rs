//! Reads one script file: its hash, its shebang and its header.

use std::io;
use std::path::Path;

use super::block::HEAD_BYTES;
use super::header::{Header, HeaderError};
use super::shebang::Shebang;
use super::stamp::{Stamp, hash, open, read_up_to};

/// What a file holds that matters here.
#[derive(Debug)]
pub(super) enum Content {
    /// Neither a known extension nor a shebang.
    NoScript,
    /// A script.
    Script(Box<ScriptContent>),
}

/// What a script file holds.
#[derive(Debug)]
pub(super) struct ScriptContent {
    pub(super) sha256: String,
    pub(super) shebang: Option<Shebang>,
    pub(super) header: Result<Header, HeaderError>,
}

/// Reads the file at `path`. One with a known extension is a script whatever it holds; any other is read beyond its
/// first two bytes only if these are a shebang's. Memory stays below 128 KiB whatever the file's size.
pub(super) fn read(path: &Path, known_extension: bool) -> io::Result<(Stamp, Content)> {
    let (mut file, stamp) = open(path)?;
    let mut head = Vec::new();
    read_up_to(&mut file, 2, &mut head)?;
    if !known_extension && head != b"#!" {
        return Ok((stamp, Content::NoScript));
    }
    read_up_to(&mut file, HEAD_BYTES, &mut head)?;
    let shebang = Shebang::parse(&head);
    if !known_extension && shebang.is_none() {
        return Ok((stamp, Content::NoScript));
    }
    let (sha256, cut) = hash(&head, &mut file)?;
    let header = Header::parse(&String::from_utf8_lossy(&head), cut).map(Option::unwrap_or_default);
    Ok((
        stamp,
        Content::Script(Box::new(ScriptContent {
            sha256,
            shebang,
            header,
        })),
    ))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use rustix::fs::{CWD, FileType, Mode, mknodat};
    use tempfile::TempDir;

    use super::*;

    #[test]
    fn a_pipe_that_took_the_place_of_a_script_does_not_block() {
        let folder = TempDir::new().unwrap();
        let pipe = folder.path().join("a.sh");
        mknodat(CWD, &pipe, FileType::Fifo, Mode::from_raw_mode(0o644), 0).unwrap();
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || sender.send(read(&pipe, true).map_err(|error| error.kind())));
        let answer = receiver
            .recv_timeout(Duration::from_secs(20))
            .expect("opening the pipe must not wait for a writer");
        assert_eq!(answer.err(), Some(io::ErrorKind::InvalidInput));
    }
}

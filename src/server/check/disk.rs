//! Whether everything can be written that the daemon will have to write, and how much room there is.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;

use crate::server::parts;
use config::Config;
use model::outage::Outage;
use store::disk::{Room, in_words, try_writing};
use store::reserve;

/// Writes a file into each directory, removes it, and prints what is free; false when something must be mended.
pub(super) fn examine(config: &Config, out: &mut (dyn Write + Send)) -> io::Result<bool> {
    let mut good = directory("state_dir", &config.state_dir, out)?;
    good &= database(&parts::database(config), out)?;
    if config.lock_dir != config.state_dir {
        good &= directory("lock_dir", &config.lock_dir, out)?;
    }
    Ok(good)
}

fn directory(field: &str, path: &Path, out: &mut (dyn Write + Send)) -> io::Result<bool> {
    let shown = path.display();
    let room = Room::of(path).map(|room| format!("{} are free", in_words(room.free)));
    match try_writing(path) {
        Ok(()) => {
            let room = room.map(|room| format!("; {room}")).unwrap_or_default();
            writeln!(out, "{field} {shown}: can be written to{room}")?;
            Ok(true)
        }
        Err(error) => {
            let room = room.map(|room| format!("; {room}")).unwrap_or_default();
            let to_do = match Outage::of(&error) {
                Some(outage) => outage.remedy().to_owned(),
                None => format!("make it, let the daemon's user write to it, or name another {field}"),
            };
            writeln!(
                out,
                "{field} {shown}:\n  wrong: a file cannot be written there ({error}){room}\n  to do: {to_do}"
            )?;
            Ok(false)
        }
    }
}

/// What of the metadata is there already.
fn database(file: &Path, out: &mut (dyn Write + Send)) -> io::Result<bool> {
    let shown = file.display();
    match OpenOptions::new().read(true).write(true).open(file) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => {
            writeln!(
                out,
                "  wrong: the metadata in {shown} cannot be written ({error})\n  to do: give the file to the daemon's user"
            )?;
            return Ok(false);
        }
    }
    let Some(Ok(room)) = file.parent().map(Room::of) else { return Ok(true) };
    let (wanted, has) = (room.wanted(), reserve::size(file));
    let for_what = "for what takes keys out of use on a full disk";
    match has {
        has if has >= wanted.reserve => writeln!(out, "  reserve {for_what}: {} are there", in_words(has))?,
        has if room.free < wanted.reserve - has + wanted.reserve / 4 => writeln!(
            out,
            "  note: the reserve {for_what} has {} of {}, and there is no room to make it whole",
            in_words(has),
            in_words(wanted.reserve)
        )?,
        _ => writeln!(out, "  reserve {for_what}: {}, which the daemon makes at its start", in_words(wanted.reserve))?,
    }
    if room.free < wanted.free {
        writeln!(out, "  note: the disk is nearly full; at least {} should be free", in_words(wanted.free))?;
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(work: impl FnOnce(&mut Vec<u8>) -> bool) -> (bool, String) {
        let mut out = Vec::new();
        let good = work(&mut out);
        (good, String::from_utf8(out).unwrap())
    }

    #[test]
    fn a_directory_is_written_to_and_what_is_free_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let (good, text) = said(|out| directory("state_dir", folder.path(), out).unwrap());
        assert!(good && text.contains("can be written to; ") && text.contains("iB are free"), "{text}");
        let (good, text) = said(|out| directory("lock_dir", &folder.path().join("nowhere"), out).unwrap());
        assert!(!good && text.contains("lock_dir") && text.contains("No such file"), "{text}");
        assert!(text.contains("to do: make it"), "{text}");
    }

    #[test]
    fn the_reserve_is_spoken_of() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("keystored.db");
        let (good, text) = said(|out| database(&file, out).unwrap());
        assert!(good && text.contains("4 MiB, which the daemon makes at its start"), "{text}");
        std::fs::write(reserve::file_of(&file), vec![1; 4 << 20]).unwrap();
        let (good, text) = said(|out| database(&file, out).unwrap());
        assert!(good && text.contains("4 MiB are there"), "{text}");
        std::fs::create_dir(&file).unwrap();
        let (good, text) = said(|out| database(&file, out).unwrap());
        assert!(!good && text.contains("wrong: the metadata"), "{text}");
    }
}

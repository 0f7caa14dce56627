//! Whether the audit log can be written where it is to lie, and passed on to where it is to go.

use std::io::{self, Write};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use config::Config;
use model::outage::Outage;
use store::disk::{Room, in_words, try_writing};

/// With less room than this, a busy log may stand still within the day.
const LITTLE: u64 = 1 << 30;

/// Looks at the directory and at the file of JSON lines; false when something must be mended.
pub(super) fn examine(config: &Config, out: &mut (dyn Write + Send)) -> io::Result<bool> {
    let mut good = directory(&config.audit.dir, &config.state_dir, out)?;
    if let Some(path) = &config.audit.json {
        good &= lines(path, &config.audit.dir, out)?;
    }
    Ok(good)
}

fn directory(path: &Path, state_dir: &Path, out: &mut (dyn Write + Send)) -> io::Result<bool> {
    let shown = path.display();
    // Where it is not there yet the daemon makes it, and whatever is missing above it.
    let there = path.ancestors().find(|ancestor| ancestor.exists()).unwrap_or(path);
    let room = Room::of(there).ok();
    let free = room.map(|room| format!("; {} are free", in_words(room.free))).unwrap_or_default();
    if let Err(error) = try_writing(there) {
        let to_do = match Outage::of(&error) {
            Some(outage) => outage.remedy().to_owned(),
            None => "let the daemon's user write to it, or name another audit.dir".to_owned(),
        };
        writeln!(
            out,
            "audit.dir {shown}:\n  wrong: a file cannot be written to {} ({error}){free}\n  to do: {to_do}",
            there.display()
        )?;
        return Ok(false);
    }
    let state = if there == path { "can be written to" } else { "is not there yet; the first start makes it" };
    writeln!(out, "audit.dir {shown}: {state}{free}")?;
    if room.is_some_and(|room| room.free < LITTLE) {
        writeln!(
            out,
            "  note: that is little; nothing is given out without its record, so a full disk stops the service"
        )?;
    }
    let device = |path: &Path| std::fs::metadata(path).ok().map(|meta| meta.dev());
    if device(there).is_some() && device(there) == device(state_dir) {
        writeln!(
            out,
            "  note: it is on the file system of state_dir, so that one can fill the other's disk; a file system of its own \
             is better"
        )?;
    }
    if there == path { owner(path, out) } else { Ok(true) }
}

/// It is the daemon's, and nobody else changes it.
fn owner(path: &Path, out: &mut (dyn Write + Send)) -> io::Result<bool> {
    let meta = std::fs::metadata(path)?;
    let mut good = true;
    if meta.uid() != rustix::process::geteuid().as_raw() {
        writeln!(
            out,
            "  note: it belongs to user {}; run this as the daemon's user to see what that one can do",
            meta.uid()
        )?;
    }
    if meta.mode() & 0o022 != 0 {
        good = false;
        writeln!(
            out,
            "  wrong: others may write to it (mode {:o})\n  to do: chmod go-w {}",
            meta.mode() & 0o777,
            path.display()
        )?;
    }
    if meta.mode() & 0o004 != 0 {
        writeln!(out, "  note: everybody may read who has used which key (mode {:o})", meta.mode() & 0o777)?;
    }
    Ok(good)
}

fn lines(path: &Path, log: &Path, out: &mut (dyn Write + Send)) -> io::Result<bool> {
    let shown = path.display();
    let folder = path.parent().unwrap_or(Path::new("/"));
    if let Err(error) = try_writing(folder) {
        writeln!(
            out,
            "audit.json.path {shown}:\n  wrong: a file cannot be written there ({error})\n  to do: make the directory, let \
             the daemon's user write to it, or name another path"
        )?;
        return Ok(false);
    }
    writeln!(out, "audit.json.path {shown}: can be written to")?;
    let device = |path: &Path| path.ancestors().find_map(|one| std::fs::metadata(one).ok()).map(|meta| meta.dev());
    if device(folder) == device(log) {
        writeln!(
            out,
            "  note: it is on the file system of the audit log, so that it can fill that one's disk; have it rotated"
        )?;
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn said(work: impl FnOnce(&mut Vec<u8>) -> bool) -> (bool, String) {
        let mut out = Vec::new();
        let good = work(&mut out);
        (good, String::from_utf8(out).unwrap())
    }

    #[test]
    fn the_directory_is_the_daemon_s_alone_and_has_room() {
        let folder = tempfile::tempdir().unwrap();
        let audit = folder.path().join("state/audit");
        let (good, text) = said(|out| directory(&audit, folder.path(), out).unwrap());
        assert!(good && text.contains("is not there yet; the first start makes it; "), "{text}");
        assert!(text.contains("on the file system of state_dir"), "{text}");
        assert!(!audit.exists());

        std::fs::create_dir_all(&audit).unwrap();
        let mode = |mode| std::fs::set_permissions(&audit, std::fs::Permissions::from_mode(mode)).unwrap();
        mode(0o700);
        let (good, text) = said(|out| directory(&audit, Path::new("/proc"), out).unwrap());
        assert!(good && text.contains("can be written to; "), "{text}");
        assert!(!text.contains("state_dir") && !text.contains("mode"), "{text}");
        mode(0o722);
        let (good, text) = said(|out| directory(&audit, folder.path(), out).unwrap());
        assert!(!good && text.contains("others may write to it (mode 722)\n  to do: chmod go-w"), "{text}");
        mode(0o744);
        let (good, text) = said(|out| directory(&audit, folder.path(), out).unwrap());
        assert!(good && text.contains("everybody may read"), "{text}");

        let (good, text) = said(|out| directory(Path::new("/proc/none/audit"), folder.path(), out).unwrap());
        assert!(!good && text.contains("wrong: a file cannot be written to /proc ("), "{text}");
    }

    #[test]
    fn the_file_of_lines_can_be_made() {
        let folder = tempfile::tempdir().unwrap();
        let (good, text) = said(|out| lines(&folder.path().join("lines"), folder.path(), out).unwrap());
        assert!(good && text.contains("have it rotated"), "{text}");
        let (good, text) = said(|out| lines(&folder.path().join("no/lines"), folder.path(), out).unwrap());
        assert!(!good && text.contains("audit.json.path") && text.contains("make the directory"), "{text}");
    }
}

//! Whether what a module may reach touches what it must not. Landlock knows no exceptions within what is allowed, so a
//! directory above a protected one cannot be given.

use std::path::{Path, PathBuf};

use super::Protected;

/// Something allowed that is above, equal to or inside something protected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clash {
    /// What was to be allowed.
    pub allowed: PathBuf,
    /// Where it lies in truth.
    pub real: PathBuf,
    /// What it touches.
    pub protected: Protected,
}

impl Clash {
    /// The first of these paths that touches something protected, all symlinks of both resolved by `real`.
    pub fn find<'a>(
        read: impl IntoIterator<Item = &'a Path>,
        write: impl IntoIterator<Item = &'a Path>,
        protected: &[Protected],
        real: &dyn Fn(&Path) -> PathBuf,
    ) -> Option<Self> {
        let guarded: Vec<(PathBuf, &Protected)> = protected.iter().map(|one| (real(&one.path), one)).collect();
        let allowed = read.into_iter().map(|path| (path, false)).chain(write.into_iter().map(|path| (path, true)));
        for (path, writes) in allowed {
            let found = real(path);
            let touches = |(guarded, one): &&(PathBuf, &Protected)| {
                (writes || !one.readable) && (guarded.starts_with(&found) || found.starts_with(guarded))
            };
            if let Some((_, one)) = guarded.iter().find(touches) {
                return Some(Self { allowed: path.to_owned(), real: found, protected: (*one).clone() });
            }
        }
        None
    }
}

impl std::fmt::Display for Clash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { allowed, real, protected: Protected { what, path, .. } } = self;
        write!(f, "the module may reach {}", allowed.display())?;
        if real != allowed {
            write!(f, " (which is {})", real.display())?;
        }
        write!(
            f,
            ", which is, holds or lies in {what} ({}); allow something narrower, or move one of them",
            path.display()
        )
    }
}

/// A path with its symlinks resolved, also where its end is not there yet. `canonical` resolves what is there.
#[must_use]
pub fn resolve(path: &Path, canonical: &dyn Fn(&Path) -> Option<PathBuf>) -> PathBuf {
    let mut rest = Vec::new();
    let mut there = path;
    loop {
        if let Some(mut real) = canonical(there) {
            real.extend(rest.into_iter().rev());
            return real;
        }
        let (Some(parent), Some(name)) = (there.parent(), there.file_name()) else { return path.to_owned() };
        rest.push(name);
        there = parent;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guarded(path: &str, readable: bool) -> Protected {
        Protected { what: "the seal key".to_owned(), path: path.into(), readable }
    }

    fn find(read: &[&str], write: &[&str], protected: &[Protected]) -> Option<String> {
        // `/link` is a symlink to `/var`.
        let real = |path: &Path| match path.strip_prefix("/link") {
            Ok(rest) => Path::new("/var").join(rest),
            Err(_) => path.to_owned(),
        };
        let paths = |of: &[&str]| of.iter().map(PathBuf::from).collect::<Vec<_>>();
        let (read, write) = (paths(read), paths(write));
        let found = Clash::find(read.iter().map(AsRef::as_ref), write.iter().map(AsRef::as_ref), protected, &real);
        found.map(|clash| clash.to_string())
    }

    #[test]
    fn above_equal_and_inside_are_refused_through_symlinks_too() {
        let seal = [guarded("/var/lib/k/seal", false)];
        for path in
            ["/", "/var", "/var/lib/k/", "/var/lib/k/seal", "/var/lib/k/seal/x", "/link/lib", "/link/lib/k/seal"]
        {
            let said = find(&[path], &[], &seal).unwrap_or_else(|| panic!("{path} must be refused"));
            assert!(said.contains("the seal key (/var/lib/k/seal)") && said.contains(path), "{said}");
            assert!(find(&[], &[path], &seal).is_some(), "{path}");
        }
        for path in ["/var/lib/k2", "/var/lib/k/seal2", "/var/lib/k/other", "/usr", "/link/lib/k/other"] {
            assert_eq!(find(&[path], &[path], &seal), None, "{path}");
        }
        let linked = [guarded("/link/lib/k", false)];
        assert!(find(&["/var/lib"], &[], &linked).is_some(), "what is protected is resolved as well");
    }

    #[test]
    fn what_everybody_may_read_must_not_be_written_to() {
        let certificate = [guarded("/etc/ssl/certs/ca.pem", true)];
        assert_eq!(find(&["/etc/ssl/certs"], &[], &certificate), None);
        assert!(find(&[], &["/etc/ssl/certs"], &certificate).is_some());
    }

    #[test]
    fn what_is_not_there_yet_is_resolved_as_far_as_it_is() {
        let canonical = |path: &Path| match path.to_str() {
            Some("/link") => Some(PathBuf::from("/var")),
            Some("/") => Some(PathBuf::from("/")),
            _ => None,
        };
        assert_eq!(resolve(Path::new("/link/a/b"), &canonical), Path::new("/var/a/b"));
        assert_eq!(resolve(Path::new("/link"), &canonical), Path::new("/var"));
        assert_eq!(resolve(Path::new("/x/y"), &canonical), Path::new("/x/y"));
    }
}

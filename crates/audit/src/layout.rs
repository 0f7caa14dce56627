//! Where things lie in a log's directory. Tiles, entry bundles and the checkpoint are those of C2SP's tlog-tiles, in files:
//!
//! ```text
//! checkpoint                   the newest signed head
//! heads                        heads signed before, one after the other
//! keys.json                    what is needed to check all of this: public keys, and who vouches for them
//! tile/LEVEL/N[.p/W]           hashes, 256 a tile
//! tile/entries/N[.p/W]         records, 256 a bundle; a closed bundle may be N.zst, compressed with zstd
//! journal/FIRST                records as they come, from number FIRST on; what is in synced bundles is taken away
//! ```
//!
//! Records are numbered from 0. In bundles and in the journal a record is its length in two bytes, big-endian, and its bytes;
//! in the journal the first eight bytes of its leaf hash stand between the two, so that a torn end is seen as such.

use std::path::{Path, PathBuf};

use tlog_tiles::tile::Tile;

/// Records or hashes of a full tile, as a power of two.
pub const HEIGHT: u8 = 8;
/// Records of a full bundle, hashes of a full tile.
pub const FULL: u64 = 1 << HEIGHT;
/// Most bytes of a record.
pub const RECORD_BYTES: usize = 65_535;
/// The newest signed head.
pub const CHECKPOINT: &str = "checkpoint";
/// Heads signed before.
pub const HEADS: &str = "heads";
/// Public keys.
pub const KEYS: &str = "keys.json";
/// The folder of the journal.
pub const JOURNAL: &str = "journal";
/// What stands before each record in the journal: its length, and the beginning of its hash.
pub const FRAME: usize = 2 + 8;
/// What a compressed bundle's name ends with.
pub const COMPRESSED: &str = ".zst";

/// The file of `width` hashes, [`FULL`] for a whole tile.
#[must_use]
pub fn tile(level: u8, index: u64, width: u32) -> PathBuf {
    path(Tile::new(HEIGHT, level, index, width, false))
}

/// The file of `width` records, [`FULL`] for a whole bundle.
#[must_use]
pub fn bundle(index: u64, width: u32) -> PathBuf {
    path(Tile::new(HEIGHT, 0, index, width, true))
}

/// What a whole bundle at this path is called when it is compressed.
#[must_use]
pub fn compressed(whole: &Path) -> PathBuf {
    let mut path = whole.as_os_str().to_owned();
    path.push(COMPRESSED);
    path.into()
}

/// The file of the journal that begins with this record.
#[must_use]
pub fn journal(first: u64) -> PathBuf {
    PathBuf::from(JOURNAL).join(format!("{first:020}"))
}

/// The library has tiles of any height, and names it in the path; files of tlog-tiles are all of height 8 and don't.
fn path(tile: Tile) -> PathBuf {
    let path = tile.path();
    let rest = path.strip_prefix("tile/8/").unwrap_or(&path);
    match rest.strip_prefix("data/") {
        Some(rest) => PathBuf::from("tile/entries").join(rest),
        None => PathBuf::from("tile").join(rest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_tlog_tiles() {
        for (path, named) in [
            (tile(0, 0, 256), "tile/0/000"),
            (tile(1, 1_234_067, 256), "tile/1/x001/x234/067"),
            (tile(0, 5, 17), "tile/0/005.p/17"),
            (bundle(1_000, 256), "tile/entries/x001/000"),
            (bundle(3, 255), "tile/entries/003.p/255"),
        ] {
            assert_eq!(path.to_str(), Some(named));
        }
        assert_eq!(journal(7).to_str(), Some("journal/00000000000000000007"));
    }
}

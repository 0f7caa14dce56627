//! What all processes that use the module over one directory share: counters, and the servers of the network HSM.

use std::ffi::c_void;
use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;
use std::ptr;
use std::sync::atomic::AtomicU64;

use rustix::mm::{MapFlags, ProtFlags, mmap};

/// Most operations that a network HSM works on at once.
pub(crate) const SERVERS: usize = 1_024;
/// More than the standard's list has.
const FUNCTIONS: usize = 80;

/// The layout of the file. Zeroes are its beginning, so whoever comes first need not prepare anything.
#[repr(C)]
pub(crate) struct State {
    /// Calls of each function.
    pub(crate) calls: [AtomicU64; FUNCTIONS],
    /// Those of them that met a fault.
    pub(crate) injected: [AtomicU64; FUNCTIONS],
    /// When each server will be free.
    pub(crate) servers: [AtomicU64; SERVERS],
    /// When the next call is due, of an HSM that does so many in a second.
    pub(crate) next_call: AtomicU64,
    /// Wrong PINs in a row.
    pub(crate) wrong_pins: AtomicU64,
    /// The user has changed the PIN that somebody else chose.
    pub(crate) changed_pin: AtomicU64,
    /// Calls of all functions that met back ends.
    pub(crate) all_calls: AtomicU64,
    /// Sessions that went from a back end that was down to another one.
    pub(crate) failovers: AtomicU64,
    /// Sessions that were given a back end.
    pub(crate) spread: AtomicU64,
    /// Times that rules were put in force.
    pub(crate) rules_set: AtomicU64,
    /// Token objects that were made.
    pub(crate) born: AtomicU64,
    /// The last of them.
    pub(crate) births: [Birth; BIRTHS],
}

/// Token objects whose making is remembered.
pub(crate) const BIRTHS: usize = 4_096;

/// When and where a token object was made.
#[repr(C)]
pub(crate) struct Birth {
    /// Of what; zero: nothing.
    pub(crate) identity: AtomicU64,
    /// When.
    pub(crate) at: AtomicU64,
    /// On which back end.
    pub(crate) home: AtomicU64,
}

/// Maps the file, which is made where there is none. Never unmapped: calls may be inside until the process ends.
pub(crate) fn open(path: &Path) -> io::Result<&'static State> {
    let file: File = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
    let size = size_of::<State>();
    file.set_len(size as u64)?;
    let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
    // SAFETY: a new mapping at an address of the system's choice, of a file that is as long as the mapping.
    let at: *mut c_void = unsafe { mmap(ptr::null_mut(), size, protection, flags, &file, 0)? };
    // SAFETY: page aligned, as large as a State, of which any bytes are a valid value, and never unmapped. Other
    // processes change it meanwhile, which is what atomics are for.
    Ok(unsafe { &*at.cast::<State>() })
}

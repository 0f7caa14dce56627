//! A sealed file under a key's current version, or under another key.
//!
//! The chunks are bound to the header, and with it to the wrapped data key: another wrapped data key before the same
//! chunks would not open, and the same chunks bound to another header would use each nonce twice. So the file is opened
//! and sealed anew, with a data key and a file id of its own. What is in it passes through memory and no other file.

use std::fs::File;
use std::io::BufReader;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use super::Error;
use super::chunks::{Cipher, Done};
use super::file::{READ_AHEAD, Summary, blocking, look, summary};
use super::header::{self, Header};
use super::passage::passage;
use super::target::{Permission, Target};
use crate::Client;
use model::secret::Secret;
use proto::v1::{DataKeySpec, DecryptRequest, GenerateDataKeyRequest};

/// Where the result goes.
#[derive(Clone, Debug)]
pub enum Place {
    /// To where the file is.
    Same,
    /// To another file, which is replaced if it exists and `overwrite` says so.
    Other {
        /// Its name.
        path: PathBuf,
        /// Whether it may be replaced.
        overwrite: bool,
    },
}

/// Seals a sealed file anew, under the key that it names or another one; `None` where its data key is wrapped by the
/// current version of that key already. `progress` hears the bytes done and may end the work; it is called on a thread
/// of its own.
pub async fn rewrap(
    client: &Client,
    key_id: Option<&str>,
    input: &Path,
    place: Place,
    progress: impl FnMut(u64) -> ControlFlow<()> + Send + 'static,
) -> Result<Option<Summary>, Error> {
    let file = match &place {
        Place::Same => open(input).await?,
        Place::Other { path, overwrite } => {
            let options = super::file::Options { overwrite: *overwrite, ..Default::default() };
            look(input, path, &options).await?.0
        }
    };
    let (old, file) = blocking(move || {
        let mut file = BufReader::with_capacity(READ_AHEAD, file);
        Ok((Header::read(&mut file)?, file))
    })
    .await?;
    let request = DecryptRequest {
        ciphertext_blob: old.wrapped_key.clone().into(),
        encryption_context: old.encryption_context(),
        ..DecryptRequest::default()
    };
    let opened = client.decrypt(request).await?;
    let mut file_id = [0; 16];
    aws_lc_rs::rand::fill(&mut file_id).map_err(|_| Error::DataKey("the system gives no random bytes"))?;
    let request = GenerateDataKeyRequest {
        key_id: key_id.unwrap_or(&opened.key_id).to_owned(),
        key_spec: DataKeySpec::Aes256.into(),
        encryption_context: header::encryption_context(&file_id),
        ..GenerateDataKeyRequest::default()
    };
    let made = client.generate_data_key(request).await?;
    if (&made.key_id, &made.key_material_id) == (&opened.key_id, &opened.key_material_id) {
        return Ok(None);
    }
    let new = Header { chunk_size: old.chunk_size, file_id, wrapped_key: made.ciphertext_blob.to_vec() };
    let header_bytes = (header::FIXED_BYTES + new.wrapped_key.len()) as u64;
    let work = Work { from: (opened.plaintext, old), to: (made.plaintext, new), file, input: input.to_owned(), place };
    let done = blocking(move || work.run(progress)).await?;
    Ok(Some(summary(made.key_id, done, header_bytes)))
}

struct Work {
    from: (Secret, Header),
    to: (Secret, Header),
    file: BufReader<File>,
    input: PathBuf,
    place: Place,
}

impl Work {
    fn run(self, mut progress: impl FnMut(u64) -> ControlFlow<()>) -> Result<Done, Error> {
        let Self { from, to, mut file, input, place } = self;
        let (opens, seals) = (Cipher::new(&from.0, &from.1)?, Cipher::new(&to.0, &to.1)?);
        let mut target = match place {
            Place::Same => Target::in_place_of(file.get_ref(), &input)?,
            Place::Other { path, overwrite } => Target::create(&path, Permission { overwrite, mode: 0o666 })?,
        };
        let (mut entrance, mut exit) = passage();
        let (opened, sealed) = std::thread::scope(|threads| {
            // On panic: the file counts as interrupted, and is not made.
            let opening = threads.spawn(move || {
                let opened = opens.open(&mut file, &mut entrance, &mut |_| ControlFlow::Continue(()));
                drop(entrance);
                opened
            });
            let sealed = seals.seal(&mut exit, target.file(), &mut progress);
            // Whoever opens is not kept waiting by one that has left.
            drop(exit);
            (opening.join().unwrap_or(Err(Error::Interrupted)), sealed)
        });
        // One that ended early leaves the other with half of a file. Of the two, the cause is told.
        let done = match (opened, sealed) {
            (Ok(_), Ok(done)) => done,
            (_, Err(error)) | (Err(error), Ok(_)) => return Err(error),
        };
        target.finish()?;
        Ok(done)
    }
}

async fn open(input: &Path) -> Result<File, Error> {
    let path = input.to_owned();
    blocking(move || {
        let unreadable = |cause| Error::Input { path: path.clone(), cause };
        let file = File::open(&path).map_err(unreadable)?;
        match file.metadata().map_err(unreadable)?.is_file() {
            true => Ok(file),
            false => Err(Error::NotAFile(path.clone())),
        }
    })
    .await
}

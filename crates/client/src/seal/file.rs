//! Sealing and opening of files with the help of a service.

use std::fs::File;
use std::io::BufReader;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use super::Error;
use super::chunks::{Cipher, DATA_KEY_BYTES, Done};
use super::header::{self, ChunkSize, Header};
use super::target::{Permission, Target};
use crate::Client;
use model::secret::Secret;
use proto::v1::{DataKeySpec, DecryptRequest, GenerateDataKeyRequest};

/// Large reads go past this buffer; it serves the look at what follows a chunk.
pub(super) const READ_AHEAD: usize = 8 << 10;

/// How to write the output.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Replace an output that exists. The input is never replaced.
    pub overwrite: bool,
    /// Size of the chunks of a file that is sealed.
    pub chunk_size: ChunkSize,
}

/// What was sealed or opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// ARN of the key that wraps the file's data key.
    pub key_id: String,
    /// Size of the file in clear.
    pub plaintext_bytes: u64,
    /// Size of the sealed file.
    pub sealed_bytes: u64,
    /// How many chunks it has.
    pub chunks: u64,
}

/// Seals `input` into `output` under a fresh data key of `key_id`. The output has its name only when it is complete.
/// `progress` hears the bytes done and may end the work; it is called on a thread of its own.
pub async fn seal(
    client: &Client,
    key_id: &str,
    input: &Path,
    output: &Path,
    options: &Options,
    progress: impl FnMut(u64) -> ControlFlow<()> + Send + 'static,
) -> Result<Summary, Error> {
    let (file, output) = look(input, output, options).await?;
    let mut file_id = [0; 16];
    aws_lc_rs::rand::fill(&mut file_id).map_err(|_| Error::DataKey("the system gives no random bytes"))?;
    let data_key = client
        .generate_data_key(GenerateDataKeyRequest {
            key_id: key_id.to_owned(),
            key_spec: DataKeySpec::Aes256.into(),
            encryption_context: header::encryption_context(&file_id),
            ..GenerateDataKeyRequest::default()
        })
        .await?;
    let header = Header { chunk_size: options.chunk_size, file_id, wrapped_key: data_key.ciphertext_blob.to_vec() };
    let permission = Permission { overwrite: options.overwrite, mode: 0o666 };
    let work = Work { data_key: data_key.plaintext, header, file: BufReader::with_capacity(READ_AHEAD, file), output };
    let (done, header_bytes) = blocking(move || work.run(permission, Direction::Seal, progress)).await?;
    Ok(summary(data_key.key_id, done, header_bytes))
}

/// Opens the sealed file `input` into `output`. The output has its name only when the last chunk was verified; it is
/// readable by its owner alone.
pub async fn open(
    client: &Client,
    input: &Path,
    output: &Path,
    options: &Options,
    progress: impl FnMut(u64) -> ControlFlow<()> + Send + 'static,
) -> Result<Summary, Error> {
    let (file, output) = look(input, output, options).await?;
    let (header, file) = blocking(move || {
        let mut file = BufReader::with_capacity(READ_AHEAD, file);
        Ok((Header::read(&mut file)?, file))
    })
    .await?;
    let opened = client
        .decrypt(DecryptRequest {
            ciphertext_blob: header.wrapped_key.clone().into(),
            encryption_context: header.encryption_context(),
            ..DecryptRequest::default()
        })
        .await?;
    if opened.plaintext.len() != DATA_KEY_BYTES {
        return Err(Error::DataKey("the data key in the header is not 32 bytes long"));
    }
    let permission = Permission { overwrite: options.overwrite, mode: 0o600 };
    let work = Work { data_key: opened.plaintext, header, file, output };
    let (done, header_bytes) = blocking(move || work.run(permission, Direction::Open, progress)).await?;
    Ok(summary(opened.key_id, done, header_bytes))
}

/// Length of a file, for whoever shows progress; 0 where it has none.
pub fn length(path: &Path) -> Result<u64, Error> {
    std::fs::metadata(path)
        .map(|metadata| metadata.len())
        .map_err(|cause| Error::Input { path: path.to_owned(), cause })
}

#[derive(Clone, Copy)]
enum Direction {
    Seal,
    Open,
}

struct Work {
    data_key: Secret,
    header: Header,
    file: BufReader<File>,
    output: PathBuf,
}

impl Work {
    fn run(
        mut self,
        permission: Permission,
        direction: Direction,
        mut progress: impl FnMut(u64) -> ControlFlow<()>,
    ) -> Result<(Done, u64), Error> {
        let cipher = Cipher::new(&self.data_key, &self.header)?;
        let mut target = Target::create(&self.output, permission)?;
        let done = match direction {
            Direction::Seal => cipher.seal(&mut self.file, target.file(), &mut progress)?,
            Direction::Open => cipher.open(&mut self.file, target.file(), &mut progress)?,
        };
        target.finish()?;
        Ok((done, (header::FIXED_BYTES + self.header.wrapped_key.len()) as u64))
    }
}

/// Opens the input and looks at the output before the service is asked for anything.
pub(super) async fn look(input: &Path, output: &Path, options: &Options) -> Result<(File, PathBuf), Error> {
    let (input, output, overwrite) = (input.to_owned(), output.to_owned(), options.overwrite);
    blocking(move || {
        let unreadable = |cause| Error::Input { path: input.clone(), cause };
        let file = File::open(&input).map_err(unreadable)?;
        if file.metadata().map_err(unreadable)?.is_dir() {
            return Err(unreadable(std::io::ErrorKind::IsADirectory.into()));
        }
        Target::check(&file, &output, overwrite)?;
        Ok((file, output))
    })
    .await
}

pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    // On panic: it has been reported by then, and the file is not made.
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(Error::Interrupted))
}

pub(super) fn summary(key_id: String, done: Done, header_bytes: u64) -> Summary {
    let sealed_bytes = header_bytes + done.plaintext_bytes + done.chunks * super::chunks::TAG_BYTES as u64;
    Summary { key_id, plaintext_bytes: done.plaintext_bytes, sealed_bytes, chunks: done.chunks }
}

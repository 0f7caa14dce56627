//! Calls with messages that are encoded already and answers that are not decoded: for a load generator, which sends the
//! same few messages a million times and must leave the processor to the service.

use bytes::{Buf, BufMut, Bytes};
use http::uri::PathAndQuery;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tonic::body::Body;
use tonic::client::{Grpc, GrpcService};
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder, Streaming};
use tonic::transport::{self, Channel};

use super::{Client, Error, handshake};
use model::limits;

/// A call of the service `CryptoService`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names in crypto.proto")]
pub enum Method {
    Encrypt,
    Decrypt,
    GenerateDataKey,
    ReEncrypt,
    BatchEncrypt,
    BatchDecrypt,
    BatchGenerateDataKey,
    BatchReEncrypt,
}

/// A message on a stream: a `StreamRequest` whose number is written before its encoded rest.
#[derive(Clone, Debug)]
pub struct Numbered {
    /// The request's number.
    pub number: u64,
    /// A `StreamRequest` with number 0, encoded (0 is left out of the encoding).
    pub rest: Bytes,
}

/// Makes calls on one connection, one at a time.
#[derive(Clone, Debug)]
pub struct Caller {
    client: Client,
    grpc: Grpc<Channel>,
}

/// Answers of a stream, encoded.
#[derive(Debug)]
pub struct Answers(Streaming<Bytes>);

impl Client {
    /// A caller on the connection with this number, counted modulo the number of connections.
    #[must_use]
    pub fn raw(&self, connection: usize) -> Caller {
        let grpc = Grpc::new(self.nth_channel(connection)).max_decoding_message_size(limits::MESSAGE_BYTES);
        Caller { client: self.clone(), grpc }
    }
}

impl Caller {
    /// Makes one call.
    pub async fn call(&mut self, method: Method, message: Bytes) -> Result<Bytes, Error> {
        ready(&mut self.grpc).await?;
        let codec = Verbatim { buffer: message.len() + 64 };
        let request = self.client.request(message);
        Ok(self.grpc.unary(request, method.path(), codec).await?.into_inner())
    }

    /// Opens a stream. At most `window` requests wait on this side.
    pub async fn stream(&mut self, window: usize) -> Result<(mpsc::Sender<Numbered>, Answers), Error> {
        ready(&mut self.grpc).await?;
        let (sender, receiver) = mpsc::channel(window.max(1));
        let path = PathAndQuery::from_static("/keystored.v1.CryptoService/Stream");
        let request = tonic::Request::new(ReceiverStream::new(receiver));
        let codec = Prefixed(Verbatim { buffer: 32 << 10 });
        Ok((sender, Answers(self.grpc.streaming(request, path, codec).await?.into_inner())))
    }
}

/// Waits until a connection takes a call; makes it again where it is lost.
pub(super) async fn ready<T>(grpc: &mut Grpc<T>) -> Result<(), Error>
where
    T: GrpcService<Body, Error = transport::Error>,
{
    grpc.ready().await.map_err(|error| {
        let handshake::Reason { trouble, sentence } = handshake::reason(&error, None);
        Error::unreachable(trouble, format!("the connection is lost: {sentence}"))
    })
}

impl Answers {
    /// The next answer; none when the stream has ended in order.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        Ok(self.0.message().await?)
    }
}

impl Method {
    /// True for the calls that carry several items.
    #[must_use]
    pub const fn is_batch(self) -> bool {
        matches!(self, Self::BatchEncrypt | Self::BatchDecrypt | Self::BatchGenerateDataKey | Self::BatchReEncrypt)
    }

    fn path(self) -> PathAndQuery {
        PathAndQuery::from_static(match self {
            Self::Encrypt => "/keystored.v1.CryptoService/Encrypt",
            Self::Decrypt => "/keystored.v1.CryptoService/Decrypt",
            Self::GenerateDataKey => "/keystored.v1.CryptoService/GenerateDataKey",
            Self::ReEncrypt => "/keystored.v1.CryptoService/ReEncrypt",
            Self::BatchEncrypt => "/keystored.v1.CryptoService/BatchEncrypt",
            Self::BatchDecrypt => "/keystored.v1.CryptoService/BatchDecrypt",
            Self::BatchGenerateDataKey => "/keystored.v1.CryptoService/BatchGenerateDataKey",
            Self::BatchReEncrypt => "/keystored.v1.CryptoService/BatchReEncrypt",
        })
    }
}

/// Copies messages as they are, into buffers of this size at first.
#[derive(Clone, Copy, Debug)]
struct Verbatim {
    buffer: usize,
}

impl Codec for Verbatim {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Verbatim {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put_slice(&message);
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(self.buffer, 64 << 10)
    }
}

impl Decoder for Verbatim {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, message: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(message.copy_to_bytes(message.remaining())))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(self.buffer, 64 << 10)
    }
}

/// The same for streams: writes the number before each message.
#[derive(Clone, Copy, Debug)]
struct Prefixed(Verbatim);

impl Codec for Prefixed {
    type Encode = Numbered;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Verbatim;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Verbatim {
        self.0
    }
}

impl Encoder for Prefixed {
    type Item = Numbered;
    type Error = Status;

    fn encode(&mut self, message: Numbered, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        if message.number != 0 {
            prost::encoding::uint64::encode(1, &message.number, out);
        }
        out.put_slice(&message.rest);
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(self.0.buffer, 64 << 10)
    }
}

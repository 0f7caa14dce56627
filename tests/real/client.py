"""A client that shares no code with the daemon: grpcio, and messages made from the descriptors alone."""

import os
import sys
import time

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

pool = descriptor_pool.DescriptorPool()
with open(sys.argv[1], "rb") as file:
    for described in descriptor_pb2.FileDescriptorSet.FromString(file.read()).file:
        pool.Add(described)


def message(name):
    described = pool.FindMessageTypeByName("keystored.v1." + name)
    if hasattr(message_factory, "GetMessageClass"):
        return message_factory.GetMessageClass(described)
    return message_factory.MessageFactory(pool).GetPrototype(described)


def read(variable):
    with open(os.environ[variable], "rb") as file:
        return file.read()


credentials = grpc.ssl_channel_credentials(read("KEYSTORED_CA"), read("KEYSTORED_KEY"), read("KEYSTORED_CERT"))
channel = grpc.secure_channel(os.environ["KEYSTORED_ADDRESS"].replace("https://", ""), credentials)


def call(service, method, **fields):
    request, response = message(method + "Request"), message(method + "Response")
    run = channel.unary_unary(
        f"/keystored.v1.{service}/{method}",
        request_serializer=request.SerializeToString,
        response_deserializer=response.FromString,
    )
    return run(request(**fields), timeout=60)


key = call("KeysService", "CreateKey", description="made by another client").key_metadata
context = {"tenant": "42", "purpose": "python"}
sealed = call("CryptoService", "Encrypt", key_id=key.arn, plaintext=b"hello", encryption_context=context)
opened = call("CryptoService", "Decrypt", ciphertext_blob=sealed.ciphertext_blob, encryption_context=context)
assert opened.plaintext == b"hello" and opened.key_id == key.arn, opened
data_key = call("CryptoService", "GenerateDataKey", key_id=key.key_id, key_spec="DATA_KEY_SPEC_AES_256")
opened = call("CryptoService", "Decrypt", ciphertext_blob=data_key.ciphertext_blob)
assert len(data_key.plaintext) == 32 and opened.plaintext == data_key.plaintext

try:
    call("CryptoService", "Decrypt", ciphertext_blob=sealed.ciphertext_blob)
    raise SystemExit("a missing context was accepted")
except grpc.RpcError as error:
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT, error
    details = dict(error.trailing_metadata())["grpc-status-details-bin"]
    assert b"InvalidCiphertextException" in details and b"keystored" in details, details

# Health and reflection, their few bytes written by hand.
# The health service follows /readyz within a moment.
until = time.monotonic() + 120
health = None
while health != b"\x08\x01":
    assert time.monotonic() < until, health
    health = channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=60)
services = channel.stream_stream("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo")(
    iter([b"\x3a\x00"]), timeout=60
)
listed = b"".join(services)
for name in (b"keystored.v1.CryptoService", b"keystored.v1.KeysService", b"keystored.v1.KeyStoresService"):
    assert name in listed, listed

channel.close()
print(sealed.ciphertext_blob.hex(), flush=True)
# Without the interpreter's own end, in which grpcio (1.51) now and then waits for a thread of its own for ever.
os._exit(0)

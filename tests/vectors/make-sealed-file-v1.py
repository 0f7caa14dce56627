#!/usr/bin/env python3
"""Makes sealed-file-v1.json from docs/file-format.md alone, without keystored's code. Needs python3-cryptography."""

import hashlib
import json

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF


def seal(data_key, file_id, wrapped_key, log2, plaintext):
    header = b"\x89KSF\r\n\x1a\n" + bytes([1, log2]) + len(wrapped_key).to_bytes(2, "big") + file_id + wrapped_key
    derived = HKDF(SHA256(), 39, file_id, b"keystored sealed file v1").derive(data_key)
    key, prefix = AESGCM(derived[:32]), derived[32:]
    size = 1 << log2
    pieces = [plaintext[at : at + size] for at in range(0, len(plaintext), size)] or [b""]
    chunks = []
    for number, piece in enumerate(pieces):
        nonce = prefix + number.to_bytes(4, "big") + bytes([number == len(pieces) - 1])
        chunks.append(key.encrypt(nonce, piece, header))
    return header, chunks


def vector(name, log2, length, data_key=bytes(range(32)), file_id=bytes(range(16, 32)), wrapped=bytes(range(1, 101))):
    plaintext = bytes((7 * i + i // 256) % 256 for i in range(length))
    header, chunks = seal(data_key, file_id, wrapped, log2, plaintext)
    sealed = header + b"".join(chunks)
    return {
        "name": name,
        "data_key": data_key.hex(),
        "file_id": file_id.hex(),
        "wrapped_key": wrapped.hex(),
        "chunk_size_log2": log2,
        "plaintext_length": length,
        "header": header.hex(),
        "sealed_length": len(sealed),
        "sealed_sha256": hashlib.sha256(sealed).hexdigest(),
        "first_chunk_tag": chunks[0][-16:].hex(),
        "last_chunk_tag": chunks[-1][-16:].hex(),
    }


print(json.dumps({
    "plaintext": "byte i is (7 * i + floor(i / 256)) mod 256",
    "vectors": [
        vector("empty", 16, 0),
        vector("one byte", 16, 1),
        vector("one byte less than a chunk", 16, 65535),
        vector("one chunk", 16, 65536),
        vector("one byte more than a chunk", 16, 65537),
        vector("three chunks and a half, default size", 18, 3 * 262144 + 131072),
        vector("largest chunk size", 20, 1048577),
        vector("another file under the same data key", 16, 65537, file_id=bytes(16)),
        vector("another data key, shortest wrapped key", 16, 100, data_key=b"\xff" * 32, wrapped=b"\x01"),
    ],
}, indent=2))

#!/usr/bin/env python3
"""Makes ciphertext-v1.json from the description of ciphertext format 1 alone, without keystored's code.

    0   1   format 0x01
    1   16  key id (UUID)
    17  4   key version number, big-endian, from 1
    21  12  IV
    33  n   AES-256-GCM ciphertext, then 16 bytes tag
    AAD = bytes 0..21, then the encryption context: pairs sorted by the bytes of the key, each as
          u16 length, key, u16 length, value, big-endian, UTF-8

Needs python3-cryptography. Usage: make-ciphertext-v1.py > ciphertext-v1.json
A released format is read for ever: vectors are added to this file, never changed or taken away.
"""

import json
import uuid

from cryptography.hazmat.primitives.ciphers.aead import AESGCM


def encode(context):
    encoded = b""
    for key, value in sorted((key.encode(), value.encode()) for key, value in context.items()):
        encoded += len(key).to_bytes(2, "big") + key + len(value).to_bytes(2, "big") + value
    return encoded


def vector(name, plaintext, context, key=bytes(range(32)), version=1, iv=bytes(range(64, 76)),
           key_id="0f1e2d3c-4b5a-4978-8695-a4b3c2d1e0ff"):
    bound = b"\x01" + uuid.UUID(key_id).bytes + version.to_bytes(4, "big")
    aad = bound + encode(context)
    return {
        "name": name,
        "key": key.hex(),
        "key_id": key_id,
        "version": version,
        "context": context,
        "iv": iv.hex(),
        "plaintext": plaintext.hex(),
        "aad": aad.hex(),
        "blob": (bound + iv + AESGCM(key).encrypt(iv, plaintext, aad)).hex(),
    }


opens = [
    vector("one byte, no context", b"\x00", {}),
    vector("a data key with one pair", bytes(range(32)), {"purpose": "backup"}),
    vector("keys in the order of their bytes, not of any locale", b"order",
           {"b": "2", "a": "1", "B": "3", "aa": "4", "ä": "5", "": "6", "Z": "7", "_": "8"}),
    vector("empty keys and values", b"empty", {"": "", "k": ""}),
    vector("boundaries between key and value matter", b"boundary", {"ab": "c", "a": "bc"}),
    vector("text beyond the basic plane", "schlüssel 🔑".encode(), {"🔑": "ключ", "\u0000": "\n"}),
    vector("a later version", b"later", {"a": "1"}, version=2),
    vector("the last version", b"last", {}, version=0xFFFFFFFF),
    vector("another key, another IV", b"other", {"a": "1"}, key=bytes(range(255, 223, -1)), iv=bytes(12),
           key_id="ffffffff-ffff-4fff-bfff-ffffffffffff"),
    vector("the longest plaintext", bytes(i * 7 % 256 for i in range(4096)), {"length": "4096"}),
    vector("the longest context", b"long", {"k": "v" * (8192 - 5)}),
]

good = bytes.fromhex(opens[1]["blob"])
malformed = {
    "nothing": b"",
    "the format byte alone": good[:1],
    "the bound part alone": good[:21],
    "the header alone": good[:33],
    "no ciphertext, only a tag": good[:33] + good[-16:],
    "less than a tag": good[:33] + good[-15:],
    "format 0": b"\x00" + good[1:],
    "format 2": b"\x02" + good[1:],
    "version 0": good[:17] + bytes(4) + good[21:],
    "one byte too long": bytes.fromhex(opens[9]["blob"]) + b"\x00",
}

print(json.dumps({
    "format": 1,
    "opens": opens,
    "malformed": [{"name": name, "blob": blob.hex()} for name, blob in malformed.items()],
}, indent=1))

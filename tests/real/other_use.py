"""Somebody with a token's module, kmsuser's PIN and a wrapped key from the database: tries to make a key of it that does
something else than the token's own object of that key, or to have that object do it. Prints what each try came to, one to a
line.

usage: PIN=... other_use.py MODULE TOKEN_LABEL WRAPPED_KEY OBJECT_LABEL TRY...

A TRY is
    unwrap,NAME=VALUE,...   C_UnwrapKey as a session object with the token's own attributes, but for these; without a value
                            an attribute is not named
    use,MECHANISM           C_EncryptInit by a key that was unwrapped as it is in the token
    own,MECHANISM           the same by the token's own object
    copy,NAME=VALUE,...     C_CopyObject of the token's own object, with these attributes
    change,NAME=VALUE       C_SetAttributeValue of it
    is,NAME                 an attribute of it, in hexadecimal digits
    made,NAME               an attribute of a key that was unwrapped without naming it, likewise
    wrapping,MECHANISM      C_UnwrapKey by the wrapping key and this mechanism
"""

import sys
from ctypes import byref, c_ulong, c_void_p

import pkcs11

AS_IN_THE_TOKEN = {
    "CLASS": pkcs11.CKO_SECRET_KEY,
    "KEY_TYPE": pkcs11.CKK_AES,
    "TOKEN": False,
    "SENSITIVE": True,
    "EXTRACTABLE": False,
    "ENCRYPT": True,
    "DECRYPT": True,
    "WRAP": False,
    "UNWRAP": False,
    "SIGN": False,
    "VERIFY": False,
    "DERIVE": False,
    "ALLOWED_MECHANISMS": [pkcs11.CKM_AES_GCM],
}


def attributes(named):
    return pkcs11.template(*((getattr(pkcs11, f"CKA_{name}"), value) for name, value in named.items()))


def value(text):
    return {"true": True, "false": False}[text] if text in ("true", "false") else [int(text, 0)]


def mechanism(text):
    return pkcs11.Mechanism(int(text, 0), c_void_p(), 0)


def unwrap(changed, by=mechanism(hex(pkcs11.CKM_AES_KEY_WRAP))):
    named = dict(AS_IN_THE_TOKEN)
    for name, given in changed.items():
        if given is None:
            named.pop(name)
        else:
            named[name] = given
    return token.unwrap(by, wrapping, blob, attributes(named))


def encrypts(key, by):
    return token.code("C_EncryptInit", token.session, byref(mechanism(by)), key)


def attempt(what, *more):
    changed = {name: value(text) if text else None for name, _, text in (one.partition("=") for one in more)}
    if what == "unwrap":
        return unwrap(changed)[0]
    if what == "use":
        code, key = unwrap({})
        return code or encrypts(key, more[0])
    if what == "own":
        return encrypts(own, more[0])
    if what == "copy":
        named = attributes({"TOKEN": False, **changed})
        return token.code("C_CopyObject", token.session, own, named, c_ulong(len(named)), byref(c_ulong()))
    if what == "change":
        named = attributes(changed)
        return token.code("C_SetAttributeValue", token.session, own, named, c_ulong(len(named)))
    if what == "wrapping":
        return unwrap({}, mechanism(more[0]))[0]
    sys.exit(f"no such try: {what}")


token = pkcs11.Token(sys.argv[1], sys.argv[2], pkcs11.CKF_RW_SESSION)
blob = open(sys.argv[3], "rb").read()
wrapping = token.find(pkcs11.CKO_SECRET_KEY, b"keystored-cluster-wrapping")
own = token.find(pkcs11.CKO_SECRET_KEY, sys.argv[4].encode())
for words in sys.argv[5:]:
    what, *more = words.split(",")
    code, key = unwrap({more[0]: None}) if what == "made" else (0, own)
    if what in ("is", "made") and not code:
        print(token.read(key, getattr(pkcs11, f"CKA_{more[0]}"), 64).hex())
    elif what == "made":
        print(f"0x{code:x}")
    else:
        print(f"0x{attempt(what, *more):x}")

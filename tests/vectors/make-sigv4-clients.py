#!/usr/bin/env python3
"""Makes sigv4-clients.json: requests as clients of AWS sign and send them, taken from the wire.

None of keystored's code has a part in it. Needs botocore (pip), curl with --aws-sigv4, and a directory in which
`npm install @aws-sdk/client-kms` was done. The keys are made up; AWS's documents have them too.

Usage: make-sigv4-clients.py NODE_DIRECTORY > sigv4-clients.json
"""

import json
import os
import re
import socket
import subprocess
import sys
import threading

import botocore
import botocore.session
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials

KEY_ID, SECRET = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
REGION = "eu-central-1"
ENV = {"PATH": os.environ["PATH"], "AWS_ACCESS_KEY_ID": KEY_ID, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_REGION": REGION}
ANSWER = b'{"Keys":[],"Truncated":false}'
IDENTITY = b"""<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult>
<Arn>a</Arn><UserId>u</UserId><Account>1</Account></GetCallerIdentityResult></GetCallerIdentityResponse>"""

listener = socket.create_server(("127.0.0.1", 0))
PORT = listener.getsockname()[1]
taken = []


def serve():
    while True:
        connection, _ = listener.accept()
        with connection:
            data = b""
            while b"\r\n\r\n" not in data:
                data += connection.recv(65536)
            head, body = data.split(b"\r\n\r\n", 1)
            length = re.search(rb"\r\ncontent-length: *([0-9]+)", head.lower())
            while len(body) < int(length[1] if length else 0):
                body += connection.recv(65536)
            taken.append((head + b"\r\n\r\n" + body).decode())
            answer = IDENTITY if b"GetCallerIdentity" in body else ANSWER
            head = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(answer)
            connection.sendall(head + answer)


threading.Thread(target=serve, daemon=True).start()
cases = []


def case(name, service, call):
    before = len(taken)
    call()
    assert len(taken) == before + 1, name
    # That header is not signed, and says on which machine this ran.
    cases.append({"name": name, "service": service, "request": re.sub(r"(?im)^user-agent: .*\r\n", "", taken[-1])})


def by_botocore(service, operation, **parameters):
    def call():
        session = botocore.session.Session()
        session.set_credentials(KEY_ID, SECRET)
        client = session.create_client(service, region_name=REGION, endpoint_url=f"http://127.0.0.1:{PORT}",
                                       config=Config(retries={"max_attempts": 0}))
        getattr(client, operation)(**parameters)
    return call


def by_botocores_signer(path, body, **headers):
    """Signs as botocore does and sends as it is written, with blanks that a signature does not count."""
    def call():
        url = f"http://127.0.0.1:{PORT}{path}"
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        request = AWSRequest("POST", url, headers=named, data=body)
        SigV4Auth(Credentials(KEY_ID, SECRET), "kms-xks-proxy", REGION).add_auth(request)
        lines = [f"POST {path} HTTP/1.1", f"Host: 127.0.0.1:{PORT}", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in request.headers.items()]
        with socket.create_connection(("127.0.0.1", PORT)) as connection:
            connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode() + body)
            connection.recv(65536)
    return call


def by_curl(service, path, body, *headers):
    def call():
        subprocess.run(["curl", "-sS", "--aws-sigv4", f"aws:amz:{REGION}:{service}", "--user", f"{KEY_ID}:{SECRET}",
                        "--data-binary", body, *(part for header in headers for part in ("-H", header)),
                        f"http://127.0.0.1:{PORT}{path}"], check=True, stdout=subprocess.DEVNULL)
    return call


def by_javascript(command, parameters):
    script = """
        const { KMSClient, %(command)s } = require("@aws-sdk/client-kms");
        new KMSClient({ endpoint: "http://127.0.0.1:%(port)d", maxAttempts: 1 }).send(new %(command)s(%(parameters)s));
    """ % {"command": command, "parameters": parameters, "port": PORT}

    def call():
        subprocess.run(["node", "-e", script], check=True, cwd=sys.argv[1], env=ENV)
    return call


json_type = "Content-Type: application/x-amz-json-1.1"
case("botocore, ListKeys", "kms", by_botocore("kms", "list_keys"))
case("botocore, Encrypt", "kms", by_botocore("kms", "encrypt", KeyId="alias/a", Plaintext=bytes(range(256)),
                                             EncryptionContext={"tenant": "7", "schlüssel": "🔑"}))
case("botocore, CreateKey", "kms", by_botocore("kms", "create_key", Description="é \n \"",
                                               Tags=[{"TagKey": "a", "TagValue": "ü"}]))
case("botocore, GetCallerIdentity", "sts", by_botocore("sts", "get_caller_identity"))
case("botocore, an external key store's proxy", "kms-xks-proxy", by_botocores_signer(
    "/kms/xks/v1/keys/key.1-x_Y/encrypt", b'{"plaintext":"AAAA"}', Content_Type="application/json", X_Note="a  b   c"))
case("botocore, a path that is encoded", "kms-xks-proxy", by_botocores_signer(
    "/a%20b/%C3%A9/c~d", b"", X_Amz_Note=" a "))
case("curl, ListKeys", "kms", by_curl("kms", "/", "{}", json_type, "X-Amz-Target: TrentService.ListKeys"))
case("curl, GetCallerIdentity", "sts", by_curl("sts", "/", "Action=GetCallerIdentity&Version=2011-06-15"))
case("curl, an external key store's proxy", "kms-xks-proxy", by_curl(
    "kms-xks-proxy", "/prefix/kms/xks/v1/health", '{"requestMetadata":{"kmsRequestId":"1"}}',
    "Content-Type: application/json"))
case("JavaScript, ListKeys", "kms", by_javascript("ListKeysCommand", "{}"))
case("JavaScript, Encrypt", "kms", by_javascript(
    "EncryptCommand", '{ KeyId: "alias/a", Plaintext: new Uint8Array(3), EncryptionContext: { "é": "🔑" } }'))

curl = subprocess.run(["curl", "--version"], check=True, capture_output=True, text=True).stdout.split()[1]
with open(os.path.join(sys.argv[1], "node_modules/@aws-sdk/client-kms/package.json"), encoding="utf-8") as package:
    javascript = json.load(package)["version"]
print(json.dumps({
    "clients": f"botocore {botocore.__version__}, curl {curl}, @aws-sdk/client-kms {javascript}",
    "region": REGION, "access_key_id": KEY_ID, "secret": SECRET, "cases": cases,
}, indent=1, ensure_ascii=False))

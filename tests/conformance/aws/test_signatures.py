"""What is signed, and what follows where something is not: botocore signs, and the wire is written by hand."""

import datetime
import hashlib
import http.client
import json
import os
import ssl
import urllib.parse
import uuid

import botocore.auth
import botocore.awsrequest
import botocore.credentials
import clock

from common import Case

BODY = b'{"NumberOfBytes":16}'
TARGET = "TrentService.GenerateRandom"
PLACE = urllib.parse.urlsplit(os.environ["AWS_ENDPOINT_URL_KMS"])
REGION = os.environ["AWS_REGION"]


class Wire(Case):
    def key_of(self, invocation, body):
        """The key that a CreateKey with this body makes, or has made, in this invocation of an SDK."""
        given = {"X-Amz-Target": "TrentService.CreateKey", "amz-sdk-invocation-id": invocation}
        status, name, message, _ = self.ask(self.signed(body=body, headers=given), body=body)
        self.assertEqual((status, name), (200, None), message)
        return self.answer["KeyMetadata"]["KeyId"]

    def signed(self, body=BODY, region=REGION, service="kms", at=None, key=None, secret=None, headers=None, url=None):
        """The headers of a request, as botocore signs it."""
        credentials = botocore.credentials.Credentials(
            key or os.environ["AWS_ACCESS_KEY_ID"], secret or os.environ["AWS_SECRET_ACCESS_KEY"]
        )
        given = {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": TARGET, **(headers or {})}
        request = botocore.awsrequest.AWSRequest("POST", url or f"https://{PLACE.netloc}/", headers=given, data=body)
        with clock.moved(at):
            botocore.auth.SigV4Auth(credentials, service, region).add_auth(request)
        return {"Host": PLACE.netloc, **dict(request.headers.items())}

    def ask(self, headers, body=BODY, method="POST", path="/"):
        """Status, error name, message and headers of the answer to these bytes."""
        trust = ssl.create_default_context(cafile=os.environ["AWS_CA_BUNDLE"])
        connection = http.client.HTTPSConnection(PLACE.hostname, PLACE.port, context=trust, timeout=30)
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            for name, value in headers.items():
                for one in value if isinstance(value, list) else [value]:
                    connection.putheader(name, one)
            connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            answer = connection.getresponse()
            text = answer.read()
        finally:
            connection.close()
        said = self.answer = json.loads(text) if text.startswith(b"{") else {}
        return answer.status, said.get("__type"), said.get("message") or said.get("Message") or "", answer.headers

    def refuses(self, name, headers, part="", **asked):
        status, said, message, _ = self.ask(headers, **asked)
        self.assertEqual((status, said), (400, name), message)
        self.assertIn(part, message)
        self.assertNotIn(os.environ["AWS_SECRET_ACCESS_KEY"], message)

    def test_what_is_signed_well_is_answered(self):
        status, _, message, headers = self.ask(self.signed())
        self.assertEqual(status, 200, message)
        self.assertEqual(headers["Content-Type"], "application/x-amz-json-1.1")
        self.assertRegex(headers["x-amzn-RequestId"], r"^[0-9a-f-]{36}$")
        self.assertIn("Date", headers)
        # By these very letters: MongoDB's drivers know no others.
        self.assertIn("Content-Length", headers.keys())

    def test_what_was_altered_after_it_was_signed(self):
        good = self.signed()
        mismatch = "The request signature we calculated does not match the signature you provided."
        self.refuses("InvalidSignatureException", good, mismatch, body=b'{"NumberOfBytes":17}')
        for name, value in (("X-Amz-Target", "TrentService.ListKeys"), ("Content-Type", "application/x-amz-json-1.0")):
            self.refuses("InvalidSignatureException", {**good, name: value}, mismatch)
        self.refuses("InvalidSignatureException", {**good, "Host": "kms.us-east-1.amazonaws.com"}, mismatch)
        signature = good["Authorization"].rsplit("=", 1)[1]
        other = ("0" if signature[0] != "0" else "1") + signature[1:]
        self.refuses("InvalidSignatureException", {**good, "Authorization": good["Authorization"].replace(signature, other)}, mismatch)
        self.refuses("InvalidSignatureException", self.signed(secret="x" * 40), mismatch)
        self.refuses("UnrecognizedClientException", self.signed(key="AKKS" + "A" * 16))

    def test_scope(self):
        self.refuses("InvalidSignatureException", self.signed(region="mars-north-1"), "region")
        self.refuses("InvalidSignatureException", self.signed(service="s3"), "service")

    def test_a_connection_goes_on_after_a_refusal(self):
        for asked in ({"region": "mars-north-1"}, {"key": "AKKS" + "A" * 16}, {"secret": "x" * 40}):
            self.assertNotIn("connection", self.ask(self.signed(**asked))[3])

    def test_a_create_that_is_repeated_makes_one_key(self):
        invocation, body = str(uuid.uuid4()), b'{"Description":"one"}'
        first = self.key_of(invocation, body)
        self.assertEqual(self.key_of(invocation, body), first, "its answer was lost, and the SDK asks again")
        self.assertNotEqual(self.key_of(invocation, b'{"Description":"two"}'), first)
        self.assertNotEqual(self.key_of(str(uuid.uuid4()), body), first, "another call that wants the same")

    def test_clocks(self):
        minute = datetime.timedelta(minutes=1)
        self.assertEqual(self.ask(self.signed(at=4 * minute))[0], 200)
        self.assertEqual(self.ask(self.signed(at=-4 * minute))[0], 200)
        self.refuses("InvalidSignatureException", self.signed(at=-6 * minute), "Signature expired: ")
        self.refuses("InvalidSignatureException", self.signed(at=6 * minute), "Signature not yet current: ")

    def test_without_what_is_needed(self):
        self.refuses("MissingAuthenticationTokenException", {"Host": PLACE.netloc, "X-Amz-Target": TARGET, "Content-Type": "application/x-amz-json-1.1"})
        good = self.signed()
        for part in ("Credential", "SignedHeaders", "Signature"):
            without = good["Authorization"].replace(f"{part}=", f"No{part}=")
            self.refuses("IncompleteSignatureException", {**good, "Authorization": without}, part)

    def test_headers_that_nobody_signed(self):
        status, name, _, _ = self.ask({**self.signed(), "X-Amz-Meta": "1"})
        self.assertEqual((status, name is not None), (400, True))
        target = self.signed()
        target["Authorization"] = target["Authorization"].replace(";x-amz-target", "")
        self.assertEqual(self.ask(target)[0], 400)
        self.assertEqual(self.ask({**self.signed(), "X-Amz-Target": [TARGET, "TrentService.ListKeys"]})[0], 400)

    def test_other_ways_to_sign_are_refused(self):
        good = self.signed()
        query = "/?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=a&X-Amz-Date=b&X-Amz-SignedHeaders=host&X-Amz-Signature=c"
        unsigned = {"Host": PLACE.netloc, "X-Amz-Target": TARGET, "Content-Type": "application/x-amz-json-1.1"}
        self.assertEqual(self.ask(unsigned, path=query)[0], 400)
        self.assertEqual(self.ask({**good, "Authorization": good["Authorization"].replace("AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256")})[0], 400)
        chunked = self.signed(headers={"X-Amz-Content-SHA256": "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"})
        self.assertEqual(self.ask(chunked)[0], 400)
        hashed = self.signed(headers={"X-Amz-Content-SHA256": hashlib.sha256(BODY).hexdigest()})
        self.assertEqual(self.ask(hashed)[0], 200, "clients may say what they have signed")

    def test_operations_that_there_are_not(self):
        headers = self.signed(headers={"X-Amz-Target": "TrentService.Nonsense"})
        self.assertEqual(self.ask(headers)[:2], (400, "UnknownOperationException"))
        self.assertNotEqual(self.ask(self.signed(), method="GET")[0], 200)
        self.assertEqual(self.ask(self.signed(body=b"{"), body=b"{")[:2], (400, "SerializationException"))

"""Other clients, each as its users run it: AWS CLI, AWS SDK for JavaScript, AWS Encryption SDK, SOPS, curl."""

import base64
import json
import os
import pathlib
import tempfile
import threading
import unittest

import aws_encryption_sdk
import botocore.session
from aws_encryption_sdk import CachingCryptoMaterialsManager, CommitmentPolicy, LocalCryptoMaterialsCache, StrictAwsKmsMasterKeyProvider
from aws_encryption_sdk.exceptions import AWSEncryptionSDKClientError

from common import Case, run, unique, zone_stopped

HERE = pathlib.Path(__file__).parent
TOOLS = pathlib.Path(os.environ["CONFORMANCE_TOOLS"])


class Cli(Case):
    def aws(self, *words):
        out = run(TOOLS / "venv/bin/aws", "kms", *words, "--output", "json")
        return json.loads(out) if out.strip() else {}

    def test_encrypt_and_decrypt(self):
        key = self.aws("create-key", "--description", "cli")["KeyMetadata"]
        with tempfile.TemporaryDirectory() as directory:
            plain, sealed = pathlib.Path(directory, "plain"), pathlib.Path(directory, "sealed")
            plain.write_bytes(b"from the command line")
            answer = self.aws("encrypt", "--key-id", key["KeyId"], "--plaintext", f"fileb://{plain}", "--encryption-context", "a=b")
            sealed.write_bytes(base64.b64decode(answer["CiphertextBlob"]))
            opened = self.aws("decrypt", "--ciphertext-blob", f"fileb://{sealed}", "--encryption-context", "a=b")
            self.assertEqual(base64.b64decode(opened["Plaintext"]), plain.read_bytes())
        alias = unique("alias/cli")
        self.aws("create-alias", "--alias-name", alias, "--target-key-id", key["KeyId"])
        self.assertIn(alias, [entry["AliasName"] for entry in self.aws("list-aliases")["Aliases"]])
        me = json.loads(run(TOOLS / "venv/bin/aws", "sts", "get-caller-identity", "--output", "json"))
        self.assertEqual(me["Account"], key["AWSAccountId"])


class JavaScript(Case):
    def test_the_sdk(self):
        key = self.new_key()["Arn"]
        environment = {"NODE_EXTRA_CA_CERTS": os.environ["AWS_CA_BUNDLE"], "KEY": key}
        self.assertEqual(json.loads(run("node", TOOLS / "js/client.mjs", **environment)), {"ok": True, "key": key})


class EncryptionSdk(Case):
    """Envelopes whose data keys come from the daemon."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.key = cls().new_key()["Arn"]
        cls.sdk = aws_encryption_sdk.EncryptionSDKClient(commitment_policy=CommitmentPolicy.REQUIRE_ENCRYPT_REQUIRE_DECRYPT)

    def provider(self):
        return StrictAwsKmsMasterKeyProvider(key_ids=[self.key], botocore_session=botocore.session.get_session())

    def test_a_message_and_a_wrong_context(self):
        sealed, _ = self.sdk.encrypt(source=b"message", key_provider=self.provider(), encryption_context={"a": "b"})
        opened, header = self.sdk.decrypt(source=sealed, key_provider=self.provider())
        self.assertEqual((opened, header.encryption_context["a"]), (b"message", "b"))
        altered = bytearray(sealed)
        at = sealed.index(b"a\x00\x01b")
        altered[at + 3] = ord("c")
        with self.assertRaises(AWSEncryptionSDKClientError):
            self.sdk.decrypt(source=bytes(altered), key_provider=self.provider())

    def test_data_keys_that_are_kept(self):
        cache = LocalCryptoMaterialsCache(10)
        manager = CachingCryptoMaterialsManager(master_key_provider=self.provider(), cache=cache, max_age=60.0, max_messages_encrypted=10)
        sealed = [self.sdk.encrypt(source=b"%d" % number, materials_manager=manager)[0] for number in range(20)]
        for number, one in enumerate(sealed):
            self.assertEqual(self.sdk.decrypt(source=one, materials_manager=manager)[0], b"%d" % number)

    def test_while_the_key_is_rotated(self):
        before, _ = self.sdk.encrypt(source=b"before", key_provider=self.provider())
        turning = threading.Thread(target=lambda: self.kms.rotate_key_on_demand(KeyId=self.key))
        turning.start()
        sealed = []
        while turning.is_alive() or len(sealed) < 5:
            sealed.append(self.sdk.encrypt(source=b"while", key_provider=self.provider())[0])
        turning.join()
        for one, text in [(before, b"before")] + [(one, b"while") for one in sealed]:
            self.assertEqual(self.sdk.decrypt(source=one, key_provider=self.provider())[0], text)

    def test_while_a_zone_answers_nothing(self):
        sealed, _ = self.sdk.encrypt(source=b"message", key_provider=self.provider())
        for zone in ("a", "b"):
            with zone_stopped(zone):
                self.assertEqual(self.sdk.decrypt(source=sealed, key_provider=self.provider())[0], b"message")
                again, _ = self.sdk.encrypt(source=b"again", key_provider=self.provider())
            self.assertEqual(self.sdk.decrypt(source=again, key_provider=self.provider())[0], b"again")


class Sops(Case):
    def test_a_file(self):
        key, other = self.new_key()["Arn"], self.new_key()["Arn"]
        sops = TOOLS / "venv/bin/sops"
        with tempfile.TemporaryDirectory() as directory:
            file = pathlib.Path(directory, "secrets.yaml")
            file.write_text("password: hunter2\n")
            run(sops, "encrypt", "--kms", key, "--in-place", file)
            self.assertNotIn("hunter2", file.read_text())
            run(sops, "set", file, '["another"]', '"value"')
            editor = pathlib.Path(directory, "editor")
            editor.write_text('#!/bin/sh\nsed -i s/hunter2/hunter3/ "$1"\n')
            editor.chmod(0o700)
            run(sops, "edit", file, EDITOR=str(editor))
            run(sops, "rotate", "--in-place", "--add-kms", other, "--rm-kms", key, file)
            self.assertEqual(json.loads(run(sops, "decrypt", "--output-type", "json", file)), {"password": "hunter3", "another": "value"})
            self.assertIn(other, file.read_text())
            self.kms.disable_key(KeyId=key)
            run(sops, "decrypt", file)
            self.kms.disable_key(KeyId=other)
            with self.assertRaises(AssertionError):
                run(sops, "decrypt", file)


class Curl(Case):
    def test_its_own_signature(self):
        region = os.environ["AWS_REGION"]
        with tempfile.NamedTemporaryFile("w") as settings:
            # Not in arguments, where others see them.
            settings.write(f'user = "{os.environ["AWS_ACCESS_KEY_ID"]}:{os.environ["AWS_SECRET_ACCESS_KEY"]}"\n')
            settings.flush()
            out = run(
                "curl", "--silent", "--show-error", "--config", settings.name,
                "--cacert", os.environ["AWS_CA_BUNDLE"], "--aws-sigv4", f"aws:amz:{region}:kms",
                "--header", "X-Amz-Target: TrentService.ListKeys", "--header", "Content-Type: application/x-amz-json-1.1",
                "--data", "{}", os.environ["AWS_ENDPOINT_URL_KMS"],
            )
        self.assertIn("Keys", json.loads(out))


if __name__ == "__main__":
    unittest.main()

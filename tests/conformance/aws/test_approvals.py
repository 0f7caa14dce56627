"""Calls that somebody else has to approve, by boto3: refused, approved with keystorectl, made again, carried out once."""

import re

import boto3

from common import Case, approved, client, needing_approval, unique


class Approvals(Case):
    def asked(self, call, **parameters):
        """The approval for which a call waits."""
        said = self.refused("AccessDeniedException", call, **parameters)
        (approval,) = set(re.findall(r"apr-[0-9a-f]+", said))
        return approval

    def enabled(self, key):
        return self.kms.describe_key(KeyId=key)["KeyMetadata"]["Enabled"]

    def test_a_call_that_somebody_else_approves_is_carried_out_once(self):
        key, other = self.new_key(), self.new_key()["KeyId"]
        with needing_approval("DisableKey"):
            # As applications make it, with the tries that the SDK makes by itself: a refusal is none of those that it repeats.
            kms = boto3.client("kms")
            waits = self.asked(kms.disable_key, KeyId=key["KeyId"])
            self.assertEqual(self.asked(self.kms.disable_key, KeyId=key["KeyId"]), waits)
            self.assertNotEqual(self.asked(kms.disable_key, KeyId=other), waits)
            self.assertTrue(self.enabled(key["KeyId"]))
            shown = approved(waits)
            self.assertEqual(shown["requester"], client("sts").get_caller_identity()["Arn"])
            self.assertEqual((shown["operation"], shown["resource"]), ("DisableKey", key["Arn"]))
            self.assertTrue(self.enabled(key["KeyId"]), "nothing is done before the call is made again")
            kms.disable_key(KeyId=key["KeyId"])
            self.assertFalse(self.enabled(key["KeyId"]))
            # Whoever has lost the answer asks once more: that changes nothing, and needs nobody.
            kms.disable_key(KeyId=key["KeyId"])
            kms.enable_key(KeyId=key["KeyId"])
            self.assertNotEqual(self.asked(kms.disable_key, KeyId=key["KeyId"]), waits)
            self.assertTrue(self.enabled(key["KeyId"]) and self.enabled(other))
        kms.disable_key(KeyId=other)

    def test_a_key_that_somebody_else_approves_is_made_once(self):
        description = unique("approved")
        described = lambda: [
            key["KeyId"]
            for page in self.kms.get_paginator("list_keys").paginate()
            for key in page["Keys"]
            if self.kms.describe_key(KeyId=key["KeyId"])["KeyMetadata"]["Description"] == description
        ]
        asked = {"CustomKeyStoreId": self.store["CustomKeyStoreId"], "Origin": "AWS_CLOUDHSM", "Description": description}
        with needing_approval("CreateKey"):
            kms = boto3.client("kms")
            waits = self.asked(kms.create_key, **asked)
            self.assertEqual(described(), [])
            approved(waits)
            made = kms.create_key(**asked)["KeyMetadata"]
            self.assertEqual(described(), [made["KeyId"]])
            # Another call of create_key is another key, as with AWS.
            self.assertNotEqual(self.asked(kms.create_key, **asked), waits)
            self.assertEqual(described(), [made["KeyId"]])
        self.kms.encrypt(KeyId=made["KeyId"], Plaintext=b"what nobody else may read")

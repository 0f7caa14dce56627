"""Every operation of the model, by boto3."""

import datetime
import json
import os
import unittest

import botocore.exceptions

from common import Case, client, unique, until

PLAINTEXT = b"what nobody else may read"
CONTEXT = {"tenant": "42", "Purpose": "invoice"}


class Crypto(Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.key = cls().new_key()

    def test_encrypt_and_decrypt(self):
        made = self.kms.encrypt(KeyId=self.key["KeyId"], Plaintext=PLAINTEXT, EncryptionContext=CONTEXT)
        self.assertEqual(made["KeyId"], self.key["Arn"])
        self.assertEqual(made["EncryptionAlgorithm"], "SYMMETRIC_DEFAULT")
        opened = self.kms.decrypt(CiphertextBlob=made["CiphertextBlob"], EncryptionContext=CONTEXT)
        self.assertEqual(opened["Plaintext"], PLAINTEXT)
        self.assertEqual(opened["KeyId"], self.key["Arn"])
        for key_id in (self.key["KeyId"], self.key["Arn"]):
            named = self.kms.decrypt(CiphertextBlob=made["CiphertextBlob"], EncryptionContext=CONTEXT, KeyId=key_id)
            self.assertEqual(named["Plaintext"], PLAINTEXT)

    def test_a_wrong_context_opens_nothing_and_says_nothing(self):
        blob = self.kms.encrypt(KeyId=self.key["KeyId"], Plaintext=PLAINTEXT, EncryptionContext=CONTEXT)["CiphertextBlob"]
        for context in ({}, {"tenant": "43", "Purpose": "invoice"}, {"tenant": "42", "purpose": "invoice"}):
            said = self.refused("InvalidCiphertextException", self.kms.decrypt, CiphertextBlob=blob, EncryptionContext=context)
            self.assertEqual(said, "")
        said = self.refused("InvalidCiphertextException", self.kms.decrypt, CiphertextBlob=b"no ciphertext")
        self.assertEqual(said, "")

    def test_another_key_is_named(self):
        blob = self.kms.encrypt(KeyId=self.key["KeyId"], Plaintext=PLAINTEXT)["CiphertextBlob"]
        other = self.new_key()
        self.refused("IncorrectKeyException", self.kms.decrypt, CiphertextBlob=blob, KeyId=other["KeyId"])

    def test_data_keys(self):
        for asked, length in (({"KeySpec": "AES_256"}, 32), ({"KeySpec": "AES_128"}, 16), ({"NumberOfBytes": 1024}, 1024)):
            made = self.kms.generate_data_key(KeyId=self.key["KeyId"], EncryptionContext=CONTEXT, **asked)
            self.assertEqual(len(made["Plaintext"]), length)
            opened = self.kms.decrypt(CiphertextBlob=made["CiphertextBlob"], EncryptionContext=CONTEXT)
            self.assertEqual(opened["Plaintext"], made["Plaintext"])
            hidden = self.kms.generate_data_key_without_plaintext(KeyId=self.key["KeyId"], **asked)
            self.assertNotIn("Plaintext", hidden)
            self.assertEqual(len(self.kms.decrypt(CiphertextBlob=hidden["CiphertextBlob"])["Plaintext"]), length)
        self.refused("ValidationException", self.kms.generate_data_key, KeyId=self.key["KeyId"])
        self.refused("ValidationException", self.kms.generate_data_key, KeyId=self.key["KeyId"], KeySpec="AES_256", NumberOfBytes=32)

    def test_re_encrypt(self):
        other = self.new_key()
        blob = self.kms.encrypt(KeyId=self.key["KeyId"], Plaintext=PLAINTEXT, EncryptionContext=CONTEXT)["CiphertextBlob"]
        moved = self.kms.re_encrypt(
            CiphertextBlob=blob,
            SourceEncryptionContext=CONTEXT,
            DestinationKeyId=other["KeyId"],
            DestinationEncryptionContext={"moved": "yes"},
        )
        self.assertEqual((moved["SourceKeyId"], moved["KeyId"]), (self.key["Arn"], other["Arn"]))
        self.assertEqual(moved["SourceEncryptionAlgorithm"], "SYMMETRIC_DEFAULT")
        self.assertEqual(moved["DestinationEncryptionAlgorithm"], "SYMMETRIC_DEFAULT")
        opened = self.kms.decrypt(CiphertextBlob=moved["CiphertextBlob"], EncryptionContext={"moved": "yes"})
        self.assertEqual((opened["Plaintext"], opened["KeyId"]), (PLAINTEXT, other["Arn"]))

    def test_random(self):
        made = {self.kms.generate_random(NumberOfBytes=32)["Plaintext"] for _ in range(4)}
        self.assertEqual(({len(one) for one in made}, len(made)), ({32}, 4))
        one = self.kms.generate_random(NumberOfBytes=1024, CustomKeyStoreId=self.store["CustomKeyStoreId"])
        self.assertEqual(len(one["Plaintext"]), 1024)
        self.refused("CustomKeyStoreNotFoundException", self.kms.generate_random, NumberOfBytes=1, CustomKeyStoreId="cks-none")

    def test_a_dry_run_does_nothing(self):
        self.refused("DryRunOperationException", self.kms.encrypt, KeyId=self.key["KeyId"], Plaintext=PLAINTEXT, DryRun=True)
        self.refused("DryRunOperationException", self.kms.generate_data_key, KeyId=self.key["KeyId"], KeySpec="AES_256", DryRun=True)
        blob = self.kms.encrypt(KeyId=self.key["KeyId"], Plaintext=PLAINTEXT)["CiphertextBlob"]
        self.refused("DryRunOperationException", self.kms.decrypt, CiphertextBlob=blob, DryRun=True)

    def test_bounds_have_the_texts_of_aws(self):
        raw = client(looks_first=False)
        said = self.refused("ValidationException", raw.generate_random, NumberOfBytes=1025)
        self.assertEqual(
            said,
            "1 validation error detected: Value '1025' at 'numberOfBytes' failed to satisfy constraint: "
            "Member must have value less than or equal to 1024",
        )
        said = self.refused("ValidationException", raw.encrypt, KeyId=self.key["KeyId"], Plaintext=b"x" * 4097)
        self.assertEqual(
            said,
            "1 validation error detected: Value at 'plaintext' failed to satisfy constraint: "
            "Member must have length less than or equal to 4096",
        )
        said = self.refused("ValidationException", raw.generate_data_key, KeyId=self.key["KeyId"], KeySpec="AES_512")
        self.assertIn("at 'keySpec' failed to satisfy constraint: Member must satisfy enum value set: [", said)

    def test_what_a_store_key_cannot_do(self):
        arn = self.key["Arn"]
        self.refused("InvalidKeyUsageException", self.kms.sign, KeyId=arn, Message=b"m", SigningAlgorithm="RSASSA_PSS_SHA_256")
        self.refused("InvalidKeyUsageException", self.kms.generate_mac, KeyId=arn, Message=b"m", MacAlgorithm="HMAC_SHA_256")


class Keys(Case):
    def test_a_key_as_it_is_described(self):
        key = self.new_key(Description="for invoices", Tags=[{"TagKey": "team", "TagValue": "billing"}])
        described = self.kms.describe_key(KeyId=key["KeyId"])["KeyMetadata"]
        self.assertEqual(described, key)
        partition, _, region, account, resource = key["Arn"].split(":", 1)[1].split(":")
        self.assertEqual((partition, region), ("aws", self.kms.meta.region_name))
        self.assertEqual((account, resource), (key["AWSAccountId"], f"key/{key['KeyId']}"))
        expected = {
            "Description": "for invoices",
            "Enabled": True,
            "KeyState": "Enabled",
            "KeyUsage": "ENCRYPT_DECRYPT",
            "KeySpec": "SYMMETRIC_DEFAULT",
            "CustomerMasterKeySpec": "SYMMETRIC_DEFAULT",
            "EncryptionAlgorithms": ["SYMMETRIC_DEFAULT"],
            "Origin": "AWS_CLOUDHSM",
            "KeyManager": "CUSTOMER",
            "MultiRegion": False,
            "CustomKeyStoreId": self.store["CustomKeyStoreId"],
            "CloudHsmClusterId": self.store["CloudHsmClusterId"],
        }
        self.assertEqual({name: described.get(name) for name in expected}, expected)
        self.assertIsInstance(described["CreationDate"], datetime.datetime)
        self.assertEqual(self.kms.list_resource_tags(KeyId=key["KeyId"])["Tags"], [{"TagKey": "team", "TagValue": "billing"}])

    def test_the_only_store_is_the_one_that_is_meant(self):
        key = self.kms.create_key(Origin="AWS_CLOUDHSM")["KeyMetadata"]
        self.assertEqual(key["CustomKeyStoreId"], self.store["CustomKeyStoreId"])
        self.assertEqual(self.kms.create_key()["KeyMetadata"]["Origin"], "AWS_CLOUDHSM")

    def test_what_cannot_be_made(self):
        for asked, name in (
            ({"KeySpec": "RSA_2048", "KeyUsage": "SIGN_VERIFY"}, "UnsupportedOperationException"),
            ({"KeySpec": "HMAC_256", "KeyUsage": "GENERATE_VERIFY_MAC"}, "UnsupportedOperationException"),
            ({"MultiRegion": True}, "UnsupportedOperationException"),
            ({"CustomKeyStoreId": "cks-none"}, "CustomKeyStoreNotFoundException"),
        ):
            with self.subTest(asked=asked):
                self.refused(name, self.kms.create_key, **asked)

    def test_states(self):
        key = self.new_key()["KeyId"]
        self.kms.disable_key(KeyId=key)
        self.assertFalse(self.kms.describe_key(KeyId=key)["KeyMetadata"]["Enabled"])
        self.refused("DisabledException", self.kms.encrypt, KeyId=key, Plaintext=PLAINTEXT)
        self.kms.enable_key(KeyId=key)
        self.kms.encrypt(KeyId=key, Plaintext=PLAINTEXT)
        done = self.kms.schedule_key_deletion(KeyId=key, PendingWindowInDays=7)
        self.assertEqual((done["KeyState"], done["PendingWindowInDays"]), ("PendingDeletion", 7))
        described = self.kms.describe_key(KeyId=key)["KeyMetadata"]
        self.assertEqual((described["KeyState"], described["DeletionDate"]), ("PendingDeletion", done["DeletionDate"]))
        self.refused("KMSInvalidStateException", self.kms.encrypt, KeyId=key, Plaintext=PLAINTEXT)
        self.assertEqual(self.kms.cancel_key_deletion(KeyId=key)["KeyId"], described["Arn"])
        self.assertEqual(self.kms.describe_key(KeyId=key)["KeyMetadata"]["KeyState"], "Disabled")
        for days in (6, 31):
            said = self.refused("ValidationException", self.kms.schedule_key_deletion, KeyId=key, PendingWindowInDays=days)
            self.assertEqual(said, "PendingWindowInDays must be between 7 and 30")

    def test_a_description_changes(self):
        key = self.new_key()["KeyId"]
        self.kms.update_key_description(KeyId=key, Description="another")
        self.assertEqual(self.kms.describe_key(KeyId=key)["KeyMetadata"]["Description"], "another")

    def test_a_key_that_is_not_there(self):
        nobody = "11111111-2222-3333-4444-555555555555"
        said = self.refused("NotFoundException", self.kms.describe_key, KeyId=nobody)
        self.assertIn(nobody, said)
        self.refused("NotFoundException", self.kms.encrypt, KeyId=nobody, Plaintext=PLAINTEXT)
        self.refused("NotFoundException", self.kms.encrypt, KeyId="alias/none-of-these", Plaintext=PLAINTEXT)
        # A multi-Region key's id is one, and none of a key here.
        arn = self.new_key()["Arn"]
        multi_region = "mrk-d3b95762d3b95762d3b95762d3b95762"
        unknown = f"Key '{arn.rsplit('/', 1)[0]}/{multi_region}' does not exist"
        for key in (multi_region, f"{arn.rsplit('/', 1)[0]}/{multi_region}"):
            self.assertEqual(self.refused("NotFoundException", self.kms.describe_key, KeyId=key), unknown)
            self.assertEqual(self.refused("NotFoundException", self.kms.disable_key, KeyId=key), unknown)
        for key in ("fake-key-id", "134f2428cec14b25a1ae9048164dba47", "mrk-fake-key-id"):
            self.assertEqual(self.refused("NotFoundException", self.kms.describe_key, KeyId=key), f"Invalid keyId '{key}'")

    def test_pages(self):
        made = {self.new_key()["KeyId"] for _ in range(3)}
        pages = list(self.kms.get_paginator("list_keys").paginate(PaginationConfig={"PageSize": 2}))
        listed = [entry["KeyId"] for page in pages for entry in page["Keys"]]
        self.assertTrue(made <= set(listed) and len(listed) == len(set(listed)), listed)
        self.assertTrue(all(page["Truncated"] == ("NextMarker" in page) for page in pages))
        self.refused("InvalidMarkerException", self.kms.list_keys, Marker="nonsense")
        self.refused("ValidationException", client().list_aliases, Limit=101)
        shared = self.kms.list_keys(ResourceOwners=["OTHER_ACCOUNTS_VIA_RAM"])
        self.assertEqual((shared["Keys"], shared["Truncated"]), ([], False))

    def test_aliases(self):
        key, other = self.new_key(), self.new_key()
        alias = unique("alias/app/one")
        self.kms.create_alias(AliasName=alias, TargetKeyId=key["KeyId"])
        self.refused("AlreadyExistsException", self.kms.create_alias, AliasName=alias, TargetKeyId=other["KeyId"])
        blob = self.kms.encrypt(KeyId=alias, Plaintext=PLAINTEXT)["CiphertextBlob"]
        self.kms.update_alias(AliasName=alias, TargetKeyId=other["KeyId"])
        self.assertEqual(self.kms.encrypt(KeyId=alias, Plaintext=PLAINTEXT)["KeyId"], other["Arn"])
        self.assertEqual(self.kms.decrypt(CiphertextBlob=blob)["KeyId"], key["Arn"])
        (listed,) = self.kms.list_aliases(KeyId=other["KeyId"])["Aliases"]
        self.assertEqual((listed["AliasName"], listed["TargetKeyId"]), (alias, other["KeyId"]))
        self.assertTrue(listed["AliasArn"].endswith(f":{alias}"))
        for name in (alias, listed["AliasArn"]):
            for call in (self.kms.get_key_policy, self.kms.disable_key, self.kms.list_aliases, self.kms.delete_imported_key_material):
                said = self.refused("InvalidArnException", call, KeyId=name)
                self.assertEqual(said, "Key Aliases are not supported for this operation.")
        self.kms.delete_alias(AliasName=alias)
        self.refused("NotFoundException", self.kms.delete_alias, AliasName=alias)
        said = self.refused("ValidationException", self.kms.create_alias, AliasName="no-prefix", TargetKeyId=key["KeyId"])
        self.assertEqual(
            said,
            'Alias must start with the prefix "alias/". Please see '
            "https://docs.aws.amazon.com/kms/latest/developerguide/kms-alias.html",
        )
        self.kms.create_alias(AliasName=alias, TargetKeyId=key["KeyId"])
        for target in (alias, listed["AliasArn"]):
            for call, name in ((self.kms.create_alias, unique("alias/app/two")), (self.kms.update_alias, alias)):
                said = self.refused("ValidationException", call, AliasName=name, TargetKeyId=target)
                self.assertEqual(said, "Aliases must refer to keys. Not aliases")

    def test_tags(self):
        key = self.new_key()["KeyId"]
        self.kms.tag_resource(KeyId=key, Tags=[{"TagKey": "a", "TagValue": "1"}, {"TagKey": "b", "TagValue": ""}])
        self.kms.untag_resource(KeyId=key, TagKeys=["a"])
        answer = self.kms.list_resource_tags(KeyId=key)
        self.assertEqual((answer["Tags"], answer["Truncated"]), ([{"TagKey": "b", "TagValue": ""}], False))
        self.refused("TagException", self.kms.tag_resource, KeyId=key, Tags=[{"TagKey": "aws:x", "TagValue": "1"}])

    def test_rotation(self):
        key = self.new_key()["KeyId"]
        self.assertFalse(self.kms.get_key_rotation_status(KeyId=key)["KeyRotationEnabled"])
        self.kms.enable_key_rotation(KeyId=key, RotationPeriodInDays=90)
        status = self.kms.get_key_rotation_status(KeyId=key)
        self.assertEqual((status["KeyRotationEnabled"], status["RotationPeriodInDays"]), (True, 90))
        self.assertIn("NextRotationDate", status)
        self.kms.disable_key_rotation(KeyId=key)
        blob = self.kms.encrypt(KeyId=key, Plaintext=PLAINTEXT)["CiphertextBlob"]
        self.assertTrue(self.kms.rotate_key_on_demand(KeyId=key)["KeyId"].endswith(f":key/{key}"))
        rotations = until(lambda: self.kms.list_key_rotations(KeyId=key)["Rotations"], "the rotation")
        self.assertEqual(rotations[0]["RotationType"], "ON_DEMAND")
        self.assertEqual(self.kms.decrypt(CiphertextBlob=blob)["Plaintext"], PLAINTEXT)
        raw = client(looks_first=False)
        self.refused("ValidationException", raw.enable_key_rotation, KeyId=key, RotationPeriodInDays=89)

    def test_last_usage(self):
        key = self.new_key()["KeyId"]
        self.kms.encrypt(KeyId=key, Plaintext=PLAINTEXT)
        usage = until(lambda: self.kms.get_key_last_usage(KeyId=key).get("KeyLastUsage"), "the last use")
        self.assertEqual(usage["Operation"], "Encrypt")


class Access(Case):
    def test_policies(self):
        key = self.new_key()["KeyId"]
        document = json.loads(self.kms.get_key_policy(KeyId=key)["Policy"])
        self.assertEqual(document["Version"], "2012-10-17")
        self.assertEqual(self.kms.get_key_policy(KeyId=key, PolicyName="default")["PolicyName"], "default")
        self.kms.put_key_policy(KeyId=key, PolicyName="default", Policy=json.dumps(document))
        listed = self.kms.list_key_policies(KeyId=key)
        self.assertEqual((listed["PolicyNames"], listed["Truncated"]), (["default"], False))
        self.refused("ValidationException", self.kms.list_key_policies, KeyId=key, Marker="nonsense")
        self.refused("MalformedPolicyDocumentException", self.kms.put_key_policy, KeyId=key, Policy="{}")
        self.refused("NotFoundException", self.kms.get_key_policy, KeyId=key, PolicyName="other")
        self.refused("NotFoundException", self.kms.get_key_policy, KeyId=key, PolicyName="AWS_RAM")
        said = self.refused("ValidationException", self.kms.put_key_policy, KeyId=key, PolicyName="AWS_RAM", Policy=json.dumps(document))
        self.assertEqual(said, "The AWS_RAM policy can only be managed by the RAM service.")

    def test_grants(self):
        key = self.new_key()
        me = client("sts").get_caller_identity()["Arn"]
        asked = {"KeyId": key["KeyId"], "GranteePrincipal": me, "Operations": ["Decrypt", "Encrypt"], "Name": "one"}
        made = self.kms.create_grant(**asked, Constraints={"EncryptionContextSubset": CONTEXT})
        self.assertEqual(self.kms.create_grant(**asked, Constraints={"EncryptionContextSubset": CONTEXT})["GrantId"], made["GrantId"])
        said = self.refused("ValidationException", self.kms.create_grant, **{**asked, "Operations": ["CreateGrant"]})
        self.assertEqual(said, "Grants must not contain only the CreateGrant operation.")
        (grant,) = self.kms.list_grants(KeyId=key["KeyId"])["Grants"]
        self.assertEqual((grant["GrantId"], grant["KeyId"]), (made["GrantId"], key["Arn"]))
        self.assertEqual(grant["Constraints"], {"EncryptionContextSubset": CONTEXT})
        self.assertEqual(sorted(grant["Operations"]), ["Decrypt", "Encrypt"])
        self.kms.encrypt(KeyId=key["KeyId"], Plaintext=PLAINTEXT, EncryptionContext=CONTEXT, GrantTokens=[made["GrantToken"]])
        self.refused("InvalidGrantTokenException", self.kms.encrypt, KeyId=key["KeyId"], Plaintext=b"x", GrantTokens=["nonsense"])
        self.kms.revoke_grant(KeyId=key["KeyId"], GrantId=made["GrantId"])
        self.assertEqual(self.kms.list_grants(KeyId=key["KeyId"])["Grants"], [])
        self.refused("NotFoundException", self.kms.revoke_grant, KeyId=key["KeyId"], GrantId=made["GrantId"])
        # Terraform waits for a principal that was just made while it is told so.
        nobody = {**asked, "GranteePrincipal": me.rsplit("/", 1)[0] + "/nobody"}
        self.refused("InvalidArnException", self.kms.create_grant, **nobody)
        for principal in (nobody["GranteePrincipal"], "no-arn"):
            self.refused("InvalidArnException", self.kms.list_retirable_grants, RetiringPrincipal=principal)
        retired = self.kms.create_grant(**asked, RetiringPrincipal=me)
        listed = self.kms.list_retirable_grants(RetiringPrincipal=me)["Grants"]
        self.assertIn(retired["GrantId"], [grant["GrantId"] for grant in listed])
        self.kms.retire_grant(GrantToken=retired["GrantToken"])
        self.assertEqual(self.kms.list_grants(KeyId=key["KeyId"])["Grants"], [])
        # An account as a whole.
        root = f"arn:aws:iam::{key['AWSAccountId']}:root"
        whole = self.kms.create_grant(**{**asked, "GranteePrincipal": root}, RetiringPrincipal=root)
        (listed,) = self.kms.list_grants(KeyId=key["KeyId"], GranteePrincipal=root)["Grants"]
        self.assertEqual((listed["GranteePrincipal"], listed["RetiringPrincipal"]), (root, root))
        self.assertEqual(self.kms.list_grants(KeyId=key["KeyId"], GranteePrincipal=me)["Grants"], [])
        retirable = self.kms.list_retirable_grants(RetiringPrincipal=root)["Grants"]
        self.assertEqual([grant["GrantId"] for grant in retirable], [whole["GrantId"]])
        self.kms.revoke_grant(KeyId=key["KeyId"], GrantId=whole["GrantId"])

    def test_who_may_use_keys_alone(self):
        app = client(aws_access_key_id=os.environ["APP_KEY_ID"], aws_secret_access_key=os.environ["APP_SECRET"])
        key, arn = self.new_key()["KeyId"], self.new_key()["Arn"]
        blob = app.encrypt(KeyId=key, Plaintext=PLAINTEXT)["CiphertextBlob"]
        self.assertEqual(app.decrypt(CiphertextBlob=blob)["Plaintext"], PLAINTEXT)
        said = self.refused("AccessDeniedException", app.disable_key, KeyId=arn)
        self.assertRegex(said, f"^User: arn:aws:iam::[0-9]+:user/app is not authorized to perform: kms:DisableKey on resource: {arn} ")
        nobody = arn.rsplit("/", 1)[0] + "/11111111-2222-3333-4444-555555555555"
        self.assertEqual(self.refused("AccessDeniedException", app.disable_key, KeyId=nobody), said.replace(arn, nobody))
        self.refused("AccessDeniedException", app.create_key)
        # What was forbidden since is, on connections that are open too.
        policy = {"Version": "2012-10-17", "Statement": [
            {"Effect": "Allow", "Principal": {"AWS": client("sts").get_caller_identity()["Arn"]}, "Action": "kms:*", "Resource": "*"}
        ]}
        self.kms.put_key_policy(KeyId=key, PolicyName="default", Policy=json.dumps(policy))
        self.refused("AccessDeniedException", app.decrypt, CiphertextBlob=blob)

    def test_who_calls(self):
        me = client("sts").get_caller_identity()
        self.assertEqual(me["Arn"].split(":")[4], me["Account"])
        with self.assertRaises(botocore.exceptions.ClientError) as raised:
            client("sts").get_session_token()
        self.assertIn(raised.exception.response["ResponseMetadata"]["HTTPStatusCode"], (400, 403))


class KeyStores(Case):
    def test_one_is_described(self):
        for asked in ({"CustomKeyStoreId": self.store["CustomKeyStoreId"]}, {"CustomKeyStoreName": self.store["CustomKeyStoreName"]}):
            answer = self.kms.describe_custom_key_stores(**asked)
            self.assertEqual([one["CustomKeyStoreId"] for one in answer["CustomKeyStores"]], [self.store["CustomKeyStoreId"]])
            self.assertFalse(answer["Truncated"])
        self.assertEqual((self.store["ConnectionState"], self.store["CustomKeyStoreType"]), ("CONNECTED", "AWS_CLOUDHSM"))
        self.refused("CustomKeyStoreNotFoundException", self.kms.describe_custom_key_stores, CustomKeyStoreId="cks-none")

    def test_what_its_state_does_not_allow(self):
        store = self.store["CustomKeyStoreId"]
        self.new_key()
        self.refused("CustomKeyStoreInvalidStateException", self.kms.update_custom_key_store, CustomKeyStoreId=store, KeyStorePassword="kmsPswd1")
        self.refused("CustomKeyStoreInvalidStateException", self.kms.delete_custom_key_store, CustomKeyStoreId=store)
        self.refused("CustomKeyStoreNameInUseException", self.kms.create_custom_key_store,
                     CustomKeyStoreName=self.store["CustomKeyStoreName"], CloudHsmClusterId="cluster-abcdefghijk",
                     TrustAnchorCertificate="-----BEGIN CERTIFICATE-----", KeyStorePassword="kmsPswd1")

    def test_disconnect_and_connect(self):
        store, key = self.store["CustomKeyStoreId"], self.new_key()["KeyId"]
        state = lambda: self.kms.describe_custom_key_stores(CustomKeyStoreId=store)["CustomKeyStores"][0]["ConnectionState"]
        self.kms.disconnect_custom_key_store(CustomKeyStoreId=store)
        try:
            until(lambda: state() == "DISCONNECTED", "the store is disconnected")
            self.refused("KMSInvalidStateException", self.kms.encrypt, KeyId=key, Plaintext=PLAINTEXT)
            self.kms.update_custom_key_store(CustomKeyStoreId=store, NewCustomKeyStoreName=self.store["CustomKeyStoreName"])
        finally:
            self.kms.connect_custom_key_store(CustomKeyStoreId=store)
            until(lambda: state() == "CONNECTED", "the store is connected")
        self.kms.encrypt(KeyId=key, Plaintext=PLAINTEXT)


# What is tried above, by its method of boto3; and how whatever a store's key cannot have is refused.
TRIED = """
    cancel_key_deletion connect_custom_key_store create_alias create_custom_key_store create_grant create_key decrypt
    delete_alias delete_custom_key_store describe_custom_key_stores describe_key disable_key disable_key_rotation
    disconnect_custom_key_store enable_key enable_key_rotation encrypt generate_data_key
    generate_data_key_without_plaintext generate_mac generate_random get_key_last_usage get_key_policy
    get_key_rotation_status list_aliases list_grants list_key_policies list_key_rotations list_keys list_resource_tags
    list_retirable_grants put_key_policy re_encrypt retire_grant revoke_grant rotate_key_on_demand
    schedule_key_deletion sign tag_resource untag_resource update_alias update_custom_key_store update_key_description
""".split()
REFUSED = {
    "decapsulate": ("InvalidKeyUsageException", "UnsupportedOperationException"),
    "delete_imported_key_material": ("UnsupportedOperationException",),
    "derive_shared_secret": ("InvalidKeyUsageException", "UnsupportedOperationException"),
    "encapsulate": ("InvalidKeyUsageException", "UnsupportedOperationException"),
    "generate_data_key_pair": ("UnsupportedOperationException",),
    "generate_data_key_pair_without_plaintext": ("UnsupportedOperationException",),
    "get_parameters_for_import": ("UnsupportedOperationException",),
    "get_public_key": ("UnsupportedOperationException",),
    "import_key_material": ("UnsupportedOperationException",),
    "replicate_key": ("UnsupportedOperationException",),
    "update_primary_region": ("UnsupportedOperationException",),
    "verify": ("InvalidKeyUsageException",),
    "verify_mac": ("InvalidKeyUsageException",),
}


class Model(Case):
    def least(self, shape, name, key):
        """The least that a shape takes."""
        kind = shape.type_name
        if kind == "structure":
            return {member: self.least(shape.members[member], member, key) for member in shape.required_members}
        if kind == "string":
            if name.endswith("KeyId"):
                return key
            return shape.enum[0] if shape.enum else "us-east-2" if "Region" in name else "x" * max(1, shape.metadata.get("min", 1))
        if kind == "blob":
            return b"x" * max(1, shape.metadata.get("min", 1))
        return {"list": [], "map": {}, "integer": 1, "boolean": False}[kind]

    def test_every_operation_is_tried_or_refused_by_its_name(self):
        model = self.kms.meta.service_model
        methods = {method: name for method, name in self.kms.meta.method_to_api_mapping.items()}
        self.assertEqual(set(methods.values()), set(model.operation_names))
        self.assertEqual(sorted(methods), sorted(TRIED + list(REFUSED)), "a new model has other operations")
        key = self.new_key()["Arn"]
        for method, names in REFUSED.items():
            with self.subTest(method=method):
                parameters = self.least(model.operation_model(methods[method]).input_shape, "", key)
                with self.assertRaises(botocore.exceptions.ClientError) as raised:
                    getattr(self.kms, method)(**parameters)
                self.assertIn(raised.exception.response["Error"]["Code"], names, raised.exception.response)
                self.assertNotEqual(raised.exception.response["Error"]["Message"], "")


if __name__ == "__main__":
    unittest.main()

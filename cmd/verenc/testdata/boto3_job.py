"""The main job with boto3, unmodified. Usage: boto3_job.py URL. Prints the key's ARN; fails when a step does not hold."""

import sys

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

kms = boto3.client("kms", endpoint_url=sys.argv[1], region_name="us-east-1", config=Config(retries={"max_attempts": 0}))


def refused(code, message, call, **arguments):
    try:
        call(**arguments)
    except ClientError as e:
        got = e.response["Error"]["Code"], e.response["Error"]["Message"]
        assert got[0] == code and message in got[1], got
        assert e.response["ResponseMetadata"]["RequestId"], e.response
    else:
        raise AssertionError(f"{code} was expected")


key = kms.create_key(Description="boto3", Tags=[{"TagKey": "client", "TagValue": "boto3"}])["KeyMetadata"]
assert key["Enabled"] and key["KeyState"] == "Enabled" and key["CreationDate"].year > 2000, key
kms.create_alias(AliasName="alias/boto3", TargetKeyId=key["KeyId"])
blue = {"tenant": "blue", "ключ": "значение"}
made = kms.generate_data_key_without_plaintext(KeyId="alias/boto3", KeySpec="AES_256", EncryptionContext=blue)
assert made["KeyId"] == key["Arn"] and "Plaintext" not in made, made
first = kms.decrypt(CiphertextBlob=made["CiphertextBlob"], EncryptionContext=blue)
again = kms.decrypt(CiphertextBlob=made["CiphertextBlob"], EncryptionContext=blue, KeyId=key["Arn"])
assert len(first["Plaintext"]) == 32 and first["Plaintext"] == again["Plaintext"] and first["KeyId"] == key["Arn"], first
refused("InvalidCiphertextException", "", kms.decrypt, CiphertextBlob=made["CiphertextBlob"], EncryptionContext={"tenant": "red"})
refused("NotFoundException", "alias/none", kms.describe_key, KeyId="alias/none")
refused("ValidationException", "either number of bytes or key spec", kms.generate_data_key_without_plaintext, KeyId=key["KeyId"])
sealed = kms.encrypt(KeyId=key["Arn"], Plaintext=b"\x00\xff text")
assert kms.decrypt(CiphertextBlob=sealed["CiphertextBlob"])["Plaintext"] == b"\x00\xff text"
assert len(kms.generate_random(NumberOfBytes=7)["Plaintext"]) == 7
assert key["KeyId"] in [k["KeyId"] for page in kms.get_paginator("list_keys").paginate(PaginationConfig={"PageSize": 1}) for k in page["Keys"]]
assert [a["AliasName"] for a in kms.list_aliases(KeyId=key["KeyId"])["Aliases"]] == ["alias/boto3"]
kms.disable_key(KeyId=key["KeyId"])
refused("DisabledException", "is disabled", kms.decrypt, CiphertextBlob=made["CiphertextBlob"], EncryptionContext=blue)
end = kms.schedule_key_deletion(KeyId=key["KeyId"], PendingWindowInDays=7)
assert end["KeyState"] == "PendingDeletion" and end["DeletionDate"] > key["CreationDate"], end
refused("KMSInvalidStateException", "is pending deletion", kms.enable_key, KeyId=key["KeyId"])
print(key["Arn"])

"""A pod with boto3, unmodified: all it has is in its environment. Usage: boto3_webidentity.py KEY."""

import sys

import boto3

key = sys.argv[1]
kms = boto3.client("kms")
sealed = kms.encrypt(KeyId=key, Plaintext=b"an order")["CiphertextBlob"]
assert kms.decrypt(CiphertextBlob=sealed)["Plaintext"] == b"an order"
who = boto3.client("sts").get_caller_identity()["Arn"]
assert who.startswith("arn:aws:sts::111122223333:assumed-role/orders/"), who

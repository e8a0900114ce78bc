"""Roles with boto3, unmodified. Usage: boto3_role.py URL ROLE. Fails when a step does not hold."""

import sys

import boto3
from botocore.exceptions import ClientError

url, role = sys.argv[1:]
session = f"arn:aws:sts::111122223333:assumed-role/{role.rsplit('/', 1)[1]}/boto3"


def refused(code, message, call, **arguments):
    try:
        call(**arguments)
    except ClientError as e:
        got = e.response["Error"]["Code"], e.response["Error"]["Message"]
        assert got[0] == code and message in got[1], got
    else:
        raise AssertionError(f"{code} was expected")


sts = boto3.client("sts", endpoint_url=url, region_name="us-east-1")
assert sts.get_caller_identity()["Arn"] == "arn:aws:iam::111122223333:user/alice"
answer = sts.assume_role(RoleArn=role, RoleSessionName="boto3", DurationSeconds=900)
assert answer["AssumedRoleUser"]["Arn"] == session and answer["Credentials"]["Expiration"].year > 2000, answer
refused("AccessDenied", "is not authorized to perform: sts:AssumeRole on resource: " + role + "2", sts.assume_role, RoleArn=role + "2", RoleSessionName="boto3")
refused("ValidationError", "MaxSessionDuration", sts.assume_role, RoleArn=role, RoleSessionName="boto3", DurationSeconds=43200)
c = answer["Credentials"]
given = dict(endpoint_url=url, region_name="us-east-1", aws_access_key_id=c["AccessKeyId"], aws_secret_access_key=c["SecretAccessKey"])
temporary = boto3.client("kms", aws_session_token=c["SessionToken"], **given)
assert temporary.list_keys()["Keys"] == []
refused("AccessDeniedException", f"User: {session} is not authorized to perform: kms:CreateKey on resource: *", temporary.create_key)
refused("UnrecognizedClientException", "", boto3.client("kms", **given).list_keys)
refused("UnrecognizedClientException", "", boto3.client("kms", aws_session_token=c["SessionToken"][:-4], **given).list_keys)
assert boto3.client("sts", aws_session_token=c["SessionToken"], **given).get_caller_identity()["Arn"] == session

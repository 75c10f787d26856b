"""Says who boto3's default chain makes us: one line of JSON, with the credentials for the test to look for in logs."""

import json

import boto3

session = boto3.Session()
credentials = session.get_credentials()
if credentials is None:
    raise SystemExit("no credentials")
frozen = credentials.get_frozen_credentials()
print(
    json.dumps(
        {
            "Arn": session.client("sts").get_caller_identity()["Arn"],
            "Method": credentials.method,
            "AccessKeyId": frozen.access_key,
            "SecretAccessKey": frozen.secret_key,
            "Token": frozen.token,
        }
    )
)

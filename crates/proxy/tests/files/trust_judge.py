"""Asks one STS for each case of trust_cases.json and prints {name: "Success" or the code and the action of the refusal} as JSON.

Usage: trust_judge.py make ENDPOINT CASES   makes the roles by IAM's API, and a user with a key, which it prints
       trust_judge.py ask  ENDPOINT CASES   asks; the key is in the environment
"""
import json
import os
import re
import sys

import botocore.session
from botocore.config import Config
from botocore.exceptions import ClientError

ACCOUNT = "111122223333"
what, endpoint, cases = sys.argv[1], sys.argv[2], json.load(open(sys.argv[3]))


def client(service):
    config = Config(retries={"total_max_attempts": 1}, read_timeout=20, proxies={})
    return botocore.session.get_session().create_client(
        service, region_name="us-west-2", endpoint_url=endpoint, config=config
    )


def make():
    iam = client("iam")
    iam.create_user(UserName="proxy")
    iam.create_user(UserName="other")
    # ministack asks for an Allow in the caller's own policies always; AWS does not where a role of the same account names the caller.
    allow = {"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "sts:*", "Resource": "*"}}
    iam.put_user_policy(UserName="proxy", PolicyName="sts", PolicyDocument=json.dumps(allow))
    key = iam.create_access_key(UserName="proxy")["AccessKey"]
    for case in cases:
        iam.create_role(RoleName=case["name"], AssumeRolePolicyDocument=json.dumps(case["policy"]))
    return {"AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]}


def ask(sts, case):
    call = dict(case.get("call", {}), RoleSessionName="task", RoleArn=f"arn:aws:iam::{ACCOUNT}:role/{case['name']}")
    try:
        sts.assume_role(**call)
        return "Success"
    except ClientError as error:
        error = error.response["Error"]
        action = re.search(r"is not authorized to perform: (sts:\w+)", error["Message"])
        return f"{error['Code']} {action.group(1) if action else error['Message']}"


if what == "make":
    answer = make()
else:
    sts = client("sts")
    answer = {case["name"]: ask(sts, case) for case in cases}
print(json.dumps(answer))

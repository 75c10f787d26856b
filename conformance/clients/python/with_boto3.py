import boto3

from lines import answer

answer(lambda: boto3.client("sts"), lambda sts: sts.get_caller_identity()["Arn"])

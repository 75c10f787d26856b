import os

from minio import Minio
from minio.credentials import IamAwsProvider

from lines import answer

scheme, host = os.environ["CONFORMANCE_S3"].rstrip("/").split("://")


def make():
    return Minio(endpoint=host, secure=scheme == "https", region=os.environ["AWS_REGION"], credentials=IamAwsProvider())


def call(s3):
    list(s3.list_objects("conformance"))


answer(make, call)

# The C++ SDK and its default chain.
import os

from pyarrow.fs import FileSelector, S3FileSystem

from lines import answer

scheme, host = os.environ["CONFORMANCE_S3"].rstrip("/").split("://")


def call(s3):
    s3.get_file_info(FileSelector("conformance"))


answer(lambda: S3FileSystem(endpoint_override=host, scheme=scheme, region=os.environ["AWS_REGION"]), call)

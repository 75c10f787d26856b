# aws-c-auth and its default chain.
import io
import os
import re
import urllib.error
import urllib.request

from awscrt.auth import AwsCredentialsProvider, AwsSignatureType, AwsSigningAlgorithm, AwsSigningConfig, aws_sign_request
from awscrt.http import HttpHeaders, HttpRequest
from awscrt.io import ClientBootstrap, DefaultHostResolver, EventLoopGroup

from lines import answer

STS = os.environ["CONFORMANCE_STS"].rstrip("/")
BODY = b"Action=GetCallerIdentity&Version=2011-06-15"


def make():
    group = EventLoopGroup(1)
    return AwsCredentialsProvider.new_default_chain(ClientBootstrap(group, DefaultHostResolver(group)))


def arn(provider):
    headers = [("Host", STS.split("://")[1]), ("Content-Type", "application/x-www-form-urlencoded")]
    request = HttpRequest("POST", "/", HttpHeaders(headers), io.BytesIO(BODY))
    signing = AwsSigningConfig(
        AwsSigningAlgorithm.V4,
        AwsSignatureType.HTTP_REQUEST_HEADERS,
        provider,
        region=os.environ["AWS_REGION"],
        service="sts",
    )
    aws_sign_request(request, signing).result()
    signed = urllib.request.Request(STS + "/", BODY, dict(request.headers))
    try:
        answered = urllib.request.urlopen(signed, timeout=10).read().decode()
    except urllib.error.HTTPError as e:
        raise RuntimeError(f"{e.code} {e.read().decode()}") from e
    return re.search("<Arn>(.*?)</Arn>", answered).group(1)


answer(make, arn)

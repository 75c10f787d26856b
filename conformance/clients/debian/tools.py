"""Command line tools, started anew for each line."""

import os
import subprocess
import sys

from lines import answer, aws_cli, output

STS = os.environ.get("CONFORMANCE_STS", "")
S3 = os.environ.get("CONFORMANCE_S3", "").rstrip("/")
REGION = os.environ["AWS_REGION"]


def rclone(command):
    flags = ["--s3-env-auth", "--s3-provider=Other", f"--s3-endpoint={S3}", f"--s3-region={REGION}"]
    # With a bundle of certificates rclone 1.60 does not start at all.
    output([*command, "--config=", "lsf", "--retries=1", "--low-level-retries=1", ":s3:conformance", *flags], {"AWS_CA_BUNDLE": ""})


def restic(command):
    # There is no repository: that it is not found is the answer to a signed request.
    arguments = ["--no-cache", "-r", f"s3:{S3}/conformance", "-o", f"s3.region={REGION}", "cat", "config"]
    variables = {**os.environ, "RESTIC_PASSWORD": "none"}
    done = subprocess.run([*command, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, env=variables)
    if "key does not exist" not in done.stderr:
        raise ChildProcessError(f"status {done.returncode}: {done.stderr}")


calls = {
    # 2.9 does not know AWS_ENDPOINT_URL_STS.
    "awscli2": (["/usr/bin/aws", "--endpoint-url", STS], aws_cli),
    "rclone": (["/usr/bin/rclone"], rclone),
    "restic": (["/usr/bin/restic"], restic),
}
command, call = calls[sys.argv[1]]
answer(lambda: command, call)

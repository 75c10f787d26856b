"""s3fs: mounted at the first line, read at each."""

import os
import subprocess
import tempfile
import time

from lines import answer

S3 = os.environ["CONFORMANCE_S3"]
LONGEST_MOUNT = 30


class Mount:
    def __init__(self, folder):
        self.folder = folder
        options = f"ecs,use_path_request_style,url={S3},endpoint={os.environ['AWS_REGION']}"
        # It ends with this process.
        command = ["setpriv", "--pdeathsig", "TERM", "s3fs", "conformance", folder, "-f", "-o", options]
        with tempfile.TemporaryFile("w+") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            end = time.monotonic() + LONGEST_MOUNT
            while not os.path.ismount(folder):
                if self.process.poll() is not None or time.monotonic() > end:
                    self.end()
                    log.seek(0)
                    lines = log.readlines()
                    errors = [line for line in lines if "[ERR]" in line or "[CRT]" in line]
                    raise ChildProcessError("".join(errors or lines))
                time.sleep(0.05)

    def end(self):
        self.process.terminate()
        self.process.wait()


mounts = []


def make(folder):
    mounts.append(Mount(folder))
    return mounts[0]


with tempfile.TemporaryDirectory() as folder:
    answer(lambda: make(folder), lambda mount: os.listdir(mount.folder) and None)
    for mount in mounts:
        mount.end()

"""GDAL's /vsis3/."""

import os

from osgeo import gdal

from lines import answer

gdal.UseExceptions()
scheme, host = os.environ["CONFORMANCE_S3"].rstrip("/").split("://")
gdal.SetConfigOption("AWS_S3_ENDPOINT", host)
gdal.SetConfigOption("AWS_HTTPS", "YES" if scheme == "https" else "NO")
gdal.SetConfigOption("AWS_VIRTUAL_HOSTING", "FALSE")


def call(folder):
    # What is kept of the folder alone: the credentials are kept between calls, as in an application.
    gdal.VSICurlPartialClearCache("/vsis3/conformance")
    gdal.VSIErrorReset()
    if gdal.ReadDir(folder) is None:
        raise OSError(gdal.VSIGetLastErrorMsg() or gdal.GetLastErrorMsg() or "the bucket is not listed")


answer(lambda: "/vsis3/conformance", call)

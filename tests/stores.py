"""Object stores of the tests: an S3 server on loopback, and what is put into it."""

import contextlib
import logging
import os
from pathlib import Path

import pytest
from needs import require

SECRET = "a-very-secret-key/with+signs"
QUOTED = SECRET.replace("/", "%2F")
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": SECRET,
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


@contextlib.contextmanager
def s3():
    """Run moto's S3 server; give its address, which is also in the environment."""
    server_module = require("moto.server")
    import pyarrow.fs as fs

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    address = "{}:{}".format(*server.get_host_and_port())
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**ENVIRONMENT, "AWS_ENDPOINT_URL": f"http://{address}"}.items():
            patch.setenv(name, value)
        system = fs.S3FileSystem(
            endpoint_override=address, scheme="http", allow_bucket_creation=True
        )
        system.create_dir("traces")
        try:
            yield address
        finally:
            server.stop()


def upload(folder, url):
    """Copy the files of a local folder, with all folders in it, behind a URL."""
    import pyarrow.fs as fs

    system, root = fs.FileSystem.from_uri(url)
    for path in sorted(Path(folder).rglob("*")):
        if path.is_file():
            with system.open_output_stream(f"{root}/{path.relative_to(folder)}") as file:
                file.write(path.read_bytes())


def memory(name):
    """Return an empty folder of fsspec's file system in memory."""
    fsspec = require("fsspec")
    system = fsspec.filesystem("memory")
    with contextlib.suppress(FileNotFoundError):
        system.rm(f"/{name}", recursive=True)
    return f"memory://{name}"


def put(folder, url):
    """Copy the files of a local folder into fsspec's file system in memory."""
    fsspec = require("fsspec")
    system = fsspec.filesystem("memory")
    root = url.removeprefix("memory://")
    for path in sorted(Path(folder).rglob("*")):
        if path.is_file():
            system.pipe(f"/{root}/{os.fspath(path.relative_to(folder))}", path.read_bytes())

"""An S3 server on this machine (moto's), and what reaches it."""

from types import TracebackType

import boto3
from moto.server import ThreadedMotoServer

BUCKET = "bucket"


class S3Server:
    """Runs within a `with` block; `environment` is for those who use it, `config` for DVC's remote `store`."""

    environment = {  # noqa: RUF012 - never changed
        "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }  # fmt: skip

    def __enter__(self) -> "S3Server":
        self.server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
        self.server.start()
        host, port = self.server.get_host_and_port()
        self.address = f"http://{host}:{port}"
        keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}
        self.client = boto3.client("s3", endpoint_url=self.address, **keys)
        self.client.create_bucket(Bucket=BUCKET)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.server.stop()

    def config(self, folder: str) -> str:
        """.dvc/config with a folder of the bucket as its default remote."""
        return (
            "[core]\n    analytics = false\n    check_update = false\n    remote = store\n"
            f"['remote \"store\"']\n    url = s3://{BUCKET}/{folder}\n    endpointurl = {self.address}\n"
        )

    def keys(self, folder: str) -> list[str]:
        """The names of all objects below a folder, without it."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=f"{folder}/")
        return [each["Key"].removeprefix(f"{folder}/") for page in pages for each in page.get("Contents", [])]

"""django-storages: a site's files."""

import os

import boto3
from django.conf import settings
from django.core.files.base import ContentFile

bucket = os.environ["BUCKET"]
client = boto3.client("s3")
client.create_bucket(Bucket=bucket)
settings.configure(
    STORAGES={
        "default": {
            "BACKEND": "storages.backends.s3.S3Storage",
            "OPTIONS": {"bucket_name": bucket, "endpoint_url": os.environ["AWS_ENDPOINT_URL"],
                        "file_overwrite": False},
        }
    }
)  # fmt: skip
from django.core.files.storage import default_storage  # noqa: E402 - needs the settings

first = default_storage.save("up/a.txt", ContentFile(b"first"))
second = default_storage.save("up/a.txt", ContentFile(b"second"))
assert first != second
with default_storage.open(first) as file:
    assert file.read() == b"first"
assert default_storage.size(second) == 6
assert len(default_storage.listdir("up")[1]) == 2
assert "Signature" in default_storage.url(first)
for name in (first, second):
    default_storage.delete(name)
    assert not default_storage.exists(name)
client.delete_bucket(Bucket=bucket)

"""minio-py: objects, streams of unknown length, lists, copies, tags, presigned URLs."""

import io
import os
import random
import ssl
from urllib.parse import urlsplit

import urllib3
from minio import Minio
from minio.commonconfig import ComposeSource, CopySource, Tags
from minio.deleteobjects import DeleteObject

url = urlsplit(os.environ["AWS_ENDPOINT_URL"])
bundle = os.environ.get("AWS_CA_BUNDLE")
pool = urllib3.PoolManager(ssl_context=ssl.create_default_context(cafile=bundle))
client = Minio(
    url.netloc,
    access_key=os.environ["AWS_ACCESS_KEY_ID"],
    secret_key=os.environ["AWS_SECRET_ACCESS_KEY"],
    secure=url.scheme == "https",
    http_client=pool,
)
bucket = os.environ["BUCKET"]
client.make_bucket(bucket)
assert client.bucket_exists(bucket)
body = random.Random(1).randbytes(12 << 20)
client.put_object(bucket, "small", io.BytesIO(b"small"), 5, metadata={"who": "ann"})
client.put_object(bucket, "large/é +", io.BytesIO(body), -1, part_size=5 << 20)
found = client.stat_object(bucket, "small")
assert found.size == 5
assert found.metadata
assert found.metadata["x-amz-meta-who"] == "ann"
with client.get_object(bucket, "large/é +", offset=3, length=1000) as got:
    assert got.read() == body[3:1003]
assert {o.object_name for o in client.list_objects(bucket)} == {"large/", "small"}
tags = Tags.new_object_tags()
tags["colour"] = "blue"
client.set_object_tags(bucket, "small", tags)
assert client.get_object_tags(bucket, "small") == {"colour": "blue"}
client.copy_object(bucket, "copy", CopySource(bucket, "small"))
client.compose_object(
    bucket, "both", [ComposeSource(bucket, "large/é +"), ComposeSource(bucket, "small")]
)
assert client.stat_object(bucket, "both").size == len(body) + 5
shared = pool.request("GET", client.presigned_get_object(bucket, "copy"))
assert shared.data == b"small"
names = [o.object_name for o in client.list_objects(bucket, recursive=True)]
assert not list(client.remove_objects(bucket, [DeleteObject(name) for name in names]))
client.remove_bucket(bucket)

"""fsspec's s3fs: a file system's calls."""

import os
import random

import s3fs

bucket = os.environ["BUCKET"]
files = s3fs.S3FileSystem(endpoint_url=os.environ["AWS_ENDPOINT_URL"])
files.mkdir(bucket)
body = random.Random(3).randbytes(12 << 20)
with files.open(f"{bucket}/folder/large", "wb", block_size=5 << 20) as file:
    file.write(body)
with files.open(f"{bucket}/folder/small", "w") as file:
    file.write("small")
assert files.cat(f"{bucket}/folder/large") == body
assert sorted(files.ls(f"{bucket}/folder")) == [f"{bucket}/folder/large", f"{bucket}/folder/small"]
assert files.info(f"{bucket}/folder/large")["size"] == len(body)
with files.open(f"{bucket}/folder/large", "rb") as file:
    file.seek(-100, 2)
    assert file.read() == body[-100:]
files.mv(f"{bucket}/folder/small", f"{bucket}/moved")
assert files.exists(f"{bucket}/moved")
assert not files.exists(f"{bucket}/folder/small")
assert files.du(bucket) == len(body) + 5
files.rm(bucket, recursive=True)

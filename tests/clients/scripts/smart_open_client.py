"""smart_open: files that are written and read as streams."""

import os
import random

import boto3
from smart_open import open as open_url

bucket = os.environ["BUCKET"]
client = boto3.client("s3")
client.create_bucket(Bucket=bucket)
body = random.Random(2).randbytes(11 << 20)
url, with_client = f"s3://{bucket}/file.bin", {"client": client}
with open_url(url, "wb", transport_params=with_client) as file:
    for at in range(0, len(body), 1 << 20):
        file.write(body[at : at + (1 << 20)])
with open_url(url, "rb", transport_params=with_client) as file:
    assert file.read() == body
    file.seek(5_000_000)
    assert file.read(10) == body[5_000_000:5_000_010]
with open_url(f"s3://{bucket}/lines.txt.gz", "w", transport_params=with_client) as file:
    file.writelines(f"line {number}\n" for number in range(1000))
with open_url(f"s3://{bucket}/lines.txt.gz", transport_params=with_client) as file:
    assert sum(1 for _ in file) == 1000
for name in ("file.bin", "lines.txt.gz"):
    client.delete_object(Bucket=bucket, Key=name)
client.delete_bucket(Bucket=bucket)

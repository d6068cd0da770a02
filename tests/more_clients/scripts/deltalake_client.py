"""deltalake: a table whose commits are conditional PUTs, written by two at once."""

import os
from concurrent.futures import ThreadPoolExecutor

import boto3
import pyarrow as pa
from deltalake import DeltaTable, write_deltalake

bucket = os.environ["BUCKET"]
client = boto3.client("s3")
client.create_bucket(Bucket=bucket)
options = {
    "AWS_ENDPOINT_URL": os.environ["AWS_ENDPOINT_URL"],
    "AWS_ACCESS_KEY_ID": os.environ["AWS_ACCESS_KEY_ID"],
    "AWS_SECRET_ACCESS_KEY": os.environ["AWS_SECRET_ACCESS_KEY"],
    "AWS_REGION": "us-east-1",
    "AWS_ALLOW_HTTP": "true",
    "conditional_put": "etag",
}
url = f"s3://{bucket}/table"
write_deltalake(url, pa.table({"n": [0]}), storage_options=options)


def append(number: int) -> None:
    write_deltalake(url, pa.table({"n": [number]}), mode="append", storage_options=options)


with ThreadPoolExecutor(4) as pool:
    list(pool.map(append, range(1, 9)))
table = DeltaTable(url, storage_options=options)
assert (table.version(), sorted(table.to_pyarrow_table()["n"].to_pylist())) == (8, list(range(9)))
pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
for page in pages:
    for item in page.get("Contents", []):
        client.delete_object(Bucket=bucket, Key=item["Key"])
client.delete_bucket(Bucket=bucket)

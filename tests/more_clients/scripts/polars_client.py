"""polars: Parquet written and scanned lazily over object_store."""

import os

import boto3
import polars as pl

bucket = os.environ["BUCKET"]
client = boto3.client("s3")
client.create_bucket(Bucket=bucket)
options = {
    "aws_endpoint_url": os.environ["AWS_ENDPOINT_URL"],
    "aws_access_key_id": os.environ["AWS_ACCESS_KEY_ID"],
    "aws_secret_access_key": os.environ["AWS_SECRET_ACCESS_KEY"],
    "aws_region": "us-east-1",
    "aws_allow_http": "true",
}
frame = pl.DataFrame({"k": range(200_000), "v": [n % 7 for n in range(200_000)]})
frame.write_parquet(f"s3://{bucket}/frame.parquet", storage_options=options)
scanned = pl.scan_parquet(f"s3://{bucket}/*.parquet", storage_options=options)
assert scanned.filter(pl.col("v") == 3).select(pl.len()).collect().item() == len(
    range(3, 200_000, 7)
)
client.delete_object(Bucket=bucket, Key="frame.parquet")
client.delete_bucket(Bucket=bucket)

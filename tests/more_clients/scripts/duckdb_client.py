"""DuckDB: SQL over Parquet by its httpfs extension."""

import os
from pathlib import Path
from urllib.parse import urlsplit

import boto3
import duckdb
import duckdb_extension_httpfs

bucket = os.environ["BUCKET"]
url = urlsplit(os.environ["AWS_ENDPOINT_URL"])
client = boto3.client("s3")
client.create_bucket(Bucket=bucket)
database = duckdb.connect()
folder = Path(duckdb_extension_httpfs.__file__).parent / "extensions"
extension = next(folder.glob("*/httpfs.duckdb_extension"))
database.execute(f"LOAD '{extension}'")
if bundle := os.environ.get("AWS_CA_BUNDLE"):
    database.execute(f"SET ca_cert_file = '{bundle}'")
database.execute(
    f"CREATE SECRET (TYPE s3, KEY_ID '{os.environ['AWS_ACCESS_KEY_ID']}', "
    f"SECRET '{os.environ['AWS_SECRET_ACCESS_KEY']}', REGION 'us-east-1', "
    f"ENDPOINT '{url.netloc}', USE_SSL {url.scheme == 'https'}, URL_STYLE 'path')"
)
database.execute(f"COPY (SELECT range AS n FROM range(300000)) TO 's3://{bucket}/n.parquet'")
total = database.execute(f"SELECT sum(n) FROM 's3://{bucket}/*.parquet'").fetchone()
assert total == (299_999 * 300_000 // 2,)
client.delete_object(Bucket=bucket, Key="n.parquet")
client.delete_bucket(Bucket=bucket)

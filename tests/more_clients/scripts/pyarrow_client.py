"""pyarrow: a partitioned Parquet dataset over its own S3 client."""

import os
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.dataset as ds
from pyarrow import fs

url = urlsplit(os.environ["AWS_ENDPOINT_URL"])
bundle = os.environ.get("AWS_CA_BUNDLE")
files = fs.S3FileSystem(
    endpoint_override=url.netloc,
    scheme=url.scheme,
    allow_bucket_creation=True,
    allow_bucket_deletion=True,
    **({"tls_ca_file_path": bundle} if bundle else {}),
)
bucket = os.environ["BUCKET"]
files.create_dir(bucket)
table = pa.table({"year": [2025, 2026] * 50_000, "value": list(range(100_000))})
ds.write_dataset(table, f"{bucket}/data", filesystem=files, format="parquet", partitioning=["year"])
read = ds.dataset(f"{bucket}/data", filesystem=files, partitioning=["year"])
assert read.count_rows() == 100_000
assert sum(read.to_table(filter=ds.field("year") == 2026)["value"].to_pylist()) == sum(
    range(1, 100_000, 2)
)
with files.open_output_stream(f"{bucket}/stream") as out:
    for _ in range(12):
        out.write(b"x" * (1 << 20))
assert files.get_file_info(f"{bucket}/stream").size == 12 << 20
files.delete_dir(bucket)

"""An S3 endpoint that objects are replicated to, through boto3 in threads.

Every write says `x-amz-replication-status: REPLICA`: an endpoint that understands it (Cumulus,
MinIO) replicates it no further, so two buckets may be each other's destination.
"""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from contextvars import ContextVar
from typing import Any

from gateway.events.places import Endpoint
from gateway.events.target import TargetRefused, TargetUnavailable
from gateway.model import ObjectVersion
from gateway.replication.plan import Part, Plan, checksum_value
from gateway.replication.rules import REPLICA
from gateway.s3.attributes import REPLICATED

CONNECT_SECONDS, READ_SECONDS = 5, 60
PART_TRIES = 3  # a line that breaks off once does not cost a large object's other parts
_given: ContextVar[Mapping[str, str]] = ContextVar("given_headers")
_LATER = frozenset({
    "SlowDown", "ServiceUnavailable", "InternalError", "RequestTimeout", "Throttling",
    "RequestTimeTooSkewed", "ExpiredToken",
})  # fmt: skip
_WRITES = ("PutObject", "CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload",
           "DeleteObject", "PutObjectTagging")  # fmt: skip
Read = Callable[[int, int], Any]


class Remote:
    """A configured endpoint. Every method raises TargetUnavailable, TargetRefused."""

    def __init__(self, endpoint: Endpoint) -> None:
        import boto3
        from botocore.config import Config

        self._client: Any = boto3.session.Session(
            endpoint.access_key, endpoint.secret_key, region_name=endpoint.region
        ).client(
            "s3",
            endpoint_url=endpoint.url,
            verify=endpoint.ca or None,
            config=Config(
                retries={"total_max_attempts": 1},
                connect_timeout=CONNECT_SECONDS,
                read_timeout=READ_SECONDS,
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                s3={"addressing_style": "path"},
                proxies={},
            ),
        )
        for operation in _WRITES:
            self._client.meta.events.register(f"before-call.s3.{operation}", _add_headers)

    async def put(self, bucket: str, version: ObjectVersion, plan: Plan, read: Read) -> None:
        """Store a version under its key; `read(start, end)` gives its bytes, asynchronously."""
        if plan.parts:
            await self._put_parts(bucket, version, plan, read)
            return
        body = await _whole(read, 0, version.size)
        await self._call(
            "put_object",
            plan.headers,
            Bucket=bucket,
            Key=version.key,
            Body=body,
            **_digest(plan, plan.whole),
        )

    async def _put_parts(self, bucket: str, version: ObjectVersion, plan: Plan, read: Read) -> None:
        place = {"Bucket": bucket, "Key": version.key}
        kind: dict[str, Any] = {}
        if plan.algorithm:
            kind = {
                "ChecksumAlgorithm": str(plan.algorithm),
                "ChecksumType": "COMPOSITE" if plan.composite else "FULL_OBJECT",
            }
        made = await self._call("create_multipart_upload", plan.headers, **place, **kind)
        upload = place | {"UploadId": made["UploadId"]}
        try:
            done = [await self._put_part(upload, plan, part, read) for part in plan.parts]
            whole = "" if plan.composite or plan.whole is None else _parameter(plan)
            claim = checksum_value(plan.whole, whole) if whole else {}
            await self._call(
                "complete_multipart_upload", {}, **upload, MultipartUpload={"Parts": done}, **claim
            )
        except BaseException:
            async with asyncio.timeout(READ_SECONDS):
                await self._abandon(upload)
            raise

    async def _put_part(
        self, upload: Mapping[str, Any], plan: Plan, part: Part, read: Read
    ) -> dict[str, Any]:
        body = await _whole(read, part.start, part.end)
        named = {"ChecksumAlgorithm": str(plan.algorithm)} if plan.algorithm else {}
        claim = _digest(plan, part.digest) or named
        for left in reversed(range(PART_TRIES)):
            try:
                stored = await self._call(
                    "upload_part", {}, **upload, PartNumber=part.number, Body=body, **claim
                )
                break
            except TargetUnavailable:
                if not left:
                    raise
        row = {"PartNumber": part.number, "ETag": stored["ETag"]}
        if plan.algorithm and _parameter(plan) in stored:
            row[_parameter(plan)] = stored[_parameter(plan)]
        return row

    async def _abandon(self, upload: Mapping[str, Any]) -> None:
        with suppress(TargetUnavailable, TargetRefused):  # its lifecycle takes what is left
            await self._call("abort_multipart_upload", {}, **upload)

    async def delete(self, bucket: str, key: str) -> None:
        """Delete a key: with versioning a delete marker."""
        await self._call("delete_object", {}, Bucket=bucket, Key=key)

    async def tag(self, bucket: str, key: str, tags: Mapping[str, str]) -> None:
        """Replace the tags of a key's latest version."""
        listed = [{"Key": name, "Value": value} for name, value in tags.items()]
        await self._call(
            "put_object_tagging", {}, Bucket=bucket, Key=key, Tagging={"TagSet": listed}
        )

    async def close(self) -> None:
        """Let go of connections."""
        self._client.close()

    async def _call(self, method: str, headers: Mapping[str, str], **parameters: Any) -> Any:
        from botocore.exceptions import BotoCoreError, ClientError

        def call() -> Any:
            _given.set(headers)
            return getattr(self._client, method)(**parameters)

        try:
            return await asyncio.to_thread(call)
        except ClientError as error:
            raise _problem(error.response) from None
        except BotoCoreError as error:
            raise TargetUnavailable(f"cannot be reached: {error}") from None


def _problem(response: Mapping[str, Any]) -> TargetUnavailable | TargetRefused:
    code = response.get("Error", {}).get("Code", "")
    text = f"{code}: {response.get('Error', {}).get('Message', '')}"
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 500)
    later = status >= 500 or status in (408, 429) or code in _LATER
    return TargetUnavailable(text) if later else TargetRefused(text)


def _add_headers(params: dict[str, Any], **_: Any) -> None:
    params["headers"] |= {REPLICATED: REPLICA, **_given.get()}


async def _whole(read: Read, start: int, end: int) -> bytearray:
    """The bytes [start, end), once in memory."""
    body, at = bytearray(end - start), 0
    async for piece in read(start, end):
        body[at : at + len(piece)] = piece
        at += len(piece)
    assert at == len(body), "a read gives what was asked for, or raises"
    return body


def _parameter(plan: Plan) -> str:
    return f"Checksum{plan.algorithm}"


def _digest(plan: Plan, digest: bytes | None) -> dict[str, Any]:
    return checksum_value(digest, _parameter(plan)) if plan.algorithm else {}

"""Configurations of which a bucket may have several."""

import pytest

from gateway.s3.numbered import KINDS, PAGE
from tests.protocol.s3_asgi import make_app, signed_call

INSIDE = {
    "inventory": "<IsEnabled>true</IsEnabled><IncludedObjectVersions>All</IncludedObjectVersions>"
    "<Schedule><Frequency>Daily</Frequency></Schedule><Destination><S3BucketDestination>"
    "<Bucket>arn:aws:s3:::lists</Bucket><Format>CSV</Format><Prefix>p</Prefix>"
    "</S3BucketDestination></Destination><OptionalFields><Field>Size</Field></OptionalFields>",
    "metrics": "<Filter><And><Prefix>p</Prefix><Tag><Key>k</Key><Value>v</Value></Tag></And>"
    "</Filter>",
    "analytics": "<Filter><Prefix>p</Prefix></Filter><StorageClassAnalysis/>",
    "intelligent-tiering": "<Status>Enabled</Status><Tiering><Days>90</Days>"
    "<AccessTier>ARCHIVE_ACCESS</AccessTier></Tiering>",
}


def document(kind: str, identifier: str = "one", inside: str | None = None) -> bytes:
    root = KINDS[kind].noun
    text = INSIDE[kind] if inside is None else inside
    return f"<{root}><Id>{identifier}</Id>{text}</{root}>".encode()


def test_each_kind_is_here() -> None:
    assert INSIDE.keys() == KINDS.keys()


@pytest.mark.parametrize("kind", KINDS)
async def test_one_is_there_from_its_put_to_its_delete(kind: str) -> None:
    app = await make_app()
    await signed_call(app, "PUT", "/bucket")
    one, two = f"/bucket?{kind}&id=one", f"/bucket?{kind}&id=two"
    assert (await signed_call(app, "GET", one)).code == "NoSuchConfiguration"
    for name, target in (("one", one), ("two", two)):
        put = await signed_call(app, "PUT", target, {}, document(kind, name))
        assert put.status == 200, put.body
    got = await signed_call(app, "GET", one)
    assert (got.status, got.headers["content-type"]) == (200, "application/xml")
    assert (await signed_call(app, "PUT", one, {}, got.body)).status == 200
    assert (await signed_call(app, "GET", one)).body == got.body
    listed = await signed_call(app, "GET", f"/bucket?{kind}")
    assert listed.body.count(b"<Id>") == 2
    assert b"<IsTruncated>false</IsTruncated>" in listed.body
    assert (await signed_call(app, "DELETE", one)).status == 204
    for method in ("GET", "DELETE"):
        gone = await signed_call(app, method, one)
        assert (gone.status, gone.code) == (404, "NoSuchConfiguration")
    assert (await signed_call(app, "GET", two)).status == 200
    assert (await signed_call(app, "POST", two)).status == 405


async def test_lists_are_paged() -> None:
    app = await make_app()
    await signed_call(app, "PUT", "/bucket")
    for number in range(PAGE + 2):
        name = f"n{number:03}"
        target = f"/bucket?metrics&id={name}"
        assert (await signed_call(app, "PUT", target, {}, document("metrics", name))).status == 200
    first = await signed_call(app, "GET", "/bucket?metrics")
    assert first.body.count(b"<Id>") == PAGE
    assert f"<NextContinuationToken>n{PAGE - 1:03}<".encode() in first.body
    last = await signed_call(app, "GET", f"/bucket?metrics&continuation-token=n{PAGE - 1:03}")
    assert last.body.count(b"<Id>") == 2
    assert b"<IsTruncated>false</IsTruncated>" in last.body


@pytest.mark.parametrize(
    ("kind", "old", "new", "code"),
    [
        ("inventory", "arn:aws:s3:::lists", "lists", "InvalidS3DestinationBucket"),
        ("inventory", ">CSV<", ">ORC<", "NotImplemented"),
        ("inventory", ">CSV<", ">XLS<", "MalformedXML"),
        ("inventory", ">Daily<", ">Hourly<", "MalformedXML"),
        ("inventory", ">All<", ">Some<", "MalformedXML"),
        ("inventory", ">true<", ">yes<", "MalformedXML"),
        ("inventory", ">Size<", ">Weight<", "MalformedXML"),
        ("metrics", "<And>", "<Prefix/><And>", "MalformedXML"),
        ("metrics", "And>", "Or>", "MalformedXML"),
        ("analytics", "<StorageClassAnalysis/>", "", "MalformedXML"),
        ("intelligent-tiering", ">90<", ">30<", "InvalidArgument"),
        ("intelligent-tiering", "ARCHIVE_ACCESS", "ATTIC", "MalformedXML"),
        ("intelligent-tiering", ">Enabled<", ">On<", "MalformedXML"),
        ("metrics", "", "", ""),
    ],
)
async def test_what_cannot_be_is_refused(kind: str, old: str, new: str, code: str) -> None:
    app = await make_app()
    await signed_call(app, "PUT", "/bucket")
    inside = INSIDE[kind].replace(old, new) if old else INSIDE[kind]
    put = await signed_call(app, "PUT", f"/bucket?{kind}&id=one", {}, document(kind, inside=inside))
    assert put.code == code
    assert put.status == (200 if not code else 501 if code == "NotImplemented" else 400)


@pytest.mark.parametrize("identifier", ["two", "a%20b", "", "x" * 65])
async def test_an_id_is_a_word_and_that_of_the_document(identifier: str) -> None:
    app = await make_app()
    await signed_call(app, "PUT", "/bucket")
    for garbage in (document("metrics"), b"<", b"<Other/>", b"\xff" * 9):
        put = await signed_call(app, "PUT", f"/bucket?metrics&id={identifier}", {}, garbage)
        assert put.status == 400, put.body
    assert b"<Id>" not in (await signed_call(app, "GET", "/bucket?metrics")).body

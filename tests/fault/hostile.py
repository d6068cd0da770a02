"""Hostile and half-finished HTTP requests, drawn from a seed.

A request is bytes for one connection. What the server must do with it: answer something that is
not our fault (no 5xx but 501, 503, 505), or close; soon; and go on serving the others.
"""

import base64
import hashlib
import random
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode, urlsplit

from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.fault.hostile_words import (
    API_COMMANDS,
    BOMB,
    CID,
    HEADERS,
    IAM_ACTIONS,
    IAM_FIELDS,
    METHODS,
    PARAMETERS,
    STS_ACTIONS,
    TEXTS,
)
from tests.fault.raw_http import Hostile, head

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Target:
    """A site under attack: it has `bucket` with `key`, and a public one named with `-open`."""

    s3: str
    ipfs: str
    api: str
    access: str
    secret: str
    bucket: str = "target"
    key: str = "object"


class Attacker:
    """Draws requests. The same seed draws the same, but for the time in signatures."""

    def __init__(self, seed: int, target: Target) -> None:
        self.chance = random.Random(seed)
        self.target = target
        self._makers: list[Callable[[], Hostile]] = [
            self.garbage, self.mutated, self.bad_authorization, self.bad_presigned,
            self.bad_chunks, self.bad_document, self.bad_range, self.bad_key, self.bad_header,
            self.bad_query, self.truncated, self.huge_head, self.pipelined, self.ipfs_path,
            self.ipfs_options, self.ipfs_host, self.ipfs_routing, self.bad_framing,
            self.bad_multipart, self.bad_form, self.ipfs_api,
        ]  # fmt: skip

    def draw(self) -> Hostile:
        """The next request."""
        return self.chance.choice(self._makers)()

    # ------------------------------------------------------------------ parts
    def text(self) -> str:
        """Something odd."""
        chance = self.chance
        if chance.random() < 0.7:
            return chance.choice(TEXTS)
        length = chance.choice([1, 3, 20, 200])
        return "".join(chr(chance.choice([chance.randrange(1, 256), chance.randrange(0x2FFF)]))
                       for _ in range(length))  # fmt: skip

    def header_text(self) -> str:
        """Something odd without line ends, as Latin-1."""
        text = self.text().encode("utf-8", "replace").decode("latin-1")
        return re.sub("[\x00-\x08\x0a-\x1f\x7f]", "?", text).strip()

    def place(self) -> str:
        """A path that leads somewhere."""
        bucket, key = self.target.bucket, self.target.key
        return self.chance.choice(
            ["/", f"/{bucket}", f"/{bucket}/{key}", f"/{bucket}-open/{key}", f"/{bucket}/new",
             "/nowhere/key"]
        )  # fmt: skip

    def signed(
        self, method: str, path: str, headers: dict[str, str] | None = None, body: bytes = b"",
        *, payload: str = "", service: str = "s3",
    ) -> bytes:  # fmt: skip
        """A request as the SDKs make it; `path` is percent-encoded, with its query."""
        host = urlsplit(self.target.s3).netloc
        request = AWSRequest(
            method=method, url=f"http://{host}{path}", headers=dict(headers or {}), data=body
        )
        request.context["client_config"] = None
        request.context["signing"] = {}
        signer: Any = _Signer(Credentials(self.target.access, self.target.secret), service, "x")
        signer.stated = payload or hashlib.sha256(body).hexdigest()
        signer.add_auth(request)
        lines = [f"{name}: {value}" for name, value in request.headers.items()]
        return head(method, path, [f"Host: {host}", *lines, f"Content-Length: {len(body)}"]) + body

    def s3(self, kind: str, data: bytes, **more: Any) -> Hostile:
        """To the S3 port."""
        return Hostile(kind, self.target.s3, data, **more)

    # ------------------------------------------------------------------ bytes
    def garbage(self) -> Hostile:
        """Anything at all."""
        url = self.chance.choice([self.target.s3, self.target.ipfs])
        data = self.chance.randbytes(self.chance.choice([1, 10, 1000, 100_000]))
        if self.chance.random() < 0.3:
            data = b"\x16\x03\x01" + data  # a TLS hello at a plain port
        return Hostile("garbage", url, data, pieces=self.chance.choice([1, 5]))

    def mutated(self) -> Hostile:
        """A good request with some bytes changed, lost or doubled."""
        data = bytearray(self.signed("PUT", f"/{self.target.bucket}/mutated", {}, b"x" * 100))
        for _ in range(self.chance.choice([1, 1, 2, 10])):
            at = self.chance.randrange(len(data))
            match self.chance.randrange(4):
                case 0:
                    data[at] ^= 1 << self.chance.randrange(8)
                case 1:
                    del data[at : at + self.chance.choice([1, 2, 30])]
                case 2:
                    data[at:at] = data[at : at + 20]
                case _:
                    data[at:at] = self.chance.randbytes(3)
        return self.s3("mutated", bytes(data), pieces=self.chance.choice([1, 3]))

    def huge_head(self) -> Hostile:
        """Heads beyond all bounds."""
        url = self.chance.choice([self.target.s3, self.target.ipfs])
        many = [f"X-H{n}: {n}" for n in range(20_000)]
        data = self.chance.choice([
            b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
            head("GET", "/", ["Host: x", "X-A: " + "b" * 200_000]),
            head("GET", "/", ["Host: x", *many]),
            head("GET", "/?" + "a=b&" * 15_000, ["Host: x"]),
            b"A" * 100_000,
        ])  # fmt: skip
        return Hostile("huge head", url, data, pieces=self.chance.choice([1, 7]))

    def bad_framing(self) -> Hostile:
        """Requests that two readers would cut differently."""
        extra = self.chance.choice([
            ["Content-Length: 5", "Content-Length: 6"], ["Content-Length: -1"],
            ["Content-Length: 5", "Transfer-Encoding: chunked"], ["Content-Length: 0x5"],
            ["Transfer-Encoding: gzip"], ["Transfer-Encoding: chunked, identity"],
            ["Transfer-Encoding : chunked"], [" Folded: x"], ["Content-Length: 5,5"],
            ["Content-Length: " + "0" * 5000], ["Content-Length: " + "9" * 40], ["Host: b"],
            ["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"], ["NoColon"], [":"],
            ["Expect: 200-ok"], ["Expect: 100-continue", "Content-Length: 10"],
            ["Connection: upgrade", "Upgrade: h2c"], ["Content-Length: 99999999999999"],
        ])  # fmt: skip
        version = self.chance.choice(["HTTP/1.1"] * 5 + ["HTTP/1.0", "HTTP/2.0", "HTTP/0.9", "X"])
        method = self.chance.choice([*METHODS, "CONNECT", "TRACE", "PRI", "get", "G E T", ""])
        data = head(method, self.place(), ["Host: a", *extra], version)
        body = self.chance.choice([
            b"", b"hello", b"5\r\nhello\r\n0\r\n\r\n", b"ffffffffffffffffff\r\n", b"-1\r\n\r\n",
            b"5;" + b"x" * 100_000 + b"\r\n", b"zz\r\n",
        ])  # fmt: skip
        return self.s3("framing", data + body)

    def pipelined(self) -> Hostile:
        """Good requests with garbage between and behind them."""
        good = self.signed("GET", f"/{self.target.bucket}/{self.target.key}")
        parts = [good] * self.chance.choice([1, 3, 100])
        parts.insert(self.chance.randrange(len(parts) + 1), self.chance.randbytes(50))
        return self.s3("pipeline", b"".join(parts))

    def truncated(self) -> Hostile:
        """A request that stops somewhere."""
        body = self.chance.randbytes(self.chance.choice([10, 20_000, 1_200_000]))
        data = self.signed("PUT", f"/{self.target.bucket}/truncated", {}, body)
        cut = self.chance.choice([self.chance.randrange(len(data)), len(data) - 1])
        return self.s3("truncated", data[:cut])

    # ------------------------------------------------------------------ signatures
    def bad_authorization(self) -> Hostile:
        """Authorization headers of every wrong form."""
        good = f"{self.target.access}/20261123/us-east-1/s3/aws4_request"
        signature = "0" * 64
        value = self.chance.choice([
            self.header_text(), "AWS4-HMAC-SHA256", "AWS4-HMAC-SHA256 ", "AWS a:b", "AWS a",
            "Bearer x", f"AWS {self.target.access}:{self.header_text()}",
            f"AWS4-HMAC-SHA256 Credential={good}, SignedHeaders=host, Signature={signature}",
            f"AWS4-HMAC-SHA256 Credential={self.header_text()}, SignedHeaders=host, "
            f"Signature={signature}",
            f"AWS4-HMAC-SHA256 Credential={good}, SignedHeaders={self.header_text()}, "
            f"Signature={signature}",
            f"AWS4-HMAC-SHA256 Credential={good}, SignedHeaders=host, Signature="
            f"{self.header_text()}",
            "AWS4-HMAC-SHA256 " + ",".join(["Credential=a"] * 3000),
        ])  # fmt: skip
        date = self.chance.choice([
            "20261123T000000Z", "Mon, 23 Nov 2026 00:00:00 GMT", "99999999T999999Z", "0", "-1",
            "Mon, 99 Xxx 0 00:00:00", "00010101T000000Z", "99991231T235959Z", ",,,,", "a b c d e",
            self.header_text(),
        ])  # fmt: skip
        lines = [f"Host: {urlsplit(self.target.s3).netloc}", f"Authorization: {value}",
                 f"{self.chance.choice(['x-amz-date', 'Date'])}: {date}"]  # fmt: skip
        if self.chance.random() < 0.6:
            lines.append(
                f"x-amz-content-sha256: {self.chance.choice([signature, 'x', 'STREAMING-X'])}"
            )
        return self.s3("authorization", head(self.chance.choice(METHODS), self.place(), lines))

    def bad_presigned(self) -> Hostile:
        """A presigned URL with one thing changed, or nothing of one."""
        host = urlsplit(self.target.s3).netloc
        request = AWSRequest(method="GET", url=f"http://{host}{self.place()}")
        request.context["client_config"] = None
        request.context["signing"] = {}
        credentials = Credentials(self.target.access, self.target.secret)
        signer: Any = S3SigV4QueryAuth(credentials, "s3", "us-east-1", expires=600)
        signer.add_auth(request)
        path, _, query = str(request.url).partition(host)[2].partition("?")
        pairs = [pair.partition("=")[::2] for pair in query.split("&")]
        at = self.chance.randrange(len(pairs))
        match self.chance.randrange(4):
            case 0:
                pairs[at] = (pairs[at][0], quote(self.text().encode("utf-8", "replace"), safe=""))
            case 1:
                del pairs[at]
            case 2:
                pairs.append(pairs[at])
            case _:
                pairs.append(("AWSAccessKeyId", quote(self.target.access)))
        target = path + "?" + "&".join(f"{name}={value}" for name, value in pairs)
        return self.s3("presigned", head("GET", target, [f"Host: {host}"]))

    def bad_chunks(self) -> Hostile:
        """aws-chunked bodies with broken frames, sizes, signatures and trailers."""
        chance = self.chance
        payload = chance.choice([
            "STREAMING-UNSIGNED-PAYLOAD-TRAILER", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
            "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
            "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD",
        ])  # fmt: skip
        sign = f";chunk-signature={'0' * 64}" if "HMAC" in payload else ""
        size = chance.choice(["5", "0", "-1", "zz", "5" * 17, "fffffffffffffff", "", "5 ", "0x5"])
        body = chance.choice([
            f"{size}{sign}\r\nhello\r\n0{sign}\r\n\r\n", f"5{sign}\nhello\n0\n\n", "hello",
            f"5{sign}\r\nhelloXX0{sign}\r\n\r\n", f"5{sign}\r\nhel", f"0{sign}\r\n",
            f"5{sign}\r\nhello\r\n0{sign}\r\nx-amz-checksum-crc32:AAAA\r\n\r\n",
            f"5{sign}\r\nhello\r\n0{sign}\r\n" + "a:b\r\n" * 2000,
            f"5{sign}\r\nhello\r\n0{sign}\r\nno colon\r\n\r\n", "5;" + "x" * 5000,
            f"5{sign}\r\nhello\r\n0{sign}\r\n\r\ntail tail tail",
        ]).encode()  # fmt: skip
        headers = {
            "x-amz-decoded-content-length": chance.choice(
                ["5", "5", "5", "6", "0", "-5", "9" * 30]
            ),
            "content-encoding": "aws-chunked",
        }
        if chance.random() < 0.5:
            headers["x-amz-trailer"] = chance.choice(["x-amz-checksum-crc32", "nonsense", ""])
        if chance.random() < 0.1:
            del headers["x-amz-decoded-content-length"]
        path = f"/{self.target.bucket}/chunks"
        return self.s3(
            "chunks", self.signed("PUT", path, headers, body, payload=payload),
            pieces=chance.choice([1, 4]),
        )  # fmt: skip

    # ------------------------------------------------------------------ documents, parameters
    def bad_document(self) -> Hostile:
        """XML that is none, is another, or wants to be expanded."""
        bucket = self.target.bucket
        method, path = self.chance.choice([
            ("POST", f"/{bucket}?delete"), ("PUT", f"/{bucket}-x"), ("PUT", f"/{bucket}?acl"),
            ("POST", f"/{bucket}/k?uploadId={'0' * 32}"), ("PUT", f"/{bucket}?lifecycle"),
            ("POST", f"/{bucket}/k?select&select-type=2"), ("POST", f"/{bucket}/k?restore"),
        ])  # fmt: skip
        deep = b"<Delete>" + b"<Object>" * 50_000
        body = self.chance.choice([
            b"", b"<", b"<Delete", b"<Delete/>", b"<Other/>", BOMB, deep, b"\xff\xfe<\x00D\x00",
            b'<?xml version="1.0" encoding="utf-7"?><Delete/>', b"<Delete>" + b"<a/>" * 120_000,
            b"<Delete><Object><Key></Key></Object></Delete>", b"\x00" * 100, b"{}" * 10,
            b"<Delete>" + b"<Object><Key>k</Key></Object>" * 1001 + b"</Delete>",
            b"<Delete><Object><Key>" + b"k" * 2000 + b"</Key></Object></Delete>",
            b"<Delete><Object><Key>gone</Key><VersionId>\xc3\xa4</VersionId></Object></Delete>",
            b'<!DOCTYPE x SYSTEM "file:///etc/passwd"><Delete/>', b"<Delete>" + b"x" * 3_000_000,
            b"<Delete " + b" ".join(b'a%d="b"' % n for n in range(20_000)) + b"/>",
            b"<AccessControlPolicy><AccessControlList/></AccessControlPolicy>",
            b"<AccessControlPolicy><Owner><ID/></Owner><AccessControlList><Grant><Grantee>"
            b"<ID>x</ID></Grantee><Permission>READ</Permission></Grant></AccessControlList>"
            b"</AccessControlPolicy>",
            b"<CreateBucketConfiguration><LocationConstraint>" + b"z" * 500
            + b"</LocationConstraint></CreateBucketConfiguration>",
        ])  # fmt: skip
        headers = {"content-md5": base64.b64encode(hashlib.md5(body).digest()).decode()}
        return self.s3("document", self.signed(method, path, headers, body))

    def bad_form(self) -> Hostile:
        """IAM and STS: forms of odd values and of odd bytes. Nothing that would be made."""
        chance = self.chance
        service = chance.choice(["iam", "sts"])
        action = chance.choice(IAM_ACTIONS if service == "iam" else STS_ACTIONS)
        version = chance.choice(["2010-05-08", "2011-06-15", "2011-06-15", self.text()])
        form = {"Action": action, "Version": version}
        form |= {name: self.text() for name in chance.sample(IAM_FIELDS, chance.randrange(6))}
        body = urlencode(form, errors="replace").encode()
        if chance.random() < 0.3:
            body = chance.choice([
                body[: chance.randrange(len(body))], body + b"&" + body, body + b"&x=%ff",
                b"a=b&" * 5000, b"\xff" * 100, b"Action=" + b"x" * 600_000, b"&&==", b"{}",
                body + b"&Tags.member.%d.Key=x" % 10**30, b"a.member.1.b.c=d&" + body,
            ])  # fmt: skip
        kind = "application/x-www-form-urlencoded"
        headers = {"content-type": chance.choice([kind, kind, kind, "text/plain", ""])}
        return self.s3("form", self.signed("POST", "/", headers, body, service=service))

    def bad_multipart(self) -> Hostile:
        """Uploads, parts and completions that do not fit together."""
        upload = self.chance.choice(["0" * 32, "", "x", "%ff", "0" * 33, quote(self.bare_text())])
        number = self.chance.choice(["0", "1", "10000", "10001", "-1", "x", "9" * 50, "0" * 5000])
        path = f"/{self.target.bucket}/{self.target.key}"
        method, query = self.chance.choice([
            ("PUT", f"partNumber={number}&uploadId={upload}"), ("GET", f"uploadId={upload}"),
            ("DELETE", f"uploadId={upload}"), ("POST", f"uploadId={upload}"),
            ("PUT", f"partNumber={number}"), ("GET", f"partNumber={number}"), ("POST", "uploads"),
            ("GET", f"uploadId={upload}&part-number-marker={number}&max-parts={number}"),
        ])  # fmt: skip
        part = b"<Part><PartNumber>1</PartNumber><ETag>x</ETag></Part>"
        body = b"<CompleteMultipartUpload>" + part + b"</CompleteMultipartUpload>"
        headers = {"x-amz-checksum-algorithm": self.header_text()} if query == "uploads" else {}
        return self.s3("multipart", self.signed(method, f"{path}?{query}", headers, body))

    def bare_text(self) -> bytes:
        """Something odd as bytes."""
        return self.text().encode("utf-8", "replace")[:2000]

    def bad_range(self) -> Hostile:
        """Ranges behind, before and beyond the object."""
        value = self.chance.choice([
            "bytes=", "bytes=-", "bytes=0-", "bytes=-0", "bytes=5-1", "bytes=99999999-",
            "bytes=0-99999999999999999999", "bytes=-99999999999999999999", "bytes=0-0,1-1",
            "bytes=" + ",".join(f"{n}-{n}" for n in range(5000)), "chars=0-1", "bytes=a-b",
            "bytes=0-0" + "0" * 5000, "BYTES=0-1", "bytes 0-1", self.header_text(),
        ])  # fmt: skip
        if self.chance.random() < 0.5:
            lines = ["Host: x", f"Range: {value}"]
            return Hostile("range", self.target.ipfs, head("GET", f"/ipfs/{CID}", lines))
        name = self.chance.choice(["range", "x-amz-copy-source-range"])
        path = f"/{self.target.bucket}/{self.target.key}"
        return self.s3("range", self.signed("GET", path, {name: value} if value else {}))

    def bad_key(self) -> Hostile:
        """Paths of every form."""
        raw = self.chance.choice([
            quote(self.bare_text(), safe="/%"), quote(self.bare_text(), safe=""), "%2e%2e/%2e%2e",
            "a" * 1024, "a" * 1025, "%E2%82%AC" * 342, "%00" * 1024, "%00" * 700, "/" * 2000,
        ])  # fmt: skip
        method = self.chance.choice(["GET", "PUT", "HEAD", "DELETE"])
        bucket = self.chance.choice([self.target.bucket, quote(self.bare_text(), safe="")])
        body = b"x" if method == "PUT" else b""
        return self.s3("key", self.signed(method, f"/{bucket}/{raw}", {}, body))

    def bad_header(self) -> Hostile:
        """Odd values of the headers that S3 reads."""
        method = self.chance.choice(["GET", "PUT", "HEAD", "POST", "DELETE"])
        names = self.chance.sample(HEADERS, self.chance.choice([1, 1, 2, 4]))
        headers = {name: value for name in names if (value := self.header_text())}
        body = b"hello" if method in ("PUT", "POST") else b""
        path = self.place()
        if method in ("PUT", "DELETE") and path.endswith(f"/{self.target.key}"):
            path = f"/{self.target.bucket}/new"  # what the others read stays
        return self.s3("header", self.signed(method, path, headers, body))

    def bad_query(self) -> Hostile:
        """Odd values of the parameters that S3 reads."""
        names = self.chance.sample(PARAMETERS, self.chance.choice([1, 1, 2, 3]))
        query = "&".join(f"{n}={quote(self.bare_text(), safe='')}" for n in names)
        method = self.chance.choice(["GET", "GET", "GET", "PUT", "HEAD", "POST", "DELETE"])
        path = f"/{self.target.bucket}" if self.chance.random() < 0.6 else self.place()
        if method == "DELETE" and path == f"/{self.target.bucket}":
            method = "GET"
        if method in ("PUT", "DELETE") and self.target.key in path:
            path = f"/{self.target.bucket}/new"
        return self.s3("query", self.signed(method, f"{path}?{query}"))

    # ------------------------------------------------------------------ ipfs
    def ipfs_path(self) -> Hostile:
        """Paths at the gateway."""
        odd = quote(self.bare_text(), safe="/%")
        path = self.chance.choice([
            f"/ipfs/{odd}", f"/ipfs/{CID}/{odd}", f"/ipns/{odd}", f"/{odd}", "/ipfs/", "/ipfs",
            f"/ipfs/{CID[:-1]}", f"/ipfs/{CID.upper()}", "/ipfs/bafkqaaa", "/ipfs/b" + "a" * 500,
            "/ipfs/QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnPbdG", "/ipfs/Qm" + "1" * 44,
            "/ipfs/z" + "1" * 60, "/ipfs/f0155" + "0" * 60, "/ipfs/k51q",
            f"/ipfs/{CID}" + "/a" * 300,
            "/ipfs/bafkqae3imvwgy3zamzzg63janjzs22lqnzzqu", "/ipfs/" + "z" * 15_000,
        ])  # fmt: skip
        return Hostile("ipfs path", self.target.ipfs, head(self._get(), path, ["Host: x"]))

    def ipfs_options(self) -> Hostile:
        """Formats, ranges and conditions at the gateway."""
        names = ["format", "filename", "download", "dag-scope", "entity-bytes", "car-dups",
                 "car-order", "car-version", "x"]  # fmt: skip
        query = "&".join(
            f"{name}={quote(self.bare_text(), safe='')}" for name in self.chance.sample(names, 2)
        )
        query = self.chance.choice([query, f"format=car&{query}", f"format=raw&{query}"])
        wanted = ["accept", "range", "if-none-match", "if-range", "cache-control", "host",
                  "service-worker", "x-forwarded-host"]  # fmt: skip
        lines = [f"{name}: {self.header_text()}" for name in self.chance.sample(wanted, 2)]
        if not any(line.startswith("host:") for line in lines):
            lines.insert(0, "Host: x")
        path = f"/ipfs/{CID}?{query}"
        return Hostile("ipfs options", self.target.ipfs, head(self._get(), path, lines))

    def ipfs_host(self) -> Hostile:
        """Hosts and names at the gateway: subdomains, DNSLink, proxies, tunnels."""
        odd, key = self.header_text(), "k2k4r8m7xvggw5pxxk3abrkwyer625hg01hfyggrai7lk1m63fuihi7w"
        host = self.chance.choice([
            odd, f"{CID}.ipfs.localhost", f"{CID}.ipfs.localhost:{odd}", f"{odd}.ipfs.localhost",
            f"{odd}.ipns.localhost", f"{key}.ipns.localhost", "linked.example", "localhost",
            "round.example", ".ipfs.localhost", "a" * 70 + ".ipns.localhost", f"{odd}.localhost",
        ])  # fmt: skip
        path = quote(self.bare_text(), safe="/%?=")
        path = self.chance.choice([
            f"/{path}", f"/ipfs/{CID}/{path}", f"/ipns/{key}/{path}", f"/ipns/{path}",
            f"/ipfs/?uri={path}", f"/ipns/?uri=ipns://{path}", "/ipns/round.example",
            f"http://{quote(odd, safe='')}/ipfs/{CID}", f"http://{CID}.ipfs.localhost/{path}",
        ])  # fmt: skip
        lines = [f"Host: {host}", f"X-Forwarded-Proto: {self.header_text()}"]
        request = head(self._get(), path, lines)
        if self.chance.random() < 0.2:
            request = head("CONNECT", self.chance.choice(["x:1", path]), lines) + request
        return Hostile("ipfs host", self.target.ipfs, request)

    def ipfs_routing(self) -> Hostile:
        """Delegated routing, and records that nobody signed."""
        odd = quote(self.bare_text(), safe="/%?=")
        key = self.chance.choice(["12D3KooWLQzUv2FHWGVPXTXSZpdHs7oHbXub2G5WC8Tx4NQhyd2d", CID, odd])
        kind = self.chance.choice(["providers", "peers", "ipns", "ipns", odd])
        if self.chance.random() < 0.5:
            lines = ["Host: x", f"accept: {self.header_text()}"]
            return Hostile(
                "routing", self.target.ipfs, head(self._get(), f"/routing/v1/{kind}/{key}", lines)
            )
        body = self.chance.randbytes(self.chance.choice([0, 1, 300, 11_000]))
        lines = ["Host: x", f"Content-Length: {len(body)}",
                 "Content-Type: application/vnd.ipfs.ipns-record"]  # fmt: skip
        path = f"/routing/v1/ipns/{key}"
        return Hostile("routing", self.target.ipfs, head("PUT", path, lines) + body)

    def ipfs_api(self) -> Hostile:
        """Commands at the API port, with odd arguments, options and bodies."""
        chance = self.chance
        arguments = [CID, f"/ipfs/{CID}", "/", "/a/b", "../x", "/ipns/x", self.text()]
        options = [
            "offset", "length", "cid-version", "chunker", "hash", "recursive", "progress",
            "stream", "type", "count", "create", "mode", "mtime", "cid-base", "x",
        ]  # fmt: skip
        values = ["true", "-1", "9" * 30, "0", "size-1", "", self.text()]
        pairs = [("arg", chance.choice(arguments)) for _ in range(chance.randrange(3))]
        pairs += [(name, chance.choice(values)) for name in chance.sample(options, 2)]
        pairs = [(name, quote(value, safe="%", errors="replace")) for name, value in pairs]
        query = "&".join(f"{name}={value}" for name, value in pairs)
        part = b'Content-Disposition: form-data; name="file"; filename="%s"\r\n\r\n'
        name = self.header_text().encode("latin-1").replace(b'"', b"")
        body = chance.choice([
            b"", chance.randbytes(300), b"--b--\r\n", b"--b\r\n" + part % name,
            b"--b\r\n" + part % name + chance.randbytes(50) + b"\r\n--b--\r\n",
            (b"--b\r\n" + part % b"f" + b"{}\r\n") * 3 + b"--b--\r\n",
        ])  # fmt: skip
        kind = chance.choice(["multipart/form-data; boundary=b", self.header_text()])
        length = len(body) + chance.choice([0, 0, 0, 7])
        lines = ["Host: x", f"Content-Type: {kind}", f"Content-Length: {length}"]
        path = f"/api/v0/{chance.choice(API_COMMANDS)}?{query}"
        data = head("POST", path, lines) + body
        return Hostile("ipfs api", self.target.api, data, pieces=chance.choice([1, 3]))

    def _get(self) -> str:
        return self.chance.choice(["GET", "GET", "GET", "HEAD", "OPTIONS", "POST"])


class _Signer(S3SigV4Auth):  # type: ignore[misc]
    """Signs a payload hash that it is told."""

    stated = ""

    def payload(self, request: Any) -> Any:
        del request
        return self.stated

"""A local OpenID Connect issuer: its two documents over HTTP, and tokens."""

import json
import threading
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

Private = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


def base64url(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def number(value: int) -> str:
    return base64url(value.to_bytes(-(-value.bit_length() // 8), "big"))


def jwk(key_id: str, key: Private) -> dict[str, str]:
    """The public half as a JWK."""
    public = key.public_key().public_numbers()
    if isinstance(public, rsa.RSAPublicNumbers):
        return {"kty": "RSA", "kid": key_id, "use": "sig", "n": number(public.n),
                "e": number(public.e)}  # fmt: skip
    x, y = (base64url(one.to_bytes(32, "big")) for one in (public.x, public.y))
    return {"kty": "EC", "kid": key_id, "crv": "P-256", "x": x, "y": y}


def signed(claims: dict[str, Any], key: Private, **header: Any) -> str:
    """A token."""
    algorithm = "RS256" if isinstance(key, rsa.RSAPrivateKey) else "ES256"
    head = base64url(json.dumps({"alg": algorithm, "typ": "JWT"} | header).encode())
    text = f"{head}.{base64url(json.dumps(claims).encode())}"
    if isinstance(key, rsa.RSAPrivateKey):
        signature = key.sign(text.encode(), PKCS1v15(), SHA256())
    else:
        r, s = decode_dss_signature(key.sign(text.encode(), ec.ECDSA(SHA256())))
        signature = r.to_bytes(32, "big") + s.to_bytes(32, "big")
    return f"{text}.{base64url(signature)}"


class Issuer:
    """What is served can be changed while it runs: `documents` by path, `asked` counts."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.keys: dict[str, Private] = {
            "rsa": rsa.generate_private_key(65537, 2048),
            "ec": ec.generate_private_key(ec.SECP256R1()),
        }
        self.asked: list[str] = []
        self.documents: dict[str, bytes] = {}
        self.publish()

    def publish(self) -> None:
        """Serve the keys as they are."""
        keys = [jwk(key_id, key) for key_id, key in self.keys.items()]
        configuration = {"issuer": self.url, "jwks_uri": f"{self.url}/keys"}
        self.documents = {
            "/realm/.well-known/openid-configuration": json.dumps(configuration).encode(),
            "/realm/keys": json.dumps({"keys": keys}).encode(),
        }

    def token(self, key_id: str = "rsa", **claims: Any) -> str:
        return signed({"iss": self.url} | claims, self.keys[key_id], kid=key_id)


@contextmanager
def running_issuer() -> Iterator[Issuer]:
    """Serve an issuer until the block ends."""
    issuer: Issuer

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            issuer.asked.append(self.path)
            body = issuer.documents.get(self.path)
            self.send_response(404 if body is None else 200)
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, format: str, *args: Any) -> None:
            del format, args

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    issuer = Issuer(f"http://127.0.0.1:{server.server_address[1]}/realm")
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield issuer
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()

"""What the HTTP protocol itself refuses, in S3's XML (see ErrorBody in chain/net/http.py)."""

from chain.net.http_exchange import Headers
from gateway.s3 import xml
from gateway.s3.exchange import XML_TYPE


def protocol_error(status: int, code: str, message: str) -> tuple[Headers, bytes]:
    """The reply to a request that never became one."""
    del status
    document = xml.error(code, message, {}, resource="", request_id="", host_id="")
    return [XML_TYPE], document

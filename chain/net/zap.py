"""ZAP (ZeroMQ RFC 27): who may finish a CURVE handshake."""

import logging

import zmq

from chain.keys import curve
from chain.net.rpc import Authorise

log = logging.getLogger(__name__)

ZAP_ADDRESS = "inproc://zeromq.zap.01"
ZAP_DOMAIN = b"cumulus"


class ZapServer:
    """Answers libzmq's question for every handshake.

    A CURVE key belongs to two accounts, A and -A (chain/keys/curve.py). The user id is both ids in
    hexadecimal, the even one first; each request states which one speaks. The handshake passes
    when either may ask; the server asks the policy again for the one that speaks.
    """

    def __init__(self, socket: "zmq.Socket[bytes]", authorise: Authorise) -> None:
        self.socket = socket
        self._authorise = authorise

    def step(self) -> bool:
        """Answer one waiting request."""
        frames = self.socket.recv_multipart(zmq.DONTWAIT)
        split = frames.index(b"") + 1
        request = frames[split:]
        user, why = self._judge(request)
        if not user:
            log.warning("refused a connection from %s: %s", request[3].decode("latin-1"), why)
        status = (b"200", b"OK") if user else (b"400", b"refused")
        reply = [*frames[:split], b"1.0", request[1], *status, user.encode(), b""]
        self.socket.send_multipart(reply, zmq.DONTWAIT)
        return True

    def _judge(self, request: list[bytes]) -> tuple[str, str]:
        """User id ("" to refuse) and why not."""
        # version, request id, domain, address, routing id, mechanism, credentials
        if len(request) != 7 or request[0] != b"1.0" or request[5] != b"CURVE":
            return "", "not CURVE"
        try:
            accounts = [curve.account_of(request[6], odd) for odd in (False, True)]
        except curve.InvalidCurveKey as error:
            return "", str(error)
        if not any(map(self._authorise, accounts)):
            return "", f"{accounts[0].hex()} (or its twin) is not authorised"
        return "".join(account.hex() for account in accounts), ""

"""IAM and STS on the S3 port: `POST /` with a form, or `GET /?Action=…`, in the query protocol.

Parse, prove, decide, run, reply. The signature's service has to be that of the operation.
https://docs.aws.amazon.com/IAM/latest/APIReference/CommonParameters.html
"""

import logging
from collections.abc import Mapping
from hashlib import sha256

from chain.clock import Clock, Entropy
from gateway.catalog.interface import Catalog, CatalogUnavailable
from gateway.errors import StoreError
from gateway.iam import errors, reply, sts, web_identity
from gateway.iam.call import Call, Result
from gateway.iam.identity import Identity, opinion
from gateway.iam.issuers import Issuers
from gateway.iam.operations import OPERATIONS, VERSION, Operation
from gateway.iam.params import FORM_MAX, Params, parse_form
from gateway.iam.sessions import Sessions
from gateway.iam.store import IamStore, View
from gateway.model import Account, Credential
from gateway.policy.evaluation import Asked, Effect
from gateway.s3 import errors as s3_errors
from gateway.s3.exchange import Reply
from gateway.s3.permission import request_context
from gateway.s3.request import Request
from gateway.s3.sigv4 import Credentials, SigV4
from gateway.transaction import unavailable

log = logging.getLogger(__name__)
_FORM = "application/x-www-form-urlencoded"
_XML = (b"content-type", b"text/xml")
# How the S3 front end's refusals of a signature are called here.
_RENAMED: dict[type[StoreError], type[errors.IamError]] = {
    s3_errors.InvalidAccessKeyId: errors.InvalidClientTokenId,
    s3_errors.InvalidToken: errors.InvalidClientTokenId,
    s3_errors.SignatureDoesNotMatch: errors.BadSignature,
    s3_errors.RequestTimeTooSkewed: errors.BadSignature,
    s3_errors.RequestExpired: errors.BadSignature,
    s3_errors.ExpiredToken: errors.ExpiredToken,
}
_STS_ACTIONS = sts.ACTIONS | {web_identity.ACTION}
_NOBODY = Credential("", "", Account("", ""))
_VERSIONS = {VERSION: "iam", sts.VERSION: "sts"}


def is_query(request: Request) -> bool:
    """Whether a request is IAM's or STS's and not S3's."""
    return not request.bucket and (request.method == "POST" or "Action" in request.query)


class IamFace:
    """One per worker. `token_key`: 32 bytes that all workers of a network share."""

    def __init__(
        self,
        catalog: Catalog,
        credentials: Credentials,
        *,
        token_key: bytes,
        issuers: Issuers,
        clock: Clock,
        entropy: Entropy,
    ) -> None:
        self._store = IamStore(catalog)
        self.sessions = Sessions(catalog, token_key, entropy)
        self._issuers = issuers
        self._clock = clock
        self._entropy = entropy
        self._signatures = {
            name: SigV4(credentials, self.sessions.credential, service=name)
            for name in reply.NAMESPACES
        }

    async def serve(self, request: Request, request_id: str) -> Reply:
        """A reply whatever happens, an error as one."""
        service, named = "iam", (b"x-amzn-requestid", request_id.encode())
        try:
            form, body = await _read(request)
            service, action = _service_of(form), form["Action"]
            now_ns = self._clock.now_ns()
            if service == "iam":
                result = await self._iam(request, body, action, Params(form), now_ns)
            else:
                result = await self._sts(request, body, action, Params(form), now_ns)
        except StoreError as problem:
            error = problem
        except CatalogUnavailable as problem:
            error = unavailable(problem)
        except Exception as problem:
            log.error("request %s failed: %s", request_id, service, exc_info=problem)
            error = StoreError()
        else:
            return Reply(200, [_XML, named], reply.document(service, action, result, request_id))
        status = int(error.status)
        code = "InternalFailure" if type(error) is StoreError else error.code
        document = reply.error(service, code, error.text, status=status, request_id=request_id)
        return Reply(status, [_XML, named], document)

    async def _iam(
        self, request: Request, body: bytes, action: str, params: Params, now_ns: int
    ) -> Result:
        operation = OPERATIONS.get(action)
        if operation is None:
            raise errors.InvalidAction(f"Could not find operation {action[:64]} for {VERSION}")
        caller = self._prove(request, body, "iam", now_ns / 1e9)
        if caller.temporary and (caller.identity is None or not caller.identity.role):
            raise errors.InvalidClientTokenId  # a GetSessionToken makes no lasting keys

        def work(view: View) -> Result:
            call = Call(view, params, caller, now_ns, self._entropy)
            _authorize(call, request, f"iam:{action}", operation)
            return operation.run(call)

        return await self._store.run(caller.account.id, work)

    async def _sts(
        self, request: Request, body: bytes, action: str, params: Params, now_ns: int
    ) -> Result:
        if action == web_identity.ACTION:
            return await self._web_identity(request, params, now_ns)
        if action not in sts.ACTIONS:
            raise errors.InvalidAction(f"Could not find operation {action[:64]} for {sts.VERSION}")
        caller = self._prove(request, body, "sts", now_ns / 1e9)
        if action == "GetCallerIdentity":
            return sts.get_caller_identity(caller)
        account, identity = caller.account, caller.identity
        context = request_context(request, account, now_ns / 1e9, identity)
        with self._store.view(account.id) as view:
            call = Call(view, params, caller, now_ns, self._entropy)
            if action == "AssumeRole":
                return sts.assume_role(call, context, self._store, self.sessions)
            if identity is not None:
                asked = Asked(account.id, f"sts:{action}", "*", context, identity.arn)
                if opinion(identity, asked).effect is Effect.DENY:
                    raise denied(identity, asked.action, "*", explicitly=True)
            return sts.get_session_token(call, self.sessions)

    async def _web_identity(self, request: Request, params: Params, now_ns: int) -> Result:
        """Nobody signs this: the token is the proof."""
        context = request_context(request, None, now_ns / 1e9)
        with self._store.view("") as view:
            call = Call(view, params, _NOBODY, now_ns, self._entropy)
        return await web_identity.assume_role_with_web_identity(
            call, context, self._store, self.sessions, self._issuers
        )

    def _prove(self, request: Request, body: bytes, service: str, now: float) -> Credential:
        """Who signed. Raises IamError."""
        signature, digest = self._signatures[service], sha256(body).hexdigest()
        try:
            if "authorization" in request.headers:
                return signature.verify_header(request, now, digest).credential
            if "X-Amz-Signature" in request.query:
                return signature.verify_query(request, now, digest).credential
        except StoreError as problem:
            renamed = _RENAMED.get(type(problem))
            if renamed is not None:
                raise renamed from None
            raise errors.IncompleteSignature(problem.text) from None
        raise errors.MissingAuthenticationToken


async def _read(request: Request) -> tuple[dict[str, str], bytes]:
    """(parameters, body). Raises MalformedQuery, MissingAction."""
    body = bytearray()
    more = request.method == "POST"
    while more:
        message = await request.receive()
        if message["type"] != "http.request":
            raise errors.MalformedQuery("The request ended early.")
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > FORM_MAX:
            raise errors.MalformedQuery("The request is too long.")
    if body and request.headers.get("content-type", "").partition(";")[0].strip() != _FORM:
        raise errors.MalformedQuery(f"The request is not {_FORM}.")
    form = dict(request.query)
    for name, value in parse_form(bytes(body)).items():
        if name in form:
            raise errors.MalformedQuery("A parameter is given twice.")
        form[name] = value
    if not form.get("Action"):
        raise errors.MissingAction
    return form, bytes(body)


def _service_of(form: Mapping[str, str]) -> str:
    """By Version; without one by who has the operation. Raises InvalidAction."""
    version = form.get("Version", sts.VERSION if form["Action"] in _STS_ACTIONS else VERSION)
    if version not in _VERSIONS:
        raise errors.InvalidAction(
            f"Could not find operation {form['Action'][:64]} for version {version[:64]}"
        )
    return _VERSIONS[version]


def _authorize(call: Call, request: Request, action: str, operation: Operation) -> None:
    """Raises NotAuthorized unless the account itself asks, or the policies of who asks allow it."""
    identity = call.caller.identity
    if identity is None:
        return
    resource = operation.resource(call)
    context = request_context(request, call.caller.account, call.now_ns / 1e9, identity)
    asked = Asked(call.account, action, resource, context, identity.arn, identity.role)
    own = opinion(identity, asked)
    if own.effect is Effect.ALLOW and own.within:
        return
    raise denied(identity, action, resource, explicitly=own.effect is Effect.DENY)


def denied(
    identity: Identity | None, action: str, resource: str, *, explicitly: bool = False
) -> errors.NotAuthorized:
    """AccessDenied in AWS's words."""
    who = "anonymous" if identity is None else identity.arn
    why = "with an explicit deny" if explicitly else (
        f"because no identity-based policy allows the {action} action"
    )  # fmt: skip
    return errors.NotAuthorized(
        f"User: {who} is not authorized to perform: {action} on resource: {resource} {why}"
    )

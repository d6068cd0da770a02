"""IAM and STS as bytes: forms, queries, signatures, errors, garbage."""

import random
from collections.abc import AsyncIterator
from typing import Any
from unittest.mock import patch
from urllib.parse import urlencode
from xml.etree.ElementTree import fromstring

import botocore.session
import pytest
from botocore.auth import SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import StoreError
from gateway.iam.errors import MalformedQuery, ValidationError
from gateway.iam.face import IamFace
from gateway.iam.issuers import FetchFailed, Issuers
from gateway.iam.operations import OPERATIONS
from gateway.iam.params import FIELDS_MAX, FORM_MAX, Params, parse_form
from gateway.iam.reply import Entries, document
from gateway.model import Credential
from gateway.s3.app import S3App
from tests.protocol.s3_asgi import HOST, Answer, FixedClock, call, moment, signed_call
from tests.unit.object_parts import World

FORM = "application/x-www-form-urlencoded; charset=utf-8"
VERSIONS = {"iam": "2010-05-08", "sts": "2011-06-15"}


class Asker:
    """An application, and a root account that signs."""

    def __init__(self, app: S3App, root: Credential) -> None:
        self.app = app
        self.root = root

    def sign(self, service: str, body: bytes, **headers: str) -> dict[str, str]:
        request = AWSRequest(
            "POST", f"http://{HOST}/", {"Host": HOST, "Content-Type": FORM} | headers, body
        )
        credentials = Credentials(self.root.access_key, self.root.secret_key)
        with patch("botocore.auth.get_current_datetime", lambda: moment()):
            SigV4Auth(credentials, service, "us-east-1").add_auth(request)
        given = {name.lower(): str(value) for name, value in request.headers.items()}
        return given | {"content-length": str(len(body))}

    async def ask(self, service: str, action: str, **parameters: str) -> Answer:
        form = {"Action": action, "Version": VERSIONS[service]} | parameters
        body = urlencode(form).encode()
        return await call(self.app, "POST", "/", self.sign(service, body), [body])


@pytest.fixture
async def asker() -> AsyncIterator[Asker]:
    world = World()
    root = await world.accounts.create("Ann", id="ann-id")
    clock = FixedClock()

    async def fetch(url: str) -> bytes:
        raise FetchFailed(url)

    face = IamFace(
        world.catalog, world.accounts.credential, token_key=bytes(32),
        issuers=Issuers(fetch, clock), clock=clock, entropy=random.Random(3).randbytes,
    )  # fmt: skip
    app = S3App(world.objects, world.accounts.credential, clock=clock, iam=face)
    yield Asker(app, root)
    world.objects.close()


async def test_a_reply_is_the_protocols_xml(asker: Asker) -> None:
    answer = await asker.ask("iam", "CreateUser", UserName="ann")
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/xml"
    tree = fromstring(answer.body)
    space = "{https://iam.amazonaws.com/doc/2010-05-08/}"
    assert tree.tag == f"{space}CreateUserResponse"
    arn = tree.find(f"{space}CreateUserResult/{space}User/{space}Arn")
    assert arn is not None
    assert arn.text == "arn:aws:iam::ann-id:user/ann"
    request_id = tree.find(f"{space}ResponseMetadata/{space}RequestId")
    assert request_id is not None
    assert request_id.text == answer.headers["x-amzn-requestid"]
    nothing = await asker.ask("iam", "DeleteUser", UserName="ann")
    assert b"Result>" not in nothing.body


async def test_an_error_is_the_protocols_xml(asker: Asker) -> None:
    answer = await asker.ask("iam", "GetUser", UserName="no<body&")
    assert answer.status == 400
    tree = fromstring(answer.body)
    space = "{https://iam.amazonaws.com/doc/2010-05-08/}"
    found = {one: tree.findtext(f"{space}Error/{space}{one}") for one in ("Type", "Code")}
    assert found == {"Type": "Sender", "Code": "ValidationError"}
    sts = await asker.ask("sts", "AssumeRole")
    assert b"https://sts.amazonaws.com/doc/2011-06-15/" in sts.body


async def test_both_services_answer_get_too(asker: Asker) -> None:
    url = f"http://{HOST}/?Action=GetCallerIdentity&Version=2011-06-15"
    request = AWSRequest("GET", url, {"Host": HOST})
    credentials = Credentials(asker.root.access_key, asker.root.secret_key)
    with patch("botocore.auth.get_current_datetime", lambda: moment()):
        SigV4QueryAuth(credentials, "sts", "eu-west-1", expires=60).add_auth(request)
    target = request.url.partition(HOST)[2]
    assert b"arn:aws:iam::ann-id:root" in (await call(asker.app, "GET", target)).body
    changed = target.replace("GetCallerIdentity", "GetSessionToken")
    assert (await call(asker.app, "GET", changed)).code == "SignatureDoesNotMatch"


async def test_who_does_not_sign_for_the_service_is_refused(asker: Asker) -> None:
    body = urlencode({"Action": "ListUsers", "Version": "2010-05-08"}).encode()
    plain = {"content-type": FORM, "content-length": str(len(body))}
    unsigned = await call(asker.app, "POST", "/", plain, [body])
    assert (unsigned.status, unsigned.code) == (403, "MissingAuthenticationToken")
    other = await call(asker.app, "POST", "/", asker.sign("s3", body), [body])
    assert (other.status, other.code) == (400, "IncompleteSignature")
    signed = asker.sign("iam", body)
    stranger = signed | {"authorization": signed["authorization"].replace("AKIA", "AKIB")}
    refused = await call(asker.app, "POST", "/", stranger, [body])
    assert (refused.status, refused.code) == (403, "InvalidClientTokenId")
    changed = body.replace(b"ListUsers", b"ListRoles")
    assert (await call(asker.app, "POST", "/", signed, [changed])).code == "SignatureDoesNotMatch"
    assert (await call(asker.app, "POST", "/", signed, [body])).status == 200
    old = signed | {"x-amz-date": "20200101T000000Z"}
    assert (await call(asker.app, "POST", "/", old, [body])).status in (400, 403)


async def test_a_key_of_the_services_signature_is_no_key_to_s3(asker: Asker) -> None:
    body = b"Action=ListUsers&Version=2010-05-08"
    signed = asker.sign("iam", body)
    assert (await call(asker.app, "PUT", "/bucket", signed, [body])).code == (
        "AuthorizationHeaderMalformed"
    )
    anonymous = await call(asker.app, "GET", "/")
    assert (anonymous.status, anonymous.code) == (403, "AccessDenied")


@pytest.mark.parametrize("service", ["iam", "sts"])
async def test_every_operation_of_the_model_is_served_or_refused(
    asker: Asker, service: str
) -> None:
    model = botocore.session.get_session().get_service_model(service)
    names = set(model.operation_names)
    assert service != "iam" or names >= OPERATIONS.keys()
    for name in sorted(names):
        answer = await asker.ask(service, name)
        assert answer.status in (200, 400, 403, 404, 409), name
        assert fromstring(answer.body).tag.endswith("Response"), name
    for name in ("", "Nothing", "listusers", "ListUsers "):
        assert (await asker.ask(service, name)).code in ("InvalidAction", "MissingAction")
    wrong = await asker.ask("iam", "ListUsers", Version="2020-01-01")
    assert wrong.code == "InvalidAction"


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"Action=%", FORM), (b"Action=ListUsers&Action=ListRoles", FORM), (b"\xff=\xfe", FORM),
        (b"Action=ListUsers&x=%ff", FORM), (b"Action=ListUsers", "application/json"),
        (b"a=1&" * 2000 + b"Action=ListUsers", FORM), (b"A" * (FORM_MAX + 1), FORM), (b"", FORM),
    ],
    ids=["percent", "twice", "bytes", "not UTF-8", "json", "many", "long", "empty"],
)  # fmt: skip
async def test_forms_that_cannot_be_read(asker: Asker, body: bytes, content_type: str) -> None:
    headers = {"content-type": content_type, "content-length": str(len(body))}
    answer = await call(asker.app, "POST", "/", headers, [body] if body else [])
    assert answer.status in (400, 403)
    assert answer.code in ("MalformedQueryString", "MissingAction", "InvalidAction")


async def test_seeded_garbage_is_always_answered(asker: Asker) -> None:
    chance = random.Random(11)
    names = [*OPERATIONS, "AssumeRole", "AssumeRoleWithWebIdentity", "GetSessionToken"]
    fields = [
        "UserName",
        "GroupName",
        "RoleName",
        "PolicyName",
        "PolicyArn",
        "PolicyDocument",
        "Path",
        "Marker",
        "MaxItems",
        "Url",
        "Tags.member.1.Key",
        "Tags.member.9999.Value",
        "RoleArn",
        "RoleSessionName",
        "WebIdentityToken",
        "DurationSeconds",
        "AccessKeyId",
        "OpenIDConnectProviderArn",
        "AssumeRolePolicyDocument",
        "Tags.member",
        "Tags.member.x",
        "ClientIDList.member.1",
        "VersionId",
        "TagKeys.member.1",
        "PolicyArns.member.1.arn",
    ]
    values = [
        "", "a", "\0", "é", "a" * 3000, "-1", "1e9", "999999999999", "{}", '{"Statement":1}', "/",
        "arn:aws:iam::ann-id:user/x", "arn:aws:iam::aws:policy/AmazonS3FullAccess", "//", "A.B.C",
        "arn:aws:iam::ann-id:role/x", "http://[::", "http://x:99999/", "\ud7ff", "\uffff",
    ]  # fmt: skip
    for turn in range(400):
        action = chance.choice(names)
        service = "iam" if action in OPERATIONS else "sts"
        chosen = chance.sample(fields, chance.randrange(1, 8))
        given = {name: chance.choice(values) for name in chosen}
        answer = await asker.ask(service, action, **given)
        assert 200 <= answer.status < 500, (turn, action, given, answer.body)
        fromstring(answer.body)
    assert (await asker.ask("iam", "ListUsers")).status == 200


# ------------------------------------------------------------------ parameters
@given(st.binary(max_size=300))
def test_any_bytes_are_a_form_or_refused(data: bytes) -> None:
    try:
        form = parse_form(data)
    except MalformedQuery:
        return
    assert len(form) <= FIELDS_MAX
    params = Params(form)
    for name in (*form, "Tags"):
        try:
            params.structures(name)
            params.strings(name)
            params.number(name, 1, least=0, most=9)
        except ValidationError:
            continue


@given(st.dictionaries(st.text(min_size=1), st.text()))
def test_a_form_comes_back(form: dict[str, str]) -> None:
    assert parse_form(urlencode(form).encode()) == form


def test_lists_are_in_the_order_of_their_numbers() -> None:
    params = Params({"L.member.10": "c", "L.member.2": "b", "L.member.1": "a", "L.x": "no",
                     "T.member.1.Key": "k", "T.member.1.Value": "v"})  # fmt: skip
    assert params.strings("L") == ["a", "b", "c"]
    assert params.structures("T") == [{"Key": "k", "Value": "v"}]


def test_texts_maps_and_lists_are_written_as_data() -> None:
    result: dict[str, Any] = {"A": "<&>", "B": [1, {"C": True}], "D": None, "E": Entries({"k": 2})}
    tree = fromstring(document("iam", "Do", result, "id"))
    space = "{https://iam.amazonaws.com/doc/2010-05-08/}"
    inner = tree[0]
    assert [one.tag.removeprefix(space) for one in inner] == ["A", "B", "E"]
    assert inner[0].text == "<&>"
    assert [one.tag.removeprefix(space) for one in inner[1]] == ["member", "member"]
    assert inner[2][0][1].text == "2"


async def test_a_failure_of_ours_is_not_told(
    asker: Asker, caplog: pytest.LogCaptureFixture
) -> None:
    with patch.dict(OPERATIONS, {"ListUsers": None}):
        answer = await asker.ask("iam", "ListUsers")
    assert answer.code in ("InvalidAction", "InternalFailure")
    broken = OPERATIONS["ListUsers"]

    def fails(_: Any) -> Any:
        raise RuntimeError("secret detail")

    with patch.dict(OPERATIONS, {"ListUsers": type(broken)(fails, broken.resource)}):
        answer = await asker.ask("iam", "ListUsers")
    assert (answer.status, answer.code) == (500, "InternalFailure")
    assert b"secret detail" not in answer.body
    assert "secret detail" in caplog.text
    assert issubclass(MalformedQuery, StoreError)


async def test_s3_goes_on_next_to_it(asker: Asker) -> None:
    answer = await signed_call(asker.app, "GET", "/")
    assert answer.code == "InvalidAccessKeyId", "its accounts are others"

"""Lifecycle configurations: every form of a rule, S3's refusals, and what no document may do."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import InvalidArgument, InvalidRequest, InvalidStorageClass, StoreError
from gateway.lifecycle.rules import DAY_NS, Lifecycle, kept_lifecycle
from gateway.s3.errors import MalformedXML
from gateway.s3.lifecycle import lifecycle_document, parse_lifecycle

EXPIRES = "<Expiration><Days>3</Days></Expiration>"
ABORTS = (
    "<AbortIncompleteMultipartUpload><DaysAfterInitiation>2</DaysAfterInitiation>"
    "</AbortIncompleteMultipartUpload>"
)


def rule(inner: str, where: str = "<Filter/>", status: str = "Enabled", name: str = "r") -> str:
    identifier = f"<ID>{name}</ID>" if name else ""
    return f"<Rule>{identifier}{where}<Status>{status}</Status>{inner}</Rule>"


def document(*rules: str) -> bytes:
    inner = "".join(rules)
    space = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
    return f"<LifecycleConfiguration {space}>{inner}</LifecycleConfiguration>".encode()


def parsed(*rules: str) -> Lifecycle:
    return kept_lifecycle(parse_lifecycle(document(*rules)))


def moved(inner: str) -> str:
    return f"<Transition>{inner}<StorageClass>STANDARD_IA</StorageClass></Transition>"


def where(inner: str) -> str:
    return f"<Filter>{inner}</Filter>"


TAG = "<Tag><Key>k</Key><Value>v</Value></Tag>"
PREFIX = "<Prefix>a/&amp;</Prefix>"
ABOVE, BELOW = (
    "<ObjectSizeGreaterThan>0</ObjectSizeGreaterThan>",
    "<ObjectSizeLessThan>9</ObjectSizeLessThan>",
)
FILTERS = [
    "<Filter/>", "<Prefix></Prefix>", "<Prefix>p</Prefix>", where(PREFIX), where(TAG),
    where("<Prefix></Prefix>"), where(PREFIX + TAG), where(PREFIX + ABOVE + BELOW),
    where(f"{PREFIX}<And><Prefix>a</Prefix>{TAG}</And>"),
    where(ABOVE), where(BELOW), where(f"<And>{PREFIX}{TAG}</And>"),
    where(f"<And><Prefix></Prefix>{ABOVE}</And>"),
    where(f"<And>{TAG}<Tag><Key>other</Key><Value></Value></Tag>{ABOVE}{BELOW}</And>"),
]  # fmt: skip
ACTIONS = [
    EXPIRES,
    "<Expiration><Date>2030-01-01T00:00:00.000Z</Date></Expiration>",
    EXPIRES + moved("<Days>0</Days>"),
    moved("<Date>2029-01-01T00:00:00.000Z</Date>"),
    "<NoncurrentVersionExpiration><NoncurrentDays>1</NoncurrentDays></NoncurrentVersionExpiration>",
    "<NoncurrentVersionTransition><NoncurrentDays>0</NoncurrentDays>"
    "<StorageClass>wide</StorageClass></NoncurrentVersionTransition>",
]


@pytest.mark.parametrize("chosen", FILTERS)
@pytest.mark.parametrize("action", ACTIONS)
def test_what_is_put_is_what_is_got(chosen: str, action: str) -> None:
    for status in ("Enabled", "Disabled"):
        got = lifecycle_document(parse_lifecycle(document(rule(action, chosen, status))))
        assert rule(action, chosen, status) in got.decode()
        assert lifecycle_document(parse_lifecycle(got)) == got


def test_a_date_is_one_of_iso_8601_at_midnight() -> None:
    for text in ("2030-01-01", "2030-01-01T00:00:00Z", "2030-01-01T02:00+02:00"):
        [found] = parsed(rule(f"<Expiration><Date>{text}</Date></Expiration>")).rules
        assert found.expiration is not None
        assert found.expiration.date_ns == 21_915 * DAY_NS
    for text in ("2030-01-01T12:00:00Z", "1970-08-22T19:08:21Z", "2030-01-01T00:00:00.000001Z"):
        with pytest.raises(InvalidArgument, match="'Date' must be at midnight GMT"):
            parsed(rule(f"<Expiration><Date>{text}</Date></Expiration>"))
        with pytest.raises(InvalidArgument, match="'Date' must be at midnight GMT"):
            parsed(rule(moved(f"<Date>{text}</Date>")))
    for text in ("", "Fri, 01 Jan 2016 00:00:00 GMT", "2030-13-01", "20300101", "2030-02-30"):
        with pytest.raises(MalformedXML):
            parsed(rule(f"<Expiration><Date>{text}</Date></Expiration>"))


def test_rules_without_an_id_get_one_each_and_keep_it() -> None:
    found = parsed(rule(EXPIRES, name=""), rule(EXPIRES, name=""), rule(ABORTS, name=""))
    names = [each.id for each in found.rules]
    assert len(set(names)) == 3
    assert all(len(name) == 48 for name in names)
    again = parsed(rule(EXPIRES, name=""), rule(EXPIRES, name=""), rule(ABORTS, name=""))
    assert [each.id for each in again.rules] == names


MALFORMED = [
    rule(EXPIRES, status="enabled"), rule(EXPIRES, status=""), rule(EXPIRES, status="Invalid"),
    rule(EXPIRES, where=""), rule(EXPIRES, where="<Prefix/><Filter/>"),
    rule(EXPIRES, where=where(PREFIX + PREFIX)), rule(EXPIRES, where=where(TAG + TAG)),
    rule(EXPIRES, where=where(f"<And>{PREFIX}</And>")), rule(EXPIRES, where=where("<And/>")),
    rule(EXPIRES, where=where(f"{PREFIX}<And>{PREFIX}</And>")),
    rule(EXPIRES, where=where("<Tag><Value>v</Value></Tag><Tag/>")),
    rule("<Expiration/>"), rule("<Expiration><Days>1.5</Days></Expiration>"),
    rule("<Expiration><Days>99999999999</Days></Expiration>"),
    rule("<Expiration><Days>1</Days><Date>2030-01-01</Date></Expiration>"),
    rule("<Expiration><Days>1</Days><ExpiredObjectDeleteMarker>true</ExpiredObjectDeleteMarker>"
         "</Expiration>"),
    rule("<Expiration><ExpiredObjectDeleteMarker>maybe</ExpiredObjectDeleteMarker></Expiration>"),
    rule(EXPIRES + EXPIRES), rule(EXPIRES + "<Unknown/>"),
    rule("<NoncurrentVersionExpiration/>"),
    rule("<NoncurrentVersionExpiration><NewerNoncurrentVersions>3</NewerNoncurrentVersions>"
         "</NoncurrentVersionExpiration>"),
    rule("<AbortIncompleteMultipartUpload/>"), rule(moved("")),
    rule(moved("<Days>1</Days><Date>2030-01-01</Date>")),
    rule("<Transition><Days>1</Days></Transition>"),
    rule("<Transition><Days>1</Days><StorageClass>NONE_SUCH</StorageClass></Transition>"),
    "<Other/>", "",
]  # fmt: skip


@pytest.mark.parametrize("text", MALFORMED)
def test_what_the_schema_has_no_place_for_is_malformed(text: str) -> None:
    with pytest.raises(MalformedXML):
        parsed(text)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ([rule(EXPIRES, name="x" * 256)], "ID length should not exceed allowed limit of 255"),
        ([rule(EXPIRES), rule(ABORTS)], "Rule ID must be unique"),
        (["<Rule><Filter/><Status>Enabled</Status><Expiration><Days>0</Days></Expiration></Rule>"],
         "'Days' for Expiration action must be a positive integer"),
        ([rule("<Expiration><Days>-1</Days></Expiration>")], "must be a positive integer"),
        ([rule("<NoncurrentVersionExpiration><NoncurrentDays>0</NoncurrentDays>"
               "</NoncurrentVersionExpiration>")],
         "'NoncurrentDays' for NoncurrentVersionExpiration action must be a positive integer"),
        ([rule(ABORTS.replace("2", "0"))], "'DaysAfterInitiation' for AbortIncompleteMultipart"),
        ([rule(moved("<Days>-1</Days>"))], "'Days' in Transition action"),
        ([rule(moved("<Days>3</Days>") + EXPIRES)], "must be greater than 'Days' in the Trans"),
        ([rule(moved("<Days>1</Days>") + moved("<Days>2</Days>"))],
         "'StorageClass' must be different for 'Transition' actions in same 'Rule' with filter "
         "'(prefix=)'"),
    ],
)  # fmt: skip
def test_values_that_cannot_be_are_invalid_arguments(texts: list[str], message: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        parsed(*texts)
    assert message in refused.value.text


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ([rule("")], "At least one action needs to be specified in a rule"),
        ([rule(ABORTS, where(TAG))], "AbortIncompleteMultipartUpload cannot be specified with Tag"),
        ([rule(ABORTS, where(BELOW))],
         "AbortIncompleteMultipartUpload cannot be specified with Object Size."),
        ([rule("<Expiration><ExpiredObjectDeleteMarker>false</ExpiredObjectDeleteMarker>"
               "</Expiration>", where(ABOVE))],
         "ExpiredObjectDeleteMarker cannot be specified with Object Size."),
        ([rule(EXPIRES, where(f"<And>{TAG}{TAG}</And>"))], "Duplicate Tag Keys are not allowed."),
        ([rule(EXPIRES, where("<ObjectSizeLessThan>0</ObjectSizeLessThan>"))],
         "'ObjectSizeLessThan' should be between 1 and 1099511627776000."),
        ([rule(EXPIRES, where(f"<And>{ABOVE.replace('0', '9')}{BELOW}</And>"))],
         "'ObjectSizeLessThan' has to be a value greater than 'ObjectSizeGreaterThan'."),
        ([rule(EXPIRES, "<Prefix>a</Prefix>"), rule(EXPIRES, name="s")],
         "Filter element can only be used in Lifecycle V2."),
        ([rule(EXPIRES), rule(EXPIRES, "<Prefix/>", name="s")], "Base level prefix cannot be used"),
        ([rule(EXPIRES, "<Prefix/>"), rule(EXPIRES, "<Prefix>a</Prefix>", name="s")],
         "Found overlapping prefixes '' and 'a' for same action type 'Expiration'"),
        ([rule(moved("<Date>2029-01-01</Date>") + EXPIRES)], "Found mixed 'Date' and 'Days' based"),
        ([rule("<NoncurrentVersionExpiration><NoncurrentDays>1</NoncurrentDays>"
               "<NewerNoncurrentVersions>1</NewerNoncurrentVersions>"
               "</NoncurrentVersionExpiration>", "<Prefix/>")],
         "NewerNoncurrentVersions element can only be used in Lifecycle V2."),
        ([rule(EXPIRES, name=str(n)) for n in range(1001)],
         "The number of lifecycle rules must not exceed the allowed limit of 1000 rules."),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_an_invalid_request(texts: list[str], message: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parsed(*texts)
    assert message in refused.value.text


def test_a_thousand_rules_are_kept() -> None:
    assert len(parsed(*[rule(EXPIRES, name=str(n)) for n in range(1000)]).rules) == 1000


def test_old_prefixes_may_overlap_for_other_actions() -> None:
    assert parsed(rule(EXPIRES, "<Prefix/>"), rule(ABORTS, "<Prefix>a</Prefix>", name="s"))


@pytest.mark.parametrize("name", ["GLACIER", "DEEP_ARCHIVE"])
def test_classes_that_need_a_restore_are_refused_with_the_reason(name: str) -> None:
    with pytest.raises(InvalidStorageClass, match="restored"):
        parsed(rule(moved("<Days>1</Days>").replace("STANDARD_IA", name)))


@given(st.data())
def test_no_document_does_anything_but_parse_or_be_refused(data: st.DataObject) -> None:
    """Valid documents with pieces swapped, cut out and doubled; what parses can be said again."""
    seed = data.draw(st.integers(0, 1 << 32))
    chance = random.Random(seed)
    texts = [
        rule(chance.choice(ACTIONS), chance.choice(FILTERS), name=str(n))
        for n in range(chance.randrange(1, 4))
    ]
    pieces = document(*texts).decode().replace(">", ">\0").split("\0")
    for _ in range(chance.randrange(4)):
        at, other = chance.randrange(len(pieces)), chance.randrange(len(pieces))
        match chance.randrange(3):
            case 0:
                pieces[at], pieces[other] = pieces[other], pieces[at]
            case 1:
                pieces[at] = data.draw(st.text(max_size=8))
            case _:
                pieces.insert(at, pieces[other])
    raw = "".join(pieces).encode("utf-8", "surrogatepass")
    try:
        stored = parse_lifecycle(raw)
    except StoreError:
        return
    again = parse_lifecycle(lifecycle_document(stored))
    assert kept_lifecycle(again) == kept_lifecycle(stored), seed

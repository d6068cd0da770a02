"""Storage classes as erasure profiles.

`STANDARD` and AWS's other classes of immediate access mean the bucket's (or network's) profile:
they promise a price, not a code. `cess`, `standard`, `wide`, `small` and `mirror` name a profile.
Classes that need a restore before reading (ARCHIVES) are refused rather than faked.
"""

from gateway.errors import InvalidStorageClass

_DEFAULT = (
    "STANDARD",
    "STANDARD_IA",
    "ONEZONE_IA",
    "REDUCED_REDUNDANCY",
    "INTELLIGENT_TIERING",
    "GLACIER_IR",
)
ARCHIVES = frozenset({"GLACIER", "DEEP_ARCHIVE"})
_PROFILES = ("cess", "standard", "wide", "small", "mirror")
_PROFILE_OF = {
    **dict.fromkeys(_DEFAULT, ""),
    **{name: name for name in _PROFILES},
    **{name.upper(): name for name in _PROFILES if name != "standard"},
}


def profile_of(storage_class: str | None) -> str:
    """The profile's name, "" for the default. Raises InvalidStorageClass."""
    if storage_class is None:
        return ""
    profile = _PROFILE_OF.get(storage_class)
    if profile is None:
        raise InvalidStorageClass(StorageClassRequested=storage_class)
    return profile

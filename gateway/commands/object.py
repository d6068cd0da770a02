"""`cumulus object …`: copy, list, remove, import, certify."""

import argparse
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from gateway.commands.failures import Failed, WrongUse
from gateway.commands.options import Parsers, action, group
from gateway.commands.progress import Progress
from gateway.commands.s3 import delete_prefix, list_keys, parse_url, s3_errors
from gateway.commands.session import network_of, s3_client, show, size_text, table


def add(parsers: Parsers) -> None:
    """Declare the commands."""
    actions = group(
        parsers,
        "object",
        "copy, list, remove, import, certify objects",
        "cumulus object ls s3://photos/",
    )
    parser = action(
        actions, "cp", copy, "copy files and objects",
        "cumulus object cp --recursive ./pictures s3://photos/2026/",
    )  # fmt: skip
    parser.add_argument("source", metavar="SOURCE", help="a path or s3://BUCKET/KEY")
    parser.add_argument("target", metavar="TARGET", help="a path or s3://BUCKET/KEY")
    parser.add_argument("--recursive", "-r", action="store_true", help="whole directories")
    parser = action(actions, "ls", list_all, "list objects", "cumulus object ls s3://photos/2026/")
    parser.add_argument("url", metavar="s3://BUCKET/PREFIX")
    parser = action(
        actions, "rm", remove, "remove objects", "cumulus object rm s3://photos/old/ --recursive"
    )
    parser.add_argument("url", metavar="s3://BUCKET/KEY")
    parser.add_argument("--recursive", "-r", action="store_true", help="everything below it")
    from gateway.commands.certificate import add_certificate
    from gateway.commands.importing import add_import

    add_import(actions)
    add_certificate(actions)


def copy(options: argparse.Namespace) -> int:
    """Copy up, down or across."""
    up, down = not _remote(options.source), not _remote(options.target)
    if up and down:
        raise WrongUse("one side must be s3://BUCKET/KEY")
    with s3_errors():
        client = s3_client(network_of(options))
        if up:
            jobs = list(_uploads(options))
        elif down:
            jobs = list(_downloads(client, options))
        else:
            return _across(client, options)
        _transfer(client, jobs, upload=up)
    size = sum(job[3] for job in jobs)
    plain = {"objects": len(jobs), "bytes": size}
    return show(options, plain, lambda: f"copied {len(jobs)} ({size_text(size)})")


def _remote(word: str) -> bool:
    return word.startswith("s3://")


# (local path, bucket, key, bytes)
Job = tuple[Path, str, str, int]


def _uploads(options: argparse.Namespace) -> Iterator[Job]:
    source = Path(options.source)
    bucket, key = parse_url(options.target)
    if source.is_dir():
        if not options.recursive:
            raise WrongUse(f"{source} is a directory: say --recursive")
        base = key if not key or key.endswith("/") else key + "/"
        for path in sorted(p for p in source.rglob("*") if p.is_file()):
            name = base + path.relative_to(source).as_posix()
            yield path, bucket, name, path.stat().st_size
    elif source.is_file():
        name = key + source.name if not key or key.endswith("/") else key
        yield source, bucket, name, source.stat().st_size
    else:
        raise Failed(f"{source}: no such file")


def _downloads(client: Any, options: argparse.Namespace) -> Iterator[Job]:
    bucket, key = parse_url(options.source)
    target = Path(options.target)
    if not options.recursive:
        size = client.head_object(Bucket=bucket, Key=key)["ContentLength"]
        path = target / PurePosixPath(key).name if target.is_dir() else target
        yield path, bucket, key, size
        return
    base = key if not key or key.endswith("/") else key + "/"
    for item in list_keys(client, bucket, base):
        inner = item["Key"].removeprefix(base)
        if not inner or inner.endswith("/"):
            continue
        yield _inside(target, inner), bucket, item["Key"], item["Size"]


def _inside(folder: Path, name: str) -> Path:
    """The path of a key below a folder; a key never leads out of it."""
    parts = name.split("/")
    if any(part in ("", ".", "..") or "\0" in part for part in parts):
        raise Failed(f"key {name!r} is no path below {folder}; copy it by itself")
    return folder.joinpath(*parts)


def _transfer(client: Any, jobs: list[Job], *, upload: bool) -> None:
    with Progress(sum(job[3] for job in jobs)) as progress:
        for path, bucket, key, _ in jobs:
            progress.name(key)
            if upload:
                client.upload_file(str(path), bucket, key, Callback=progress.advance)
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                client.download_file(bucket, key, str(path), Callback=progress.advance)


def _across(client: Any, options: argparse.Namespace) -> int:
    if options.recursive:
        raise WrongUse("--recursive copies between a directory and a bucket")
    bucket, key = parse_url(options.source)
    to_bucket, to_key = parse_url(options.target)
    to_key = to_key + PurePosixPath(key).name if not to_key or to_key.endswith("/") else to_key
    client.copy({"Bucket": bucket, "Key": key}, to_bucket, to_key)
    return show(options, {"objects": 1}, lambda: f"copied to s3://{to_bucket}/{to_key}")


def list_all(options: argparse.Namespace) -> int:
    """Print the objects below a prefix."""
    bucket, prefix = parse_url(options.url)
    with s3_errors():
        found = list(list_keys(s3_client(network_of(options)), bucket, prefix))
    plain = [
        {
            "key": item["Key"],
            "size": item["Size"],
            "modified": item["LastModified"].isoformat(),
            "etag": item["ETag"].strip('"'),
        }
        for item in found
    ]
    rows: list[tuple[object, ...]] = [(p["modified"], p["size"], p["key"]) for p in plain]
    return show(options, plain, lambda: table(("MODIFIED", "BYTES", "KEY"), rows))


def remove(options: argparse.Namespace) -> int:
    """Remove one object, or everything below a prefix."""
    bucket, key = parse_url(options.url)
    if not key and not options.recursive:
        raise WrongUse("name a key, or say --recursive for the whole bucket")
    with s3_errors():
        client = s3_client(network_of(options))
        if options.recursive:
            count = delete_prefix(client, bucket, key)
        else:
            client.delete_object(Bucket=bucket, Key=key)
            count = 1
    return show(options, {"objects": count}, lambda: f"removed {count}")

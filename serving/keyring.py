"""The file of keys that a service lets clients in by (--keys, or INPFORMER_KEYS). It holds hashes alone.

python -m serving.keyring add FILE NAME [--line press-2] [--rate 20] [--days 90]
python -m serving.keyring list FILE
python -m serving.keyring remove FILE ID

`add` prints the key, which is kept nowhere: its client sends it as the header `Authorization: Bearer KEY`. Services see
a change within a second or two. To replace a key, add another under the same name, hand it out, and remove the old one.
"""

import argparse
import json
import os
import secrets
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path

from inpformer.errors import UserError
from serving.keys import Key, hashed, read_keys
from serving.locks import locked

MOST_DAYS = 36_500


def main() -> None:
    """Exits 1 with one sentence where the file cannot be read or written."""
    args = _arguments()
    try:
        if args.command == "list":
            _list(read_keys(args.file))
            return
        with _changed(args.file) as keys:
            if args.command == "add":
                key = _add(keys, args)
            else:
                _remove(keys, args.id, args.file)
    except UserError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        sys.exit(f"error: {args.file} cannot be written ({error.strerror}): name a file in a folder of yours.")
    if args.command == "add":
        print(key)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    add, listing, remove = (commands.add_parser(name) for name in ("add", "list", "remove"))
    for each in (add, listing, remove):
        each.add_argument("file", type=Path)
    add.add_argument("name", help="whose it is, for people")
    add.add_argument("--line", help="the only line that it is for")
    add.add_argument("--rate", type=float, help="pictures a second, of each ingress replica (default: no limit)")
    add.add_argument("--days", type=float, help="until it expires (default: never)")
    remove.add_argument("id", help="as `list` shows it")
    args = parser.parse_args()
    if args.command == "add" and args.days is not None and not 0 < args.days <= MOST_DAYS:
        parser.error(f"--days is {args.days:g}: it must be above 0, and at most {MOST_DAYS}")
    return args


def _add(keys: dict[str, Key], args: argparse.Namespace) -> str:
    id = secrets.token_hex(6)
    key = f"inp_{id}_{secrets.token_urlsafe(32)}"
    end = None if args.days is None else (datetime.now(UTC) + timedelta(days=args.days)).isoformat(timespec="seconds")
    keys[id] = Key(id, args.name, hashed(key), args.line, args.rate, end)
    return key


def _remove(keys: dict[str, Key], id: str, file: Path) -> None:
    if id not in keys:
        raise UserError(f"{file} has no key {id}: `python -m serving.keyring list {file}` shows those that it has.")
    del keys[id]


def _list(keys: dict[str, Key]) -> None:
    now = datetime.now(UTC)
    for key in keys.values():
        said = [key.id, key.name]
        said += [f"line {key.line}"] if key.line else []
        said += [f"{key.rate:g} pictures/s"] if key.rate else []
        said += [f"{'expired' if key.is_over(now) else 'until'} {key.expires}"] if key.expires else []
        print("  ".join(said))


@contextmanager
def _changed(file: Path) -> Iterator[dict[str, Key]]:
    """The keys of a file, which may not be there yet; written whole afterwards, one process at a time."""
    with locked(file.parent):
        keys = read_keys(file) if file.exists() else {}
        yield keys
        unfinished = file.with_name(f".{file.name}.tmp")  # one name: what a killed process left is replaced
        unfinished.unlink(missing_ok=True)
        try:
            unfinished.touch(mode=0o600, exist_ok=False)
            with unfinished.open("w") as written:
                json.dump({"keys": [asdict(key) for key in keys.values()]}, written, indent=2)
                written.flush()
                os.fsync(written.fileno())
            if file.exists():
                shutil.copymode(file, unfinished)
            unfinished.replace(file)
        finally:
            unfinished.unlink(missing_ok=True)


if __name__ == "__main__":
    main()

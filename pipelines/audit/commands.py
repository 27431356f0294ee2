"""What `python -m pipelines.audit` does, once its arguments are known to be right."""

import json
import sys
from argparse import Namespace
from datetime import datetime

from inpformer.errors import UserError
from pipelines.audit.export import read_export, write_export
from pipelines.audit.history import champions_at
from pipelines.audit.verify import counted, unrecorded, verify_export, verify_record
from pipelines.platform.ledger import Held, Ledger
from pipelines.platform.params import read_section
from pipelines.record.chain import readable
from pipelines.record.steps import said
from pipelines.register.settings import RegisterSettings


def run(args: Namespace) -> None:
    """Exits 1 if something is not as it was written."""
    model_name = read_section("register", RegisterSettings).model_name
    ledger = ledger_of(model_name)
    held = ledger.read()
    if args.what == "verify":
        _verify(ledger, held, args)
    elif args.what == "since":
        _since(model_name, held, args.time)
    elif args.what == "export":
        write_export(held, args.file)
        print(f"{args.file}: {len(held.texts)} entries of the record of {model_name}")
    else:
        from pipelines.audit.decision import decision  # only here: it needs the models, and takes seconds

        entries = readable(held.texts)
        print(json.dumps(decision(model_name, entries, args.image, args.time, args.category), indent=2))


def ledger_of(model_name: str) -> Ledger:
    """Where the record is; nothing is written. Raises UserError if there is none."""
    ledger = Ledger.find(model_name)
    if ledger is None:
        raise UserError(
            f"{model_name} has no record yet: `dvc repro` registers a version, and `python -m pipelines.promote` "
            f"promotes one; both write the record."
        )
    return ledger


def _verify(ledger: Ledger, held: Held, args: Namespace) -> None:
    model_name = ledger.model_name
    if args.file is None:
        found = verify_record(ledger, held)
    else:
        exported = read_export(args.file)
        found = verify_export(model_name, exported, held)
    for fault in found:
        print(fault)
    if args.file is None and (without := unrecorded(model_name, readable(held.texts))):
        print(f"no entry says how these versions were made: {', '.join(without)}", file=sys.stderr)
    if found:
        print(f"{model_name}: {len(found)} faults; restore what was changed from a copy", file=sys.stderr)
        sys.exit(1)
    if args.file is not None:
        print(f"{args.file}: {len(exported.texts)} entries, all as they were written, and all in MLflow")
    else:
        entries, versions = counted(held)
        print(f"{model_name}: {entries} entries and the files of {versions} versions are as they were written")


def _since(model_name: str, held: Held, time: datetime) -> None:
    entries = readable(held.texts)
    then = champions_at(entries, time)
    for reign in then:
        since = f"since {reign.latest.isoformat()} at the latest: {said(reign.entry)}"
        print(f"{model_name} at {time.isoformat()}: version {reign.version or 'none'} was @champion, {since}")
    if not then:
        print(f"{model_name} at {time.isoformat()}: no champion, by the record")
    for entry in entries:
        if entry.time >= time:
            print(said(entry))

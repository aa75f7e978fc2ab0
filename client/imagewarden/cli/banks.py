"""`imagewarden bank` and `imagewarden hash`: what trust-and-safety teams keep."""

from __future__ import annotations

import dataclasses
import json
import sys
import tomllib
from pathlib import Path
from typing import Annotated, Any

import typer

from imagewarden import Action, Bank, Hash, ImageWardenError, Policy, SignalType, Threshold
from imagewarden.cli import preview
from imagewarden.cli.output import fail, print_json, print_table, progress
from imagewarden.cli.report import counted
from imagewarden.cli.state import complete_bank, shared
from imagewarden.cli.thresholds import Thresholds
from imagewarden.cli.thresholds import thresholds as thresholds_of
from imagewarden.cli.words import HashType, Kind

bank_app = typer.Typer(help="Make, list, change and delete banks.", no_args_is_help=True)
hash_app = typer.Typer(help="Ban or allow digests and PDQ hashes.", no_args_is_help=True)

BATCH = 10_000
_DIGESTS = frozenset({SignalType.SHA256, SignalType.SHA1, SignalType.MD5})

BankName = Annotated[str, typer.Argument(help="The bank's name.", autocompletion=complete_bank)]
Json = Annotated[bool, typer.Option("--json", help="Answer JSON.")]
FalsePositives = Annotated[
    int | None,
    typer.Option(
        min=0, help="Quarantine an entry at so many more false positives than confirmations; 0: never. Default: 3."
    ),
]
Flood = Annotated[
    int | None,
    typer.Option(
        min=0,
        help="Quarantine an entry that suddenly matches so many different pictures in ten minutes; 0: never. Default: "
        "100.",
    ),
]
Ratio = Annotated[
    float | None, typer.Option(min=0, max=1, help="Compare only this part of all pictures: the same ones each time.")
]


def _policy_file(path: Path) -> tuple[Action | None, tuple[Threshold, ...]]:
    """The action and the thresholds of a policy file: JSON, or TOML where its name ends so.

    It has `thresholds`, an object of signal to number or "off", and may have `action`; all else in it is for people.
    """
    text = path.read_text(encoding="utf-8")
    try:
        content = tomllib.loads(text) if path.suffix.lower() == ".toml" else json.loads(text)
        pairs = dict(content.get("thresholds", {}))
        action = None if content.get("action") is None else Action(content["action"])
        thresholds = tuple(
            Threshold(SignalType(signal), disabled=True)
            if value == "off"
            else Threshold(SignalType(signal), float(value))
            for signal, value in pairs.items()
        )
    except (AttributeError, TypeError, ValueError) as error:
        raise fail(
            f'{path} is no policy file ({error}); it is JSON or TOML with {{"thresholds": {{"pdq": 31, ...}}}}, as '
            "`imagewarden eval calibrate` writes it"
        ) from None
    if not thresholds and action is None:
        raise fail(f"{path} names neither thresholds nor an action")
    return action, thresholds


def _labels(texts: list[str] | None) -> dict[str, str] | None:
    if texts is None:
        return None
    pairs = dict(text.partition("=")[::2] for text in texts)
    return {key: value for key, value in pairs.items() if key}


def _enabled(bank: Bank) -> str:
    ratio = 1.0 if bank.policy.enabled_ratio is None else bank.policy.enabled_ratio
    return "no" if not bank.enabled else "yes" if ratio >= 1 else f"for {ratio * 100:g} % of pictures"


def _quarantine(bank: Bank) -> str:
    reports, flood = bank.policy.quarantine_false_positives, bank.policy.quarantine_flood
    said = [f"at {reports} more false positives"] if reports else []
    said += [f"at {flood} pictures in ten minutes"] if flood else []
    return ", ".join(said) or "never"


def _show(bank: Bank, *, as_json: bool) -> None:
    if as_json:
        print_json(bank)
        return
    rows: list[tuple[str, object]] = [
        ("name", bank.name),
        ("kind", bank.kind),
        ("display name", bank.display_name),
        ("action", bank.policy.action),
        ("enabled", _enabled(bank)),
        ("entries", bank.entry_count),
        ("quarantine", _quarantine(bank)),
        ("keeps images", "yes" if bank.keep_images else "no"),
        ("labels", ", ".join(f"{key}={value}" for key, value in bank.labels.items())),
        ("reports", counted(bank)),
        ("created", bank.create_time.isoformat(timespec="seconds")),
    ]
    rows += [
        (f"threshold {one.signal}", "off" if one.disabled else f"{one.value:g}")
        for one in bank.policy.thresholds
        if one.signal not in _DIGESTS or one.disabled
    ]
    print_table("", ("field", "value"), rows)


@bank_app.command("create")
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="a-z, 0-9 and '-', a letter first.")],
    kind: Annotated[Kind, typer.Option(help="What the bank is for.", case_sensitive=False)],
    display_name: Annotated[str, typer.Option(help="A name for people.")] = "",
    action: Annotated[Action | None, typer.Option(help="What a match asks for.", case_sensitive=False)] = None,
    threshold: Thresholds = None,
    enabled_ratio: Ratio = None,
    quarantine_false_positives: FalsePositives = None,
    quarantine_flood: Flood = None,
    label: Annotated[list[str] | None, typer.Option(help="key=value; may be given again.")] = None,
    keep_images: Annotated[bool, typer.Option("--keep-images", help="Keep the pictures of entries.")] = False,
    json_output: Json = False,
) -> None:
    """Make a bank."""
    options = shared(context)
    policy = Policy(action, thresholds_of(threshold or []), enabled_ratio, quarantine_false_positives, quarantine_flood)
    with options.client() as client:
        change = client.create_bank(
            name, kind, display_name=display_name, policy=policy, labels=_labels(label), keep_images=keep_images
        )
    _show(change.bank, as_json=options.json or json_output)


@bank_app.command("list")
def list_(context: typer.Context, json_output: Json = False) -> None:
    """List all banks."""
    options = shared(context)
    with options.client() as client:
        banks = list(client.list_banks())
    if options.json or json_output:
        for bank in banks:
            print_json(bank)
        return
    rows = [
        (
            bank.name.removeprefix("banks/"),
            bank.kind,
            bank.policy.action,
            bank.entry_count,
            _enabled(bank),
        )
        for bank in banks
    ]
    print_table("", ("bank", "kind", "action", "entries", "enabled"), rows)


@bank_app.command("show")
def show(context: typer.Context, name: BankName, json_output: Json = False) -> None:
    """Show one bank."""
    options = shared(context)
    with options.client() as client:
        _show(client.get_bank(name), as_json=options.json or json_output)


@bank_app.command("update")
def update(
    context: typer.Context,
    name: BankName,
    display_name: Annotated[str | None, typer.Option(help="A name for people.")] = None,
    action: Annotated[Action | None, typer.Option(help="What a match asks for.", case_sensitive=False)] = None,
    threshold: Thresholds = None,
    policy_file: Annotated[
        Path | None,
        typer.Option(help="A policy, as `eval calibrate` writes it; --threshold and --action stand above it."),
    ] = None,
    enabled: Annotated[bool | None, typer.Option("--enable/--disable", help="Compare with it, or not.")] = None,
    enabled_ratio: Ratio = None,
    quarantine_false_positives: FalsePositives = None,
    quarantine_flood: Flood = None,
    label: Annotated[list[str] | None, typer.Option(help="key=value; replaces all labels.")] = None,
    keep_images: Annotated[bool | None, typer.Option("--keep-images/--no-keep-images")] = None,
    json_output: Json = False,
) -> None:
    """Change a bank; what is not given stays as it is. Thresholds that are not named stay too."""
    options = shared(context)
    filed = _policy_file(policy_file) if policy_file is not None else (None, ())
    said = (*filed[1], *thresholds_of(threshold or []))
    with options.client() as client:
        thresholds = None
        if said:
            kept = {one.signal: one for one in client.get_bank(name).policy.thresholds}
            thresholds = tuple({**kept, **{one.signal: one for one in said}}.values())
        change = client.update_bank(
            name,
            display_name=display_name,
            action=filed[0] if action is None else action,
            thresholds=thresholds,
            enabled_ratio=enabled_ratio,
            quarantine_false_positives=quarantine_false_positives,
            quarantine_flood=quarantine_flood,
            enabled=enabled,
            labels=_labels(label),
            keep_images=keep_images,
        )
    _show(change.bank, as_json=options.json or json_output)


bank_app.command("preview")(preview.preview)


@bank_app.command("delete")
def delete(
    context: typer.Context,
    name: BankName,
    force: Annotated[bool, typer.Option("--force", help="With all its entries.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be deleted, and change nothing.")] = False,
) -> None:
    """Delete a bank."""
    options = shared(context)
    with options.client() as client:
        bank = client.get_bank(name)
        if dry_run:
            typer.echo(f"would delete {bank.name} with {bank.entry_count} entries")
            return
        if not yes:
            typer.confirm(f"Delete {bank.name} with {bank.entry_count} entries?", abort=True)
        gone = client.delete_bank(name, force=force)
    typer.echo(f"deleted {bank.name} with {gone.deleted_entries} entries; revision {gone.revision}")


def _read(arguments: list[str], file: Path | None, said: dict[str, Any], type_: HashType | None) -> list[Hash]:
    """The hashes that are named, each with its place where it is wrong."""
    named: list[tuple[str, str]] = [(f"argument {number}", text) for number, text in enumerate(arguments, 1)]
    if file is not None:
        whole = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
        named += [(f"line {number}", line) for number, line in enumerate(whole.splitlines(), 1)]
    kind = None if type_ is None else SignalType(type_)
    hashes: list[Hash] = []
    wrong: list[str] = []
    for place, line in named:
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        try:
            hashes.append(dataclasses.replace(Hash.parse(text, type=kind), **said))
        except ValueError as error:
            wrong.append(f"{place}: {error}")
    if wrong:
        shown = "\n".join(wrong[:20])
        raise fail(f"{len(wrong)} hashes cannot be read, and nothing was sent:\n{shown}")
    return hashes


@hash_app.command("add")
def add(
    context: typer.Context,
    hashes: Annotated[list[str] | None, typer.Argument(help="type:hex, such as sha256:0123...")] = None,
    bank: Annotated[str, typer.Option(help="The bank.", autocompletion=complete_bank)] = ...,  # type: ignore[assignment]  # typer's way to require an option
    file: Annotated[Path | None, typer.Option(help="A file of hashes, one a line; - reads standard input.")] = None,
    type_: Annotated[HashType | None, typer.Option("--type", help="The type of bare digits.")] = None,
    label: Annotated[list[str] | None, typer.Option(help="A label of them all; may be given again.")] = None,
    source: Annotated[str, typer.Option(help="Where they come from: a case, an exchange, a team.")] = "",
    note: Annotated[str, typer.Option(help="What their keepers say of them to each other.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything, and change nothing.")] = False,
    json_output: Json = False,
) -> None:
    """Add hashes, 10,000 a call; a call is made whole or not at all."""
    options = shared(context)
    found = _read(hashes or [], file, {"labels": tuple(label or ()), "source": source, "note": note}, type_)
    if not found:
        raise fail("no hashes were given; name some, or a file with --file")
    as_json = options.json or json_output
    added = duplicates = 0
    revision = ""
    batches = [found[begin : begin + BATCH] for begin in range(0, len(found), BATCH)]
    with options.client() as client:
        for number, batch in enumerate(progress(batches, "adding", len(batches), shown=not as_json)):
            try:
                answer = client.add_hashes(bank, batch, validate_only=dry_run)
            except ImageWardenError:
                if number and not dry_run:
                    kept = f"the first {number * BATCH} hashes are in force, as of revision {revision}"
                    typer.echo(f"{kept}; add the list again: what is there is not added twice", err=True)
                raise
            added += answer.added
            duplicates += answer.duplicates
            revision = answer.revision
            if as_json:
                for one in answer.results:
                    print_json(one)
    if as_json:
        return
    if dry_run:
        typer.echo(f"{len(found)} hashes can be added; nothing was changed")
    else:
        typer.echo(f"added {added}, had {duplicates} already; revision {revision}")

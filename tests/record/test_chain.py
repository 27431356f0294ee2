"""Entries that were altered, are missing or stand elsewhere are named."""

import json
from collections.abc import Callable

import pytest

from inpformer.errors import UserError
from pipelines.record.chain import faults, readable
from pipelines.record.entry import canonical, digest_of, make, parse
from pipelines.record.steps import champions, state_of, target

Texts = dict[int, str]


def chain(length: int = 5, model: str = "m") -> Texts:
    texts: Texts = {}
    for number in range(1, length + 1):
        before = digest_of(texts[number - 1]) if number > 1 else ""
        texts[number] = make(model, number, before, "refusal", str(number), {"why": "λ"}).text
    return texts


def head(texts: Texts) -> tuple[int, str]:
    last = max(texts)
    return last, digest_of(texts[last])


def altered(text: str, **values: object) -> str:
    return canonical({**json.loads(text), **values})


def swap(texts: Texts) -> None:
    texts[2], texts[3] = texts[3], texts[2]


def test_what_was_written_is_without_fault() -> None:
    texts = chain()
    assert list(faults("m", texts, head(texts))) == []
    assert [entry.number for entry in readable(texts)] == [1, 2, 3, 4, 5]
    assert list(faults("m", {})) == []
    assert canonical(json.loads(texts[3])) == texts[3]


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (lambda t: t.__setitem__(2, altered(t[2], actor="eve")), {2}),
        (lambda t: t.__setitem__(1, altered(t[1], why="")), {1}),
        (lambda t: t.__setitem__(5, altered(t[5], actor="eve")), {5}),  # the last: its digest was noted
        (lambda t: t.__setitem__(3, "no entry"), {3}),
        (lambda t: t.__setitem__(3, "[" * 5000), {3}),
        (lambda t: t.__setitem__(3, altered(t[3], time="yesterday")), {3}),
        (lambda t: t.__setitem__(3, altered(t[3], number=True)), {3}),
        (lambda t: t.pop(3), {3}),
        (lambda t: t.pop(1), {1}),
        (lambda t: t.pop(5), {5}),
        (swap, {1, 2, 3}),
        (lambda t: t.update(chain(5, "other")), {1, 2, 3, 4, 5}),
        (lambda t: t.__setitem__(9, t[5]), {6, 7, 8, 9}),
    ],
)
def test_what_was_changed_is_found_where_it_is(change: Callable[[Texts], None], where: set[int]) -> None:
    texts = chain()
    noted = head(texts)
    change(texts)
    found = {fault.number for fault in faults("m", texts, noted)}
    assert found >= where
    assert found <= where | {number + 1 for number in where}


def test_whoever_alters_one_entry_has_to_alter_all_that_follow() -> None:
    texts = chain()
    texts[4] = altered(texts[4], actor="eve")
    texts[5] = altered(texts[5], before=digest_of(texts[4]))
    assert list(faults("m", texts)) == []  # only what was kept elsewhere shows it
    assert [fault.number for fault in faults("m", texts, head(chain()))] == [5]


def test_an_entry_that_mlflow_would_cut_off_is_refused() -> None:
    make("m", 1, "", "refusal", "1", {"why": "x" * 5000})
    with pytest.raises(UserError, match="shorten"):
        make("m", 1, "", "refusal", "1", {"why": "x" * 6000})


def test_what_cannot_be_read_changes_no_state() -> None:
    texts = {1: make("m", 1, "", "taken over", "2", {"champion": "2", "previous": "1"}).text, 2: "no entry"}
    state = state_of(readable(texts))
    assert (state.champion, state.previous, state.open) == ("2", "1", None)
    assert champions(readable(texts)) == ["2", "1"]


@pytest.mark.parametrize(
    ("intent", "previous", "champion"),
    [
        ({"from": "2", "to": "3", "previous": "1"}, "2", "3"),
        ({"from": "2", "to": "1", "previous": "1"}, "2", "1"),
        ({"to": "1"}, None, "1"),
        ({"to": "2", "previous": "1"}, "1", "2"),  # the champion was deleted
        ({"to": "1", "previous": "1"}, None, "1"),
    ],
)
def test_where_the_aliases_go(intent: dict[str, str], previous: str | None, champion: str) -> None:
    entry = parse(make("m", 1, "", "promotion", intent["to"], intent).text)
    assert list(target(entry).items()) == [("previous", previous), ("champion", champion)]

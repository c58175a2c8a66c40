"""Which container ids are accepted."""

from __future__ import annotations

import pytest

from integration.harness import Bundle, Runtime


@pytest.mark.parametrize("tail", ["a", "A-9", "x_y", "x.y", "x+y", "..", "-"])
def test_a_valid_id_is_accepted(runtime: Runtime, bundle: Bundle, tail: str) -> None:
    id = runtime.new_id() + tail

    runtime.create(bundle, id=id).ok()

    assert runtime.state(id)["id"] == id


@pytest.mark.parametrize("id", [".", "..", "a/b", "../a", "a b", "a\nb", "a:b", "ä", "a@b"])
def test_an_invalid_id_is_refused(runtime: Runtime, bundle: Bundle, id: str) -> None:
    result = runtime.create(bundle, id=id)

    result.fails("invalid container ID format" if id not in (".", "..") else "")
    assert runtime.traces() == []


def test_an_empty_id_is_refused(runtime: Runtime, bundle: Bundle) -> None:
    bundle.save()

    result = runtime("create", "--bundle", str(bundle.path), "")

    result.fails("container id cannot be empty")


@pytest.mark.parametrize("command", ["state", "start", "kill", "delete"])
def test_an_unknown_id_is_an_error(runtime: Runtime, command: str) -> None:
    result = runtime(command, runtime.new_id())

    result.fails("container does not exist")


@pytest.mark.parametrize("command", ["state", "start", "delete"])
def test_an_id_cannot_lead_out_of_the_root(runtime: Runtime, command: str) -> None:
    (runtime.base / "outside").mkdir()

    result = runtime(command, "../outside")

    result.fails()
    assert (runtime.base / "outside").exists()

"""Walking and removing trees of directories, as a container nests cgroups."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pyocirun.cgroup.tree import mkdir, remove_tree, subtree


def nest(top: Path, name: str, levels: int) -> None:
    """Directories in each other, deeper than any path leads."""
    fd = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(levels):
        os.mkdir(name, dir_fd=fd)
        below = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)


def test_the_deepest_come_first(tmp_path: Path) -> None:
    for path in ("a/b", "c"):
        (tmp_path / path).mkdir(parents=True)

    found = [os.path.relpath(path, tmp_path) for path in subtree(str(tmp_path))]

    assert sorted(found) == [".", "a", "a/b", "c"]
    assert found.index("a/b") < found.index("a") < found.index(".")


def test_what_is_not_there_has_nothing_below(tmp_path: Path) -> None:
    assert list(subtree(str(tmp_path / "gone"))) == []


@pytest.mark.parametrize(("name", "levels"), [("n" * 250, 40), ("n", 2500), ("\u4e2d" * 80, 40)])
def test_a_tree_deeper_than_a_path_is_long_can_be_removed(tmp_path: Path, name: str, levels: int) -> None:
    top = tmp_path / "top"
    top.mkdir()
    nest(top, name, levels)
    before = os.listdir("/proc/self/fd")

    assert len([path for path in subtree(str(top)) if os.path.isdir(path)]) == levels + 1
    assert remove_tree(str(top))
    assert not top.exists()
    assert os.listdir("/proc/self/fd") == before


def test_a_walk_that_is_left_early_closes_what_it_opened(tmp_path: Path) -> None:
    nest(tmp_path, "n" * 250, 40)
    before = os.listdir("/proc/self/fd")

    walk = subtree(str(tmp_path))
    next(walk)
    walk.close()

    assert os.listdir("/proc/self/fd") == before
    assert remove_tree(str(tmp_path))


def test_a_path_of_more_directories_than_a_stack_is_deep_is_made(tmp_path: Path) -> None:
    top = f"{tmp_path}/top"
    deep = top + "/a" * 1500
    made: list[str] = []

    new = mkdir(deep, made)

    assert new
    assert (made[0], made[-1], len(made)) == (top, deep, 1501)
    assert os.path.isdir(deep)
    remove_tree(top)

"""features: what engines ask a runtime before they use it."""

from __future__ import annotations

import json

from integration.harness import Runtime


def test_features_is_json_with_the_fields_that_engines_read(runtime: Runtime) -> None:
    document = json.loads(runtime("features").ok().stdout)

    assert document["ociVersionMin"] == "1.0.0"
    assert "createRuntime" in document["hooks"]
    assert "rro" in document["mountOptions"]
    assert "CAP_CHOWN" in document["linux"]["capabilities"]
    assert document["linux"]["cgroup"]["v1"] is True


def test_features_needs_no_options(runtime: Runtime) -> None:
    assert runtime("features", "more").status == 1

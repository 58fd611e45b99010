"""The configuration: checked against the schema, all problems at once, defaults filled in."""

from __future__ import annotations

import copy
import difflib
import json
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator

from epiloom.plan.errors import InputError


def schema(root: str | Path) -> dict:
    """The whole schema: `config/config.schema.yaml` plus every model folder's own settings."""
    root = Path(root)
    whole = yaml.safe_load((root / "config/config.schema.yaml").read_text())
    models = whole["properties"]["models"]["properties"]
    for path in sorted(root.glob("models/*/settings.schema.yaml")):
        models[path.parent.name] = yaml.safe_load(path.read_text())
    return whole


def resolve(config: dict, root: str | Path, where: str = "config/config.yaml") -> dict:
    """The configuration with every default filled in.

    Args:
        config: what the person wrote (a mapping; not changed).
        root: the workflow's folder, which holds `config/` and `models/`.
        where: the file to name in messages.

    Raises:
        InputError: with every problem found, each naming key, value and remedy.
    """
    whole = schema(root)
    config = _plain(config)
    problems = [
        line
        for error in sorted(
            Draft202012Validator(whole).iter_errors(config), key=lambda e: [str(p) for p in e.path]
        )
        for line in _explain(error)
    ]
    if problems:
        raise InputError(where, problems)
    return _fill(config, whole)


def _plain(value: Any) -> Any:
    """Mappings and lists of any class as dict and list, so that the result is plain JSON."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, (list, tuple)) else value


def _fill(value: Any, part: dict) -> Any:
    """Defaults filled in, keys sorted: the order in which keys are written must not rerun jobs."""
    if not isinstance(value, dict):
        return value
    filled = {key: _fill(v, part.get("properties", {}).get(key, {})) for key, v in value.items()}
    for key, sub in part.get("properties", {}).items():
        if key not in filled and "default" in sub:
            filled[key] = _fill(copy.deepcopy(sub["default"]), sub)
    return dict(sorted(filled.items()))


def _explain(error: Any) -> list[str]:
    """One schema error in words: key, what is wrong, what to do."""
    key = ".".join(str(p) for p in error.absolute_path) or "top level"
    if error.validator == "additionalProperties" and isinstance(error.instance, dict):
        known = list(error.schema.get("properties", {}))
        patterns = error.schema.get("patternProperties", {})
        unknown = [k for k in error.instance if k not in known]
        if not known and patterns:
            return [f"{key}: '{k}' is no valid name (letters and digits only)" for k in unknown]
        return [f"{key}: unknown key '{k}'{hint(k, known)}" for k in unknown]
    if error.validator == "required":
        missing = [k for k in error.validator_value if k not in error.instance]
        return [f"{key}: key '{k}' is missing; add it{_meaning(error.schema, k)}" for k in missing]
    if error.validator == "enum":
        allowed = [str(v) for v in error.validator_value]
        return [
            f"{key}: {error.instance!r} is not one of {', '.join(allowed)}"
            + hint(error.instance, allowed)
        ]
    meaning = str(error.schema.get("description", "")).split(". ")[0].rstrip(".")
    text = error.message if len(error.message) < 200 else error.message[:200] + "..."
    return [f"{key}: {text}" + (f" ({meaning})" if meaning else "")]


def _meaning(part: dict, key: str) -> str:
    text = part.get("properties", {}).get(key, {}).get("description", "")
    return f" ({text.split(' - ')[0].rstrip('.')})" if text else ""


def hint(word: object, known: list[str]) -> str:
    """' (did you mean 'x'?)', or '' when nothing known is close to `word`."""
    lowered = {k.lower(): k for k in known}
    close = difflib.get_close_matches(str(word).lower(), list(lowered), n=1, cutoff=0.6)
    return f" (did you mean '{lowered[close[0]]}'?)" if close else ""


def reference(root: str | Path) -> str:
    """`config/README.md`: a table of all keys, made from the schema."""
    whole = schema(root)
    lines = [
        "# Configuration",
        "",
        "Made by `make docs` from `config.schema.yaml` and `models/*/settings.schema.yaml`; do not",
        "edit. `snakemake` reads `config/config.yaml`; `snakemake --configfile FILE` reads FILE",
        "instead, and `--configfile A B` lays B over A (mappings are merged, lists replaced).",
        "",
        "| key | type | default | meaning |",
        "|---|---|---|---|",
    ]
    lines += [f"| {' | '.join(row)} |" for row in _rows(whole, "")]
    return "\n".join(lines) + "\n"


def _rows(part: dict, prefix: str) -> list[tuple[str, str, str, str]]:
    rows = []
    named = [("NAME", sub) for sub in part.get("patternProperties", {}).values()]
    for key, sub in [*part.get("properties", {}).items(), *named]:
        kind = sub.get("type") or ("choice" if "enum" in sub else "fixed")
        kind = " or ".join(kind) if isinstance(kind, list) else kind
        if "enum" in sub:
            kind = ", ".join(f"`{v}`" for v in sub["enum"])
        nested = "properties" in sub or "patternProperties" in sub
        default = sub.get("default")
        shown = "" if nested or "default" not in sub else f"`{json.dumps(default)}`"
        if key in part.get("required", []):
            shown = "required"
        text = " ".join(str(sub.get("description", "")).split()).replace("|", "\\|")
        rows.append((f"`{prefix}{key}`", kind, shown, text))
        rows += _rows(sub, f"{prefix}{key}.") if nested else []
    return rows


if __name__ == "__main__":
    import sys

    root = Path(__file__).resolve().parents[2]
    sys.stdout.write(reference(root))

"""`python -m bench NAME`: one line per figure; without NAME, the names there are."""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import sys

import bench


def main() -> None:
    names = [m.name for m in pkgutil.iter_modules(bench.__path__) if not m.name.startswith("_")]
    parser = argparse.ArgumentParser(prog="python -m bench", description=bench.__doc__)
    parser.add_argument("name", nargs="?", choices=names, help="what to measure")
    name = parser.parse_args().name
    if name is None:
        print("usage: python -m bench NAME, with NAME one of:")
        for each in names:
            first = (importlib.import_module(f"bench.{each}").__doc__ or "").split("\n")[0]
            print(f"  {each:<12} {first}")
        sys.exit(2)
    print(f"{'name':<58} {'ours':>14} {'reference':>14} {'ratio':>8}")
    for figure in importlib.import_module(f"bench.{name}").figures():
        print(figure, flush=True)


if __name__ == "__main__":
    main()

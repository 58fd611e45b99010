"""A finished study as a Workflow Run RO-Crate: `results/ro-crate-metadata.json`.

The crate is the folder `results`. It describes the workflow (copied beside the results, so that the
folder can be handed on alone), the configuration, the inputs with addresses and checksums, the
outputs, the software, and every job with its inputs, outputs and times (the profile's "Provenance
Run Crate"). Who ran it is left out.
"""

from __future__ import annotations

import ast
import base64
import json
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml
from rocrate.model.computationalworkflow import ComputationalWorkflow
from rocrate.model.contextentity import ContextEntity
from rocrate.model.dataset import Dataset
from rocrate.model.entity import Entity
from rocrate.model.file import File
from rocrate.rocrate import ROCrate

from epiloom.data import origin
from epiloom.data.files import atomic, digest
from epiloom.show import done_jobs
from epiloom.show.done_jobs import DoneJob

VERSION = "1.1"  # of RO-Crate: the one that the profiles below extend
CONTEXT = "https://w3id.org/ro/terms/workflow-run/context"
PROFILES = {
    "https://w3id.org/ro/wfrun/process/0.5": ("Process Run Crate", "0.5"),
    "https://w3id.org/ro/wfrun/workflow/0.5": ("Workflow Run Crate", "0.5"),
    "https://w3id.org/ro/wfrun/provenance/0.5": ("Provenance Run Crate", "0.5"),
    "https://w3id.org/workflowhub/workflow-ro-crate/1.0": ("Workflow RO-Crate", "1.0"),
}
PARAMETER = "https://bioschemas.org/profiles/FormalParameter/1.0-RELEASE"
WORKFLOW = "https://bioschemas.org/profiles/ComputationalWorkflow/1.0-RELEASE"
DONE = "http://schema.org/CompletedActionStatus"
FORMATS = {
    ".tsv": "text/tab-separated-values",
    ".html": "text/html",
    ".png": "image/png",
    ".json": "application/json",
    ".yaml": "application/yaml",
    ".bed": "text/plain",
    ".smk": "text/plain",
    ".lock": "text/plain",
    "": "text/plain",  # LICENSE
    ".gz": "application/gzip",
}


def copy_workflow(out: str | Path, config: Mapping[str, Any]) -> None:
    """Write Snakefile, rules, exact versions and the resolved configuration into a folder."""
    out = Path(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as made:
        new = Path(made) / out.name
        shutil.copytree(origin.ROOT / "rules", new / "rules", ignore=lambda *_: {"__pycache__"})
        for name in ("Snakefile", "requirements.lock", "LICENSE"):
            shutil.copy(origin.ROOT / name, new / name)
        (new / "config.yaml").write_text(yaml.safe_dump(dict(config), sort_keys=False))
        shutil.rmtree(out, ignore_errors=True)
        new.rename(out)


def write(work: str | Path, wanted: Sequence[str], out: str | Path, workflow: str | Path) -> None:
    """Describe the finished study.

    Args:
        work: working directory; `results/provenance.json` tells versions, sources, configuration.
        wanted: paths of the study's results, as seen from there.
        out: file to write, in the folder that becomes the crate.
        workflow: folder as `copy_workflow` leaves it, in the same one.
    """
    work = Path(work)
    record = json.loads((work / "results/provenance.json").read_text())
    made = _Crate(work, work / Path(out).parent, record)
    made.describe(done_jobs.behind(work, wanted), list(wanted), work / workflow)
    with atomic(work / out) as tmp:
        tmp.write_text(json.dumps(made.crate.metadata.generate(), indent=1) + "\n")


class _Workflow(ComputationalWorkflow):
    TYPES = [*ComputationalWorkflow.TYPES, "HowTo"]  # because its steps are told


class _Crate:
    """The crate while it is put together; `files` maps a path to its entity."""

    def __init__(self, work: Path, root: Path, record: Mapping[str, Any]):
        self.work, self.root, self.record = work, root, record
        self.crate = ROCrate(version=VERSION)
        self.crate.metadata.extra_contexts.append(CONTEXT)
        self.files: dict[str, Entity | None] = {}

    def add(self, identifier: str, kind: str | list[str], **properties: Any) -> Entity:
        """A contextual entity; one that is there already stays as it is."""
        known = self.crate.get(identifier)
        given = {"@type": kind, **properties}
        return known or self.crate.add(ContextEntity(self.crate, identifier, properties=given))

    def describe(self, jobs: Sequence[DoneJob], wanted: list[str], workflow: Path) -> None:
        self.root_properties()
        inputs = [self.source(source) for source in self.record["sources"]]
        main = self.workflow(workflow)
        config = self.configuration(workflow / "config.yaml", main)
        outputs = [self.file(path) for path in wanted]
        run = self.add(
            "#run",
            "CreateAction",
            name=f"Run of {self.crate.name}",
            description="All jobs behind these results, from the first to the last",
            instrument=main,
            object=_unique([config, *inputs]),
            result=_unique(outputs),
            actionStatus=DONE,
        )
        if jobs:
            run["startTime"] = jobs[0].began
            run["endTime"] = max((job.ended for job in jobs), key=_instant)
        self.crate.root_dataset["mentions"] = run
        self.steps(jobs, main, run)
        report = self.files.get("results/report.html")
        if report:
            report["name"] = "Report: figures, tables and what they say"

    def root_properties(self) -> None:
        crate, code = self.crate, origin.code()
        crate.name = f"epiloom study of {self.record['config_file']}"
        made = " on simulated data" if self.record["simulated"] else ""
        crate.description = (
            f"Results of the workflow epiloom {code['version']} (commit {self.record['commit']})"
            f"{made}: models of the human epigenome, trained, evaluated and explained."
        )
        crate.root_dataset["license"] = self.add(
            "#licence",
            "CreativeWork",
            name="As its inputs",
            description="No licence was chosen for these results; inputs keep that of their source",
        )
        crate.root_dataset["datePublished"] = self.record["date"]
        for identifier, (name, version) in PROFILES.items():
            entity = self.add(identifier, "CreativeWork", name=name, version=version)
            crate.root_dataset.append_to("conformsTo", entity)
        crate.metadata["conformsTo"] = [
            {"@id": f"https://w3id.org/ro/crate/{VERSION}"},
            {"@id": list(PROFILES)[-1]},
        ]

    def source(self, source: Mapping[str, Any]) -> Entity:
        """An input: a public file by its address, a local one by its checksum."""
        path = self.work / source["path"]
        about = {"name": source["path"], "alternateName": source["key"]}
        if source.get("bytes") is not None:
            about["contentSize"] = str(source["bytes"])
        if path.exists() and path.stat().st_size <= origin.HASHED_BYTES:
            about["sha256"] = digest(path, "sha256")
        if source.get("md5"):
            about["md5"] = source["md5"]
        where = source["url"]
        if "://" not in where:
            where = _named(path)
        known = self.crate.get(where)
        entity = known or self.crate.add(File(self.crate, source=where, properties=about))
        self.files[source["path"]] = entity
        return entity

    def file(self, path: str) -> Entity | None:
        """A file or folder of the crate; None where there is none, or outside of it."""
        if path in self.files:
            return self.files[path]
        place = self.work / path
        entity: Entity | None = None
        if place.is_relative_to(self.root) and place.exists():
            name = place.relative_to(self.root).as_posix()
            if place.is_dir():
                entity = Dataset(self.crate, dest_path=name, properties={"name": name})
            else:
                about = {"name": name, "contentSize": str(place.stat().st_size)}
                if place.stat().st_size <= origin.HASHED_BYTES:
                    about["sha256"] = digest(place, "sha256")
                about["encodingFormat"] = FORMATS.get(place.suffix, "application/octet-stream")
                entity = File(self.crate, dest_path=name, properties=about)
            self.crate.add(entity)
        self.files[path] = entity
        return entity

    def workflow(self, folder: Path) -> Entity:
        """The Snakefile as the main entity, with its rules and the software it needs."""
        crate = self.crate
        name = (folder / "Snakefile").relative_to(self.root)
        main = crate.add_workflow(dest_path=name, main=True, lang="snakemake", cls=_Workflow)
        main["name"] = "epiloom"
        main["encodingFormat"] = "text/plain"
        main["conformsTo"] = self.add(WORKFLOW, "CreativeWork", name="ComputationalWorkflow")
        main["version"] = f"{origin.code()['version']} ({self.record['commit']})"
        main["license"] = {"@id": "https://spdx.org/licenses/MIT"}
        self.add("https://spdx.org/licenses/MIT", "CreativeWork", name="MIT License")
        for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.name != "Snakefile"):
            self.file(path.relative_to(self.work).as_posix())
        versions = self.record["versions"].items()
        main["softwareRequirements"] = [
            self.add(f"#software/{key}", "SoftwareApplication", name=key, softwareVersion=value)
            for key, value in versions
            if value != "not installed here"
        ]
        return main

    def configuration(self, path: Path, main: Entity) -> Entity:
        """The configuration, as the value of the workflow's one parameter."""
        value = self.file(path.relative_to(self.work).as_posix())
        assert value is not None
        value["exampleOfWork"] = self.parameter("config", "Configuration, with all defaults")
        main["input"] = value["exampleOfWork"]
        report = self.file("results/report.html")
        if report:
            report["exampleOfWork"] = self.parameter("report", "What was found")
            main["output"] = report["exampleOfWork"]
        return value

    def parameter(self, name: str, description: str) -> Entity:
        self.add(PARAMETER, "CreativeWork", name="FormalParameter", version="1.0-RELEASE")
        return self.add(
            f"#parameter/{name}",
            "FormalParameter",
            name=name,
            description=description,
            additionalType="File",
            valueRequired=True,
            conformsTo={"@id": PARAMETER},
        )

    def steps(self, jobs: Sequence[DoneJob], main: Entity, run: Entity) -> None:
        """A step for every rule, a tool for every script, an action for every job."""
        rules = list(dict.fromkeys(job.rule for job in jobs))
        controls = []
        for job in jobs:
            tool = self.tool(job.script)
            step = self.add(
                f"#step/{job.rule}",
                "HowToStep",
                name=job.rule,
                position=str(rules.index(job.rule) + 1),
                workExample=tool,
            )
            action = self.add(
                f"#job/{job.name}",
                "CreateAction",
                name=job.name,
                description=f"Job of the rule {job.rule}",
                instrument=tool,
                startTime=job.began,
                endTime=job.ended,
                actionStatus=DONE,
                object=_unique(self.file(path) for path in job.inputs),
                result=_unique(self.file(path) for path in job.outputs),
            )
            self.crate.root_dataset.append_to("mentions", action)
            controls.append(
                self.add(
                    f"#control/{job.name}",
                    "ControlAction",
                    name=f"Snakemake ran {job.name}",
                    instrument=step,
                    object=action,
                )
            )
        main["step"] = [self.crate.get(f"#step/{rule}") for rule in rules]
        main["hasPart"] = [self.tool(name) for name in dict.fromkeys(job.script for job in jobs)]
        self.engine(controls, run)

    def tool(self, script: str) -> Entity:
        path = origin.ROOT / f"workflow_scripts/{script}.py"
        told = ast.get_docstring(ast.parse(path.read_text())) if path.exists() else None
        about = {"name": script, "softwareVersion": str(self.record["commit"])}
        if told:
            about["description"] = told.partition("\n\n")[0]
        return self.add(f"#script/{script}", "SoftwareApplication", **about)

    def engine(self, controls: list[Entity], run: Entity) -> None:
        """Snakemake itself."""
        known = self.crate.get("#software/snakemake")
        engine = known or self.add("#software/snakemake", "SoftwareApplication", name="snakemake")
        engine["url"] = "https://snakemake.github.io"
        work = {"name": "Snakemake ran the workflow", "instrument": engine, "object": controls}
        times = {key: run[key] for key in ("startTime", "endTime") if run.get(key)}
        action = self.add("#snakemake", "OrganizeAction", **work, result=run, **times)
        self.crate.root_dataset.append_to("mentions", action)


def _instant(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()


def _named(path: Path) -> str:
    """A local file by its content (RFC 6920): its place on this machine helps nobody."""
    told = bytes.fromhex(digest(path, "sha256"))
    return "ni:///sha-256;" + base64.urlsafe_b64encode(told).decode().rstrip("=")


def _unique(entities: Iterable[Entity | None]) -> Entity | list[Entity]:
    """Each entity once; a single one stands alone, as RO-Crate likes it."""
    found = list({entity.id: entity for entity in entities if entity is not None}.values())
    return found[0] if len(found) == 1 else found

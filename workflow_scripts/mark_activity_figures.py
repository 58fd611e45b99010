"""The figures of the mark activity, each as SVG and as PNG."""

from epiloom.plan import jobs


def main(job: jobs.Job) -> None:
    from pathlib import Path

    from epiloom.show.plots_activity import drawings, save_both

    wanted = {Path(path).name.removesuffix(".svg"): path for path in job.output["svg"]}
    for drawing in drawings(Path(job.input["summary"]).parent):
        if drawing.name in wanted:
            save_both(drawing.figure, Path(wanted[drawing.name]))


if __name__ == "__main__":
    jobs.run(main, globals().get("snakemake"))

"""What a person sees of a training run: a bar or a line now and then, a JSON log, TensorBoard."""

from __future__ import annotations

import json
import logging
import sys
import time
from pathlib import Path
from typing import Any

log = logging.getLogger("epiloom")


class RunLog:
    """Progress on the terminal, `log.jsonl` and TensorBoard events in the run folder.

    On a terminal a bar is shown, elsewhere a log line at most every `every` seconds. A process that
    is not the `writer` (another rank) says nothing.
    """

    def __init__(self, folder: Path, writer: bool, show: bool | None, every: float = 10.0):
        self.folder, self.writer, self.every = folder, writer, every
        self.show = writer and show is not False
        self.bar: Any = None
        self.board: Any = None
        self.last = time.monotonic()

    def __enter__(self) -> RunLog:
        return self

    def __exit__(self, *error: object) -> None:
        self.close_bar()
        if self.board is not None:
            self.board.close()

    def event(self, kind: str, **values: Any) -> None:
        """Append one line to `log.jsonl`."""
        if self.writer:
            line = json.dumps({"time": round(time.time(), 3), "event": kind, **values})
            with (self.folder / "log.jsonl").open("a") as file:
                file.write(line + "\n")

    def epoch_began(self, epoch: int, epochs: int, examples: int, done: int) -> None:
        """`epoch` is 1-based; `done` of its `examples` were seen before an interruption."""
        self.title, self.total, self.began = f"epoch {epoch}/{epochs}", examples, time.monotonic()
        self.skipped = done
        if self.show and sys.stderr.isatty():
            from tqdm import tqdm  # only where somebody looks at it

            self.bar = tqdm(total=examples, initial=done, desc=self.title, leave=False)

    def advanced(self, done: int, loss: float) -> None:
        """`done` examples of the epoch seen; `loss` is their mean."""
        if self.bar is not None:
            self.bar.set_postfix(loss=f"{loss:.4f}", refresh=False)
            self.bar.update(done - self.bar.n)
        elif self.show and time.monotonic() - self.last >= self.every:
            self.last = time.monotonic()
            speed = (done - self.skipped) / max(1e-9, self.last - self.began)
            log.info(
                "%s: %d of %d examples, loss %.4f, %.0f examples/s, %.0f s left in this epoch",
                *(self.title, done, self.total, loss, speed, (self.total - done) / speed),
            )

    def epoch_ended(self, row: dict[str, Any]) -> None:
        """A finished row of the history."""
        self.close_bar()
        self.event("epoch", **row)
        if not self.writer:
            return
        if self.show:
            log.info(
                "%s: train %.5f, validation %.5f (r %.3f)%s, learning rate %.3g, %.0f examples/s, "
                "%.1f s",
                *(self.title, row["train_loss"], row["validation_loss"], row["validation_r"]),
                *(" (best)" if row["best"] else "", row["learning_rate"]),
                *(row["samples_per_s"], row["seconds"]),
            )
        if self.board is None:
            from torch.utils.tensorboard import SummaryWriter  # 1 s, spent after the first epoch

            # what an interrupted run wrote beyond its saved state is taken back
            self.board = SummaryWriter(self.folder / "tensorboard", purge_step=row["epoch"])
        for key in (
            "train_loss",
            "validation_loss",
            "validation_r",
            "learning_rate",
            "samples_per_s",
        ):
            self.board.add_scalar(key, row[key], row["epoch"])

    def close_bar(self) -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar = None

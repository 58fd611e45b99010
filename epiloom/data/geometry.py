"""What a sequence model sees and what it predicts: window, bins, and the bins cropped off."""

from __future__ import annotations

from dataclasses import dataclass

from epiloom.plan.errors import InputError


@dataclass(frozen=True)
class Geometry:
    """A window of `seq_bp` bases in bins, of which `crop_bins` at each end are not predicted.

    Epiformer: 98,304 bp, 128 bp, 64 bins, so 640 predicted bins (81,920 bp).
    """

    seq_bp: int
    bin_bp: int
    crop_bins: int = 0

    def __post_init__(self) -> None:
        problems = []
        if self.bin_bp < 1 or self.seq_bp < 1 or self.seq_bp % self.bin_bp:
            problems.append(f"seq_bp {self.seq_bp} is no multiple of bin_bp {self.bin_bp}")
        elif not 0 <= 2 * self.crop_bins < self.seq_bp // self.bin_bp:
            whole = self.seq_bp // self.bin_bp
            problems.append(f"crop_bins {self.crop_bins} leaves none of {whole} bins")
        if problems:
            raise InputError("window", [f"{problem}; correct the numbers" for problem in problems])

    @property
    def bins(self) -> int:
        """Predicted bins."""
        return self.seq_bp // self.bin_bp - 2 * self.crop_bins

    @property
    def crop_bp(self) -> int:
        """Bases at each end that are seen but not predicted."""
        return self.crop_bins * self.bin_bp

    @property
    def target_bp(self) -> int:
        """Predicted bases."""
        return self.bins * self.bin_bp

    def around(self, position: int) -> int:
        """Start of the window on the grid of bins whose predicted middle bin holds `position`."""
        middle = (self.seq_bp // self.bin_bp) // 2
        return (position // self.bin_bp - middle) * self.bin_bp

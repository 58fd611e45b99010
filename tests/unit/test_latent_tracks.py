"""bigWigs of an annotation: latents come back bin by bin, masked or not, and so does the mask."""

from __future__ import annotations

import numpy as np
import pyBigWig
import pytest

from epiloom.data.genome import Genome
from epiloom.plan.errors import InputError
from epiloom.show import latent_tracks
from epiloom.show.latent_tracks import latent_paths, write_latent_tracks

GENOME = Genome("toy", ("chr1", "chr2", "chr3"), (5_010, 2_500, 700))


def made(chroms=("chr2", "chr1"), size: int = 3) -> tuple[dict, dict]:
    draw = np.random.default_rng(8)
    latents, masks = {}, {}
    for chrom in chroms:
        bins = GENOME.length(chrom) // 25
        latents[chrom] = draw.uniform(-1, 1, (bins, size)).astype(np.float32)
        masks[chrom] = draw.choice([0, 1, 2, 3, 8], bins).astype(np.uint8)
    return latents, masks


def read_back(path, chrom: str) -> np.ndarray:
    """The value of every base, NaN where there is none."""
    with pyBigWig.open(str(path)) as bigwig:
        assert bigwig.chroms() == dict(zip(GENOME.chromosomes, GENOME.lengths, strict=True))
        return bigwig.values(chrom, 0, GENOME.length(chrom), numpy=True)


def test_every_bin_has_its_latents_and_its_flags(tmp_path, monkeypatch):
    monkeypatch.setattr(latent_tracks, "BLOCK", 37)
    latents, masks = made()
    paths = write_latent_tracks(tmp_path / "bw", GENOME, latents, masks)
    names = ["latent_01.bw", "latent_02.bw", "latent_03.bw", "mask.bw"]
    assert [path.name for path in paths] == names
    assert sorted(p.name for p in (tmp_path / "bw").iterdir()) == names
    for k, path in enumerate(paths):
        for chrom, values in latents.items():
            wanted = values[:, k] if k < 3 else masks[chrom].astype(np.float32)
            found = read_back(path, chrom)
            np.testing.assert_array_equal(found[: 25 * len(values)], np.repeat(wanted, 25))
            assert np.isnan(found[25 * len(values) :]).all()
        assert np.isnan(read_back(path, "chr3")).all()


def test_memory_maps_are_read_and_missing_values_stay_missing(tmp_path):
    latents, masks = made()
    latents["chr1"][[0, 7, 199]] = np.nan
    for chrom, values in latents.items():
        np.save(tmp_path / f"{chrom}.npy", values)
    mapped = {chrom: np.load(tmp_path / f"{chrom}.npy", mmap_mode="r") for chrom in latents}
    path, *_ = write_latent_tracks(tmp_path, GENOME, mapped, masks)
    np.testing.assert_array_equal(
        read_back(path, "chr1")[:5_000], np.repeat(latents["chr1"][:, 0], 25)
    )


def test_names_sort_as_their_numbers_do():
    names = [path.name for path in latent_paths("x", 110)]
    assert names[0] == "latent_001.bw" and names[-1] == "latent_110.bw"
    assert names == sorted(names)


def test_arrays_of_another_genome_are_refused_all_at_once(tmp_path):
    latents, masks = made()
    latents["chr1"], latents["chr9"] = latents["chr1"][:-1, :2], latents["chr1"]
    del masks["chr2"]
    with pytest.raises(InputError) as error:
        write_latent_tracks(tmp_path, GENOME, latents, masks)
    told = "\n".join(error.value.problems)
    for text in ("chr9 is not part", "200 whole bins", "mask of chr2: none", "[2, 3] latents"):
        assert text in told
    with pytest.raises(InputError, match="no chromosome"):
        write_latent_tracks(tmp_path, GENOME, {}, {})
    assert not list(tmp_path.iterdir())


def test_a_failure_leaves_no_file(tmp_path):
    latents, masks = made()
    latents["chr2"][-1, 1] = np.inf
    with pytest.raises(InputError, match="bin 99 is infinite"):
        write_latent_tracks(tmp_path, GENOME, latents, masks)
    assert not list(tmp_path.iterdir())

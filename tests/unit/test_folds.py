"""Parts by chromosome, and windows that would leak from one part into another."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from epiloom.data.folds import check_leaks, leaks, part_of
from epiloom.plan.errors import InputError

CHROMS = ["chr1", "chr2", "chr3", "chr2", "chr4"]


def test_every_gene_is_in_the_part_of_its_chromosome():
    fold = {"name": "fold1", "validation": ["chr2"], "test": ["chr3", "chrY"]}
    expected = ["train", "validation", "test", "validation", "train"]
    assert part_of(CHROMS, fold).tolist() == expected


@pytest.mark.parametrize(
    ("fold", "said"),
    [
        ({"validation": ["chr1"], "test": ["chr1", "chr2"]}, "chr1 is in both"),
        ({"validation": ["chr9"], "test": ["chr2"]}, "validation \\(chr9\\) has no gene"),
        ({"validation": ["chr2"], "test": []}, "test \\(no chromosome\\)"),
        ({"validation": ["chr1", "chr2"], "test": ["chr3", "chr4"]}, "train"),
        ({"validation": "chr1", "test": ["chr2"]}, "give a list"),
        ({"test": ["chr2"]}, "give a list"),
    ],
)
def test_unusable_folds_are_refused_with_a_remedy(fold, said):
    with pytest.raises(InputError, match=said):
        part_of(CHROMS, fold)


def test_all_problems_of_a_fold_are_told_at_once():
    with pytest.raises(InputError) as err:
        part_of(["chr1"], {"validation": ["chr8"], "test": ["chr8"]})
    assert len(err.value.problems) == 3


windows = st.lists(
    st.tuples(
        st.sampled_from(["chr1", "chr2"]),
        st.integers(0, 60),
        st.integers(1, 15),
        st.sampled_from(["train", "validation", "test"]),
    ),
    max_size=15,
)


@given(windows=windows, margin=st.integers(0, 5))
def test_leaks_are_those_that_a_pairwise_comparison_finds(windows, margin):
    chroms, starts, widths, parts = (
        (list(x) for x in zip(*windows, strict=True))
        if windows
        else (
            [],
            [],
            [],
            [],
        )
    )
    ends = [a + w for a, w in zip(starts, widths, strict=True)]
    expected = [
        i
        for i in range(len(windows))
        if any(
            chroms[i] == chroms[j]
            and parts[i] != parts[j]
            and starts[i] - margin < ends[j] + margin
            and starts[j] - margin < ends[i] + margin
            for j in range(len(windows))
        )
    ]
    assert leaks(chroms, starts, ends, parts, margin).tolist() == expected


def test_split_by_chromosome_never_leaks_and_a_leak_is_named():
    rng = np.random.default_rng(0)
    chroms = rng.choice(["chr1", "chr2", "chr3"], 200)
    starts = rng.integers(0, 5000, 200)
    parts = part_of(chroms, {"validation": ["chr2"], "test": ["chr3"]})
    check_leaks(chroms, starts, starts + 400, parts, margin=20_000)
    with pytest.raises(InputError, match="chr1:0-10 \\(train\\)"):
        check_leaks(["chr1", "chr1"], [0, 5], [10, 15], ["train", "test"])

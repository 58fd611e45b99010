"""Loops: tables in all forms, lift-over, rows against slow loops, judged by distance."""

from __future__ import annotations

import gzip

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score

from epiloom.data.chains import read_chain
from epiloom.data.genome import Genome
from epiloom.data.loops import COLUMNS, Loops, contact_rows, lift_loops, read_loops
from epiloom.data.simulate.addresses import LOOPS, Addresses
from epiloom.data.simulate.contacts import write_loops
from epiloom.data.simulate.layout import Plan
from epiloom.data.simulate.world import make_world
from epiloom.plan.errors import InputError
from epiloom.studies.loop_truth import by_distance, pair_scores, pairs_of, row_cosine, scored

GENOME = Genome("hg19", ("chr1", "chr2"), (300_000, 203_000))
HICHIPDB = (
    "anchor1,anchor2,qValue\n"
    "chr1:5000-10000,chr1:60000-65000,1e-5\n"
    "chr1:5001-10000,chr1:90001-95000,1e-4\n"
    "chr1:5000-10000,chr2:60000-65000,1e-9\n"
    "chr1:5000-10000,chr1:70000-75000,0.01\n"
)


def write(tmp_path, text: str, name: str = "loops.csv"):
    path = tmp_path / name
    if name.endswith(".gz"):
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    return path


def table(*rows) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=COLUMNS)


# ---- tables --------------------------------------------------------------------------------------


def test_hichipdb_is_read_and_cut_by_q(tmp_path):
    found = read_loops(write(tmp_path, HICHIPDB))
    assert found["start1"].tolist() == [5000, 5000] and found["start2"].tolist() == [60000, 90000]
    assert len(read_loops(write(tmp_path, HICHIPDB), max_q=0.1)) == 3


def test_bedpe_with_and_without_header_is_read(tmp_path):
    lines = "chr1\t0\t5000\tchr1\t20000\t25000\tx\t4\nchr1\t0\t5000\tchr1\t30000\t35000\ty\t2.9\n"
    found = read_loops(write(tmp_path, lines, "a.bedpe.gz"))
    assert found["start2"].tolist() == [20000] and found["q"].tolist() == [pytest.approx(1e-4)]
    head = "chr1\ts1\te1\tchr2\ts2\te2\tcc\tQ-Value_Bias\n"
    rows = "chr1\t0\t5000\tchr1\t20000\t25000\t9\t1e-7\n"
    assert read_loops(write(tmp_path, head + rows, "b.bed"))["q"].tolist() == [1e-7]


def test_rows_of_one_cell_are_taken(tmp_path):
    text = "#chrom1\tstart1\tend1\tchrom2\tstart2\tend2\tname\tscore\tcell\n" + "".join(
        f"chr1\t0\t5000\tchr1\t{k}0000\t{k}5000\tx\t9\t{c}\n" for k, c in ((2, "A"), (3, "B b"))
    )
    path = write(tmp_path, text, "a.bedpe")
    assert read_loops(path, "B b")["start2"].tolist() == [30000]
    with pytest.raises(InputError, match="column cell has no 'C'; it has A, B b"):
        read_loops(path, "C")


def test_faulty_tables_are_refused_with_all_lines(tmp_path):
    text = "chrom1,start1,end1,chrom2,start2,end2,fdr\nchr1,x,5,chr1,9,8,0.1\nchr1,0,5,chr1,7,9,2\n"
    with pytest.raises(InputError) as err:
        read_loops(write(tmp_path, text))
    assert [p.split(":")[0] for p in err.value.problems] == ["line 2", "line 2", "line 3"]
    with pytest.raises(InputError, match="not written as chr1:5000-10000"):
        read_loops(write(tmp_path, "anchor1,anchor2,qValue\nchr1,chr1:1-2,0\n"))
    with pytest.raises(InputError, match="has no q-value"):
        read_loops(write(tmp_path, "anchor1,anchor2\nchr1:1-2,chr1:3-4\n"))
    with pytest.raises(InputError, match="neither anchor1"):
        read_loops(write(tmp_path, "a,b\n1,2\n"))
    with pytest.raises(InputError, match="line 3: 2 columns instead of 3"):
        read_loops(write(tmp_path, HICHIPDB.replace(",1e-4", "")))
    with pytest.raises(InputError, match="smallest: 1e-09"):
        read_loops(write(tmp_path, HICHIPDB), max_q=1e-12)
    with pytest.raises(InputError, match="is empty"):
        read_loops(write(tmp_path, ""))
    with pytest.raises(InputError, match="no such file"):
        read_loops(tmp_path / "none.csv")


CHAIN = (
    # 0-50000 moves by 1000; 50000-60000 is lost; 60000-100000 is turned round
    "chain 900 chr1 300000 + 0 50000 chr1 300000 + 1000 51000 1\n50000\n\n"
    "chain 800 chr1 300000 + 60000 100000 chr1 300000 - 200000 240000 2\n40000\n\n"
    "chain 700 chr1 300000 + 200000 210000 chr2 203000 + 0 10000 3\n10000\n\n"
    # 6000 bases come in at 222000, 2000 of 242000-244000 go
    "chain 600 chr1 300000 + 220000 260000 chr1 300000 + 120000 164000 4\n"
    "2000\t0\t6000\n20000\t2000\t0\n16000\n\n"
)


def lifted_slowly(chain: str, chrom: str, place: int) -> tuple[str, int] | None:
    """Base by base through the blocks of every chain; of several the best counts."""
    best = (-1.0, None)
    for block in chain.strip().split("\n\n"):
        head, *lines = block.splitlines()
        _, score, name, _, _, start, _, other, size, strand, low, *_ = head.split()
        here, there = int(start), int(low)
        for line in lines:
            length, *gaps = [int(number) for number in line.split()]
            for k in range(length):
                if (name, here + k) == (chrom, place) and float(score) > best[0]:
                    at = there + k if strand == "+" else int(size) - 1 - (there + k)
                    best = float(score), (other, at)
            here, there = here + length + sum(gaps[:1]), there + length + sum(gaps[1:])
    return best[1]


def chain_of(tmp_path, text: str = CHAIN):
    return read_chain(write(tmp_path, text, "a.chain.gz"))


def test_loops_are_lifted_with_both_anchors_or_not_at_all(tmp_path):
    loops = table(
        ("chr1", 5000, 10000, 30000, 35000, 1e-5),
        ("chr1", 5000, 10000, 70000, 75000, 1e-6),
        ("chr1", 5000, 10000, 48000, 53000, 1e-7),
        ("chr1", 5000, 10000, 200000, 205000, 1e-8),
        ("chr9", 5000, 10000, 30000, 35000, 1e-9),
        ("chr1", 200000, 202000, 205000, 210000, 1e-4),
        ("chr1", 65000, 70000, 90000, 95000, 1e-3),
        ("chr1", 5000, 10000, 220000, 225000, 1e-2),
        ("chr1", 5000, 10000, 221000, 228000, 1e-1),
        ("chr1", 240000, 245000, 250000, 255000, 1),
        ("chr1", 241500, 244500, 250000, 255000, 0),
    )
    found, lost = lift_loops(loops, chain_of(tmp_path))
    assert lost == {"no_place": 2, "stretched": 2, "two_chromosomes": 1, "out_of_order": 1}
    assert found["q"].tolist() == [1e-5, 1e-6, 1e-4, 1e-1, 1]
    assert found.iloc[0].tolist() == ["chr1", 6000, 11000, 31000, 36000, 1e-5]
    # base 70000 of the chain's start 60000 lies 10000 from the end of 300000 - 200000
    assert found.iloc[1].tolist()[3:5] == [85000, 90000]
    assert found.iloc[2].tolist()[:5] == ["chr2", 0, 2000, 5000, 10000]
    assert found.iloc[3].tolist()[3:5] == [121000, 134000]  # 7 kb became 13
    assert found.iloc[4].tolist()[1:3] == [146000, 149000]  # 5 kb became 3


def test_places_are_those_of_a_slow_walk_through_the_chains(tmp_path):
    rng = np.random.default_rng(0)
    chains, low = [], 0
    for k in range(6):
        blocks = rng.integers(200, 900, 4)
        gaps = rng.integers(0, 300, (3, 2))
        long, wide = int(blocks.sum() + gaps[:, 0].sum()), int(blocks.sum() + gaps[:, 1].sum())
        start, there, sign = (
            low + int(rng.integers(0, 300)),
            int(rng.integers(0, 9000)),
            "+-"[k % 2],
        )
        name = f"chr{1 + k // 3}"
        lines = ["\t".join(map(str, (b, *g))) for b, g in zip(blocks, gaps, strict=False)]
        head = f"chain {900 - k} chr1 30000 + {start} {start + long} {name} 20000 {sign}"
        chains.append(f"{head} {there} {there + wide} {k}\n" + "\n".join([*lines, str(blocks[3])]))
        low = start + long - 400  # the next one begins before this one ends
    text = "\n\n".join(chains) + "\n\n"
    starts = rng.integers(0, low, (300, 2))
    loops = table(*(("chr1", int(a), int(a) + 150, int(b), int(b) + 150, 1e-5) for a, b in starts))
    wanted = []
    for row in loops.itertuples():
        ends = [
            lifted_slowly(text, "chr1", p)
            for p in (row.start1, row.end1 - 1, row.start2, row.end2 - 1)
        ]
        if None in ends or len({chrom for chrom, _ in ends}) > 1:
            continue
        spans = [sorted(p for _, p in ends[k : k + 2]) for k in (0, 2)]
        if not all(75 <= high + 1 - first <= 300 for first, high in spans):
            continue
        old = np.sign(row.start1 - row.start2) * (abs(row.start1 - row.start2) >= 150)
        new = (spans[0][0] > spans[1][1]) * 1 - (spans[1][0] > spans[0][1])
        if old == new:
            wanted.append([ends[0][0], *(x for a, b in spans for x in (a, b + 1))])
    found, lost = lift_loops(loops, chain_of(tmp_path, text))
    assert found[COLUMNS[:5]].to_numpy().tolist() == wanted
    assert len(wanted) + sum(lost.values()) == 300 and min(len(wanted), *lost.values()) > 5


def test_faulty_chains_and_loops_without_any_place_are_refused(tmp_path):
    with pytest.raises(InputError, match="none of 1 has a place on the other assembly"):
        lift_loops(table(("chr7", 0, 5000, 20000, 25000, 1e-5)), chain_of(tmp_path))
    with pytest.raises(InputError, match="is no chain file"):
        chain_of(tmp_path, "chain 900 chr1 300000 + 0 50000 chr1\n")
    with pytest.raises(InputError, match="holds no chain"):
        read_chain(write(tmp_path, HICHIPDB, "loops.csv"))
    (tmp_path / "cut.gz").write_bytes(gzip.compress(CHAIN.encode())[:40])
    with pytest.raises(InputError, match="is no chain file"):
        read_chain(tmp_path / "cut.gz")
    with pytest.raises(InputError, match="no such file"):
        read_chain(tmp_path / "none.chain")


def test_simulated_loops_are_read_and_join_neighbouring_bound_sites(tmp_path):
    plan = Plan(chromosomes=2, length_bp=900_000, cells=("E003", "E116"), assays=("DNase",))
    world, addresses = make_world(plan), Addresses(plan, tmp_path)
    write_loops(world, addresses)
    genome = Genome("hg19", ("chr1", "chr2"), tuple(world.layout.lengths.tolist()))
    loops = Loops.of(read_loops(tmp_path / LOOPS, "E116"), genome)
    assert len(loops) > 30
    order = np.argsort(world.insulators)
    bound = world.insulators[order][world.activity.insulator[order, 1] > 0.5]
    ends = [world.layout.local(bound[side])[1] for side in (slice(None, -1), slice(1, None))]
    linked = {tuple(sorted(pair)) for pair in (np.stack(ends, axis=1) // 1000).tolist()}
    joined = 0
    for row in loops.table.itertuples():
        # an anchor of 1 kb begins inside its first bin
        one, two = ((bins * 128 + 127) // 1000 for bins in (row.first1, row.first2))
        joined += (one, two) in linked
    assert 0.9 < joined / len(loops) <= 1  # one in forty is astray
    assert contact_rows(loops, ("chr1", 0), 7000).any()


# ---- rows ----------------------------------------------------------------------------------------


def made_loops(seed: int = 0, n: int = 60) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(n):
        one, two = (rng.integers(0, 40, 2) * 5000).tolist()
        rows.append(("chr2" if rng.random() < 0.5 else "chr1", one, one + 5000, two, two + 5000))
    return pd.DataFrame([(*row, 1e-5) for row in rows], columns=COLUMNS)


def slow_rows(loops: pd.DataFrame, chrom: str, start: int, bins: int, near: int) -> np.ndarray:
    """Bin by bin, as the definition reads."""
    found = np.zeros((bins, bins))
    for row in loops[loops["chrom"] == chrom].itertuples():
        one = [b for b in range(2400) if b * 128 < row.end1 and (b + 1) * 128 > row.start1]
        two = [b for b in range(2400) if b * 128 < row.end2 and (b + 1) * 128 > row.start2]
        for i in one:
            for j in two:
                a, b = i - start // 128, j - start // 128
                if 0 <= a < bins and 0 <= b < bins and abs(a - b) > near:
                    found[a, b] += 1 / (len(one) * len(two))
                    found[b, a] += 1 / (len(one) * len(two))
    total = found.sum(axis=1, keepdims=True)
    return np.where(total > 0, found / np.where(total > 0, total, 1), 0)


@pytest.mark.parametrize(("chrom", "start", "near"), [("chr1", 0, 8), ("chr2", 51_200, 0)])
def test_rows_are_those_of_the_slow_loop(chrom, start, near):
    loops = made_loops(1, 60)
    found = contact_rows(Loops.of(loops, GENOME), (chrom, start), 500, near)
    assert found.dtype == np.float32 and found.any()
    np.testing.assert_allclose(found, slow_rows(loops, chrom, start, 500, near), atol=1e-6)
    sums = found.sum(axis=1)
    np.testing.assert_allclose(sums[sums > 0], 1, atol=1e-5)


def test_a_loop_is_the_same_from_both_sides_and_adds_up():
    one = table(
        ("chr1", 60000, 65000, 5000, 10000, 1e-5), ("chr1", 5000, 10000, 60000, 65000, 1e-4)
    )
    loops = Loops.of(one, GENOME)
    assert len(loops) == 1 and loops.table["weight"].tolist() == [2]
    assert Loops.of(one, GENOME, weight="score").table["weight"].iloc[0] == pytest.approx(9)
    rows = contact_rows(loops, ("chr1", 0))
    assert rows.shape == (1000, 1000) and rows[40, 470:500].all() and rows[480, 50] > 0
    assert 39 <= np.count_nonzero(rows[60]) <= 41
    assert not contact_rows(loops, ("chr1", 128_000)).any()
    assert not contact_rows(loops, ("chr2", 0)).any()


def test_loops_are_kept_and_checked(tmp_path):
    loops = Loops.of(made_loops(), GENOME)
    loops.save(tmp_path / "a.npz")
    again = Loops.load(tmp_path / "a.npz", GENOME)
    assert again.table.equals(loops.table) and again.bin_bp == 128
    with pytest.raises(InputError, match="is of hg19"):
        Loops.load(tmp_path / "a.npz", Genome("hg38", *(GENOME.chromosomes, GENOME.lengths)))
    (tmp_path / "a.npz").write_bytes(b"PK")
    with pytest.raises(InputError, match="damaged"):
        Loops.load(tmp_path / "a.npz", GENOME)
    with pytest.raises(InputError, match="2 lie beyond|1 lie beyond"):
        Loops.of(table(("chr2", 0, 5000, 205_000, 210_000, 0)), GENOME)
    with pytest.raises(InputError, match="lack the .chr."):
        Loops.of(table(("1", 0, 5000, 5000, 10_000, 0)), GENOME)
    Loops.of(table(("chr2", 0, 5000, 200_000, 205_000, 0)), GENOME)  # the last anchor of chr2
    with pytest.raises(InputError, match="no multiple of 128"):
        contact_rows(loops, ("chr1", 100))


# ---- judged --------------------------------------------------------------------------------------


REGIONS = pd.DataFrame({"chrom": ["chr1", "chr2"], "start": [0, 0]})


def test_negatives_are_as_far_apart_and_touch_no_loop():
    loops = Loops.of(made_loops(3), GENOME)
    pairs = pairs_of(loops, REGIONS, per_loop=2, seed=1)
    assert pairs["label"].sum() > 15
    counts = pairs.groupby(["chrom", "distance_bp"])["label"].agg(["sum", "count"])
    assert (counts["count"] > counts["sum"]).all()
    for row in pairs.itertuples():
        here = loops.inside(row.chrom, row.start // 128)
        touched = (
            (here["first1"] < row.last1)
            & (here["last1"] > row.first1)
            & (here["first2"] < row.last2)
            & (here["last2"] > row.first2)
        )
        assert touched.any() == bool(row.label)
        assert row.first1 >= 0 and row.last2 <= 1000
    assert pairs.equals(pairs_of(loops, REGIONS, per_loop=2, seed=1))


def test_contacts_of_the_loops_themselves_are_found_and_noise_is_not():
    loops = Loops.of(made_loops(4, 120), GENOME)
    pairs = pairs_of(loops, REGIONS, per_loop=3)
    truth = {(c, 0): contact_rows(loops, (c, 0)) for c in ("chr1", "chr2")}
    found = by_distance(pairs, scored(pairs, truth))
    assert found["auprc"].dropna().tolist() == pytest.approx([1] * 5)
    rng = np.random.default_rng(0)
    noise = {key: rng.random((1000, 1000)) for key in truth}
    whole = by_distance(pairs, scored(pairs, noise)).iloc[-1]
    assert whole["prevalence"] == pytest.approx(0.25, abs=0.05)
    assert whole["auprc"] < 0.45 and whole["auroc"] == pytest.approx(0.5, abs=0.15)
    assert whole["auprc"] == average_precision_score(pairs["label"], scored(pairs, noise))


def test_distance_alone_finds_nothing():
    loops = Loops.of(made_loops(5, 120), GENOME)
    pairs = pairs_of(loops, REGIONS)
    place = np.arange(1000)
    near = 1 / (1 + np.abs(place[:, None] - place))
    contacts = {(c, 0): near for c in ("chr1", "chr2")}
    found = by_distance(pairs, scored(pairs, contacts)).iloc[-1]
    assert found["auroc"] == pytest.approx(0.5, abs=0.03)


def test_scores_and_cosines_are_those_of_slow_loops():
    rng = np.random.default_rng(1)
    matrix = rng.random((50, 50))
    pairs = pd.DataFrame({"first1": [2, 0], "last1": [5, 1], "first2": [9, 30], "last2": [20, 50]})
    for row, found in zip(pairs.itertuples(), pair_scores(matrix, pairs), strict=True):
        both = [
            (matrix[i, j] + matrix[j, i]) / 2
            for i in range(row.first1, row.last1)
            for j in range(row.first2, row.last2)
        ]
        assert found == pytest.approx(np.mean(both))
    target = np.where(rng.random((50, 50)) < 0.05, 1.0, 0.0)
    target[3] = 0
    cosines = [
        matrix[i] @ target[i] / np.linalg.norm(matrix[i]) / np.linalg.norm(target[i])
        for i in range(50)
        if target[i].any()
    ]
    assert row_cosine(matrix, target) == pytest.approx(np.mean(cosines))
    assert row_cosine(target, target) == pytest.approx(1)
    assert row_cosine(matrix, np.zeros((50, 50))) is None


def test_classes_without_both_kinds_have_no_figure():
    pairs = pd.DataFrame({"distance_bp": [10_000, 30_000, 30_000], "label": [1, 1, 0]})
    found = by_distance(pairs, np.array([0.1, 0.9, 0.2]))
    assert found["pairs"].tolist() == [1, 2, 0, 0, 3]
    assert found["auprc"].isna().tolist() == [True, False, True, True, False]
    with pytest.raises(InputError, match="2 scores for 3 pairs"):
        by_distance(pairs, np.array([0.1, 0.2]))

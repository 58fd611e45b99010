"""Epi-LSTM as published, bin by bin: the slow oracle of the tests.

Weights are under the names of the authors' files. Written from the description of the method, with
no code in common with `models/`; plain numpy in double precision, one bin and one number at a time
in mind rather than speed.
"""

from __future__ import annotations

import numpy as np

EPS = 1e-6


def softsign(a: np.ndarray) -> np.ndarray:
    return a / (1 + np.abs(a))


def sigmoid(a: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-a))


def normalised(a: np.ndarray, weights: dict, name: str) -> np.ndarray:
    """Ba et al. 2016; unchanged where the weights have no such norm."""
    if f"{name}.alpha" not in weights:
        return a
    centred = a - a.mean()
    return centred / np.sqrt(a.var() + EPS) * weights[f"{name}.alpha"] + weights[f"{name}.beta"]


def cell_step(weights: dict, layer: int, x, h, c) -> tuple[np.ndarray, np.ndarray]:
    """One bin through one cell: hidden and cell state after it."""
    own = f"lstm.params.{layer}"
    from_input = weights[f"{own}.i2h.weight"] @ x + weights[f"{own}.i2h.bias"]
    from_hidden = weights[f"{own}.h2h.weight"] @ h + weights[f"{own}.h2h.bias"]
    a = normalised(from_input, weights, f"{own}.ln_i2h")
    a = a + normalised(from_hidden, weights, f"{own}.ln_h2h")
    size = len(h)
    i, f, o = (sigmoid(a[k * size : (k + 1) * size]) for k in range(3))
    g = softsign(a[3 * size :])
    c = normalised(f * c + i * g, weights, f"{own}.ln_cell")
    return o * softsign(c), c


def run(
    encoder: dict,
    decoder: dict,
    signal: np.ndarray,
    frame: int,
    latent: int,
    layers: int = 1,
    carry_cell: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Latents [bins, H] and reconstruction [bins, D] of consecutive frames.

    The hidden state goes from frame to frame, the cell state too with `carry_cell`, else it is 0.
    """
    hidden, cell = np.zeros((2, layers, latent))
    latents, made = [], []
    for start in range(0, len(signal), frame):
        if not carry_cell:
            cell = np.zeros((layers, latent))
        hiddens, cells = [], []  # of every bin of the frame, [layers, H] each
        for x in signal[start : start + frame].astype(np.float64):
            hidden, cell = hidden.copy(), cell.copy()
            for layer in range(layers):
                hidden[layer], cell[layer] = cell_step(
                    encoder, layer, x, hidden[layer], cell[layer]
                )
                x = hidden[layer]
            hiddens.append(hidden)
            cells.append(cell)
            latents.append(hidden[-1])
        theirs = hiddens[-1].copy()  # the decoder begins with the encoder's last hidden state
        for h, c in zip(hiddens, cells, strict=True):
            x = h[-1]
            for layer in range(layers):
                theirs[layer], _ = cell_step(decoder, layer, x, theirs[layer], c[layer])
                x = theirs[layer]
            made.append(decoder["out.weight"] @ x + decoder["out.bias"])
    return np.array(latents), np.array(made)


def shapes(channels: int, latent: int, layers: int = 1, norms: bool = True) -> tuple[list, list]:
    """Names and shapes of the tensors of the authors' two files."""

    def part(first: int) -> list:
        found = []
        for layer in range(layers):
            own, inputs = f"lstm.params.{layer}", latent if layer else first
            found += [
                [f"{own}.i2h.weight", [4 * latent, inputs]],
                [f"{own}.i2h.bias", [4 * latent]],
                [f"{own}.h2h.weight", [4 * latent, latent]],
                [f"{own}.h2h.bias", [4 * latent]],
            ]
            for name, size in (("ln_i2h", 4 * latent), ("ln_h2h", 4 * latent), ("ln_cell", latent)):
                ends = [("alpha", [1, size]), ("beta", [1, size])]
                ends += [(f"fc_{k}.weight", [size, 16]) for k in ("alpha", "beta")]
                ends += [(f"fc_{k}.bias", [size]) for k in ("alpha", "beta")]
                found += [[f"{own}.{name}.{end}", shape] for end, shape in ends] if norms else []
        return found

    decoder = [*part(latent), ["out.weight", [channels, latent]], ["out.bias", [channels]]]
    return part(channels), decoder


def without_norms(weights: dict) -> dict:
    """What has an effect: the published norms wait for a condition that never comes."""
    return {name: w for name, w in weights.items() if ".ln_" not in name}

"""Gradient-boosted trees (XGBoost) as the Epi-LSTM and Avocado studies use them on windows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xgboost


@dataclass(frozen=True)
class BoostedTrees:
    """A classifier that begins anew at every call.

    Attributes:
        trees: upper bound; training stops when the average precision of the validation rows has
            not risen for `patience` trees.
        depth: of a tree at most.
        learning_rate: XGBoost's default.
        threads: of one training. Sums may differ in their last digits between numbers of threads.
    """

    trees: int = 5000
    depth: int = 6
    learning_rate: float = 0.3
    patience: int = 20
    seed: int = 0
    threads: int = 1

    def __call__(
        self,
        train: tuple[np.ndarray, np.ndarray],
        validation: tuple[np.ndarray, np.ndarray],
        test: np.ndarray,
    ) -> tuple[np.ndarray, int]:
        """Train on `train`, stop by `validation`, score `test`.

        Args:
            train, validation: features float32 [n, k] (NaN = missing, handled by the trees) and
                labels [n], 0 or 1, both present.
            test: features of the rows to score.

        Returns:
            Probability of the positive class at the best number of trees, float32 [n], and that
            number.
        """
        settings = {
            "objective": "binary:logistic",
            # plain `map` is map@32 in XGBoost 3.2, the 32 highest scores alone: on thousands of
            # examples that is noise and stops far too early
            "eval_metric": f"map@{len(validation[1])}",
            "tree_method": "hist",
            "max_depth": self.depth,
            "eta": self.learning_rate,
            "seed": self.seed,
            "nthread": self.threads,
            "verbosity": 0,
        }
        data = xgboost.QuantileDMatrix(*train, nthread=self.threads)
        stop = xgboost.QuantileDMatrix(*validation, ref=data, nthread=self.threads)
        model = xgboost.train(
            settings,
            data,
            num_boost_round=self.trees,
            evals=[(stop, "validation")],
            early_stopping_rounds=self.patience,
            verbose_eval=False,
        )
        best = model.best_iteration + 1
        rows = xgboost.DMatrix(test, nthread=self.threads)
        return model.predict(rows, iteration_range=(0, best)).astype(np.float32), best

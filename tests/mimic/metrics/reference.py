"""Prints the scores that two published packages give to small arrays, for test_reference.py.

Run by hand in an environment of its own (Python 3.11), never by pytest:

    pip install disent==0.8.0 scikit-learn==1.9.1
    pip install --no-deps disentanglement-lib==1.5 gin-config==0.4.0 absl-py six
    python tests/mimic/metrics/reference.py

disentanglement_lib is the authors' own (Apache-2.0), disent (MIT) an independent port. Both leave
scikit-learn's models to numpy's global random state, which is seeded here.
"""

import itertools
import json
import sys

import numpy as np

N_TRAIN, N_TEST = 400, 200
DRAWS = {"num_train": 4000, "num_eval": 4000}
VOTE_BATCH, PAIR_BATCH = 3, 2


def labelled():
    """Codes `[600 5]` and classes `[600 3]` of 3, 4 and 5 values."""
    draw = np.random.default_rng(0)
    factors = np.stack([draw.integers(size, size=N_TRAIN + N_TEST) for size in (3, 4, 5)], 1)
    mixing = np.array([[2, 0.3, 0, 0.5, 1], [0, 1.5, 0.2, 0.5, 1], [0.4, 0, 1, 0.5, 0]])
    codes = np.tanh((factors - [1, 1.5, 2]) @ mixing / 3)
    return codes + 0.1 * draw.standard_normal(codes.shape), factors


def grid():
    """Codes `[336 4]` of all combinations of three factors `[336 3]`, without noise."""
    sizes = (6, 7, 8)
    factors = np.array(list(itertools.product(*map(range, sizes))))
    unit = factors / (np.array(sizes) - 1) - 0.5
    mixing = np.array([[1, 0.3, 0, 0.5], [0.2, 0.8, 0.3, 0.5], [0, 0.2, 1.2, 0.5]])
    return 3 * unit @ mixing, factors


class Grid:
    """`grid` as disentanglement_lib samples data; observations are codes already."""

    num_factors = 3

    def __init__(self):
        self.codes, self.factors = grid()

    def sample_factors(self, count, random_state):
        return self.factors[random_state.randint(len(self.factors), size=count)]

    def sample_observations_from_factors(self, factors, random_state):
        return self.codes[np.ravel_multi_index(factors.T, (6, 7, 8))]

    def sample_observations(self, count, random_state):
        return self.sample_observations_from_factors(
            self.sample_factors(count, random_state), random_state
        )


def by_disent():
    from disent.metrics import _dci, _mig, _sap

    codes, factors = (x.T for x in labelled())
    parts = [x[:, i] for i in (slice(N_TRAIN), slice(N_TRAIN, None)) for x in (codes, factors)]
    np.random.seed(0)  # noqa: NPY002
    return {
        **_mig._compute_mig(codes, factors),
        **_dci._compute_dci(*parts),
        **_sap._compute_sap(*parts, continuous_factors=False),
        "sap.continuous": _sap._compute_sap(*parts, continuous_factors=True)["sap.score"],
    }


def by_disentanglement_lib():
    import gin

    sys.modules["gin.tf"] = gin  # it asks for nothing else of TensorFlow here
    from disentanglement_lib.evaluation.metrics import (
        beta_vae,
        dci,
        factor_vae,
        irs,
        mig,
        sap_score,
        utils,
    )
    from disentanglement_lib.evaluation.metrics import modularity_explicitness as modular

    codes, factors = (x.T for x in labelled())
    train, test = ((codes[:, i], factors[:, i]) for i in (slice(N_TRAIN), slice(N_TRAIN, None)))
    gin.parse_config(
        "discretizer.discretizer_fn = @histogram_discretizer\n"
        "discretizer.num_bins = 20\nprune_dims.threshold = 0.05"
    )
    information = utils.discrete_mutual_info(utils.make_discretizer(codes), factors)
    x, mean, scale = utils.normalize_data(train[0])
    x_test = utils.normalize_data(test[0], mean, scale)[0]
    np.random.seed(0)  # noqa: NPY002
    return {
        **mig._compute_mig(codes, factors),
        **dci._compute_dci(*train, *test),
        **sap_score._compute_sap(*train, *test, continuous_factors=False),
        "modularity": modular.modularity(information),
        "explicitness": np.mean(
            [
                modular.explicitness_per_factor(x, v, x_test, v_test)[1]
                for v, v_test in zip(train[1], test[1], strict=True)
            ]
        ),
        "irs": irs.scalable_disentanglement_score(factors.T, codes.T)["avg_score"],
        "factor_vae": factor_vae.compute_factor_vae(
            Grid(),
            lambda x: x,
            np.random.RandomState(0),
            batch_size=VOTE_BATCH,
            num_variance_estimate=10000,
            **DRAWS,
        )["eval_accuracy"],
        "beta_vae": beta_vae.compute_beta_vae_sklearn(
            Grid(), lambda x: x, np.random.RandomState(0), batch_size=PAIR_BATCH, **DRAWS
        )["eval_accuracy"],
    }


if __name__ == "__main__":
    for package in (by_disent, by_disentanglement_lib):
        scores = {name: round(float(score), 6) for name, score in package().items()}
        print(package.__name__, json.dumps(scores, indent=1))

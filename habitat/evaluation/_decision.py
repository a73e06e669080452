"""What acting on a model is worth."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from habitat.errors import ConfigError


def net_benefit(
    y: npt.ArrayLike, p: npt.ArrayLike, thresholds: npt.ArrayLike
) -> pd.DataFrame:
    """Net benefit of acting where the probability reaches a threshold.

    Parameters
    ----------
    y : (n,) array of 0 and 1
    p : (n,) array
        Probabilities of 1.
    thresholds : (t,) array
        Between 0 and 1, both excluded.

    Returns
    -------
    DataFrame
        Columns: threshold, model, all (acting on every case), none (0), avoided (acts
        avoided among 100 cases, against acting on all, at no loss of benefit).

    Notes
    -----
    ``TP/n - FP/n t/(1 - t)``; Vickers and Elkin, Med Decis Making 2006;26:565.

    Examples
    --------
    >>> net_benefit([0, 0, 1, 1], [0.2, 0.6, 0.7, 0.9], [0.5])["model"].tolist()
    [0.25]
    """
    truth, given = np.asarray(y, dtype=bool), np.asarray(p, dtype=np.float64)
    t = np.asarray(thresholds, dtype=np.float64)
    if not ((t > 0) & (t < 1)).all():
        raise ConfigError("must lie between 0 and 1", "`thresholds`", "such as 0.05")
    odds = t / (1 - t)
    acted = given[:, None] >= t
    tp = (acted & truth[:, None]).mean(axis=0)
    fp = (acted & ~truth[:, None]).mean(axis=0)
    share = truth.mean()
    model, everyone = tp - fp * odds, share - (1 - share) * odds
    return pd.DataFrame(
        {
            "threshold": t,
            "model": model,
            "all": everyone,
            "none": 0.0,
            "avoided": 100 * (model - everyone) / odds,
        }
    )

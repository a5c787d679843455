"""Total correlation by a density, `TC(x) = Σ h(x_i) - h(x)`, on samples that it never saw.

Each channel is mapped to normal scores, which leaves total correlation as it is, so that its own
density is known. What remains is the density of each channel given those before it, and
`TC = E[Σ_i log q(x_i | x_j, j < i) / p(x_i)]`. On fresh samples a density q that is not the true
one gives less, never more, and no logarithm of a batch size bounds it.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, leaky_relu, one_hot

from common.progress import Progress
from mimic.critic.devices import own_draws
from mimic.features.rows import Rows
from mimic.features.ties import atoms

FOLDS = 5  # each is read by a density that was fitted to the other four
STEPS = 600  # greatest number of steps of a density: it knows a small sample by heart soon
BATCH = 256
MOST = 64  # channels
COMPONENTS = 4  # Gaussians in the mixture of a channel


class Reading(NamedTuple):
    """Total correlation in nats, and its standard error over held-out samples."""

    value: float
    error: float


class Scored(NamedTuple):
    """Channels in the coordinates that a density needs, with any axes before `[c]`.

    Attributes:
        x: Normal scores of all values.
        own: Normal scores of values among those of their channel that are no atoms.
        atom: Number of the atom of a value; the last number stands for no atom.
        seen: What the density of other channels sees: scores, channels as they are, and classes.
    """

    x: Tensor
    own: Tensor
    atom: Tensor
    seen: Tensor

    def at(self, rows: Tensor) -> "Scored":
        """The rows with these numbers."""
        return Scored(*(each[rows] for each in self))


class Conditionals(nn.Module):
    """Autoregressive densities of scored channels, each fitted to samples of its own (MADE).

    The density of a channel given those before it is a mixture of Gaussians, with a probability
    for each atom. At first it is the Gaussian one of the covariance; a perceptron changes it.

    Args:
        covariances: Covariance of the normal scores for each density, `[f c c]`.
        before: Channels j that channel i is conditioned on, for each density, `bool [f c c]`.
        shares: Logarithm of the share of each atom, and of no atom, `[c a]`.
        n_context: Length of the context, which every channel is conditioned on.
    """

    def __init__(
        self, covariances: Tensor, before: Tensor, shares: Tensor, n_context: int = 0
    ) -> None:
        super().__init__()
        f, c = covariances.shape[:2]
        width = max(64, 2 * c)
        self.shares, self.dropout = shares, 0.2
        factors = torch.linalg.cholesky(covariances)
        self.whiten, self.deviation = torch.linalg.inv(factors), factors.diagonal(0, 1, 2)
        # A hidden unit belongs to a channel, and sees what that sees (Germain et al. 2015).
        owner = torch.arange(width) % c
        less = (before[:, :, None] <= before[:, None]).all(3)  # a sees no more than b: [f a b]
        context = torch.ones(f, c, n_context, dtype=torch.bool)
        inputs = torch.cat([before, before, context], 2)[:, owner]
        numbers = 3 * COMPONENTS + shares.shape[1]
        outputs = less[:, owner].mT.repeat_interleave(numbers, 1)
        self.masks = [inputs, less[:, owner][..., owner].mT, outputs]
        self.weights = nn.ParameterList(
            (2 * torch.rand(mask.shape) - 1) / math.sqrt(mask.shape[2]) for mask in self.masks
        )
        nn.init.zeros_(self.weights[2])
        spread = torch.linspace(-0.5, 0.5, COMPONENTS).expand(c, -1)
        last = torch.cat([0 * spread, spread, -spread.square(), shares.clamp(min=-30)], 1)
        biases = [torch.zeros(width), torch.zeros(width), last.flatten()]
        self.biases = nn.ParameterList(bias.repeat(f, 1, 1) for bias in biases)

    def forward(self, rows: Scored) -> Tensor:
        """Log density of rows `[f n …]`, relative to independent channels, `[f n]`."""
        # Residuals of the regression on the channels before, in their deviations.
        scale = self.whiten.diagonal(0, 1, 2)[:, None]
        e = rows.x @ self.whiten.mT + (rows.own - rows.x) * scale
        h = leaky_relu(self._layer(0, torch.cat([rows.x @ self.whiten.mT, rows.seen], 2)), 0.2)
        h = h + leaky_relu(self._layer(1, h), 0.2)
        out = self._layer(2, dropout(h, self.dropout, self.training))
        out = out.unflatten(2, (e.shape[2], -1))
        mixture, of_atom = out.split([3 * COMPONENTS, self.shares.shape[1]], 3)
        weight, mean, log_deviation = mixture.unflatten(3, (3, -1)).unbind(3)
        log_deviation = log_deviation.clamp(-7, 3)
        logs = -0.5 * ((e[..., None] - mean) / log_deviation.exp()).square() - log_deviation
        density = (weight.log_softmax(3) + logs).logsumexp(3) + 0.5 * rows.own.square()
        density = density - self.deviation.log()[:, None]
        there = of_atom.masked_fill(self.shares.isinf(), -math.inf).log_softmax(3)
        ratio = (there - self.shares.clamp(min=-30)).gather(3, rows.atom[..., None]).squeeze(3)
        return (ratio + torch.where(rows.atom == self.shares.shape[1] - 1, density, 0)).sum(2)

    def _layer(self, i: int, x: Tensor) -> Tensor:
        return torch.baddbmm(self.biases[i], x, (self.weights[i] * self.masks[i]).mT)


def read_density(
    rows: Rows,
    groups: Sequence[int],
    n_classes: int | None = None,
    steps: int = STEPS,
    seed: int = 0,
) -> Reading:
    """Total correlation of channels by densities, each sample read by one that never saw it.

    Of groups, or within classes, the same is subtracted for channels of the same group alone.

    Args:
        rows: Standardised channels `[n c]`, none of heavy tails.
        groups: Group of each channel.
        n_classes: Number of classes, for the total correlation within them. None: over all.
        steps: Number of steps of the densities.
        seed: Seed of everything random.
    """
    p, n, c = rows.positions, *rows.z.shape
    of, inside = torch.tensor(list(groups)), rows.labels is not None and n_classes is not None
    before = torch.ones(c, c, dtype=torch.bool).tril(-1)
    masks = [before]
    if inside or len(of.unique()) < c:
        masks.append(before & (of[:, None] == of))
    with own_draws(seed):
        scored, shares = _scored(rows, n_classes if inside else None)
        order = torch.randperm(n // p).repeat_interleave(p)
        folds = order % FOLDS == torch.arange(FOLDS)[:, None]
        chosen = ~folds & (order // FOLDS % 8 == 0)  # an eighth of the others
        train, check = (part.repeat(len(masks), 1) for part in (~folds & ~chosen, chosen))
        seen = torch.stack(masks).repeat_interleave(FOLDS, 0)
        ratios = _fitted(scored, shares, seen, train, check, steps)
    ratios = torch.where(folds, ratios.unflatten(0, (-1, FOLDS)), 0).sum(1).double()
    of_images = (ratios[0] - ratios[1:].sum(0)).unflatten(0, (-1, p)).mean(1)
    return Reading(float(of_images.mean()), float(of_images.std()) / math.sqrt(n // p))


def _fitted(
    scored: Scored, shares: Tensor, before: Tensor, train: Tensor, check: Tensor, steps: int
) -> Tensor:
    """Log ratios `[f n]` of all rows, of the best state of each density on its check rows.

    Independent channels are one of the states: ratios of zero.
    """
    covariances = [shrunk_covariance(scored.x[part]) for part in train]
    allowed = before | before.mT | torch.eye(before.shape[1], dtype=torch.bool)
    covariance = torch.where(allowed, torch.stack(covariances), 0)
    n_context = scored.seen.shape[1] - scored.x.shape[1]
    net = Conditionals(covariance, before, shares, n_context)
    optimizer = torch.optim.AdamW(net.parameters(), lr=5e-3, weight_decay=0.3)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    every = Scored(*(each.expand(len(before), *each.shape) for each in scored))
    best, kept = torch.zeros(len(before)), torch.zeros(before.shape[0], len(scored.x))
    rows_of, last = [part.nonzero().flatten() for part in train], 0
    for step in Progress(range(steps + 1), "Fitting densities"):
        if step in {0, steps} or step % max(1, steps // 20) == 0:
            with torch.no_grad():
                ratios = net.eval()(every)
            score = torch.where(check, ratios, 0).sum(1) / check.sum(1)
            kept = torch.where((better := score > best)[:, None], ratios, kept)
            best, last = torch.where(better, score, best), step if better.any() else last
        if step - last > steps // 4:
            break
        drawn = torch.stack([rows[torch.randint(len(rows), (BATCH,))] for rows in rows_of])
        optimizer.zero_grad()
        (-net.train()(scored.at(drawn)).mean(1).sum()).backward()
        nn.utils.clip_grad_norm_(net.parameters(), 10.0)
        optimizer.step()
        decay.step()
    return kept


def shrunk_covariance(x: Tensor) -> Tensor:
    """Covariance of centred rows `[n c]` shrunk towards a multiple of the identity, `[c c]`.

    The share of the target is Ledoit & Wolf's estimate of the best one (2004).
    """
    x = x.double()
    sample = x.T @ x / len(x)
    target = sample.diagonal().mean() * torch.eye(x.shape[1], dtype=x.dtype)
    apart = (sample - target).square().sum()
    noise = (x.square().sum(1).square().mean() - sample.square().sum()) / len(x)
    share = (noise / apart).nan_to_num(0).clamp(0, 1)
    return ((1 - share) * sample + share * target).float()


def _scored(rows: Rows, n_classes: int | None) -> tuple[Scored, Tensor]:
    """Coordinates of rows for a density, and the shares of atoms."""
    z = rows.z.detach().cpu()
    atom = atoms(z)
    count = int(atom.max()) + 1
    atom = torch.where(atom < 0, count, atom)
    shares = one_hot(atom, count + 1).float().mean(0).log()
    x, own = _ranked(z), torch.zeros_like(z)
    for i, free in enumerate((atom == count).T):
        own[free, i] = _ranked(z[free, i], shuffled=True)
    seen = [z]
    if n_classes is not None and rows.labels is not None:
        seen.append(one_hot(rows.labels.cpu(), n_classes).float())
    return Scored(x, own, atom, torch.cat(seen, 1)), shares


def _ranked(z: Tensor, shuffled: bool = False) -> Tensor:
    """Normal scores of values; equal ones get the middle of their scores, or one at random."""
    columns = z.movedim(0, -1).contiguous()
    ordered = columns.sort(-1).values
    counts = [torch.searchsorted(ordered, columns, right=right) for right in (False, True)]
    before, last = (count.movedim(-1, 0) for count in counts)
    share = torch.rand(z.shape, dtype=torch.float64) if shuffled else 0.5
    share = torch.where(last - before > 1, share, 0.5)
    return torch.special.ndtri((before + share * (last - before)) / len(z)).float()

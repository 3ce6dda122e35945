"""Gates: a synthetic gradient is applied as far as it has predicted, on messages that its predictor had not learned from.

Where a receiver acts, what comes back is mostly noise, and so is a prediction that was fitted to it. Injected, it would move the
sender at full speed, since an adaptive optimiser undoes any small factor, and the receiver could not follow. So a prediction
whose skill is not beyond chance is not applied at all, and any other is shrunk to what it is certainly worth.

A sender that is replayed follows its receiver. Its gate is open at first, while no code is learned that could be lost: opened
later, it would move a code that the receiver has learned to read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from antiphon.base.mask import Mask, Members

_MEMORY = 0.98
"""Weight of an earlier comparison against the next: predictor and receiver change, and about the last fifty count."""
_ERRORS = 2.5
"""Standard errors less which the cosine is certain, where a gate opens: noise is as good at six steps of a thousand."""
_LEAST = 0.02
"""Factor from which a prediction is applied: with less, nearly all that moves the sender is noise."""
_SAVED = ("cosine", "variance", "count", "ratio", "open")
"""Names of the sums in a saved state."""


class SkillGate:
    """Compare predictions with the gradients that came back for them, for one channel or K stacked channels.

    All comparisons of a step are one: of predictions p and gradients g of n samples, with `<p, g>` their inner product over all
    samples, `c = <p, g> / (|p| |g|)` is the cosine and `r = |p| / |g|` the ratio of norms, and c / r is the factor that makes
    the predictions least wrong. A cosine is noisy, so that its running mean counts; a ratio is not, so that the newest does. The
    samples' shares of c are independent of each other: the running sum of their squares is the variance of the sum of cosines
    where the prediction is noise.

    Attributes:
        sums: Running sums of cosines, of their variance and of ones, the newest ratio, and 1 where it is open, [5, K] float64; at
            first zeros, but ones as the last two of a gate that begins open.
        begins_open: Whether comparisons not yet made, of the memory's fifty, count as perfect, so that it is open at first.
        factors: By what predictions are multiplied, from 0 to 1, [K] float64.
        open: The members whose factor is not 0.

    Args:
        members: The gates of K stacked channels; they have the stack's state only after `write_members`.
        begins_open: See the attribute; of members, theirs.
    """

    def __init__(
        self,
        device: torch.device | str = "cpu",
        members: Sequence[SkillGate] = (),
        *,
        begins_open: bool = False,
    ) -> None:
        self.members = tuple(members)
        self.begins_open: bool = members[0].begins_open if members else begins_open
        first = [0.0, 0.0, 0.0, 1.0, 1.0] if self.begins_open else [0.0] * 5
        self.load_values([torch.tensor(first, dtype=torch.float64, device=device).unsqueeze(1)])
        self.read_members()

    @property
    def skill(self) -> Tensor:
        """Standard errors by which the running cosine is above zero, [K]; 0 before the first comparison."""
        cosine, variance, *_ = self.sums
        return torch.where(variance > 0, cosine / variance.sqrt(), 0.0)

    def applied(self, predictions: Tensor) -> Tensor | None:
        """Return predictions [K * B, size] as they are applied; None: none is, of any member."""
        if not self.open.anywhere:
            return None
        by_member = predictions.view(len(self.factors), -1)
        return self.open.zero_elsewhere(by_member * self.factors.to(by_member.dtype).unsqueeze(1)).view_as(
            predictions
        )

    def compared(self, products: Tensor, squares: Tensor, returned: Tensor) -> Tensor:
        """Return the sums after one more comparison; a member that nothing came back to, or that predicts zero, keeps its own.

        Args:
            products: <p, g> of each sample, [K * B], summed over the messages.
            squares: |p|², likewise.
            returned: |g|², likewise.
        """
        count = self.sums.shape[1]
        products, squares, returned = (
            samples.view(count, -1).double() for samples in (products, squares, returned)
        )
        scale = (squares.sum(1) * returned.sum(1)).sqrt()
        shares = products / scale.unsqueeze(1)
        new = [shares.sum(1), shares.square().sum(1), torch.ones_like(scale)]
        decayed = [before * _MEMORY**power for before, power in zip(self.sums[:3], (1, 2, 1), strict=True)]
        ratio = squares.sum(1) / scale
        cosine, variance, number = (before + now for before, now in zip(decayed, new, strict=True))
        opens = self._opens(torch.stack([cosine, variance, number, ratio, self.sums[-1]]))
        sums = torch.stack([cosine, variance, number, ratio, opens.double()])
        return torch.where((scale > 0) & sums.isfinite().all(0), sums, self.sums)

    def _opens(self, sums: Tensor) -> Tensor:
        """Whether a gate is open by running sums and whether it was, [K]: it opens where skill is certain, and shuts where it is gone."""
        cosine, variance, count, ratio, opened = sums
        errors = torch.where(opened > 0, 0.0, _ERRORS)
        return self._factor(cosine - errors * variance.sqrt(), count, ratio) >= _LEAST

    def _factor(self, cosine: Tensor, count: Tensor, ratio: Tensor) -> Tensor:
        """The factor that makes predictions least wrong, by running sums, [K]."""
        if not self.begins_open:
            return cosine / (count * ratio)
        full_count = 1 / (1 - _MEMORY)
        return (cosine / ratio + full_count - count) / full_count

    def move(self, sums: Tensor, members: Mask[Members]) -> None:
        """Take over the sums that `compared` returned, of some members."""
        self.load_values([members.map(lambda mask: mask.to(sums.device)).where(sums.T, self.sums.T).T])

    def values(self) -> list[Tensor]:
        """Return the state, without a copy of a tensor."""
        return [self.sums]

    def load_values(self, values: Sequence[Tensor]) -> None:
        """Load `values`; the tensors are used as they are."""
        (self.sums,) = values
        cosine, _, count, ratio, opens = self.sums
        self.factors = torch.where(opens > 0, self._factor(cosine, count, ratio), 0.0).clamp(max=1.0)
        self.open: Mask[Members] = Mask.of(opens > 0)

    def read_members(self) -> None:
        if self.members:
            self.load_values([torch.cat([member.sums for member in self.members], 1)])

    def write_members(self) -> None:
        for k, member in enumerate(self.members):
            member.load_values([self.sums[:, k : k + 1]])

    def state_dict(self) -> dict[str, Any]:
        """Return all that a fork or checkpoint needs, of one channel."""
        return dict(zip(_SAVED, self.sums[:, 0].tolist(), strict=True))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state returned by `state_dict`.

        Raises:
            ValueError: By the sums the gate would not be as it is: they are those of another rule.
        """
        sums = self.sums.new_tensor([state[key] for key in _SAVED]).unsqueeze(1)
        if bool(self._opens(sums)) != bool(state["open"]):
            raise ValueError("its gate opens and shuts by the rule of another version: begin the run anew")
        self.load_values([sums])

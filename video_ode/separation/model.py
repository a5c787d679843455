"""Separation of space and time, from the separation of variables in PDEs (Donà et al. 2021).

The equations are those of the State-based models slides, "Spatiotemporal Disentanglement".
"""

from typing import Literal

import torch
from torch import Tensor, nn

from common.errors import InputError, check_counts
from common.inputs import ArrayLike
from common.typing import ImageShape, Video
from video_ode.content import Content, SeparatingPredictor
from video_ode.dynamics.base import DynamicsFactory
from video_ode.frames.base import DecoderFactory, EncoderFactory, Skips
from video_ode.frames.coordinates import PointDecoder
from video_ode.predictor import TrainablePredictor, finite


class Separation(TrainablePredictor, SeparatingPredictor):
    """PDE-driven disentanglement: a video is decoded from a content S and a state T that moves.

    Two encoders see `n_given` frames at once: `S = E_S(x)` does not change, and `T_{t₀} = E_T(x)`
    moves by `dT/dt = f(T)`. The frames are `x̂_t = D(S, T_t)`. The loss has four terms:

        prediction · mse(x̂, x) + alignment · mse(D(S, E_T(x at another time)), x there)
        + invariance · mean (E_S(first frames) - E_S(last frames))² + norm · ½ |T_{t₀}|²

    Args:
        shape: Channels, height and width of a frame.
        motion: From channels, height and width of all given frames, one on top of the other, to
            the encoder `E_T`.
        decoder: From shape, length of a code and `skips` to the decoder `D`.
        dynamics: From the length of T and 0 to the dynamics; `ResidualBlocks` is that of the
            paper.
        content: Like `motion`, for the encoder `E_S`. None: the variant without S, which has no
            `invariance` and no `norm` either.
        n_given: Number of frames that the encoders see.
        mixing: Input of the decoder: the `concatenation` of S and T, or their `product`.
        state_at: Frame to which the state belongs that is inferred from `n_given` frames: the
            `first` of them, so that these are predicted too, or the `next` one after them.
        skips: Use skip connections from `E_S` to the decoder; the `invariance` holds for them too.
        prediction: Weight of the prediction.
        alignment: Weight of the reconstruction of a frame from a T that is inferred at that frame.
        invariance: Weight of the invariance of S.
        norm: Weight of the norm of T.
        decoded: Number of frames of the prediction that training decodes, drawn at random: an
            unbiased estimate at less cost. None: all of them.
        points: Number of random pixels of each frame that the loss compares, for decoders of
            points (`CoordinateDecoder`). None: all pixels.
        fields: The frames are fields, floats of any range.

    Raises:
        InputError: Numbers below their minimum, a `product` of different lengths, skip
            connections without S, or `points` of a decoder of whole frames.
    """

    def __init__(
        self,
        shape: ImageShape,
        motion: EncoderFactory,
        decoder: DecoderFactory,
        dynamics: DynamicsFactory,
        content: EncoderFactory | None,
        n_given: int = 5,
        mixing: Literal["concatenation", "product"] = "concatenation",
        state_at: Literal["first", "next"] = "first",
        skips: bool = False,
        prediction: float = 45.0,
        alignment: float = 10.0,
        invariance: float = 45.0,
        norm: float = 1e-3,
        decoded: int | None = None,
        points: int | None = None,
        fields: bool = False,
    ) -> None:
        super().__init__()
        check_counts(1, n_given=n_given, decoded=decoded, points=points)
        weights = dict(prediction=prediction, alignment=alignment)
        check_counts(0, **weights, invariance=invariance, norm=norm)
        if skips and content is None:
            raise InputError("got skips without content: skip connections start at its encoder")
        stacked = (n_given * shape[0], *shape[1:])
        self.motion = motion(stacked)
        self.content = None if content is None else content(stacked)
        self.decoder = decoder(shape, self._mixed_size(mixing), skips)
        if points is not None and not isinstance(self.decoder, PointDecoder):
            raise InputError(
                f"got points {points}, but {type(self.decoder).__name__} decodes whole frames; "
                "use CoordinateDecoder or leave points out"
            )
        self.dynamics = dynamics(self.motion.code_size, 0)
        self.shape, self.fields, self.skips = shape, fields, skips
        self.n_given, self.mixing, self.decoded, self.points = n_given, mixing, decoded, points
        self.delay = n_given if state_at == "next" else 0  # of the state, in frames
        self.prediction, self.alignment = prediction, alignment
        self.invariance, self.norm = invariance, norm

    def _mixed_size(self, mixing: str) -> int:
        """Length of the decoder's input."""
        still = 0 if self.content is None else int(self.content.code_size)
        moving = self.motion.code_size
        if mixing == "concatenation":
            return still + moving
        if still not in (0, moving):
            raise InputError(
                f"got codes of lengths {still} (content) and {moving} (motion); a product "
                "needs equal lengths: change code_size or mixing"
            )
        return moving

    def loss(
        self, video: ArrayLike, times: ArrayLike, mask: ArrayLike, n_cond: int, progress: float
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The four terms of the loss; the first `n_given` frames are the given ones.

        Raises:
            InputError: No frame after the given ones, or an error of `checked`.
        """
        video, _ = self.framewise(video, times, mask=mask)
        k, n = self.n_given, video.shape[1]
        if n <= k:
            raise InputError(
                f"got training videos of {n} frames, but Separation encodes {k} and predicts the "
                "later ones; raise data.n_frames or lower predictor.n_given"
            )
        other = int(torch.randint(n - k + (self.delay == 0), ()))
        first, elsewhere = self._encoded(self.motion, video, [0, other])[0]
        path = self.dynamics(first, torch.arange(float(n - self.delay))).states
        content, change = self._content_and_change(video)
        chosen = torch.randperm(n - self.delay)[: self.decoded]
        states = torch.cat([path[:, chosen], elsewhere[:, None]], 1)
        truth = torch.cat([chosen, torch.tensor([other])]) + self.delay
        errors = self._errors(states, content, video[:, truth])
        terms = {"prediction": errors[:, :-1].mean(), "alignment": errors[:, -1].mean()}
        loss = self.prediction * terms["prediction"] + self.alignment * terms["alignment"]
        if self.content is not None:
            terms["invariance"] = change
            terms["norm"] = 0.5 * first.square().flatten(1).sum(1).mean()
            loss = loss + self.invariance * change + self.norm * terms["norm"]
        return loss, terms

    def content_of(self, video: ArrayLike) -> Content:
        """Content from the last `n_given` frames."""
        frames = self._given(self.as_frames(video))
        if self.content is None:
            return Content(frames.new_zeros(len(frames), 0), ())
        (code,), skips = self._encoded(self.content, frames, [0])
        return Content(code, [s[0] for s in skips] if self.skips else ())

    @finite(axis=2)
    def states(
        self,
        video: ArrayLike,
        times: ArrayLike,
        target_times: ArrayLike,
        n_samples: int = 1,
        mask: ArrayLike | None = None,
    ) -> Tensor:
        """States T `[s b k …]` at any times, before the first frame if the dynamics run backward.

        Nothing is random: all samples are equal.
        """
        video, units = self.framewise(video, times, target_times, n_samples, mask, backward=True)
        start = video.shape[1] - self.n_given + self.delay
        (state,), _ = self._encoded(self.motion, self._given(video), [0])
        states = self.dynamics.states_around(state, units.new_tensor([start]), units)
        return states.expand(n_samples, *states.shape)

    def decode(self, states: Tensor, content: Content) -> Video:
        """Decoded frames `[b t c h w]` of states `[b t d …]`."""
        codes, skips = self._mixed(states, content)
        return self.decoder(codes, skips).unflatten(0, states.shape[:2])

    def decode_at(self, states: Tensor, content: Content, points: Tensor) -> Tensor:
        """Values `[b t c p]` at points, of states `[b t d]`, by a decoder of points.

        Args:
            states: States.
            content: Content of each video.
            points: Rows and columns in pixels, `[p 2]`; pixel centres are whole numbers.

        Raises:
            InputError: The decoder decodes whole frames only.
        """
        if not isinstance(self.decoder, PointDecoder):
            raise InputError(
                f"{type(self.decoder).__name__} decodes whole frames only; use CoordinateDecoder"
            )
        codes, _ = self._mixed(states, content)
        return self.decoder.at(codes, points).unflatten(0, states.shape[:2])

    def predict_at(
        self, video: ArrayLike, times: ArrayLike, target_times: ArrayLike, points: Tensor
    ) -> Tensor:
        """Predicted values `[b k c p]` at points between the pixels, see `decode_at`.

        The other arguments are those of `predict`.
        """
        (states,) = self.states(video, times, target_times)
        return self.decode_at(states, self.content_of(video), points.to(states))

    def _mixed(self, states: Tensor, content: Content) -> tuple[Tensor, Skips]:
        """Codes `[n d …]` and feature maps `[n …]` of all frames, as inputs of the decoder."""
        (still, skips), moving = self.repeated(content, states), states.flatten(0, 1)
        if self.content is None:
            return moving, ()
        mixed = torch.cat([still, moving], 1) if self.mixing == "concatenation" else still * moving
        return mixed, skips

    def _errors(self, states: Tensor, content: Content, truth: Video) -> Tensor:
        """Squared errors `[b t …]` of decoded frames, at all pixels or at random ones."""
        if self.points is None:
            return (self.decode(states, content) - truth).square()
        h, w = truth.shape[-2:]
        chosen = torch.randperm(h * w, device=truth.device)[: self.points]
        places = torch.stack([chosen // w, chosen % w], 1).to(truth)
        return (self.decode_at(states, content, places) - truth.flatten(3)[..., chosen]).square()

    def _content_and_change(self, video: Video) -> tuple[Content, Tensor]:
        """Content of the first frames, and its mean squared difference to that of the last."""
        if self.content is None:
            return self.content_of(video), video.new_zeros(())
        last = video.shape[1] - self.n_given
        codes, skips = self._encoded(self.content, video, [0, last])
        compared = [codes, *(skips if self.skips else ())]
        total = sum(((a - b).square().sum() for a, b in compared), video.new_zeros(()))
        change = total / sum(a.numel() for a, _ in compared)
        return Content(codes[0], [s[0] for s in skips] if self.skips else ()), change

    def _encoded(
        self, encoder: nn.Module, video: Video, starts: list[int]
    ) -> tuple[Tensor, list[Tensor]]:
        """Codes `[k b d …]` and feature maps of the windows that begin at these frames."""
        windows = torch.cat([video[:, s : s + self.n_given].flatten(1, 2) for s in starts])
        codes, skips = encoder(windows)
        size = (len(starts), len(video))
        return codes.unflatten(0, size), [s.unflatten(0, size) for s in skips]

    def _given(self, video: Video) -> Video:
        """The last `n_given` frames."""
        if video.shape[1] < self.n_given:
            raise InputError(
                f"got {video.shape[1]} frames, but Separation encodes {self.n_given}; give more "
                "frames or lower predictor.n_given"
            )
        return video[:, -self.n_given :]

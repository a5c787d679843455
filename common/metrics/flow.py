"""Metrics of optical flow: end-point error and rates of pixels, as in the public benchmarks."""

from typing import TypedDict

import torch
from torch import Tensor
from torchmetrics import Metric

from common.errors import InputError
from common.inputs import check_flow

OUTLIER_PIXELS, OUTLIER_SHARE = 3, 0.05  # KITTI: an outlier's error is above both
RADII = (1, 3, 5)


class FlowErrors(TypedDict):
    """Results of `FlowMetrics`; NaN where no pixel is valid.

    Attributes:
        epe: Mean end-point error, in pixels.
        f1_all: Share of outliers, 0 to 1; papers print it in %.
        within_1px: Share of pixels whose end-point error is below 1 pixel, 0 to 1.
        within_3px: The same below 3 pixels.
        within_5px: The same below 5 pixels.
    """

    epe: float
    f1_all: float
    within_1px: float
    within_3px: float
    within_5px: float


class FlowMetrics(Metric):
    """Errors of optical flow over all valid pixels of a set, where each pixel has equal weight.

    This is the average of Sintel, and of F1-all on KITTI. The EPE on KITTI is in many papers the
    mean over pictures of each picture's mean; that number differs.
    """

    full_state_update = False
    pixels: Tensor
    error: Tensor
    outliers: Tensor
    within: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("pixels", torch.tensor(0), "sum")
        self.add_state("error", torch.tensor(0.0, dtype=torch.float64), "sum")
        self.add_state("outliers", torch.tensor(0), "sum")
        self.add_state("within", torch.zeros(len(RADII), dtype=torch.int64), "sum")

    def update(self, flow: Tensor, truth: Tensor, valid: Tensor | None = None) -> None:
        """Adds the pixels of flows.

        Args:
            flow: Estimated flow `[... 2 h w]`, in pixels to the right and down. Where it is NaN,
                the pixel is an outlier and the EPE is NaN.
            truth: True flow of the same shape.
            valid: Where the true flow is known, `bool [... h w]`. None: everywhere.

        Raises:
            InputError: Other shapes or types, or a true flow that is NaN or infinite at a valid
                pixel.
        """
        error = end_point_error(flow, truth)
        outliers = flow_outliers(flow, truth)
        check_flow(truth, valid)
        valid = torch.ones_like(outliers) if valid is None else valid
        if not truth.isfinite().all(-3)[valid].all():
            raise InputError(
                "got a true flow that is NaN or infinite; mark these pixels as not valid"
            )
        error = error[valid]
        self.pixels += len(error)
        self.error += error.double().sum()
        self.outliers += outliers[valid].sum()
        self.within += torch.stack([(error < radius).sum() for radius in RADII])

    def compute(self) -> FlowErrors:
        """Errors over all pixels that were added."""
        epe, f1_all, *within = (
            (total.double() / self.pixels).item()
            for total in (self.error, self.outliers, *self.within)
        )
        return {
            "epe": epe,
            "f1_all": f1_all,
            "within_1px": within[0],
            "within_3px": within[1],
            "within_5px": within[2],
        }


def end_point_error(flow: Tensor, truth: Tensor) -> Tensor:
    """End-point error (EPE) of each pixel: length of the difference of two flows, in pixels.

    Args:
        flow: Estimated flow `[... 2 h w]`.
        truth: True flow of the same shape.

    Returns:
        `[... h w]`, in float32 or, of flows in float64, in float64.

    Raises:
        InputError: Other shapes or types.
    """
    return torch.linalg.vector_norm(_checked(flow, truth) - truth, dim=-3)


def flow_outliers(flow: Tensor, truth: Tensor) -> Tensor:
    """Outliers of KITTI, `bool [... h w]`; their share of the valid pixels is F1-all.

    The end-point error of an outlier is above 3 pixels and above 5 % of the length of the true
    flow (Menze 2015), or NaN. The arguments are those of `end_point_error`.

    Raises:
        InputError: Other shapes or types.
    """
    error = end_point_error(flow, truth)
    length = torch.linalg.vector_norm(truth.to(error), dim=-3)
    # Right is asked, not wrong, because NaN is never right.
    return ~((error <= OUTLIER_PIXELS) | (error / length <= OUTLIER_SHARE))


def _checked(flow: Tensor, truth: Tensor) -> Tensor:
    """The flow in at least single precision, after a check of both."""
    check_flow(flow)
    check_flow(truth)
    if flow.shape != truth.shape:
        raise InputError(
            f"got a flow of {tuple(flow.shape)} for a true flow of {tuple(truth.shape)}; give "
            "flows of equal shape"
        )
    return flow.to(torch.promote_types(flow.dtype, torch.float32))

"""The learning rate over a run."""

from typing import Any

from torch.optim.lr_scheduler import LambdaLR


class Scheduled(LambdaLR):
    """torch's LambdaLR, but its base learning rates come from the optimizer, not from a checkpoint."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore how many steps were taken."""
        super().load_state_dict({**state_dict, "base_lrs": self.base_lrs})

    def set_rates(self) -> None:
        """Replace the learning rates of the next step, which a checkpoint restored, by the rates of this schedule."""
        factors = [factor(self.last_epoch) for factor in self.lr_lambdas]
        self._last_lr = [base * factor for base, factor in zip(self.base_lrs, factors, strict=True)]
        for group, lr in zip(self.optimizer.param_groups, self._last_lr, strict=True):
            group["lr"] = lr


class WarmupDecay:
    """Linear warm-up, then constant, then linear decay to zero over the last part of the run.

    Args:
        warmup_steps: optimizer steps from zero to the full learning rate.
        decay_fraction: part of the run, 0 to 1, over which the learning rate falls; 0 keeps it constant.

    Raises:
        ValueError: if an argument is out of range.
    """

    def __init__(self, warmup_steps: int = 0, decay_fraction: float = 0.0) -> None:
        if warmup_steps < 0:
            raise ValueError(f"warmup_steps is at least 0, got {warmup_steps}")
        if not 0 <= decay_fraction <= 1:
            raise ValueError(f"decay_fraction is between 0 and 1, got {decay_fraction}")
        self.warmup_steps = warmup_steps
        self.decay_fraction = decay_fraction

    def __call__(self, step: int, progress: float) -> float:
        """Return the factor on the learning rate at `step`, from 0, with `progress` of the run done."""
        warmup = min(1.0, (step + 1) / self.warmup_steps) if self.warmup_steps else 1.0
        decay = min(1.0, (1.0 - progress) / self.decay_fraction) if self.decay_fraction else 1.0
        return warmup * max(0.0, decay)

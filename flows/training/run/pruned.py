"""The end of a trial of a search that is clearly behind the others."""


class Pruned(BaseException):
    """A trial has ended early, as the pruner said. (No failure, so no Exception.)

    Args:
        step: training steps until then.
        value: by which the search compares trials.
    """

    def __init__(self, step: int, value: float) -> None:
        super().__init__(f"pruned at step {step:,}, as {value:.4f} is clearly behind the other trials")
        self.value = value

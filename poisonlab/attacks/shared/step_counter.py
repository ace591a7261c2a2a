"""Progress of an attack whose steps are counted across several loops."""

from poisonlab.context import Context


class StepCounter:
    """Reports one step after the other as progress of the stage.

    Args:
        done: steps taken before, by an interrupted attempt.
    """

    def __init__(self, ctx: Context, done: int, total: int) -> None:
        self.ctx = ctx
        self.done = done
        self.total = total

    def advance(self) -> None:
        self.done += 1
        self.ctx.progress(self.done, self.total)

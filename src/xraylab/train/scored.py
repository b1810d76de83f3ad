"""fastai's Learner, with a validation that memory cannot end."""

from fastai.learner import Learner

from xraylab.data.image_cache import SCORING_BATCH
from xraylab.model import memory

# fastai carries no types, so to mypy the Learner is Any: hence the ignore below


class HalvingLearner(Learner):  # type: ignore[misc]
    """Scores images in batches that are halved where memory runs out, and goes on where it stopped.

    `scoring_batch` is their size by then. The training batch is a parameter, and stays what it is.
    """

    scoring_batch = SCORING_BATCH

    def all_batches(self) -> None:
        """As fastai's, of training; of anything else, batches made here, where an error can be met."""
        if self.training:
            super().all_batches()
            return
        images = len(self.dl.dataset)
        self.n_iter = -(-images // self.scoring_batch)

        def score(start: int, stop: int) -> None:
            self.one_batch(start // self.scoring_batch, self.dl.create_batch(range(start, stop)))

        for _, size in memory.batches(score, images, self.scoring_batch, "scoring the validation images"):
            self.scoring_batch = size

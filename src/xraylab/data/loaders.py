"""fastai's DataLoaders over our batches."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from fastai.data.core import DataLoaders
from fastai.data.load import DataLoader
from numpy.typing import NDArray
from torch import Tensor

from xraylab.data.image_cache import SCORING_BATCH, Rows, TrainingBatches


def dataloaders(
    training: TrainingBatches,
    scored_rows: Rows,
    scored_labels: NDArray[np.int64],
    batch_size: int,
    device: str,
) -> DataLoaders:
    """Training batches, shuffled unless their order is drawn already, and everything that is scored after each epoch.

    A last training batch of a single image is left out, since batch norm cannot be computed from one.
    """
    count = len(training.order)

    def scored(positions: Sequence[int]) -> tuple[Tensor, Tensor]:
        chosen = np.asarray(positions)
        return training.store.plain(scored_rows[chosen]), torch.from_numpy(scored_labels[chosen])

    def loader(length: int, size: int, make: Callable[..., tuple[Tensor, Tensor]], **options: bool) -> DataLoader:
        return DataLoader(
            range(length), bs=size, create_batch=make, retain=lambda batch, _: batch, device=device, **options
        )

    train = loader(count, batch_size, training, shuffle=not training.order.ordered, drop_last=count % batch_size == 1)
    return DataLoaders(train, loader(len(scored_rows), SCORING_BATCH, scored), device=device)

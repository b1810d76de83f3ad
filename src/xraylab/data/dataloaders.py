"""fastai's DataLoaders over the image cache or cached features, which augment every epoch anew by themselves."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property
from importlib import import_module
from itertools import count
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import pandas as pd
import torch
from fastai.data.core import DataLoaders, TfmdDL
from fastai.data.load import DataLoader
from fastai.data.transforms import Category, CategoryMap, MultiCategory
from fastai.torch_core import TensorCategory, TensorImageBW, TensorMultiCategory, to_cpu, to_device
from numpy.typing import NDArray
from torch import Tensor

from xraylab import targets
from xraylab.data import augment, uncertain
from xraylab.data.augment import Augmentation, Gray, SampledAugmentation
from xraylab.data.image_cache import SCORING_BATCH, ImageCache, Rows
from xraylab.data.sampling import EpochSampler, rarest_finding
from xraylab.data.uncertain import Targets, Uncertain
from xraylab.errors import DataError
from xraylab.task import MULTI_LABEL, SINGLE_LABEL

Batch = tuple[Tensor, ...]
FEATURES = "model.freeze.cache: batches are features, not images: set it to false to look at or augment images"
ALL_ROWS = slice(None)
PREVIEW = 2**30  # numbers the draws of what is only looked at apart from those of any epoch

# fastai carries no types, so to mypy its classes are Any: hence the ignores below


class Inputs(Protocol):
    """Gives what a network takes for rows of the image cache: images, or features computed from them."""

    def of(self, rows: Rows) -> Tensor: ...


class Radiograph(TensorImageBW):  # type: ignore[misc]
    """Gray levels from 0 to 1 that fastai shows as they are: its own type shows them as a negative."""

    _show_args: ClassVar = {"cmap": "gray", "vmin": 0.0, "vmax": 1.0}


@dataclass(frozen=True)
class Subset:
    """Images of a study: the `dataset` of a DataLoader.

    An image has one class, and its label is the number of that; or, in a multi-label study, each of the findings
    `vocab` or not, and its label is a row of float32, NaN where an entry must not count.
    """

    items: pd.DataFrame
    """One row per image: id, and, where they are known, label, split and source."""
    rows: Rows
    """Row of each image in the image cache."""
    inputs: Inputs
    vocab: CategoryMap
    positive: int | None
    """The number of the positive class."""
    split_idx: int
    """0 for training images, 1 for others: fastai's transforms ask for it."""
    uncertain: Uncertain | None = None
    """What training makes of uncertain labels in a multi-label study; None with one label per image."""

    n_inp: ClassVar[int] = 1

    @property
    def c(self) -> int:
        """The number of classes, or of findings."""
        return len(self.vocab)

    @property
    def task(self) -> str:
        return MULTI_LABEL if self.uncertain else SINGLE_LABEL

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """Class numbers; in a multi-label study of the rarest finding that an image has, see `sampling`."""
        if self.uncertain:
            return rarest_finding(self.known_labels)
        return np.array([self.vocab.o2i[label] for label in self.items["label"]], np.int64)

    @cached_property
    def targets(self) -> Targets:
        """What a network learns of findings, (images, findings); of images that are scored, what is known of them."""
        return self.uncertain.targets(self.items) if self.uncertain and self.split_idx == 0 else self.known_labels

    @cached_property
    def known_labels(self) -> Targets:
        """The labels of findings that are known, (images, findings): what metrics count."""
        return uncertain.known_labels(self.items, list(self.vocab))

    @property
    def labelled(self) -> bool:
        """Whether labels are known at all."""
        return set(targets.columns(self.vocab) if self.uncertain else ["label"]) <= set(self.items.columns)

    @property
    def sources(self) -> list[str]:
        """The names of the images' sources, sorted."""
        return list(np.unique(self.items["source"].to_numpy(str)))

    @property
    def source_numbers(self) -> NDArray[np.int64]:
        """The number of each image's source."""
        return np.asarray(np.unique(self.items["source"].to_numpy(str), return_inverse=True)[1])

    @property
    def groups(self) -> NDArray[np.int64]:
        """The number of each image's pair of source and class: source * classes + class."""
        return np.asarray(self.source_numbers * (self.c + bool(self.uncertain)) + self.labels)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, position: int) -> tuple[Any, ...]:
        """An image as gray levels from 0 to 1, (1, height, width), and its class or its findings."""
        image, *label = self.picture(self.batch([position]))
        return self.decode((image[0], *(each[0] for each in label)))

    def batch(self, positions: Sequence[int] | NDArray[np.int64], part: slice = ALL_ROWS) -> Batch:
        """What a network takes for a part of the images at these positions, and all their labels, if known."""
        idxs = np.asarray(positions, np.int64)
        return self.with_labels(self.inputs.of(self.rows[idxs[part]]), idxs)

    def with_labels(self, inputs: Tensor, positions: NDArray[np.int64]) -> Batch:
        """The inputs of the images at these positions with their labels, where they are known."""
        if not self.labelled:
            return (inputs,)
        return (inputs, torch.from_numpy((self.targets if self.uncertain else self.labels)[positions]))

    def picture(self, batch: Batch) -> tuple[Any, ...]:
        """A batch as types that fastai can show. Errors: DataError where it holds features."""
        # registers how fastai shows images, which no training needs
        import_module("fastai.vision.learner")
        images, *labels = to_cpu(batch)
        if not isinstance(self.inputs, ImageCache):
            raise DataError(FEATURES)
        return (
            Radiograph(self.inputs.gray(images)),
            *map(TensorMultiCategory if self.uncertain else TensorCategory, labels),
        )

    def decode(self, sample: tuple[Any, ...], full: bool = True) -> tuple[Any, ...]:
        """Replace the class number by its name, or the findings by those that are there, as fastai shows a sample."""
        image, *label = sample
        return (image, *map(self._names, label))

    def _names(self, label: Tensor) -> Category | MultiCategory:
        if not self.uncertain:
            return Category(self.vocab[int(label)])
        return MultiCategory([name for name, value in zip(self.vocab, label.tolist(), strict=True) if value > 0.5])


class ScoringLoader(TfmdDL):  # type: ignore[misc]
    """Images as they are, in order: fastai's DataLoader, but that batches are made as a whole and not item by item.

    Where several processes share the work, `shard` says which part of a batch of so many images is this one's: the
    inputs of a batch are of that part, and its labels of the whole.
    """

    dataset: Subset
    bs: int
    n: int
    shard: Callable[[int], slice] | None = None

    def __init__(self, dataset: Subset, bs: int = SCORING_BATCH, num_workers: int = 0, **options: Any) -> None:
        # workers would copy images that lie in memory, or on the GPU, already
        super().__init__(dataset, bs=bs, num_workers=num_workers, **options)

    def create_batches(self, idxs: Iterable[int]) -> Iterator[Batch]:
        """The batches of an epoch, by the images' places in it."""
        yield from map(self.do_batch, self.chunkify(idxs))

    def do_batch(self, idxs: Sequence[int]) -> Batch:
        """The network's input for the images at these indices, and their class numbers."""
        return self.dataset.batch(idxs, self.part(len(idxs)))

    def part(self, images: int) -> slice:
        """Which of a batch of so many images this process computes."""
        return ALL_ROWS if self.shard is None else self.shard(images)

    def whole_batch(self, idxs: Sequence[int]) -> Batch:
        """The batch of these places on the device, after the user's transforms, as iterating would give it."""
        batch: Batch = self.after_batch(to_device(self.do_batch(idxs), self.device))
        return batch

    def new(self, dataset: Subset | None = None, cls: type | None = None, **options: Any) -> "ScoringLoader":
        """Another such loader, of other images, in another order, or in batches of another size."""
        loader: ScoringLoader = DataLoader.new(self, dataset, cls, do_setup=False, **options)
        return loader

    def decode(self, batch: Batch) -> tuple[Any, ...]:
        """The batch as images and classes that fastai can show."""
        return self.dataset.picture(tuple(self.after_batch.decode(batch)))


class CopyLoader(ScoringLoader):
    """Images in order, each as `sampled` augments it: a copy for test-time augmentation."""

    def __init__(
        self, dataset: Subset, sampled: SampledAugmentation, augmentation: Augmentation, **options: Any
    ) -> None:
        super().__init__(dataset, **options)
        self.sampled, self.augmentation = sampled, augmentation

    def do_batch(self, idxs: Sequence[int]) -> Batch:
        """The augmented images at these indices, and their class numbers."""
        positions = np.asarray(idxs, np.int64)
        sampled, cache = self.sampled.of(positions), self.dataset.inputs
        if not isinstance(cache, ImageCache):
            raise DataError(FEATURES)
        return self.dataset.with_labels(
            cache.augment(self.dataset.rows[positions], sampled, self.augmentation), positions
        )

    def new(self, dataset: Subset | None = None, cls: type | None = None, **options: Any) -> ScoringLoader:
        """Another loader of the same copies, as fastai's `get_preds` makes one."""
        return super().new(dataset, cls, **{"sampled": self.sampled, "augmentation": self.augmentation, **options})


class Augmenter:
    """Training images as an epoch shows them: augmented by draws that depend on seed, epoch and place alone."""

    def __init__(self, cache: ImageCache, rows: Rows, augmentation: Augmentation, seed: int) -> None:
        self.cache, self.rows, self.augmentation, self.seed = cache, rows, augmentation, seed

    def draw(self, epoch: int, n: int) -> None:
        """Draw what happens to the image at each of so many places of an epoch."""
        self.sampled = self.augmentation.draw(augment.uniform([self.seed, epoch], n))

    def of(self, rows: Rows, idxs: NDArray[np.int64]) -> Tensor:
        """The network's input for the images in these rows of the cache, at these indices of the epoch."""
        sampled, images = self.sampled.of(idxs), self.cache.images
        if sampled.references is not None:  # whichever training images were drawn lend their histograms, of any class
            sampled = augment.match_histograms(sampled, images[rows], lambda n: images[self.rows[n]], len(self.rows))
        return self.cache.augment(rows, sampled, self.augmentation)


class TrainLoader(ScoringLoader):
    """Training images in the sampler's order, augmented where there is an augmenter.

    Every pass is the next `epoch`; what it draws depends on (seed, epoch, place) alone. `sampler` knows which images
    the latest batch held. To look at a batch (`one_batch`, `show_batch`) draws for itself and is no epoch.
    """

    def __init__(
        self,
        dataset: Subset,
        bs: int,
        sampler: EpochSampler,
        augmenter: Augmenter | None = None,
        seed: int = 0,
        **options: Any,
    ) -> None:
        defaults = {"n": len(sampler), "shuffle": not sampler.ordered, "drop_last": _one_left(sampler, bs)}
        super().__init__(dataset, bs=bs, **{**defaults, **options})
        self.sampler, self.augmenter, self.seed, self.epoch, self.previews = sampler, augmenter, seed, 0, count(PREVIEW)

    def randomize(self) -> None:
        """Begin the next epoch: fastai calls this at the beginning of each pass."""
        self.rng.seed(epoch_seed(self.seed, self.epoch))
        super().randomize()
        self.sampler.start(self.epoch)
        if self.augmenter is not None:
            self.augmenter.draw(self.epoch, self.n)
        self.epoch += 1

    def do_batch(self, idxs: Sequence[int]) -> Batch:
        """The images at these places of the epoch, augmented, and their class numbers."""
        positions, part = self.sampler.of(idxs), self.part(len(idxs))
        if self.augmenter is None:
            return self.dataset.batch(positions, part)
        inputs = self.augmenter.of(self.dataset.rows[positions[part]], np.asarray(idxs, np.int64)[part])
        return self.dataset.with_labels(inputs, positions)

    def new(self, dataset: Subset | None = None, cls: type | None = None, **options: Any) -> ScoringLoader:
        """Another such loader; for other images, or without shuffling, one that shows each image once, unaugmented."""
        if dataset is not None or cls is not None or options.get("shuffle") is False:
            images = replace(self.dataset, split_idx=1) if dataset is None else dataset
            return super().new(images, cls or ScoringLoader, **{"shuffle": False, "drop_last": False, **options})
        defaults = {"sampler": copy(self.sampler), "augmenter": copy(self.augmenter), "seed": self.seed}
        defaults |= {
            "shuffle": not self.sampler.ordered,
            "drop_last": _one_left(self.sampler, options.get("bs", self.bs)),
        }
        loader: TrainLoader = super().new(**{**defaults, **options})
        loader.epoch = self.epoch
        return loader

    def one_batch(self) -> Batch:
        """A batch to look at, of draws of its own."""
        batch: Batch = DataLoader.one_batch(self._preview())
        return batch

    def show_batch(self, b: Batch | None = None, max_n: int = 9, unique: bool = False, **options: Any) -> Any:
        """As fastai's; with `unique` one image as so many places of an epoch would augment it."""
        if unique and b is None:
            b = self._augmentations(max_n)
        return super().show_batch(b, max_n=max_n, **options)

    def _augmentations(self, number: int) -> Batch:
        preview = self._preview()
        preview.randomize()
        positions, idxs = np.repeat(preview.sampler.of([0]), number), np.arange(number) % self.n
        if preview.augmenter is None:
            return self.dataset.batch(positions)
        inputs = preview.augmenter.of(self.dataset.rows[positions], idxs)
        batch: Batch = self.after_batch(to_device(self.dataset.with_labels(inputs, positions), self.device))
        return batch

    def _preview(self) -> "TrainLoader":
        preview = self.new()
        preview.epoch = next(self.previews)
        return preview


def _one_left(sampler: EpochSampler, batch_size: int) -> bool:
    """Return whether an epoch's last batch would be a single image, too few for batch norm."""
    return len(sampler) % batch_size == 1


def epoch_seed(seed: int, epoch: int) -> int:
    """The seed of all random numbers of an epoch, so that a resumed run draws the same ones."""
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0])


class XrayDataLoaders(DataLoaders):  # type: ignore[misc]
    """Training images (`train`), and everything that is scored after each epoch (`valid`).

    `row_of` is each image's row in the cache; `read_image` prepares a file as the cached ones are, uint8 (size, size).
    """

    def __init__(
        self, *loaders: ScoringLoader, row_of: Mapping[str, int], read_image: Callable[[Path], Gray], **options: Any
    ) -> None:
        super().__init__(*loaders, **options)
        self.row_of, self.read_image = row_of, read_image

    def test_dl(self, test_items: Any, rm_type_tfms: None = None, with_labels: bool = False, **options: Any) -> Any:
        """Load images as they are: rows of a dataset's `items`, ids of the study's images, or files.

        `rm_type_tfms` is there since fastai's `predict` names it. Errors: DataError for a file that cannot be read.
        """
        items = test_items if isinstance(test_items, pd.DataFrame) else pd.DataFrame({"id": [*map(str, test_items)]})
        items = items if with_labels else items.drop(columns=["label", *targets.of_table(items)], errors="ignore")
        return self.valid.new(replace(self.valid_ds, items=items, **self._where(items["id"])), **options)

    def _where(self, names: Iterable[str]) -> dict[str, Any]:
        """The rows of the image cache, or of a cache of their own for images that are not the study's."""
        if all(name in self.row_of for name in names):
            return {"rows": np.array([self.row_of[name] for name in names], np.int64)}
        cache = self.valid_ds.inputs
        if not isinstance(cache, ImageCache):
            raise DataError("model.freeze.cache: there are features of the study's own images alone: set it to false")
        images = np.stack([self.read_image(Path(name)) for name in names])
        file_cache = ImageCache(images, cache.normalise, cache.pixels, str(cache.device))
        return {"rows": np.arange(len(images)), "inputs": file_cache}

    def _add_tfms(self, tfms: Any, event: str, dl_idx: int | str) -> None:
        if event != "after_batch":
            raise DataError(f"{event}: images come in whole batches, so that transforms can act after_batch alone")
        super()._add_tfms(tfms, event, dl_idx)


def build_dataloaders(
    train: Subset,
    valid: Subset,
    sampler: EpochSampler,
    augmentation: Augmentation | None,
    batch_size: int,
    seed: int,
    device: str,
    shard: Callable[[int], slice] | None = None,
    **files: Any,
) -> XrayDataLoaders:
    """Training images in the sampler's order, augmented where there is how, and the images that are scored.

    `shard` is as ScoringLoader's, and `files` are `row_of` and `read_image` of XrayDataLoaders.
    """
    images = train.inputs
    augmenter = None
    if isinstance(images, ImageCache) and augmentation is not None:
        augmenter = Augmenter(images, train.rows, augmentation, seed)
    loader, scoring = (
        TrainLoader(train, batch_size, sampler, augmenter, seed, device=device),
        ScoringLoader(valid, device=device),
    )
    loader.shard = scoring.shard = shard
    return XrayDataLoaders(loader, scoring, device=device, **files)

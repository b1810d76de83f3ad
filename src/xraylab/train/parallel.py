"""What happens in a training step besides where several processes share each batch."""

import torch
from fastai.callback.core import Callback
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from xraylab.data.dataloaders import epoch_seed
from xraylab.errors import TrainingError
from xraylab.model import distributed
from xraylab.train.averaging import EMA

# fastai carries no types, so to mypy the callback subclasses Any: hence the ignore below


class DataParallel(Callback):  # type: ignore[misc]
    """Each process computes its part of a batch, all the loss of the whole, and a step takes the sum of gradients.

    `pred` and the labels are those of the whole batch from here on, so that whatever weighs images against each other
    (class weights, losses over sources, accumulation) does so over the whole. torch's DistributedDataParallel would
    average over processes in place of images, and wraps the network whose parts are frozen, averaged and looked into.
    """

    order = 10.2  # after batches have accumulated, and before their gradients are unscaled and bounded

    def before_fit(self) -> None:
        self.norms = [module for module in self.model.modules() if isinstance(module, nn.SyncBatchNorm)]

    def before_train(self) -> None:
        if number := distributed.rank():  # each draws other neurons to drop; numpy's draws are of the whole batch
            torch.manual_seed(epoch_seed(self.dls.train.seed, self.dls.train.epoch) + number)

    def before_batch(self) -> None:
        for norm in self.norms:
            vars(norm)["shared"] = len(self.xb[0]) < len(self.yb[0])

    def after_pred(self) -> None:
        if not self.training:
            self.learn.scored = True
            if not distributed.all_agree(True):
                raise MemoryError("another process ran out of memory")
        self.learn.pred = distributed.gather(self.pred, len(self.yb[0]))

    def before_step(self) -> None:
        distributed.sum_gradients(self.model.parameters())

    def after_train(self) -> None:
        batch_norms = [
            name
            for name, module in self.model.named_modules()
            if isinstance(module, _BatchNorm) and module.training and not isinstance(module, nn.SyncBatchNorm)
        ]
        averages = [callback.average.module for callback in self.learn.cbs if isinstance(callback, EMA)]
        for network in [self.model, *averages]:
            distributed.average_statistics(network, batch_norms)
        self._refuse_drift()

    def _refuse_drift(self) -> None:
        """Errors: TrainingError where the processes no longer have the same weights, which nothing else would show."""
        total = float(torch.stack([p.detach().double().sum() for p in self.model.parameters()]).sum())
        sums = distributed.everyones(total)
        if len({repr(each) for each in sums}) > 1:
            raise TrainingError(f"the processes' weights differ, by rank they sum to {sums}: set train.devices to 1")

"""A bundle reproduces its run's probabilities elsewhere, and a damaged or hostile one is refused."""

import hashlib
import json
import re
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from zipfile import ZipFile, ZipInfo

import dicom_files
import numpy as np
import pytest
import small
from conftest import Loaded, to_the_report
from PIL import Image

import xraylab
from xraylab import files, plugins
from xraylab.errors import DataError, MissingError, PluginError, WeightsError
from xraylab.inference import archive, bundle, card, monai, samples
from xraylab.inference.card import ModelCard
from xraylab.model import weights
from xraylab.params import config
from xraylab.paths import Paths
from xraylab.predict import cards, checkpoints, classifiers
from xraylab.predict.checkpoints import TrainedModel

"""Synthesis of infrared small-target data: arrays in, arrays out.

What is exported here is loaded when it is first used; `synth/__init__.pyi` lists it.

Examples
--------
>>> import numpy as np
>>> import synth
>>> image = np.random.default_rng(0).integers(90, 110, (64, 64), np.uint8)
>>> mask = np.zeros((64, 64), bool)
>>> mask[30:33, 30:33] = True
>>> bank = synth.sample_noise(image)
>>> recipe = synth.Recipe([synth.Mixup(bank, ratio=0.1), synth.Turn(side=32, mirror=True)])
>>> sample = recipe(image, mask, rng=np.random.default_rng(0))
>>> sample.image.shape, sample.image.dtype, int(sample.mask.sum())
((64, 64), dtype('uint8'), 9)
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

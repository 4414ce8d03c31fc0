"""What every network here is: an image of any size in, maps of logits of that size out."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class Network(nn.Module):
    """Base of the networks: the one place where sizes are made to fit.

    A network states the `multiple` that its pooling needs and implements `segment`; `forward`
    pads the image at the right and bottom by repeating its edge, and crops the maps back.

    Attributes
    ----------
    multiple : int
        Height and width that reach `segment` are multiples of this.
    full_input : bool
        `segment` is given images in single precision, whatever precision the weights have.
    """

    multiple: int = 1
    full_input: bool = False

    def segment(self, image: Tensor) -> tuple[Tensor, ...]:
        """Map (N, C, H, W) to logits (N, 1, H, W), for sizes that are multiples of `multiple`.

        Networks with deep supervision return one map per supervised output, the result last.
        """
        raise NotImplementedError

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Compute logits for images of any size.

        Parameters
        ----------
        image : (N, C, H, W) Tensor of float
            Normalised frames.

        Returns
        -------
        tuple of (N, 1, H, W) Tensor
            Logits; one entry per supervised output, the network's result last.
        """
        height, width = image.shape[-2:]
        below, right = -height % self.multiple, -width % self.multiple
        if not below and not right:
            return self.segment(image)
        padded = F.pad(image, (0, right, 0, below), mode="replicate")
        return tuple(logits[..., :height, :width] for logits in self.segment(padded))

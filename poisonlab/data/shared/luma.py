"""How bright colors look."""

from torch import Tensor

LUMA = (0.299, 0.587, 0.114)  # of red, green and blue in a gray image (ITU-R BT.601)


def brightness(x: Tensor) -> Tensor:
    """Float images ``(n, c, h, w)`` -> ``(n, 1, h, w)``: of three channels the luma, of others the mean."""
    if x.shape[1] != len(LUMA):
        return x.mean(1, keepdim=True)
    weighted: Tensor = x * x.new_tensor(LUMA).view(-1, 1, 1)
    return weighted.sum(1, keepdim=True)

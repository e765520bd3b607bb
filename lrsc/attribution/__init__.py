"""Which inputs a network's logits come from: attributions, and measures of them.

Attributions are signed and have the shape of the inputs, N x C x H x W or N x d. `entropy` and
`share` use maps: the absolute value of the sum over an image's channels, or of a vector's features.
Maps that are zero everywhere, or not finite, give NaN.
"""

from lrsc.attribution.deeplift import deeplift
from lrsc.attribution.foreground import background_share, foreground
from lrsc.attribution.integrated import completeness_error, integrated_gradients, path_integral
from lrsc.attribution.methods import maps
from lrsc.attribution.regions import entropy, normalised_maps, share

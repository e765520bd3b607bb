"""Which inputs a network's logits come from: attributions, and what is read off them.

Attributions are signed and have the shape of the inputs, N x C x H x W or N x d. `entropy` and
`share` look at maps: the sum over channels of an image (of vectors, the features themselves), and
of that the absolute value. Maps that are zero everywhere, or not finite, give NaN.
"""

from lrsc.attribution.deeplift import deeplift
from lrsc.attribution.foreground import background_share, foreground
from lrsc.attribution.integrated import completeness_error, integrated_gradients, path_integral
from lrsc.attribution.methods import maps
from lrsc.attribution.regions import entropy, normalised_maps, share

"""What detectors are made of besides networks: anchors, boxes and their overlaps, suppression, pooling, masks, losses.

Every function is pure and takes one image; `jax.vmap` makes it one of batches. All shapes are static, so that each can
be compiled: where there are fewer boxes than an array holds, the rest is padding, and each function says by what it
knows that. Boxes are `[N, 4]` float32, x1, y1, x2, y2 in pixels from the upper left corner. A pixel is a square of side
1: no coordinate is rounded, and a box's width is x2 − x1. Empty boxes, and none at all, give finite values and
gradients.

Where mmdetection's conventions and torchvision's differ, these are mmdetection's, with which the paper trained, unless
a function says that it takes torchvision's.
"""

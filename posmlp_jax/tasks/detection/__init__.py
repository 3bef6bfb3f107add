"""Finding objects in images: their boxes, classes and, with Mask R-CNN, their masks."""

"""Where images come from: one module a data set. They never know what the images are used for."""

"""Where images come from, a module for each data set. They never know what the images are used for."""

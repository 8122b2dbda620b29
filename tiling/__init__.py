"""Run a network over an image of any size and give back one label image without seams."""

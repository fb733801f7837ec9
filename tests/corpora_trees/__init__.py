"""Small example trees of the corpora, in the shape that they have on disk; `build(folder)` gives the --data_dir."""

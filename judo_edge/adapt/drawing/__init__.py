"""Parts and defects drawn by code: the only pictures that the project trains on."""

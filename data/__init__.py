"""MRI data: discovery, split, transforms, loaders, synthetic phantoms."""
